//! A key store with very many keys, half of which have two versions: what they cost the daemon, its workers and callers.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use client::Client;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use model::clock::Clock;
use proto::v1::{CreateKeyRequest, ListKeysRequest};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::daemon::{Daemon, connect};
use super::load::{Kind, Load};
use super::raw::{RawLimit, disturbed};
use super::table::{self, Must, Row, extremes, median, spread, thousands};
use super::{Options, Outcome, Part, ZONES, prepare, said, workers};

/// Keys among which the making of keys is measured first.
const FEW: usize = 100;
/// Keys that are made for each of these measurements, so many at once.
const MADE: usize = 100;
const IN_FLIGHT: usize = 8;
/// Keys whose state is changed, one after the other.
const CHANGED: usize = 25;
/// What a page of ListKeys holds.
const PAGES: [u32; 2] = [100, 1_000];
/// How long it is looked whether something else runs on the machine.
const LOOK: Duration = Duration::from_secs(1);
/// The first loads find no copies of keys in memory.
const WARM_UP: u32 = 1;

/// Everything that is measured once.
struct Once {
    made_among_few: f64,
    made_among_many: f64,
    filled: Duration,
    serving: Duration,
    complete: Duration,
    connect: Duration,
    /// For each length of a page: how many pages, and how long all of them took.
    lists: Vec<(u32, usize, Duration)>,
    /// Milliseconds.
    disable: Vec<f64>,
    enable: Vec<f64>,
    /// MiB before any call, and after all of them.
    memory: [Memory; 2],
}

struct Memory {
    daemon: f64,
    workers: Vec<f64>,
}

/// A load over many keys that were not used for a while, and the same load right after it.
struct Returned {
    /// Each key is named and proven anew.
    at_first: f64,
    lasting: f64,
}

/// What one round measured, in items a second.
struct Round {
    batch: f64,
    batch_many_keys: Returned,
    unary: f64,
    unary_many_keys: Returned,
    raw: f64,
    raw_many_keys: f64,
    share: f64,
}

/// Measures and prints the table.
pub(super) fn report(options: &Options, clock: &Clock, runtime: &Runtime) -> Outcome<Part> {
    let program = std::env::current_exe().map_err(said("finding this program"))?;
    let library = provision::find_module().ok_or("SoftHSM's module is not installed; `make deps` installs it")?;
    let dir = TempDir::with_prefix("keystored-bench-").map_err(said("making a directory"))?;
    let mut raw = RawLimit::start(&program, dir.path(), &library, ZONES)?;
    let (once, rounds) = measure(options, &mut raw, dir.path(), clock, runtime)?;
    let share = rounds.iter().map(|round| round.share).fold(raw.round(LOOK)?.share, f64::min);
    let void = disturbed(share);
    let rows = rows(&once, &rounds, options.very_many);
    println!("\n{} keys in a key store, half of them with two versions\n", thousands(options.very_many as f64));
    println!("{}\n{}", show(&once), table::show(&rows, void.is_some()));
    if let Some(why) = &void {
        println!("{why}\n");
    }
    Ok(Part { passed: void.is_none() && rows.iter().all(Row::passed), module: raw.module.clone() })
}

