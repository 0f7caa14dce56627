//! The first part: how fast the daemon is against the limits themselves.
//!
//! Rounds are interleaved: each one measures everything once, one after the other, so that slow changes of the machine
//! fall on all figures alike. Other work on it does not, so it is looked for, and then there is no verdict.

use std::fmt::Write as _;

use model::clock::Clock;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::daemon::{Daemon, Empty};
use super::load::{Kind, Load};
use super::raw::{RawLimit, disturbed};
use super::table::{self, Must, Row, extremes, median, spread, thousands};
use super::{Options, Outcome, PLAINTEXT_BYTES, Part, ZONES, raw_open, said};

/// Two workers of each HSM come one after the other, each opening its token, and between them a PIN is rotated, which
/// writes the token; all of it in two HSMs at once, and the daemon looks on.
const CONNECT: f64 = 30.0;

/// What one round measured.
struct Round {
    /// Encryptions per second: the raw limit with one key and with many, and the daemon's batches with one and with many.
    raw: f64,
    raw_many_keys: f64,
    batch: f64,
    batch_many_keys: f64,
    /// See [`super::raw::Round::share`].
    share: f64,
    /// Calls per second at 64 in flight.
    empty: f64,
    unary: f64,
    /// The same of ReEncrypt, unary and in batches.
    re_encrypt: f64,
    re_encrypt_batch: f64,
    /// Median microseconds of a call with one in flight.
    empty_alone: f64,
    unary_alone: f64,
    /// Milliseconds until a token with as many keys is open, and until a disconnected key store is connected.
    open: f64,
    connect: f64,
}

/// Measures and prints the table.
pub(super) fn report(options: &Options, clock: &Clock, runtime: &Runtime) -> Outcome<Part> {
    let program = std::env::current_exe().map_err(said("finding this program"))?;
    let library = provision::find_module().ok_or("SoftHSM's module is not installed; `make deps` installs it")?;
    let dir = TempDir::with_prefix("keystored-bench-").map_err(said("making a directory"))?;

    eprintln!("making {ZONES} zones and {} keys ...", options.keys);
    let daemon = runtime.block_on(Daemon::start(&dir.path().join("dev"), clock))?;
    let keys = runtime.block_on(daemon.create_keys(options.keys))?;
    let empty = Empty::start(&program, &daemon)?;
    let mut raw = RawLimit::start(&program, dir.path(), &library, ZONES)?;
    let key = keys.into_iter().next().ok_or("no key was made")?;
    let load = Load { key, keys: options.keys, length: options.length, operation: "encrypt", contexts: None };
    let re_encrypt = Load { operation: "re-encrypt", ..load.clone() };

    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        eprintln!("round {number} of {} ...", options.rounds);
        let limit = raw.round(options.length)?;
        let limit_many_keys = raw.round_over(options.keys, options.length)?;
        // What is compared with something stands on both sides of it, since a machine changes while it is measured.
        let batch_before = load.run(&daemon.environment, Kind::Batch)?.rate;
        let batch_many_keys = load.run(&daemon.environment, Kind::BatchManyKeys)?.rate;
        let batch_after = load.run(&daemon.environment, Kind::Batch)?.rate;
        let empty_before = load.run(&empty.environment, Kind::Unary64)?.rate;
        let unary = load.run(&daemon.environment, Kind::Unary64)?.rate;
        let empty_after = load.run(&empty.environment, Kind::Unary64)?.rate;
        rounds.push(Round {
            raw: limit.rate,
            raw_many_keys: limit_many_keys.rate,
            share: limit.share.min(limit_many_keys.share),
            batch: f64::midpoint(batch_before, batch_after),
            batch_many_keys,
            empty: f64::midpoint(empty_before, empty_after),
            unary,
            re_encrypt: re_encrypt.run(&daemon.environment, Kind::Unary64)?.rate,
            re_encrypt_batch: re_encrypt.run(&daemon.environment, Kind::Batch)?.rate,
            empty_alone: load.run(&empty.environment, Kind::Unary1)?.p50,
            unary_alone: load.run(&daemon.environment, Kind::Unary1)?.p50,
            open: raw_open::measure(&program, &daemon, &library, clock)?.as_secs_f64() * 1e3,
            // Last, so that what comes before it in a round has met the same warm daemon: it is warm again before the
            // next.
            connect: runtime.block_on(daemon.reconnect(clock))?.as_secs_f64() * 1e3,
        });
    }
    let module = raw.module.clone();
    // Everything has ended before the figures are shown; a daemon that does not end well is a failure of its own.
    drop((raw, empty, daemon));

    let rows = rows(&rounds, options.keys);
    println!(
        "\nkeystored on SoftHSM, {PLAINTEXT_BYTES}-byte plaintexts, client and daemon on one machine over loopback"
    );
    println!("medians of {} rounds of {:?} each, in brackets the least and the most\n", options.rounds, options.length);
    let void = void(&rounds);
    println!("{}", table::show(&rows, void.is_some()));
    println!("{}", beside(&rounds));
    if let Some(why) = &void {
        println!("{why}\n");
    }
    Ok(Part { passed: void.is_none() && rows.iter().all(Row::passed), module })
}

