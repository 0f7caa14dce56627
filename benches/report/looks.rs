//! What a second look costs: data keys that are opened again before they are given out, and Decrypt that compares two
//! zones. Two daemons over zones of their own, with and without, each measurement of one beside the same of the other.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use model::clock::Clock;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::daemon::{Daemon, cluster};
use super::load::{Kind, Load};
use super::raw::{RawLimit, disturbed};
use super::table::{median, thousands};
use super::{Options, Outcome, Part, ZONES, said};

/// How long it is looked, before and after, whether something else runs on the machine.
const LOOK: Duration = Duration::from_secs(1);
/// What is called, the setting that has it looked at, and how people know it.
const OPERATIONS: [(&str, &str, &str); 2] =
    [("generate-data-key", "verify_wraps", "GenerateDataKey"), ("decrypt", "verify_unwraps", "Decrypt")];
const KINDS: [(Kind, &str); 3] = [
    (Kind::Unary1, "1 in flight, p50, µs"),
    (Kind::Unary64, "64 in flight, calls/s"),
    (Kind::Batch, "batches of 256, items/s"),
];

/// One daemon, and the load for it.
struct Side {
    daemon: Daemon,
    load: Load,
}

impl Side {
    async fn start(dir: &Path, looks: bool, options: &Options, clock: &Clock) -> Outcome<Self> {
        let daemon = Daemon::start_with(dir, clock, |config| {
            let cluster = cluster(config)?;
            cluster.insert("verify_wraps".to_owned(), if looks { "data-keys" } else { "none" }.into());
            cluster.insert("verify_unwraps".to_owned(), looks.into());
            Ok(())
        });
        let daemon = daemon.await?;
        let key = daemon.create_keys(1).await?.pop().ok_or("no key was made")?;
        Ok(Self { daemon, load: Load { key, keys: 1, length: options.length, operation: "encrypt", contexts: None } })
    }

    fn measure(&mut self, operation: &'static str, kind: Kind) -> Outcome<f64> {
        self.load.operation = operation;
        let figures = self.load.run(&self.daemon.environment, kind)?;
        Ok(if matches!(kind, Kind::Unary1) { figures.p50 } else { figures.rate })
    }
}

/// Measures and prints the table. There is nothing that it must reach.
pub(super) fn report(options: &Options, clock: &Clock, runtime: &Runtime) -> Outcome<Part> {
    let program = std::env::current_exe().map_err(said("finding this program"))?;
    let softhsm = provision::find_module().ok_or("SoftHSM's module is not installed; `make deps` installs it")?;
    let dir = TempDir::with_prefix("keystored-bench-").map_err(said("making a directory"))?;
    let mut raw = RawLimit::start(&program, dir.path(), &softhsm, ZONES)?;
    let before = raw.round(LOOK)?.share;
    let mut sides = [false, true].map(|looks| {
        let name = if looks { "with" } else { "without" };
        runtime.block_on(Side::start(&dir.path().join(name), looks, options, clock))
    });
    let mut table = format!("{:60}{:>10}{:>10}{:>8}\n", "", "without", "with", "ratio");
    for (operation, setting, name) in OPERATIONS {
        for (kind, what) in KINDS {
            eprintln!("{name}, {what}, with and without {setting} ...");
            let mut figures = [const { Vec::new() }; 2];
            for _ in 0..options.rounds {
                for (side, figures) in sides.iter_mut().zip(&mut figures) {
                    figures.push(side.as_mut().map_err(|error| error.clone())?.measure(operation, kind)?);
                }
            }
            let [without, with] = figures.map(|figures| median(&figures));
            let row = format!("{name}, {setting}, {what}");
            let _ = writeln!(table, "{row:60}{:>10}{:>10}{:>8.2}", thousands(without), thousands(with), with / without);
        }
    }
    drop(sides);
    let void = disturbed(before.min(raw.round(LOOK)?.share));
    println!(
        "\nWhat a second look costs, medians of {} rounds of {:?} each\n\n{table}",
        options.rounds, options.length
    );
    if let Some(why) = &void {
        println!("{why}\n");
    }
    Ok(Part { passed: void.is_none(), module: raw.module.clone() })
}
