//! The interface for AWS's clients against a service that listens, speaks and verifies signatures as the daemon does, and
//! does nothing else. Each measurement of the one stands between two of the other.

use std::fmt::Write as _;
use std::time::Duration;

use model::clock::Clock;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::aws_load::Load;
use super::daemon::{Daemon, Empty};
use super::raw::{RawLimit, disturbed};
use super::table::{self, Must, Row, extremes, median, spread, thousands};
use super::{Options, Outcome, Part, ZONES, said};

/// How long it is looked, before and after, whether something else runs on the machine.
const LOOK: Duration = Duration::from_secs(1);
const MANY_IN_FLIGHT: usize = 64;
/// What is measured against the empty service.
const ENCRYPT: &str = "Encrypt";
/// What stands beside it.
const BESIDE: [&str; 2] = ["GenerateDataKey", "Decrypt"];

/// What one round measured.
#[derive(Default)]
struct Round {
    /// Calls a second at 64 in flight.
    empty: f64,
    encrypt: f64,
    /// Median microseconds of a call with one in flight.
    empty_alone: f64,
    encrypt_alone: f64,
    /// Both, of what stands beside it.
    beside: [(f64, f64); BESIDE.len()],
}

/// Measures and prints the tables.
pub(super) fn report(options: &Options, clock: &Clock, runtime: &Runtime) -> Outcome<Part> {
    let program = std::env::current_exe().map_err(said("finding this program"))?;
    let softhsm = provision::find_module().ok_or("SoftHSM's module is not installed; `make deps` installs it")?;
    let dir = TempDir::with_prefix("keystored-bench-").map_err(said("making a directory"))?;
    let mut raw = RawLimit::start(&program, dir.path(), &softhsm, ZONES)?;
    let before = raw.round(LOOK)?.share;
    let daemon = runtime.block_on(Daemon::start(&dir.path().join("dev"), clock))?;
    let key = runtime.block_on(daemon.create_keys(1))?.pop().ok_or("no key was made")?;
    let empty = Empty::start_aws(&program, &daemon)?;
    runtime.block_on(daemon.complete())?;

    let run = |environment, operation, in_flight| {
        Load { operation, key: &key, in_flight, length: options.length }.run(&program, environment)
    };
    let many = |environment, operation| run(environment, operation, MANY_IN_FLIGHT).map(|figures| figures.rate);
    let alone = |environment, operation| run(environment, operation, 1).map(|figures| figures.p50);
    let (real, empty_environment) = (&daemon.environment, &empty.environment);
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        eprintln!("aws, round {number} of {} ...", options.rounds);
        // What is compared with something stands on both sides of it, since a machine changes while it is measured.
        let mut round = Round::default();
        let first = many(empty_environment, ENCRYPT)?;
        round.encrypt = many(real, ENCRYPT)?;
        round.empty = f64::midpoint(first, many(empty_environment, ENCRYPT)?);
        let first = alone(empty_environment, ENCRYPT)?;
        round.encrypt_alone = alone(real, ENCRYPT)?;
        round.empty_alone = f64::midpoint(first, alone(empty_environment, ENCRYPT)?);
        for (operation, figures) in BESIDE.into_iter().zip(&mut round.beside) {
            *figures = (many(real, operation)?, alone(real, operation)?);
        }
        rounds.push(round);
    }
    let module = raw.module.clone();
    let void = disturbed(before.min(raw.round(LOOK)?.share));
    drop((raw, empty, daemon));

    let rows = rows(&rounds);
    println!(
        "\nThe interface for AWS's clients, medians of {} rounds of {:?} each, in brackets the least and the most\n",
        options.rounds, options.length
    );
    println!("{}", table::show(&rows, void.is_some()));
    println!("{}", beside(&rounds));
    if let Some(why) = &void {
        println!("{why}\n");
    }
    Ok(Part { passed: void.is_none() && rows.iter().all(Row::passed), module })
}

fn each(rounds: &[Round], figure: impl Fn(&Round) -> f64) -> Vec<f64> {
    rounds.iter().map(figure).collect()
}

/// What must be reached. Each figure is the median of the rounds' own.
fn rows(rounds: &[Round]) -> Vec<Row> {
    let row = |what: &str, must: Must, figure: fn(&Round) -> f64, figures: String| {
        let of_each = each(rounds, figure);
        let (least, most) = extremes(&of_each);
        let range = match must {
            Must::StayUnder(..) => format!("{} to {}", thousands(least), thousands(most)),
            _ => format!("{least:.2} to {most:.2}"),
        };
        Row::new(what, median(&of_each), must, format!("{range}: {figures}"))
    };
    let (encrypt, empty) = (each(rounds, |round| round.encrypt), each(rounds, |round| round.empty));
    let alone = (each(rounds, |round| round.encrypt_alone), each(rounds, |round| round.empty_alone));
    vec![
        row(
            "Encrypt, 64 in flight / empty service",
            Must::Reach(0.5),
            |round| round.encrypt / round.empty,
            format!("{} Encrypt, {} empty calls/s", spread(&encrypt), spread(&empty)),
        ),
        row(
            "Encrypt, 1 in flight: p50 above the empty service's",
            Must::StayUnder(100.0, "µs"),
            |round| round.encrypt_alone - round.empty_alone,
            format!("{} Encrypt, {} empty µs", spread(&alone.0), spread(&alone.1)),
        ),
    ]
}

/// What stands beside that, without a bound.
fn beside(rounds: &[Round]) -> String {
    let mut table = format!("{:18}{:>34}{:>34}\n", "", "64 in flight, calls/s", "1 in flight, p50, µs");
    for (place, operation) in BESIDE.into_iter().enumerate() {
        let of = |figure: fn((f64, f64)) -> f64| spread(&each(rounds, |round| figure(round.beside[place])));
        let (many, alone) = (of(|(rate, _)| rate), of(|(_, micros)| micros));
        let _ = writeln!(table, "{operation:18}{many:>34}{alone:>34}");
    }
    table
}
