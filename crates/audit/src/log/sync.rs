//! The thread that has the disk sync the journal, and looks after the journal's files.
//!
//! In each round it heals what is in trouble, syncs what was written, looks whether the files are still those at their paths,
//! and only then says that the records are accepted. Then it sees to it that there is room for what comes: it allocates ahead,
//! and begins the next file in time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Sync;
use super::append::By;
use super::disk::Place;
use super::journal::{NEW, Segment};
use super::leaves::{Leaves, Position};
use super::locked;
use super::shared::{Recent, Shared};
use super::state::Reason;
use super::waiting::Waiter;
use crate::layout::{FRAME, JOURNAL};

/// How often the files are looked at while nothing is written.
const IDLE: Duration = Duration::from_millis(500);
/// How long to wait before what failed is tried again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// Less room than this is not worth asking for.
const LEAST: u64 = 64 << 10;

/// The thread's work, until the log is closed.
pub(crate) fn run(shared: &Shared) {
    let mut again = AGAIN.0;
    let mut last = false;
    while !last {
        last = wait(shared, again);
        again = match round(shared) {
            Ok(()) => AGAIN.0,
            Err(reason) => {
                shared.stop(reason);
                (again * 2).min(AGAIN.1)
            }
        };
    }
    // What is still not on the disk can't be said to be.
    let waiting = std::mem::take(&mut locked(&shared.recent).waiting);
    waiting.into_iter().for_each(|(.., waiter)| waiter.expire());
    shared.close_queue();
}

/// Until there is something to do. `true`: for the last time.
fn wait(shared: &Shared, again: Duration) -> bool {
    let (stopped, full) = shared.with_pen(|pen| (pen.stopped.is_some(), pen.full.is_some()));
    if stopped {
        // Whoever finds it stopped rings: that must not make this busy.
        return shared.sync_bell.wait_calmly(again);
    }
    if !shared.dirty.load(Ordering::SeqCst) {
        shared.sync_bell.wait_for_nudge(if full { AGAIN.1 } else { IDLE });
    }
    match shared.settings.sync {
        Sync::Interval(interval) if shared.dirty.load(Ordering::SeqCst) => shared.sync_bell.wait(interval),
        _ => shared.sync_bell.wait(Duration::ZERO),
    }
}

pub(crate) fn round(shared: &Shared) -> Result<(), Reason> {
    let stopped = shared.with_pen(|pen| pen.stopped.clone());
    if let Some(reason) = stopped {
        super::heal::heal(shared, &reason)?;
    }
    sync(shared)?;
    provide(shared)?;
    shared.write_queued(By::Thread, 0);
    Ok(())
}

/// Has the disk take all that was written so far, and says so to those who wait for it.
pub(crate) fn sync(shared: &Shared) -> Result<(), Reason> {
    shared.dirty.store(false, Ordering::SeqCst);
    let (end, end_at, unfinished, unnamed, synced) = {
        let recent = locked(&shared.recent);
        (recent.end, recent.end_at.clone(), recent.unfinished.clone(), recent.unnamed, recent.synced)
    };
    let dirty = end > synced;
    if dirty || unnamed {
        for segment in unfinished.iter().chain([&end_at.0]) {
            shared.disk.sync_data(&segment.file, &segment.path).map_err(|error| {
                locked(&shared.recent).distrusted = true;
                Reason::sync(&error)
            })?;
        }
    }
    if unnamed {
        shared.disk.sync_directory(Path::new(JOURNAL)).map_err(|error| Reason::sync(&error))?;
    }
    look(shared)?;
    let Synced { settled, forgotten } = {
        let mut recent = locked(&shared.recent);
        let group = end.saturating_sub(recent.synced);
        recent.groups.add(group);
        recent.synced = end;
        recent.synced_at = end_at;
        recent.unfinished.retain(|segment| !unfinished.iter().any(|done| Arc::ptr_eq(done, segment)));
        // Files are begun by this thread alone: the names are those that were synced.
        recent.unnamed = false;
        settle_synced(&mut recent, shared.sizes.recent_bytes)
    };
    settled.into_iter().for_each(|(position, waiter)| waiter.settle(Ok(position)));
    drop(forgotten);
    if dirty {
        shared.announce(end);
        shared.tiles_bell.ring();
    }
    Ok(())
}

