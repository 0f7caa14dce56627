//! Measures the daemon's speed against the limits themselves and prints the table of docs/performance.md.
//!
//! One run, rounds interleaved: each round measures everything once, one after the other, so that slow changes of the
//! machine fall on all figures alike. Other work on it does not, so it is looked for, and then there is no verdict. The raw
//! limit and the empty service are other modes of this very program, in processes of their own; the load comes from
//! `keystorectl bench`.

mod daemon;
mod empty;
mod load;
mod machine;
mod raw;
mod table;

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use keystored::model::clock::Clock;
use keystored::provision;
use tempfile::TempDir;

use daemon::{Daemon, Empty};
use load::{Kind, Load};
use raw::RawLimit;
use table::Rounds;

// As in the daemon and its workers: malloc itself is replaced, for the module too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Of every encryption that is measured.
const PLAINTEXT_BYTES: usize = 32;
/// Zones, and so processes of the raw limit.
const ZONES: usize = 2;
/// Keys of the last two rows.
const MANY_KEYS: usize = 1_000;

const HELP: &str = "\
usage: make bench [BENCH=\"OPTIONS\"]
  --rounds N      rounds, 5 unless given
  --seconds S     length of each measurement, 2 unless given
  --keys N        keys of the last two rows, 1000 unless given
  --check         exit with 1 when a figure does not reach what it must, or says nothing (void)
";

type Outcome<T> = Result<T, String>;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let clock = Clock::system();
    let result = match arguments.first().and_then(|first| first.to_str()) {
        Some("raw-limit") => second(&arguments).and_then(|module| raw::run(module, &clock)).map(|()| true),
        Some("empty-service") => {
            second(&arguments).and_then(|config| empty::run(Path::new(config), clock)).map(|()| true)
        }
        Some("--help" | "-h") => {
            print!("{HELP}");
            Ok(true)
        }
        _ => Options::parse(&arguments).and_then(|options| report(&options, &clock)),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    rounds: u32,
    length: Duration,
    keys: usize,
    check: bool,
}

impl Options {
    fn parse(arguments: &[OsString]) -> Outcome<Self> {
        let mut options = Self { rounds: 5, length: Duration::from_secs(2), keys: MANY_KEYS, check: false };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut number = |most: usize| {
                let value = rest.next().and_then(|value| value.to_str()?.parse::<usize>().ok());
                value
                    .filter(|value| (1..=most).contains(value))
                    .ok_or(format!("{argument:?} takes 1 to {most}\n{HELP}"))
            };
            match argument.to_str() {
                Some("--rounds") => options.rounds = u32::try_from(number(1_000)?).unwrap_or(u32::MAX),
                Some("--seconds") => options.length = Duration::from_secs(number(3_600)? as u64),
                Some("--keys") => options.keys = number(10_000)?,
                Some("--check") => options.check = true,
                // cargo adds this one.
                Some("--bench") => {}
                _ => return Err(format!("{argument:?} is not an option\n{HELP}")),
            }
        }
        Ok(options)
    }
}

fn report(options: &Options, clock: &Clock) -> Outcome<bool> {
    if cfg!(debug_assertions) {
        eprintln!("These figures mean nothing: the program was built without optimisation (make bench does it right).");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(said("starting"))?;
    let program = std::env::current_exe().map_err(said("finding this program"))?;
    let module = provision::find_module().ok_or("SoftHSM's module is not installed; `make deps` installs it")?;
    let dir = TempDir::with_prefix("keystored-bench-").map_err(said("making a directory"))?;

    eprintln!("making {ZONES} zones and {} keys ...", options.keys);
    let daemon = runtime.block_on(Daemon::start(&dir.path().join("dev"), clock))?;
    let keys = runtime.block_on(daemon.create_keys(options.keys))?;
    let empty = Empty::start(&program, &daemon)?;
    let mut raw = RawLimit::start(&program, dir.path(), &module, ZONES)?;
    let key = keys.into_iter().next().ok_or("no key was made")?;
    let load = Load { key, keys: options.keys, length: options.length };

    let mut rounds = Rounds::default();
    for number in 1..=options.rounds {
        eprintln!("round {number} of {} ...", options.rounds);
        let round = raw.round(options.length)?;
        rounds.raw.push(round.rate);
        rounds.shares.push(round.share);
        rounds.batch.push(load.run(&daemon.environment, Kind::Batch)?.rate);
        rounds.batch_many_keys.push(load.run(&daemon.environment, Kind::BatchManyKeys)?.rate);
        rounds.empty.push(load.run(&empty.environment, Kind::Unary64)?.rate);
        rounds.unary.push(load.run(&daemon.environment, Kind::Unary64)?.rate);
        rounds.empty_alone.push(load.run(&empty.environment, Kind::Unary1)?.p50);
        rounds.unary_alone.push(load.run(&daemon.environment, Kind::Unary1)?.p50);
        // Last, so that what comes before it in a round has met the same warm daemon: it is warm again before the next.
        rounds.connect.push(runtime.block_on(daemon.reconnect(clock))?.as_secs_f64() * 1e3);
    }
    let described = machine::describe(&raw.module);
    // Everything has ended before the figures are shown; a daemon that does not end well is a failure of its own.
    drop((raw, empty, daemon));

    let rows = table::rows(&rounds, options.keys);
    println!(
        "\nkeystored on SoftHSM, {PLAINTEXT_BYTES}-byte plaintexts, client and daemon on one machine over loopback"
    );
    println!("medians of {} rounds of {:?} each, in brackets the least and the most\n", options.rounds, options.length);
    let void = table::void(&rounds);
    println!("{}", table::show(&rows, void.is_some()));
    if let Some(why) = &void {
        println!("{why}\n");
    }
    for line in described {
        println!("{line}");
    }
    Ok(!options.check || (void.is_none() && rows.iter().all(table::Row::passed)))
}

fn second(arguments: &[OsString]) -> Outcome<&OsStr> {
    arguments.get(1).map(OsString::as_os_str).ok_or_else(|| "an argument is missing".to_owned())
}

/// Says what was being done when something went wrong.
fn said<E: Display>(what: &'static str) -> impl Fn(E) -> String {
    move |error| format!("{what}: {error}")
}
