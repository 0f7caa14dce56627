//! The thread that compresses closed bundles, and keeps count of what the log takes up.
//!
//! It runs when nothing else wants the processor, goes from the oldest bundle to the newest, and takes the plain ones away
//! when the compressed ones are on the disk. What it has not done yet is on the disk as well: it owes no memory to anybody.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use zstd::bulk::Compressor;

use super::bundles::{BUNDLE_BYTES, compressed, records};
use super::disk::Disk;
use super::locked;
use super::shared::Shared;
use crate::layout::{self, FULL};

/// Written to before it gets its name.
const NEW: &str = "new-compressed";
/// Compressed between two syncs.
const BATCH: u64 = 64;
/// zstd's. Bundles of 256 records that look like CloudTrail's come to 0.057 of what they were, at half a gigabyte a second; levels up to
/// 9 save no more than a twentieth of that, in ten times as long.
const LEVEL: i32 = 1;
/// How often the log is measured.
const MEASURED: Duration = Duration::from_secs(5);
/// The least that the scheduler gives to anybody.
const NICE: i32 = 19;

/// The thread's work, until the log is closed.
pub(crate) fn run(shared: &Arc<Shared>) {
    // Refused where priorities are not to be had: then it shares as the others do.
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!(%error, "bundles of the audit log are compressed with the priority of the rest");
    }
    let stored = size_of(&shared.disk, Path::new("tile"), 8);
    locked(&shared.figures).stored += stored;
    let mut compressing = Compressing::default();
    loop {
        measure(shared);
        let more = match compressing.step(shared) {
            Ok(more) => more,
            Err(error) => {
                tracing::debug!(%error, "bundles of the audit log could not be compressed");
                compressing = Compressing::default();
                false
            }
        };
        if shared.compress_bell.wait(if more { Duration::ZERO } else { MEASURED }) {
            return;
        }
    }
}

/// How far it has come.
#[derive(Default)]
pub(crate) struct Compressing {
    /// The first bundle that is not compressed, once it was looked for.
    next: Option<u64>,
    /// Made once: its tables are larger than most bundles.
    zstd: Option<Compressor<'static>>,
}

impl Compressing {
    /// Compresses some bundles. `true`: there are more.
    pub(crate) fn step(&mut self, shared: &Shared) -> io::Result<bool> {
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(Compressor::new(LEVEL)?),
        };
        let closed = locked(&shared.recent).floor / FULL;
        let from = match self.next {
            Some(from) => from,
            None => first_plain(&shared.disk, closed)?,
        };
        let to = closed.min(from + BATCH);
        let mut done: Vec<(PathBuf, File)> = Vec::new();
        let (mut plains, mut saved) = (Vec::new(), 0);
        for index in from..to {
            let plain = layout::bundle(index, FULL as u32);
            let bundle = match shared.disk.read(&plain, BUNDLE_BYTES) {
                Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => None,
                other => other?,
            };
            // Archived, or damaged: then it is for those who verify, and stays as it is.
            let Some(bundle) = bundle.filter(|bundle| records(bundle, FULL).is_some()) else { continue };
            let bytes = zstd.compress(&bundle)?;
            saved += (bundle.len() as u64).saturating_sub(bytes.len() as u64);
            let path = compressed(index);
            let file = shared.disk.put(NEW, &path, &bytes)?;
            done.push((path, file));
            plains.push(plain);
        }
        shared.disk.sync_all(&done)?;
        plains.iter().try_for_each(|plain| shared.disk.remove(plain))?;
        self.next = Some(to);
        let mut figures = locked(&shared.figures);
        figures.stored = figures.stored.saturating_sub(saved);
        figures.uncompressed = closed - to;
        Ok(to < closed)
    }
}

/// The first bundle that is not compressed: they are in order, so it is looked for from the newest one back.
fn first_plain(disk: &Disk, closed: u64) -> io::Result<u64> {
    let mut first = closed;
    while first > 0 {
        let plain = disk.look(&layout::bundle(first - 1, FULL as u32))?.is_some();
        if !plain {
            break;
        }
        first -= 1;
    }
    Ok(first)
}

fn measure(shared: &Shared) {
    let free = shared.disk.free().ok();
    let end = locked(&shared.recent).end_at.1;
    let journal = shared.journal_bytes(end);
    let mut figures = locked(&shared.figures);
    figures.free = free;
    let bytes = figures.stored + journal;
    figures.growth.add(shared.settings.clock.now(), bytes);
}

/// What is below a directory. Of what can't be read nothing is counted.
fn size_of(disk: &Disk, directory: &Path, depth: u32) -> u64 {
    let mut size = 0;
    for name in disk.list(directory).unwrap_or_default() {
        let path = directory.join(name);
        let below = if depth > 0 { size_of(disk, &path, depth - 1) } else { 0 };
        size += if below > 0 { below } else { disk.look(&path).ok().flatten().map_or(0, |look| look.length) };
    }
    size
}
