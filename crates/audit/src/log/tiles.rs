//! The thread that makes bundles, tiles and heads of what is synced.
//!
//! Full bundles and tiles are written as they are complete, the others with each head, and all of it is synced before the head
//! is signed. When anything fails, all since the newest head is made again, from the journal, which keeps it until then.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::bundles::put_record;
use super::cosign::{self, Cosigning};
use super::heads::HeadFile;
use super::journal::{self, Reader, Segment};
use super::leaves::Leaves;
use super::locked;
use super::shared::Shared;
use super::state::Reason;
use super::tree::Edge;
use crate::layout::{self, CHECKPOINT, FULL};
use crate::note::{Checkpoint, Line, LogKey, Malformed};

/// Written to before it gets its name.
const NEW: &str = "new-tile";
/// Files that are kept open so that they can be synced one by one; with more the whole file system is.
const KEPT: usize = 64;
/// Most events that are taken from memory in one go: whoever appends waits for that.
const MOST: usize = 1_024;
/// How long before what failed is tried again.
const AGAIN: Duration = Duration::from_millis(250);
/// How long the zones' signatures are waited for before a head goes without them, and at the end.
const COSIGNED: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(2_500));

/// What was made of the journal.
#[derive(Clone)]
struct Made {
    edge: Edge,
    /// The bundle that is not full yet.
    bundle: Vec<u8>,
}

pub(crate) struct Tiles {
    shared: Arc<Shared>,
    key: LogKey,
    cosigning: Cosigning,
    heads: HeadFile,
    made: Made,
    /// As it was at the newest head.
    signed: Made,
    /// Written since that, not synced. More than [`KEPT`] are not kept.
    files: Vec<(PathBuf, File)>,
    /// Partial bundles and tiles of the newest head, and of the one before: whoever began to read with that finds them.
    partial: [BTreeSet<PathBuf>; 2],
    /// The newest head as it was written.
    newest: Option<Checkpoint>,
    signed_at: Option<Instant>,
    failing_since: Option<Instant>,
}

impl Tiles {
    /// Goes on from this edge, which the newest head is over, and the bundle that is not full with it.
    pub(crate) fn new(
        shared: Arc<Shared>,
        key: LogKey,
        cosigning: Cosigning,
        heads: HeadFile,
        found: (Edge, Vec<u8>, Option<Checkpoint>),
    ) -> Self {
        let (edge, bundle, newest) = found;
        let made = Made { edge, bundle };
        let partial = [partial_paths(&made.edge), BTreeSet::new()];
        Self {
            shared,
            key,
            cosigning,
            heads,
            signed: made.clone(),
            made,
            files: Vec::new(),
            partial,
            newest,
            signed_at: None,
            failing_since: None,
        }
    }

    /// The thread's work, until the log is closed: then a last head is signed over all that is synced.
    pub(crate) fn run(mut self) {
        let mut closing = false;
        while !closing {
            closing = self.shared.tiles_bell.wait(self.pause());
            self.attempt(closing);
        }
    }

    /// How long nothing needs to be done unless somebody rings.
    fn pause(&self) -> Duration {
        if self.failing_since.is_some() {
            return AGAIN;
        }
        self.due().saturating_duration_since(self.shared.settings.clock.now())
    }

    /// When the next head is due.
    fn due(&self) -> Instant {
        let settings = &self.shared.settings;
        let now = settings.clock.now();
        let Some(signed_at) = self.signed_at else { return now };
        let grown = self.made.edge.size() > self.signed.edge.size();
        signed_at + if grown { settings.checkpoint_every } else { settings.idle_checkpoint_every }
    }

    pub(crate) fn attempt(&mut self, closing: bool) {
        let now = self.shared.settings.clock.now();
        match self.step(closing) {
            Ok(()) => {
                self.failing_since = None;
                self.shared.trouble(|health| &mut health.tiles, None);
            }
            Err(error) => {
                let since = *self.failing_since.get_or_insert(now);
                self.made = self.signed.clone();
                self.files.clear();
                if closing || now.saturating_duration_since(since) >= self.shared.sizes.tiles_grace {
                    self.shared.trouble(|health| &mut health.tiles, Some(Reason::tiles(&error)));
                } else {
                    tracing::debug!(%error, "tiles of the audit log are made again");
                }
                // Rung for by whoever appends: what failed a moment ago is not tried with every record.
                if !closing {
                    self.shared.tiles_bell.wait_calmly(AGAIN);
                }
            }
        }
    }

    fn step(&mut self, closing: bool) -> io::Result<()> {
        if self.shared.tiles_astray.swap(false, Ordering::SeqCst) {
            self.made = self.signed.clone();
            self.files.clear();
        }
        while self.take()? && (closing || self.due() > self.shared.settings.clock.now()) {}
        if closing || self.due() <= self.shared.settings.clock.now() {
            self.sign(closing)?;
        }
        self.countersign()?;
        if closing && let Some(newest) = self.newest.clone().filter(|newest| self.heads.misses(newest)) {
            self.keep(&newest)?;
        }
        Ok(())
    }

