//! A log of many records of Encrypt, as the daemon would write it: what a record takes up, how fast all of it is checked,
//! and what it takes to note and to write one.

use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::hint::black_box;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use audit::keys::PublicKeys;
use audit::layout::{CHECKPOINT, HEADS};
use audit::log::{Class, Leaves, Log, Settings};
use audit::note::LogKey;
use audit::verify::verify;
use model::clock::Clock;
use tokio::runtime::Runtime;

use super::audit_records::{Context, Site};
use super::table::{Must, Row, median, spread};
use super::watch::pass;
use super::{Options, Outcome, said};

const ORIGIN: &str = "bench.example.com/audit";
/// Records that are checked a second, by one thread.
const RATE: f64 = 300_000.0;
/// What a record may take up, in parts of its JSON.
const SHARE: f64 = 0.2;
/// What a file system gives a file is counted in these by Linux.
const BLOCK: u64 = 512;
/// Items of a call, and how many of them are written to see what one costs.
const ITEMS: [usize; 2] = [1, 256];
const WRITTEN: usize = 102_400;
/// Between two looks whether everything is compressed, and for how long.
const LOOK: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(300);

/// What there is to print.
pub(super) struct Report {
    pub(super) rows: Vec<Row>,
    pub(super) beside: String,
}

/// Writes a log in this directory and measures.
pub(super) fn measure(dir: &Path, (options, runtime, clock): (&Options, &Runtime, &Clock)) -> Outcome<Report> {
    eprintln!("audit: writing {} records ...", options.records);
    let mut site = Site::new(clock.unix_millis());
    let key = LogKey::generate(ORIGIN).map_err(said("making a log's key"))?;
    let keys = PublicKeys::new(key.verifier(), Vec::new(), Vec::new());
    let settings = Settings::new(dir.to_owned(), ORIGIN.to_owned(), clock.clone());
    let log = Log::open(settings, key, Arc::new(()), None).map_err(said("opening a log"))?;
    let json = runtime.block_on(async {
        let json = write(&log, &mut site, options.records).await?;
        tokio::time::timeout(PATIENCE, compressed(&log, dir, options.records))
            .await
            .map_err(said("waiting for bundles to be compressed"))??;
        Outcome::Ok(json)
    })?;
    log.close();
    let used = Used::of(dir)?;

    let mut rates = Vec::new();
    for number in 1..=options.rounds {
        eprintln!("audit: checking {} records, round {number} of {} ...", options.records, options.rounds);
        let began = clock.now();
        let found = verify(dir, &keys, None, &mut |_, _| {}).map_err(said("checking the log"))?;
        rates.push(found.head.size as f64 / (clock.now() - began).as_secs_f64());
        if found.head.size != options.records {
            return Err(format!("{} records were written, {} are signed", options.records, found.head.size));
        }
    }
    let rows = rows(&used, json as f64 / options.records as f64, options.records as f64, &rates);
    Ok(Report { rows, beside: written(&mut site, clock)? })
}

fn rows(used: &Used, json: f64, records: f64, rates: &[f64]) -> Vec<Row> {
    let each = |bytes: u64| bytes as f64 / records;
    let row = |what: &str, [bytes, blocks]: [u64; 2]| {
        let of = format!("{:.0} bytes of JSON, {:.1} of files, {:.1} on the disk", json, each(bytes), each(blocks));
        Row::new(what, each(blocks) / json, Must::BeAtMost(SHARE), of)
    };
    let all = [0, 1].map(|at| used.bundles[at] + used.tiles[at] + used.heads[at]);
    vec![
        Row::new("records that are checked, by one thread", median(rates), Must::Exceed(RATE, "/s"), spread(rates)),
        row("disk use of a record / its JSON: bundles alone", used.bundles),
        row("the same with tiles and heads", all),
    ]
}

/// Appends so many; the bytes of their JSON.
async fn write(log: &Log, site: &mut Site, count: u64) -> Outcome<u64> {
    let mut json = 0;
    for _ in 0..count {
        let mut leaves = Leaves::new();
        let context = site.context();
        for record in site.call(&[context]).event(|event| event.records()) {
            json += record.len() as u64;
            leaves.push(&record).map_err(said("making a record"))?;
        }
        log.append(leaves, Class::Data).await.map_err(said("appending a record"))?;
    }
    Ok(json)
}

/// Waits until a head is over all records and no closed bundle is plain.
async fn compressed(log: &Log, dir: &Path, count: u64) -> Outcome<()> {
    while log.head().size < count || Used::of(dir)?.plain > 0 {
        pass(LOOK).await;
    }
    Ok(())
}

/// What there is in a log's directory: bytes of files, and what the file system gives them.
#[derive(Default)]
struct Used {
    bundles: [u64; 2],
    tiles: [u64; 2],
    heads: [u64; 2],
    /// Closed bundles that are not compressed.
    plain: u64,
}

impl Used {
    /// The journal is left out: it is as long as it is however many records there are.
    fn of(dir: &Path) -> Outcome<Self> {
        let mut used = Self::default();
        used.add(&dir.join("tile"), false)?;
        for name in [CHECKPOINT, HEADS] {
            // Not there before the first head.
            if let Ok(file) = fs::metadata(dir.join(name)) {
                add(&mut used.heads, &file);
            }
        }
        Ok(used)
    }

    fn add(&mut self, folder: &Path, entries: bool) -> Outcome<()> {
        let Ok(found) = fs::read_dir(folder) else { return Ok(()) };
        for entry in found {
            let entry = entry.map_err(said("looking at a log"))?;
            let (path, name) = (entry.path(), entry.file_name());
            // What is taken away meanwhile is followed by something else.
            let Ok(file) = entry.metadata() else { continue };
            if file.is_dir() {
                self.add(&path, entries || name == "entries")?;
            } else if entries {
                add(&mut self.bundles, &file);
                // N.zst is compressed, and in N.p are those that are not closed.
                self.plain += u64::from(path.extension().is_none() && folder.extension().is_none());
            } else {
                add(&mut self.tiles, &file);
            }
        }
        Ok(())
    }
}

fn add(sum: &mut [u64; 2], file: &Metadata) {
    sum[0] += file.len();
    sum[1] += file.blocks() * BLOCK;
}

/// What it takes to note what a call asks for, which a daemon does that keeps no records too, and to make a record of it.
fn written(site: &mut Site, clock: &Clock) -> Outcome<String> {
    let mut columns = Vec::new();
    for items in ITEMS {
        let contexts: Vec<Context> = (0..items).map(|_| site.context()).collect();
        let mut timed = |whole: bool| -> Outcome<f64> {
            let began = clock.now();
            for _ in 0..WRITTEN / items {
                let call = site.call(&contexts);
                if whole {
                    black_box(call.event(|event| event.leaves()).map_err(said("making a record"))?);
                }
                black_box(call);
            }
            Ok((clock.now() - began).as_secs_f64() * 1e6 / WRITTEN as f64)
        };
        let noted = timed(false)?;
        columns.push([noted, timed(true)? - noted]);
    }
    let mut out = format!("{:40}{:>10}{:>28}\n", "one thread, µs", "a call", "an item of a batch of 256");
    let lines = ["noting what is asked for and comes of it", "making that a record, with its hash"];
    for (at, what) in lines.into_iter().enumerate() {
        let _ = writeln!(out, "{what:40}{:>10.2}{:>28.3}", columns[0][at], columns[1][at]);
    }
    Ok(out)
}
