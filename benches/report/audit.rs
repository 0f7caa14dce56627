//! What the audit log costs, what it takes up, and how fast it is checked.
//!
//! First a daemon with its log, called by one whom policies bind, beside one without either; then the ways of syncing beside
//! each other; then a log of many records, in this process.

use std::path::Path;
use std::time::Duration;

use model::clock::Clock;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::audit_daemon::{Log, Measured, RECORDED, Side, UNRECORDED};
use super::changes::IN_MEMORY;
use super::load::Kind;
use super::raw::{RawLimit, disturbed};
use super::table::{self, Must, Row, extremes, median, spread, thousands};
use super::{Options, Outcome, Part, ZONES, audit_log, audit_refused, said};

/// How long it is looked, before and after, whether something else runs on the machine.
const LOOK: Duration = Duration::from_secs(1);
const KINDS: [Kind; 3] = [Kind::Unary64, Kind::Batch, Kind::Unary1];
/// What a call may take longer.
const MICROS: f64 = 15.0;

/// What was measured of each kind, a round after the other.
type Rounds = [Vec<Measured>; KINDS.len()];

/// Measures and prints the tables.
pub(super) fn report(options: &Options, clock: &Clock, runtime: &Runtime) -> Outcome<Part> {
    let program = std::env::current_exe().map_err(said("finding this program"))?;
    let softhsm = provision::find_module().ok_or("SoftHSM's module is not installed; `make deps` installs it")?;
    let dir = TempDir::with_prefix("keystored-bench-").map_err(said("making a directory"))?;
    let mut raw = RawLimit::start(&program, dir.path(), &softhsm, ZONES)?;
    let before = raw.round(LOOK)?.share;
    let with = (options, runtime, clock);
    let recorded = start(&dir.path().join("recorded"), (RECORDED, "interval", None, true), with)?;
    let cost = cost(&recorded, &dir.path().join("unrecorded"), with)?;
    let refused = audit_refused::measure(&recorded, options, runtime)?;
    let ways = ways(recorded, dir.path(), with)?;
    let log = audit_log::measure(&dir.path().join("log"), with)?;
    let module = raw.module.clone();
    let void = disturbed(before.min(raw.round(LOOK)?.share));
    drop(raw);

    println!("\nWhat the audit log costs, medians of {} rounds of {:?} each\n", options.rounds, options.length);
    println!("{}", table::show(&cost, void.is_some()));
    println!("{refused}");
    println!("{ways}");
    println!("A log of {} records of Encrypt\n", thousands(options.records as f64));
    println!("{}", table::show(&log.rows, void.is_some()));
    println!("{}", log.beside);
    if let Some(why) = &void {
        println!("{why}\n");
    }
    let passed = cost.iter().chain(&log.rows).all(Row::passed);
    Ok(Part { passed: void.is_none() && passed, module })
}

/// What everything here is measured with.
type With<'a> = (&'a Options, &'a Runtime, &'a Clock);