/// What follows for others when records are synced. It is done when the lock is free.
pub(crate) struct Synced {
    /// Who need not wait any longer.
    pub(crate) settled: Vec<(Position, Arc<Waiter>)>,
    /// What nobody needs in memory any more.
    pub(crate) forgotten: Vec<(u64, Arc<Leaves>)>,
}

/// Counts anew what is not synced, and takes out who has waited for what is, and what is too much.
pub(crate) fn settle_synced(recent: &mut Recent, most_bytes: usize) -> Synced {
    let synced = recent.synced;
    let count = recent.waiting.iter().take_while(|(end, ..)| *end <= synced).count();
    let settled = recent.waiting.drain(..count).map(|(_, position, waiter)| (position, waiter)).collect();
    // The newest are few: what came while the disk synced.
    let unsynced = recent.entries.iter().rev().take_while(|(first, _)| *first >= synced);
    recent.unsynced_bytes = unsynced.map(|(_, leaves)| leaves.framed().len()).sum();
    Synced { settled, forgotten: recent.forget(most_bytes) }
}

/// Whether the directory and the journal's files are still those that are at their paths.
pub(crate) fn look(shared: &Shared) -> Result<(), Reason> {
    match shared.disk.place().map_err(|error| Reason::write(&error))? {
        Place::Ours => {}
        Place::Gone => return Err(Reason::DirectoryGone),
        Place::Another => return Err(Reason::DirectoryReplaced),
    }
    let end_at = locked(&shared.recent).end_at.clone();
    // Not under the lock: the disk may hang. One that was trimmed meanwhile is missed by nobody.
    let segments = locked(&shared.segments).clone();
    for segment in &segments {
        let least = if Arc::ptr_eq(segment, &end_at.0) { end_at.1 } else { segment.length.load(Ordering::Acquire) };
        let found = in_place(shared, segment, least);
        if found.is_err() && locked(&shared.segments).iter().any(|kept| Arc::ptr_eq(kept, segment)) {
            return found;
        }
    }
    Ok(())
}

/// Whether this file is at its path, has not been cut below that length, and begins with a record.
pub(crate) fn in_place(shared: &Shared, segment: &Segment, least: u64) -> Result<(), Reason> {
    let failed = |error: std::io::Error| Reason::write(&error);
    match shared.disk.look(&segment.path).map_err(failed)? {
        None => return Err(Reason::JournalGone),
        Some(look) if !segment.is(&look) => return Err(Reason::JournalReplaced),
        Some(look) if look.length < least => return Err(Reason::JournalAltered),
        Some(_) => {}
    }
    if least > 0 {
        // One that was emptied is long again after the next write, and begins with a hole.
        let frame = shared.disk.read_at(&segment.file, &segment.path, FRAME, 0).map_err(failed)?;
        if frame.iter().all(|byte| *byte == 0) {
            return Err(Reason::JournalAltered);
        }
    }
    Ok(())
}

/// Sees to room for what comes.
pub(crate) fn provide(shared: &Shared) -> Result<(), Reason> {
    let (segment, offset) = shared.with_pen(|pen| (Arc::clone(&pen.segment), pen.offset));
    let reserve = shared.settings.reserve_bytes;
    // An event may be larger than what is usually left.
    let next = locked(&shared.queue).turns.front().map_or(0, |turn| turn.leaves.framed().len() as u64);
    let journal = shared.journal_bytes(offset);
    if journal.saturating_add(next.max(shared.sizes.segment)).saturating_add(reserve) > shared.sizes.journal_bytes {
        // What is written to is not taken away: where nothing else is left, another one is begun, so that it can be.
        if offset > 0 && locked(&shared.segments).len() == 1 && next_segment(shared)? {
            return Ok(());
        }
        // What is allocated may be used, and no more of it; the reserve is a part of it.
        has_room(shared, Some(Reason::Behind), Some(&segment));
        return Ok(());
    }
    // Half of what was allocated is left for what is written while the next is made.
    if offset > shared.sizes.segment / 2 && next_segment(shared)? {
        return Ok(());
    }
    let left = segment.allocated().saturating_sub(offset);
    if left >= reserve.saturating_add(next.max(shared.sizes.segment / 2)) {
        has_room(shared, None, None);
        return Ok(());
    }
    let enough = allocate(shared, &segment, offset, next.max(shared.sizes.segment) + reserve)?;
    has_room(shared, (!enough).then_some(Reason::NoSpace), Some(&segment));
    Ok(())
}

