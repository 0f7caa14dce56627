//! The second part: HSMs that fail, and what callers notice of it. Each section has a daemon of its own over fresh zones.

use std::path::Path;
use std::time::Duration;

use model::clock::Clock;
use tempfile::TempDir;

use super::raw::{RawLimit, disturbed};
use super::table::{self, Row};
use super::{Options, Outcome, Part, ZONES, failover, fill, flood, network, overload, said};

/// How long it is looked, between sections, whether something else runs on the machine.
const LOOK: Duration = Duration::from_secs(1);

/// What can be measured by itself.
#[derive(Clone, Copy)]
pub(super) enum Section {
    Failover,
    Network,
    Overload,
    Flood,
    Fill,
}

/// What a section has measured.
#[derive(Default)]
pub(super) struct Measured {
    pub(super) rows: Vec<Row>,
    /// Goes before the table.
    pub(super) text: String,
}

impl From<Vec<Row>> for Measured {
    fn from(rows: Vec<Row>) -> Self {
        Self { rows, text: String::new() }
    }
}

impl Section {
    pub(super) const ALL: [Self; 5] = [Self::Failover, Self::Network, Self::Overload, Self::Flood, Self::Fill];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::Network => "network",
            Self::Overload => "overload",
            Self::Flood => "flood",
            Self::Fill => "fill",
        }
    }

    async fn measure(self, dir: &Path, softhsm: &Path, keys: usize, clock: &Clock) -> Outcome<Measured> {
        match self {
            Self::Failover => failover::measure(dir, clock).await,
            Self::Network => network::measure(dir, softhsm, clock).await.map(Measured::from),
            Self::Overload => overload::measure(dir, clock).await.map(Measured::from),
            Self::Flood => flood::measure(dir, clock).await.map(Measured::from),
            Self::Fill => fill::measure(dir, keys, clock).await.map(Measured::from),
        }
    }
}

/// Measures and prints the table.
pub(super) async fn report(options: &Options, clock: &Clock) -> Outcome<Part> {
    let softhsm = provision::find_module().ok_or("SoftHSM's module is not installed; `make deps` installs it")?;
    let dir = TempDir::with_prefix("keystored-bench-").map_err(said("making a directory"))?;
    let program = std::env::current_exe().map_err(said("finding this program"))?;
    let mut raw = RawLimit::start(&program, dir.path(), &softhsm, ZONES)?;
    let (mut all, mut share) = (Measured::default(), raw.round(LOOK)?.share);
    for section in &options.trouble {
        let name = section.name();
        eprintln!("{name} ...");
        match section.measure(&dir.path().join(name), &softhsm, options.keys, clock).await {
            Ok(measured) => {
                all.rows.extend(measured.rows);
                all.text.push_str(&measured.text);
            }
            // One that came to nothing does not take the others' figures with it.
            Err(error) => all.rows.push(Row::missing(name, error)),
        }
        share = share.min(raw.round(LOOK)?.share);
    }
    let Measured { rows, text } = all;
    let void = disturbed(share);
    println!("\nHSMs that fail\n\n{text}\n{}", table::show(&rows, void.is_some()));
    if let Some(why) = &void {
        println!("{why}\n");
    }
    Ok(Part { passed: void.is_none() && rows.iter().all(Row::passed), module: raw.module.clone() })
}
