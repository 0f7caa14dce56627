//! The first part: how fast the daemon is against the limits themselves.
//!
//! Rounds are interleaved: each one measures everything once, one after the other, so that slow changes of the machine
//! fall on all figures alike. Other work on it does not, so it is looked for, and then there is no verdict.

use keystored::model::clock::Clock;
use keystored::provision;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::daemon::{Daemon, Empty};
use super::load::{Kind, Load};
use super::raw::{RawLimit, disturbed};
use super::table::{self, Must, Row, median, spread, thousands};
use super::{Options, Outcome, PLAINTEXT_BYTES, Part, ZONES, raw_open, said};

/// Two workers of each HSM come one after the other, each opening its token, and between them a PIN is rotated, which
/// writes the token; all of it in two HSMs at once, and the daemon looks on.
const CONNECT: f64 = 30.0;

/// What was measured in each round.
#[derive(Default)]
struct Rounds {
    /// Encryptions per second: the raw limit, and the daemon's batches with one key and with many.
    raw: Vec<f64>,
    /// See [`super::raw::Round::share`].
    shares: Vec<f64>,
    batch: Vec<f64>,
    batch_many_keys: Vec<f64>,
    /// Calls per second at 64 in flight.
    empty: Vec<f64>,
    unary: Vec<f64>,
    /// Median microseconds of a call with one in flight.
    empty_alone: Vec<f64>,
    unary_alone: Vec<f64>,
    /// Milliseconds until a token with as many keys is open, and until a disconnected key store is connected.
    open: Vec<f64>,
    connect: Vec<f64>,
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
    let load = Load { key, keys: options.keys, length: options.length, operation: "encrypt" };

    let mut rounds = Rounds::default();
    for number in 1..=options.rounds {
        eprintln!("round {number} of {} ...", options.rounds);
        let round = raw.round(options.length)?;
        rounds.raw.push(round.rate);
        rounds.shares.push(round.share);
        rounds.batch.push(load.run(&daemon.environment, Kind::Batch)?.rate);
        rounds.batch_many_keys.push(load.run(&daemon.environment, Kind::BatchManyKeys)?.rate);
        // On both sides of what is compared with it, since a machine changes while it is measured.
        rounds.batch.push(load.run(&daemon.environment, Kind::Batch)?.rate);
        rounds.empty.push(load.run(&empty.environment, Kind::Unary64)?.rate);
        rounds.unary.push(load.run(&daemon.environment, Kind::Unary64)?.rate);
        rounds.empty_alone.push(load.run(&empty.environment, Kind::Unary1)?.p50);
        rounds.unary_alone.push(load.run(&daemon.environment, Kind::Unary1)?.p50);
        rounds.open.push(raw_open::measure(&program, &daemon, &library, clock)?.as_secs_f64() * 1e3);
        // Last, so that what comes before it in a round has met the same warm daemon: it is warm again before the next.
        rounds.connect.push(runtime.block_on(daemon.reconnect(clock))?.as_secs_f64() * 1e3);
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
    if let Some(why) = &void {
        println!("{why}\n");
    }
    Ok(Part { passed: void.is_none() && rows.iter().all(Row::passed), module })
}

/// Why the figures say nothing about keystored; absent when they do. Work beside a measurement does not fall on both
/// sides of a ratio alike: the scheduler gives to each process, and the daemon is more of them than the raw limit.
fn void(rounds: &Rounds) -> Option<String> {
    let share = rounds.shares.iter().copied().fold(f64::INFINITY, f64::min);
    if let Some(why) = disturbed(share) {
        return Some(why);
    }
    let (batch, raw) = (median(&rounds.batch), median(&rounds.raw));
    // Each item passes through the module, so no true figure is above the module's own.
    (batch.is_nan() || raw.is_nan() || batch > raw)
        .then(|| "VOID: the daemon cannot be faster than the module alone; the measurement is broken.".to_owned())
}

/// The rows of the table. Ratios are those of the medians.
fn rows(rounds: &Rounds, keys: usize) -> Vec<Row> {
    let share = |what: &str, of: &[f64], limit: &[f64], least, unit: &str, names: (&str, &str)| {
        let made_of = format!("{} {}, {} {} {unit}", spread(of), names.0, spread(limit), names.1);
        Row::new(what, median(of) / median(limit), Must::Reach(least), made_of)
    };
    let many = format!("{} keys", thousands(keys as f64));
    let (unary, empty) = (&rounds.unary_alone, &rounds.empty_alone);
    vec![
        share(
            "batch Encrypt (256 items) / raw in-token limit",
            &rounds.batch,
            &rounds.raw,
            0.35,
            "items/s",
            ("batch", "raw"),
        ),
        share(
            "unary Encrypt, 64 in flight / empty service",
            &rounds.unary,
            &rounds.empty,
            0.45,
            "calls/s",
            ("unary", "empty"),
        ),
        Row::new(
            "unary Encrypt, 1 in flight: p50 / the empty service's",
            median(unary) / median(empty),
            Must::BeAtMost(2.5),
            format!(
                "{} unary, {} empty µs: {} more",
                spread(unary),
                spread(empty),
                thousands(median(unary) - median(empty))
            ),
        ),
        share(
            &format!("batch Encrypt over {many} / one key"),
            &rounds.batch_many_keys,
            &rounds.batch,
            0.7,
            "items/s",
            (&many, "one key"),
        ),
        Row::new(
            format!("ConnectKeyStore to CONNECTED, {many} in each token / opening one token"),
            median(&rounds.connect) / median(&rounds.open),
            Must::BeAtMost(CONNECT),
            format!("{} ms, {} ms to open a token", spread(&rounds.connect), spread(&rounds.open)),
        ),
    ]
}