    /// Puts a head to those that were signed before.
    fn keep(&mut self, head: &Checkpoint) -> io::Result<()> {
        let bytes = self.heads.keep(&self.shared.disk, head, self.shared.settings.clock.now())?;
        locked(&self.shared.figures).stored += bytes;
        Ok(())
    }

    /// Makes bundles and tiles of what is synced. `true`: there is more.
    fn take(&mut self) -> io::Result<bool> {
        let next = self.made.edge.size();
        let (entries, in_memory, synced) = {
            let recent = locked(&self.shared.recent);
            let from = recent.entries.partition_point(|(first, leaves)| first + u64::from(leaves.count()) <= next);
            let synced = recent.entries.range(from..).take_while(|(first, _)| *first < recent.synced);
            (synced.take(MOST).cloned().collect::<Vec<_>>(), recent.first(), recent.synced)
        };
        if next < in_memory.min(synced) {
            self.take_from_journal(in_memory.min(synced))?;
            return Ok(true);
        }
        let more = entries.len() == MOST;
        for (first, leaves) in entries {
            self.push_event(first, &leaves)?;
        }
        Ok(more)
    }

    fn push_event(&mut self, first: u64, leaves: &Leaves) -> io::Result<()> {
        let mut framed = leaves.framed();
        for (number, hash) in (first..).zip(leaves.hashes()) {
            let Some(record) = journal::skip(&mut framed) else { return Err(io::ErrorKind::InvalidData.into()) };
            // What was taken from the journal before, because memory had not all of the event.
            if number == self.made.edge.size() {
                self.push(hash, record)?;
            }
        }
        Ok(())
    }