fn measure(
    options: &Options,
    raw: &mut RawLimit,
    dir: &Path,
    clock: &Clock,
    runtime: &Runtime,
) -> Outcome<(Once, Vec<Round>)> {
    let (site, keys) = (dir.join("dev"), options.very_many);
    eprintln!("making {ZONES} zones, and keys among {FEW} ...");
    let quota = |config: &mut toml::Table| {
        let limits = config.entry("limits").or_insert_with(|| toml::Table::new().into());
        let limits = limits.as_table_mut().ok_or("the configuration's limits are no table")?;
        limits.insert(
            "keys_per_key_store".to_owned(),
            i64::try_from(keys + 2 * FEW + 3 * MADE).unwrap_or(i64::MAX).into(),
        );
        Ok(())
    };
    let daemon = runtime.block_on(Daemon::start_with(&site, clock, quota))?;
    runtime.block_on(daemon.create_keys(FEW))?;
    let made_among_few = runtime.block_on(made(&daemon, clock))?;
    let configuration = daemon.config.clone();
    drop(daemon);

    eprintln!("making {} keys ...", thousands(keys as f64));
    let began = clock.now();
    runtime.block_on(prepare::fill(&configuration, keys.saturating_sub(FEW + MADE), clock))?;
    let filled = clock.now() - began;

    eprintln!("starting and connecting ...");
    let began = clock.now();
    let daemon = runtime.block_on(Daemon::start_with(&site, clock, |_| Ok(())))?;
    let serving = clock.now() - began;
    runtime.block_on(daemon.complete())?;
    let complete = clock.now() - began;
    let connect = runtime.block_on(daemon.reconnect(clock))?;
    let before = Memory::of(&daemon)?;

    let client = runtime.block_on(super::daemon::connect(&daemon.environment))?;
    let (mut lists, mut ids) = (Vec::new(), Vec::new());
    for limit in PAGES {
        let began = clock.now();
        let (listed, pages) = runtime.block_on(list(&client, limit))?;
        lists.push((limit, pages, clock.now() - began));
        ids = listed;
    }
    let (disable, enable) = runtime.block_on(switched(&client, &ids, clock))?;
    let key = ids.into_iter().next().ok_or("there are no keys")?;
    let load = Load { key, keys, length: options.length, operation: "encrypt", contexts: None };
    for _ in 0..WARM_UP {
        load.run(&daemon.environment, Kind::BatchManyKeys)?;
    }
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        eprintln!("round {number} of {} ...", options.rounds);
        let (limit, limit_many_keys) = (raw.round(options.length)?, raw.round_over(keys, options.length)?);
        let run = |kind| load.run(&daemon.environment, kind).map(|figures| figures.rate);
        let returned = |kind| Ok::<_, String>(Returned { at_first: run(kind)?, lasting: run(kind)? });
        let (batch_before, batch_many_keys, batch_after) =
            (run(Kind::Batch)?, returned(Kind::BatchManyKeys)?, run(Kind::Batch)?);
        let (unary_before, unary_many_keys, unary_after) =
            (run(Kind::Unary64)?, returned(Kind::Unary64ManyKeys)?, run(Kind::Unary64)?);
        rounds.push(Round {
            batch: f64::midpoint(batch_before, batch_after),
            batch_many_keys,
            unary: f64::midpoint(unary_before, unary_after),
            unary_many_keys,
            raw: limit.rate,
            raw_many_keys: limit_many_keys.rate,
            share: limit.share.min(limit_many_keys.share),
        });
    }
    let made_among_many = runtime.block_on(made(&daemon, clock))?;
    let after = Memory::of(&daemon)?;
    drop((client, daemon));
    let memory = [before, after];
    let once =
        Once { made_among_few, made_among_many, filled, serving, complete, connect, lists, disable, enable, memory };
    Ok((once, rounds))
}

/// Keys made a second.
async fn made(daemon: &Daemon, clock: &Clock) -> Outcome<f64> {
    let client = connect(&daemon.environment).await?.with_deadline(Some(Duration::from_secs(60)));
    let began = clock.now();
    let making = stream::iter(0..MADE).map(|_| client.create_key(CreateKeyRequest::default()));
    let made = making.buffer_unordered(IN_FLIGHT).try_collect::<Vec<_>>().await.map_err(said("creating a key"))?;
    Ok(made.len() as f64 / (clock.now() - began).as_secs_f64())
}

/// All keys by pages, and how many pages there were.
async fn list(client: &Client, limit: u32) -> Outcome<(Vec<String>, usize)> {
    let (mut ids, mut pages, mut marker) = (Vec::new(), 0, String::new());
    loop {
        let request = ListKeysRequest { limit: Some(limit), marker, ..ListKeysRequest::default() };
        let page = client.list_keys(request).await.map_err(said("listing keys"))?;
        ids.extend(page.keys.into_iter().map(|key| key.key_id));
        pages += 1;
        if !page.truncated {
            return Ok((ids, pages));
        }
        marker = page.next_marker;
    }
}

/// Milliseconds that it takes to disable a key, and to enable it again.
async fn switched(client: &Client, ids: &[String], clock: &Clock) -> Outcome<(Vec<f64>, Vec<f64>)> {
    let (mut disable, mut enable) = (Vec::new(), Vec::new());
    for id in ids.iter().step_by(ids.len().div_ceil(CHANGED).max(1)) {
        let began = clock.now();
        client.disable_key(id).await.map_err(said("disabling a key"))?;
        let disabled = clock.now();
        client.enable_key(id).await.map_err(said("enabling a key"))?;
        disable.push((disabled - began).as_secs_f64() * 1e3);
        enable.push((clock.now() - disabled).as_secs_f64() * 1e3);
    }
    Ok((disable, enable))
}

