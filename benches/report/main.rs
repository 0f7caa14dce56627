//! Measures the daemon and prints the tables of docs/performance.md: its speed against the limits themselves, that of its
//! interface for AWS's clients, what its second looks, its policies, its audit log and its callers' signatures cost, and
//! how it stands HSMs that fail.
//!
//! The raw limits, the empty services, the flood and the load of AWS's clients are other modes of this very program, in
//! processes of their own; other load comes from `keystorectl bench`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is for people at a terminal")]

mod audit;
mod audit_daemon;
mod audit_log;
mod audit_records;
mod audit_refused;
mod aws;
mod aws_empty;
mod aws_load;
mod calls;
mod changes;
mod daemon;
mod decisions;
mod empty;
mod failover;
mod fill;
mod flood;
mod load;
mod looks;
mod machine;
mod many;
mod network;
mod ops;
mod overload;
mod played;
mod policies;
mod prepare;
mod raw;
mod raw_network;
mod raw_open;
mod signatures;
mod speed;
mod table;
mod trouble;
mod watch;
mod workers;

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use model::clock::Clock;
use trouble::Section;

// As in the daemon and its workers: malloc itself is replaced, for the module too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Of every encryption that is measured.
const PLAINTEXT_BYTES: usize = 32;
/// Zones, and so processes of the raw limit.
const ZONES: usize = 2;
/// Keys of the rows that are about many.
const MANY_KEYS: usize = 1_000;
/// Keys of the part that is about nothing else.
const VERY_MANY_KEYS: usize = 10_000;
/// Records of a log that is checked.
const RECORDS: u64 = 1_000_000;

const HELP: &str = "\
usage: make bench [BENCH=\"OPTIONS\"]
  --only PART     speed, aws (the interface for AWS's clients), looks (what a second look costs), policies (what they
                  cost), audit (what the audit log costs), signatures (what they cost), changes (of metadata, among
                  many keys), keys (a key store with very many), trouble (HSMs that fail), or one section of trouble:
                  failover, network, overload, flood or fill; all unless given
  --rounds N      rounds of all parts but trouble, 9 unless given
  --seconds S     length of each measurement of speed, aws, looks, policies, audit, signatures and keys, 1 unless given
  --keys N        keys of the last two rows of speed and of the section fill, 1000 unless given; and of the part keys,
                  10000 unless given
  --records N     records of the log that the part audit checks, 1000000 unless given
  --check         exit with 1 when a figure does not reach what it must, or says nothing (void)
";

type Outcome<T> = Result<T, String>;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let clock = Clock::system();
    let result = match arguments.first().and_then(|first| first.to_str()) {
        Some("raw-limit") => second(&arguments).and_then(|module| raw::run(module, &clock)).map(|()| true),
        Some("raw-open") => second(&arguments).and_then(raw_open::run).map(|()| true),
        Some("raw-network") => raw_network(&arguments, &clock).map(|()| true),
        Some("flood") => flood::run(&arguments, &clock).map(|()| true),
        Some("empty-service") => {
            second(&arguments).and_then(|config| empty::run(Path::new(config), clock)).map(|()| true)
        }
        Some("empty-aws") => {
            second(&arguments).and_then(|config| aws_empty::run(Path::new(config), clock)).map(|()| true)
        }
        // A daemon starts its own program as its workers.
        Some("hsm-worker") => worker::run(&clock),
        Some(audit_daemon::RECORDED | audit_daemon::UNRECORDED) => audit_daemon::run(&arguments, clock).map(|()| true),
        Some("aws-load") => aws_load::run(&arguments, &clock).map(|()| true),
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

/// What came of a part of the report.
struct Part {
    passed: bool,
    /// What the module says it is.
    module: String,
}

struct Options {
    speed: bool,
    aws: bool,
    looks: bool,
    policies: bool,
    audit: bool,
    signatures: bool,
    changes: bool,
    many: bool,
    /// Sections of the part trouble.
    trouble: Vec<Section>,
    rounds: u32,
    length: Duration,
    keys: usize,
    /// Of the part keys.
    very_many: usize,
    /// Of the part audit.
    records: u64,
    check: bool,
}

impl Options {
    fn parse(arguments: &[OsString]) -> Outcome<Self> {
        let mut options = Self {
            speed: true,
            aws: true,
            looks: true,
            policies: true,
            audit: true,
            signatures: true,
            changes: true,
            many: true,
            trouble: Section::ALL.to_vec(),
            rounds: 9,
            length: Duration::from_secs(1),
            keys: MANY_KEYS,
            very_many: VERY_MANY_KEYS,
            records: RECORDS,
            check: false,
        };
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
                Some("--keys") => {
                    options.keys = number(10_000)?;
                    options.very_many = options.keys;
                }
                Some("--records") => options.records = number(100_000_000)? as u64,
                Some("--only") => {
                    let part = rest.next().and_then(|part| part.to_str()).unwrap_or_default();
                    options.speed = part == "speed";
                    options.aws = part == "aws";
                    options.looks = part == "looks";
                    options.policies = part == "policies";
                    options.audit = part == "audit";
                    options.signatures = part == "signatures";
                    options.changes = part == "changes";
                    options.many = part == "keys";
                    options.trouble.retain(|section| part == "trouble" || part == section.name());
                    let costs = [options.looks, options.policies, options.audit, options.signatures];
                    let others = [options.speed, options.aws, options.changes, options.many];
                    if !costs.contains(&true) && !others.contains(&true) && options.trouble.is_empty() {
                        return Err(format!("{part:?} is not a part\n{HELP}"));
                    }
                }
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
    // A thread beside this one: connections must hear that a daemon ends while this thread waits for its end.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(said("starting"))?;
    let mut parts = Vec::new();
    if options.signatures {
        parts.push(signatures::report(options, clock)?);
    }
    if options.changes {
        parts.push(runtime.block_on(changes::report(options, clock))?);
    }
    if options.speed {
        parts.push(speed::report(options, clock, &runtime)?);
    }
    if options.aws {
        parts.push(aws::report(options, clock, &runtime)?);
    }
    if options.looks {
        parts.push(looks::report(options, clock, &runtime)?);
    }
    if options.policies {
        parts.push(policies::report(options, clock, &runtime)?);
    }
    if options.audit {
        parts.push(audit::report(options, clock, &runtime)?);
    }
    if options.many {
        parts.push(many::report(options, clock, &runtime)?);
    }
    if !options.trouble.is_empty() {
        parts.push(runtime.block_on(trouble::report(options, clock))?);
    }
    let module = parts.last().map_or("unknown", |part| &part.module);
    for line in machine::describe(module) {
        println!("{line}");
    }
    Ok(!options.check || parts.iter().all(|part| part.passed))
}

fn raw_network(arguments: &[OsString], clock: &Clock) -> Outcome<()> {
    let threads = arguments.get(2).and_then(|threads| threads.to_str()?.parse().ok());
    raw_network::run(second(arguments)?, threads.ok_or("the number of threads is missing")?, clock)
}

fn second(arguments: &[OsString]) -> Outcome<&OsStr> {
    arguments.get(1).map(OsString::as_os_str).ok_or_else(|| "an argument is missing".to_owned())
}

/// Says what was being done when something went wrong.
fn said<E: Display>(what: &'static str) -> impl Fn(E) -> String {
    move |error| format!("{what}: {error}")
}