/// Why the figures say nothing about keystored; absent when they do. Work beside a measurement does not fall on both
/// sides of a ratio alike: the scheduler gives to each process, and the daemon is more of them than the raw limit.
fn void(rounds: &[Round]) -> Option<String> {
    let share = rounds.iter().map(|round| round.share).fold(f64::INFINITY, f64::min);
    if let Some(why) = disturbed(share) {
        return Some(why);
    }
    // Each item passes through the module, so no true figure is above the module's own.
    let share = median(&each(rounds, |round| round.batch / round.raw));
    (share.is_nan() || share > 1.0)
        .then(|| "VOID: the daemon cannot be faster than the module alone; the measurement is broken.".to_owned())
}

/// A figure of each round.
fn each(rounds: &[Round], figure: impl Fn(&Round) -> f64) -> Vec<f64> {
    rounds.iter().map(figure).collect()
}

/// What stands beside the table, without a bound: the operation that asks twice of a token what the others ask once.
fn beside(rounds: &[Round]) -> String {
    let of_encrypt = |of: fn(&Round) -> f64| format!("{:.2} of Encrypt", median(&each(rounds, of)));
    let columns = |unary: &str, batch: &str| format!("{unary:>34}{batch:>34}\n");
    let mut out = format!("{:9}{}", "", columns("64 in flight, calls/s", "batches of 256, items/s"));
    let figures = [|round: &Round| round.re_encrypt, |round: &Round| round.re_encrypt_batch];
    let [unary, batch] = figures.map(|of| spread(&each(rounds, of)));
    let _ = write!(out, "ReEncrypt{}", columns(&unary, &batch));
    let shares =
        [of_encrypt(|round| round.re_encrypt / round.unary), of_encrypt(|round| round.re_encrypt_batch / round.batch)];
    let _ = write!(out, "{:9}{}", "", columns(&shares[0], &shares[1]));
    out
}

/// Figures of one kind: of each round, and their name.
type Figures = (fn(&Round) -> f64, &'static str);

/// The rows of the table. Each ratio is the median of the rounds' own ratios: what is divided was measured within
/// seconds, while from one round to another the machine may have become another one.
fn rows(rounds: &[Round], keys: usize) -> Vec<Row> {
    let many = format!("{} keys", thousands(keys as f64));
    let alone = median(&each(rounds, |round| round.raw_many_keys / round.raw));
    let alone = format!("\n{alone:.2} is what the module alone reaches over {many}");
    let row = |what: &str, must: Must, of: Figures, limit: Figures, unit: &str, also: &str| {
        let ratios = each(rounds, |round| of.0(round) / limit.0(round));
        let (figures, limits) = (spread(&each(rounds, of.0)), spread(&each(rounds, limit.0)));
        let (least, most) = extremes(&ratios);
        let made_of = format!("{least:.2} to {most:.2}: {figures} {}, {limits} {} {unit}{also}", of.1, limit.1);
        Row::new(what, median(&ratios), must, made_of)
    };
    vec![
        row(
            "batch Encrypt (256 items) / raw in-token limit",
            Must::Reach(0.35),
            (|round| round.batch, "batch"),
            (|round| round.raw, "raw"),
            "items/s",
            "",
        ),
        row(
            "unary Encrypt, 64 in flight / empty service",
            Must::Reach(0.45),
            (|round| round.unary, "unary"),
            (|round| round.empty, "empty"),
            "calls/s",
            "",
        ),
        row(
            "unary Encrypt, 1 in flight: p50 / the empty service's",
            Must::BeAtMost(2.5),
            (|round| round.unary_alone, "unary"),
            (|round| round.empty_alone, "empty"),
            "µs",
            "",
        ),
        row(
            &format!("batch Encrypt over {many} / one key"),
            Must::Reach(0.7),
            (|round| round.batch_many_keys, "many keys"),
            (|round| round.batch, "one key"),
            "items/s",
            &alone,
        ),
        row(
            &format!("ConnectKeyStore to CONNECTED, {many} in each token / opening one token"),
            Must::BeAtMost(CONNECT),
            (|round| round.connect, "to connect"),
            (|round| round.open, "to open a token"),
            "ms",
            "",
        ),
    ]
}