impl Memory {
    fn of(daemon: &Daemon) -> Outcome<Self> {
        let resident = |pid| workers::resident(pid).ok_or("a process has gone");
        let pids = ["hsm-a", "hsm-b"].iter().flat_map(|hsm| workers::of(daemon.pid(), hsm));
        let workers = pids.map(|pid| resident(u32::try_from(pid.as_raw_nonzero().get()).unwrap_or_default()));
        Ok(Self { daemon: resident(daemon.pid())?, workers: workers.collect::<Result<_, _>>()? })
    }
}

/// What is shown and has no limit.
fn show(once: &Once) -> String {
    let mut out = String::new();
    let mut line = |what: &str, figure: String| {
        let _ = writeln!(out, "{what:62}  {figure}");
    };
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    line("the keys are made, by workers without a daemon", seconds(once.filled));
    line("start-up until the daemon serves", seconds(once.serving));
    line("start-up until every worker serves", seconds(once.complete));
    for (limit, pages, took) in &once.lists {
        let each = took.as_secs_f64() * 1e3 / (*pages).max(1) as f64;
        line(&format!("ListKeys by pages of {limit}"), format!("{each:.1} ms a page, {} for {pages}", seconds(*took)));
    }
    for (what, times) in [("DisableKey", &once.disable), ("EnableKey", &once.enable)] {
        let (least, most) = extremes(times);
        line(&format!("{what}, one at a time"), format!("{:.1} ms ({least:.1} to {most:.1})", median(times)));
    }
    line(
        &format!("CreateKey among all, {IN_FLIGHT} in flight, no limit"),
        format!("{:.1} keys/s", once.made_among_many),
    );
    for (when, memory) in ["after the connect", "at the end"].iter().zip(&once.memory) {
        let (least, most) = extremes(&memory.workers);
        let all: f64 = memory.workers.iter().sum();
        let workers = format!("{} workers {least:.0} to {most:.0} MiB, {all:.0} MiB in all", memory.workers.len());
        line(&format!("memory {when}"), format!("daemon {:.0} MiB, {workers}", memory.daemon));
    }
    out
}

fn rows(once: &Once, rounds: &[Round], keys: usize) -> Vec<Row> {
    let many = format!("{} keys", thousands(keys as f64));
    let each = |of: fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<f64>>();
    let row = |what: String, must: f64, of: fn(&Round) -> f64, limit: fn(&Round) -> f64, also: String| {
        let ratios: Vec<f64> = rounds.iter().map(|round| of(round) / limit(round)).collect();
        let (least, most) = extremes(&ratios);
        let figures = format!("{} many keys, {} one key items/s", spread(&each(of)), spread(&each(limit)));
        Row::new(what, median(&ratios), Must::Reach(must), format!("{least:.2} to {most:.2}: {figures}{also}"))
    };
    let alone = median(&each(|round| round.raw_many_keys / round.raw));
    let at_first = |ratio: fn(&Round) -> f64| {
        format!(
            "\n{:.2} in the first run after a pause, in which each key is named and proven anew",
            median(&each(ratio))
        )
    };
    let batch_at_first = at_first(|round| round.batch_many_keys.at_first / round.batch);
    let unary_at_first = at_first(|round| round.unary_many_keys.at_first / round.unary);
    let memory = once.memory.iter().map(|memory| memory.daemon).fold(0.0, f64::max);
    vec![
        row(
            format!("batch Encrypt over {many} picked uniformly / one key"),
            0.45,
            |round| round.batch_many_keys.lasting,
            |round| round.batch,
            batch_at_first + &format!("\n{alone:.2} is what the module alone reaches with copies of all of them"),
        ),
        row(
            format!("unary Encrypt, 64 in flight, over {many} / one key"),
            0.8,
            |round| round.unary_many_keys.lasting,
            |round| round.unary,
            unary_at_first,
        ),
        Row::new("memory of the daemon", memory, Must::StayUnder(150.0, "MiB"), ""),
        Row::new(
            format!("ConnectKeyStore to CONNECTED, {many}, seconds"),
            once.connect.as_secs_f64(),
            Must::BeAtMost(5.0),
            "",
        ),
        Row::new(
            format!("CreateKey a second among {FEW} keys, {IN_FLIGHT} in flight"),
            once.made_among_few,
            Must::Reach(40.0),
            "",
        ),
    ]
}