/// Whether there is room, or why there is no more.
fn has_room(shared: &Shared, full: Option<Reason>, segment: Option<&Segment>) {
    // Between full and not there is a margin, so that it does not change with every record.
    let reserve = shared.settings.reserve_bytes;
    let left = shared.with_pen(|pen| {
        pen.full = full.clone();
        segment.map_or(u64::MAX, |segment| segment.allocated().saturating_sub(pen.offset))
    });
    if full.is_none() || left >= reserve.saturating_add(LEAST) {
        shared.trouble(|health| &mut health.full, None);
    }
}

/// Allocates so many bytes behind that place, or what can be had. `false`: not as many.
pub(crate) fn allocate(shared: &Shared, segment: &Segment, offset: u64, bytes: u64) -> Result<bool, Reason> {
    let mut wanted = bytes;
    while wanted >= LEAST.min(bytes) {
        match shared.disk.allocate(&segment.file, &segment.path, offset + wanted) {
            Ok(true) => {
                segment.allocated.fetch_max(offset + wanted, Ordering::AcqRel);
                return Ok(wanted == bytes);
            }
            // The file system keeps no room: then what is free is what there is, as far as nobody else takes it.
            Ok(false) => {
                let free = shared.disk.free().map_err(|error| Reason::write(&error))?;
                segment.allocated.store(offset.saturating_add(free.min(bytes)), Ordering::Release);
                return Ok(free >= bytes);
            }
            Err(error) => match Reason::write(&error) {
                Reason::NoSpace if wanted > 1 => wanted /= 4,
                Reason::NoSpace => return Ok(false),
                other => return Err(other),
            },
        }
    }
    Ok(false)
}

/// Begins the next file. `false`: there is no room for it.
fn next_segment(shared: &Shared) -> Result<bool, Reason> {
    let failed = |error: std::io::Error| Reason::write(&error);
    let made =
        shared.disk.create(Path::new(NEW)).and_then(|file| Segment::new(&shared.disk, file, 0, 0)).map_err(failed);
    let made = match made {
        Ok(made) => made,
        Err(Reason::NoSpace) => return Ok(false),
        Err(other) => return Err(other),
    };
    if !allocate(shared, &made, 0, shared.sizes.segment + shared.settings.reserve_bytes)? {
        shared.disk.remove(Path::new(NEW)).map_err(failed)?;
        return Ok(false);
    }
    let allocated = made.allocated();
    let mut pen = locked(&shared.pen);
    if pen.stopped.is_some() {
        return Ok(true);
    }
    let segment = Arc::new(Segment::new(&shared.disk, made.file, pen.next, allocated).map_err(failed)?);
    shared.disk.rename(Path::new(NEW), &segment.path).map_err(failed)?;
    let before = std::mem::replace(&mut pen.segment, Arc::clone(&segment));
    before.length.store(pen.offset, Ordering::Release);
    pen.offset = 0;
    pen.full = None;
    let mut recent = locked(&shared.recent);
    recent.unfinished.push(before);
    recent.unnamed = true;
    recent.end_at = (Arc::clone(&segment), 0);
    drop(recent);
    locked(&shared.segments).push(segment);
    drop(pen);
    shared.trouble(|health| &mut health.full, None);
    // Its name is synced in the next round, before anything in it counts.
    shared.dirty.store(true, Ordering::SeqCst);
    Ok(true)
}