fn start(
    dir: &Path,
    (mode, sync, place, bound): (&str, &'static str, Option<&TempDir>, bool),
    (options, runtime, clock): With<'_>,
) -> Outcome<Side> {
    eprintln!("audit: making {ZONES} zones for one {mode}, sync = {sync} ...");
    Side::start(dir, (mode, &Log { sync, dir: place }, bound), options, (runtime, clock))
}

/// A daemon with records and policies beside one without.
fn cost(recorded: &Side, dir: &Path, with: With<'_>) -> Outcome<Vec<Row>> {
    let (options, runtime, _) = with;
    let free = start(dir, (UNRECORDED, "interval", None, false), with)?;
    let mut rounds: [Vec<[Measured; 3]>; KINDS.len()] = Default::default();
    for number in 1..=options.rounds {
        eprintln!("audit, what it costs, round {number} of {} ...", options.rounds);
        for (kind, rounds) in KINDS.iter().zip(&mut rounds) {
            // What is compared with something stands on both sides of it, since a machine changes while it is measured.
            let first = free.measure(*kind, runtime)?;
            let between = recorded.measure(*kind, runtime)?;
            rounds.push([first, between, free.measure(*kind, runtime)?]);
        }
    }
    let [unary, batch, alone] = &rounds;
    Ok(vec![
        share("unary Encrypt, 64 in flight: records and 10 + 10 statements / neither", 0.9, unary, "call"),
        share("batch Encrypt (256 items, each its context): the same", 0.85, batch, "item"),
        longer("unary Encrypt, 1 in flight: p50 with both above the one with neither", alone),
    ])
}

/// A figure of all rounds: with records and policies, and without either.
fn both(rounds: &[[Measured; 3]], of: impl Fn(&Measured) -> f64) -> (Vec<f64>, Vec<f64>) {
    rounds.iter().map(|[first, between, last]| (of(between), f64::midpoint(of(first), of(last)))).unzip()
}

fn share(what: &str, must: f64, rounds: &[[Measured; 3]], item: &str) -> Row {
    let (with, without) = both(rounds, |measured| measured.rate);
    let ratios: Vec<f64> = with.iter().zip(&without).map(|(with, without)| with / without).collect();
    let (least, most) = extremes(&ratios);
    let figures = format!("{} with, {} without, {item}s/s", spread(&with), spread(&without));
    let of = format!("{least:.2} to {most:.2}: {figures}\n{}", processor(rounds, item));
    Row::new(what, median(&ratios), Must::Reach(must), of)
}

fn longer(what: &str, rounds: &[[Measured; 3]]) -> Row {
    let (with, without) = both(rounds, |measured| measured.p50);
    let more: Vec<f64> = with.iter().zip(&without).map(|(with, without)| with - without).collect();
    let (least, most) = extremes(&more);
    let figures = format!("{} with, {} without, µs", spread(&with), spread(&without));
    let of = format!("{least:.1} to {most:.1}: {figures}\n{}", processor(rounds, "call"));
    Row::new(what, median(&more), Must::StayUnder(MICROS, "µs"), of)
}

fn processor(rounds: &[[Measured; 3]], item: &str) -> String {
    let (with, without) = both(rounds, |measured| measured.processor);
    format!(
        "processor time of the daemon: {:.1} µs for each {item} with, {:.1} without",
        median(&with),
        median(&without)
    )
}

/// The ways of syncing beside each other, without a bound.
fn ways(recorded: Side, dir: &Path, with: With<'_>) -> Outcome<String> {
    let (options, runtime, _) = with;
    let in_memory = TempDir::with_prefix_in("keystored-bench-", IN_MEMORY).map_err(said("making a directory"))?;
    let disk = std::env::temp_dir();
    let sides = [
        (format!("interval, {}", disk.display()), recorded),
        (
            format!("always, {IN_MEMORY}"),
            start(&dir.join("memory"), (RECORDED, "always", Some(&in_memory), true), with)?,
        ),
        (format!("always, {}", disk.display()), start(&dir.join("always"), (RECORDED, "always", None, true), with)?),
    ];
    let mut all: [Rounds; 3] = Default::default();
    for number in 1..=options.rounds {
        eprintln!("audit, ways of syncing, round {number} of {} ...", options.rounds);
        for (place, kind) in KINDS.iter().enumerate() {
            for ((_, side), rounds) in sides.iter().zip(&mut all) {
                rounds[place].push(side.measure(*kind, runtime)?);
            }
        }
    }
    let width = sides.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |name: &str, [many, of_many, batches, of_batches, one]: [&str; 5]| {
        format!("{name:width$}{many:>32}{of_many:>9}{batches:>32}{of_batches:>9}{one:>24}\n")
    };
    let columns = ["64 in flight, calls/s", "records", "batches of 256, items/s", "records", "1 in flight, p50, µs"];
    let mut out = line("sync, log in", columns);
    for ((name, _), [unary, batch, alone]) in sides.iter().zip(&all) {
        let [many, batches] = [unary, batch].map(|rounds| figures(rounds, |measured| measured.rate));
        let [of_many, of_batches] = [unary, batch].map(|rounds| group(rounds));
        let one = figures(alone, |measured| measured.p50);
        out += &line(name, [&many, &of_many, &batches, &of_batches, &one]);
    }
    out += "records: for each sync of the log; a batch is one record\n";
    Ok(out)
}

fn figures(rounds: &[Measured], of: fn(&Measured) -> f64) -> String {
    spread(&rounds.iter().map(of).collect::<Vec<_>>())
}

/// Records a sync.
fn group(rounds: &[Measured]) -> String {
    let groups: Option<Vec<f64>> = rounds.iter().map(|measured| measured.group).collect();
    groups.map_or_else(|| "-".to_owned(), |groups| thousands(median(&groups)))
}