    /// What memory does not have.
    fn take_from_journal(&mut self, end: u64) -> io::Result<()> {
        let segments = locked(&self.shared.segments).clone();
        let shared = Arc::clone(&self.shared);
        for (at, segment) in segments.iter().enumerate() {
            let end = segments.get(at + 1).map_or(end, |later| later.first).min(end);
            if self.made.edge.size() < segment.first || self.made.edge.size() >= end {
                continue;
            }
            let mut reader = Reader::new(&shared.disk, segment);
            while reader.next() < end {
                let number = reader.next();
                let Some(entry) = reader.record()? else { break };
                if number == self.made.edge.size() {
                    self.push(entry.hash, &entry.record)?;
                }
            }
        }
        // Not here: trimmed, lost or made anew meanwhile.
        if self.made.edge.size() < end { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
    }

    fn push(&mut self, hash: [u8; 32], record: &[u8]) -> io::Result<()> {
        put_record(&mut self.made.bundle, record);
        let mut full = Vec::new();
        self.made.edge.push(hash, |tile| full.push(tile));
        if full.is_empty() {
            return Ok(());
        }
        let bundle = std::mem::take(&mut self.made.bundle);
        self.put(layout::bundle(self.made.edge.size() / FULL - 1, FULL as u32), &bundle)?;
        for tile in full {
            self.put(layout::tile(tile.level, tile.index, FULL as u32), &tile.bytes())?;
        }
        Ok(())
    }

    fn put(&mut self, path: PathBuf, bytes: &[u8]) -> io::Result<()> {
        let file = self.shared.disk.put(NEW, &path, bytes)?;
        locked(&self.shared.figures).stored += bytes.len() as u64;
        if self.files.len() < KEPT {
            self.files.push((path, file));
        }
        Ok(())
    }

    /// Signs a head over all that was made.
    fn sign(&mut self, closing: bool) -> io::Result<()> {
        let edge = self.made.edge.clone();
        let partial = partial_paths(&edge);
        // Those of an earlier head of the same size are there.
        if self.signed_at.is_none() || edge != self.signed.edge {
            let width = (edge.size() % FULL) as u32;
            if width > 0 {
                let bundle = self.made.bundle.clone();
                self.put(layout::bundle(edge.size() / FULL, width), &bundle)?;
            }
            for tile in edge.partial() {
                self.put(layout::tile(tile.level, tile.index, tile.width()), &tile.bytes())?;
            }
        }
        self.shared.disk.sync_all(&self.files)?;
        self.files.clear();
        let head = edge.head();
        let text = Checkpoint::text_of(&self.shared.settings.origin, &head).map_err(malformed)?;
        let own = self.key.sign(&text);
        self.cosigning.ask(&text);
        let lines = self.cosigning.answer(&text, if closing { COSIGNED.1 } else { COSIGNED.0 });
        // Of the same records again: whoever has signed that before and not now has signed it all the same.
        let before = self.newest.as_ref().filter(|newest| newest.text() == text).map_or(&[][..], Checkpoint::lines);
        let lines = cosign::together(std::iter::once(own).chain(lines), before);
        let signed = Checkpoint::new(&self.shared.settings.origin, head, lines);
        self.write(signed.map_err(malformed)?)?;
        self.signed = self.made.clone();
        self.signed_at = Some(self.shared.settings.clock.now());
        let before = std::mem::replace(&mut self.partial[0], partial);
        let older = std::mem::replace(&mut self.partial[1], before);
        self.tidy(older)
    }

    /// Adds signatures that came after their head was written, if it still is the newest.
    fn countersign(&mut self) -> io::Result<()> {
        let Some(newest) = &self.newest else { return Ok(()) };
        let lines: Vec<Line> = self.cosigning.answer(newest.text(), Duration::ZERO);
        let own = newest.lines().iter().take(1).cloned();
        let all = cosign::together(own.chain(lines), newest.lines());
        if all == newest.lines() {
            return Ok(());
        }
        let signed = Checkpoint::new(newest.origin(), newest.head(), all).map_err(malformed)?;
        self.write(signed)
    }

    /// Writes the newest head: from here on it counts.
    fn write(&mut self, signed: Checkpoint) -> io::Result<()> {
        // Nothing but `checkpoint` has the one before, until here.
        let before = self.newest.as_ref().filter(|before| before.head() != signed.head());
        if let Some(before) =
            before.filter(|before| self.heads.is_due(before, self.shared.settings.clock.now())).cloned()
        {
            self.keep(&before)?;
        }
        let shared = &self.shared;
        let bytes = signed.to_bytes();
        shared.disk.put_whole(NEW, Path::new(CHECKPOINT), &bytes)?;
        // It has the name, whatever becomes of the rest: a copy of the directory is known by it.
        locked(&shared.figures).note = bytes;
        shared.disk.sync_directory(Path::new(""))?;
        {
            let mut figures = locked(&shared.figures);
            figures.head = signed.head();
            figures.signed_at = Some(shared.settings.clock.calendar());
            figures.signatures = signed.lines().len();
        }
        self.newest = Some(signed);
        Ok(())
    }

    /// Forgets the oldest file of the journal, if all of its records are in full bundles.
    fn take_superfluous(&self, floor: u64) -> Option<Arc<Segment>> {
        let mut segments = locked(&self.shared.segments);
        let superfluous = segments.get(1).is_some_and(|second| second.first <= floor);
        superfluous.then(|| segments.remove(0))
    }

    /// Takes away what the newest head makes superfluous.
    fn tidy(&mut self, older: BTreeSet<PathBuf>) -> io::Result<()> {
        let shared = &self.shared;
        let floor = self.signed.edge.size() / FULL * FULL;
        let forgotten = {
            let mut recent = locked(&shared.recent);
            recent.floor = floor;
            recent.forget(shared.sizes.recent_bytes)
        };
        drop(forgotten);
        let mut stale: BTreeSet<PathBuf> = older.into_iter().filter(|path| !self.partial[0].contains(path)).collect();
        stale.retain(|path| !self.partial[1].contains(path));
        while let Some(path) = stale.pop_first() {
            if let Err(error) = remove_partial(shared, &path) {
                // With those of the next head.
                self.partial[1].extend(stale.into_iter().chain([path]));
                return Err(error);
            }
        }
        while let Some(first) = self.take_superfluous(floor) {
            // Not under the lock, since the disk may hang; and forgotten before it is gone, so that nobody misses it.
            if let Err(error) = shared.disk.remove(&first.path) {
                locked(&shared.segments).insert(0, first);
                return Err(error);
            }
        }
        shared.compress_bell.ring();
        Ok(())
    }
}

/// Where the tiles and the bundle lie that are not full in a log of this edge.
pub(crate) fn partial_paths(edge: &Edge) -> BTreeSet<PathBuf> {
    let width = (edge.size() % FULL) as u32;
    let bundle = (width > 0).then(|| layout::bundle(edge.size() / FULL, width));
    edge.partial().map(|tile| layout::tile(tile.level, tile.index, tile.width())).chain(bundle).collect()
}

/// Takes away a partial file, and its directory with the last one.
pub(crate) fn remove_partial(shared: &Shared, path: &Path) -> io::Result<()> {
    let length = shared.disk.look(path)?.map_or(0, |look| look.length);
    shared.disk.remove(path)?;
    let mut figures = locked(&shared.figures);
    figures.stored = figures.stored.saturating_sub(length);
    drop(figures);
    if let Some(directory) = path.parent() {
        // Not empty: there is another one in it.
        let _kept = shared.disk.remove_directory(directory);
    }
    Ok(())
}

fn malformed(error: Malformed) -> io::Error {
    io::Error::other(error)
}
