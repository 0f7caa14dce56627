//! The journal made anew after trouble.
//!
//! What was written and is not surely on the disk is written again, into a new file: from memory, and what is not there from
//! the files, which are still open when somebody removed them. After a sync that failed nothing is believed that the kernel
//! says of those pages. The log goes on when all of it is synced.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::disk::Place;
use super::journal::{NEW, Reader, Segment};
use super::leaves::Leaves;
use super::locked;
use super::shared::Shared;
use super::state::Reason;
use super::sync;
use crate::layout::{self, CHECKPOINT, JOURNAL};

/// Goes on, if that is possible by now.
pub(crate) fn heal(shared: &Shared, trouble: &Reason) -> Result<(), Reason> {
    directory(shared)?;
    // Nobody writes: the pen is stopped. So this stays as it is.
    let (segment, offset) = shared.with_pen(|pen| (Arc::clone(&pen.segment), pen.offset));
    segment.length.store(offset, Ordering::Release);
    let segments = locked(&shared.segments).clone();
    let (end, synced, synced_at, floor, distrusted) = {
        let recent = locked(&shared.recent);
        (recent.end, recent.synced, recent.synced_at.clone(), recent.floor, recent.distrusted)
    };
    let lost = segments.iter().find(|kept| sync::in_place(shared, kept, kept.length.load(Ordering::Acquire)).is_err());
    let from = match lost {
        Some(lost) => lost.first.max(floor).min(synced),
        // Cut, so that nothing is left of what was not written to its end.
        None if *trouble == Reason::NoSpace && !distrusted => {
            shared.disk.truncate(&segment.file, &segment.path, offset).map_err(|error| Reason::write(&error))?;
            segment.allocated.store(offset, Ordering::Release);
            go_on(shared);
            return Ok(());
        }
        None => synced,
    };
    let made = Arc::new(write_again(shared, &segments, from, end)?);
    let length = shared.disk.look_at(&made.file).map_err(|error| Reason::write(&error))?.length;
    if synced_at.0.first < from && lost.is_none() {
        // What is behind is in the new file. It is not read any more, whether this succeeds or not.
        match shared.disk.truncate(&synced_at.0.file, &synced_at.0.path, synced_at.1) {
            Ok(()) => synced_at.0.length.store(synced_at.1, Ordering::Release),
            Err(error) => tracing::debug!(%error, "the end of a file of the audit log's journal stays, unused"),
        }
    }
    // Those before what is lost stay. Those behind would be read as if they were what comes after the new one.
    let stays = lost.map_or(from, |lost| lost.first.min(from));
    for stale in segments.iter().filter(|stale| stale.first > from) {
        unless_a_folder(shared, &stale.path, || shared.disk.remove(&stale.path))?;
    }
    // Closed bundles have all that is missed of those from the lost one on.
    for kept in segments.iter().filter(|kept| (stays..from).contains(&kept.first)) {
        if sync::in_place(shared, kept, kept.length.load(Ordering::Acquire)).is_err() {
            set_aside(shared, kept)?;
        }
    }
    // Before anybody is told that it is kept: one that came back after a power failure would be read in its place.
    shared.disk.sync_directory(Path::new(JOURNAL)).map_err(|error| Reason::sync(&error))?;
    {
        let mut segments = locked(&shared.segments);
        segments.retain(|kept| kept.first < stays);
        segments.push(Arc::clone(&made));
    }
    let sync::Synced { settled, forgotten } = shared.with_pen(|pen| {
        pen.segment = Arc::clone(&made);
        pen.offset = length;
        let mut recent = locked(&shared.recent);
        recent.end_at = (Arc::clone(&made), length);
        recent.synced_at = recent.end_at.clone();
        let group = end.saturating_sub(recent.synced);
        recent.groups.add(group);
        recent.synced = end;
        recent.unfinished.clear();
        recent.distrusted = false;
        recent.unnamed = false;
        sync::settle_synced(&mut recent, shared.sizes.recent_bytes)
    });
    settled.into_iter().for_each(|(position, waiter)| waiter.settle(Ok(position)));
    drop(forgotten);
    shared.announce(end);
    shared.tiles_bell.ring();
    go_on(shared);
    Ok(())
}

/// What bears the name of a file that is lost, and of which nothing is missed: it would be in the way of the next start.
fn set_aside(shared: &Shared, lost: &Segment) -> Result<(), Reason> {
    let failed = |error: io::Error| Reason::write(&error);
    let path = &lost.path;
    match shared.disk.look(path).map_err(failed)? {
        None => Ok(()),
        // Ours, and altered.
        Some(found) if lost.is(&found) => shared.disk.remove(path).map_err(failed),
        Some(_) => put_aside(shared, path),
    }
}

fn put_aside(shared: &Shared, path: &Path) -> Result<(), Reason> {
    let aside = shared.disk.set_aside(path).map_err(|error| Reason::write(&error))?;
    tracing::warn!(
        file = %shared.disk.path().join(path).display(),
        aside = %aside.display(),
        "what bears the name of a file of the audit log's journal is not the log's; it was put aside"
    );
    Ok(())
}

/// Does it, and again once a folder that is in the way is put aside: whatever else is there, what is done takes away or replaces.
fn unless_a_folder(shared: &Shared, path: &Path, act: impl Fn() -> io::Result<()>) -> Result<(), Reason> {
    match act() {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            put_aside(shared, path)?;
            act().map_err(|error| Reason::write(&error))
        }
        done => done.map_err(|error| Reason::write(&error)),
    }
}

fn go_on(shared: &Shared) {
    // Whoever waited for it is written at once.
    shared.with_pen(|pen| {
        pen.stopped = None;
        shared.trouble(|health| &mut health.journal, None);
    });
}

/// The directory is at its path. One that was put back as a copy is taken if it has the newest head.
fn directory(shared: &Shared) -> Result<(), Reason> {
    match shared.disk.place().map_err(|error| Reason::write(&error))? {
        Place::Ours => Ok(()),
        Place::Gone => Err(Reason::DirectoryGone),
        Place::Another => {
            let note = locked(&shared.figures).note.clone();
            let taken = shared.disk.adopt(CHECKPOINT, |found| !note.is_empty() && found == note);
            if !taken.map_err(|error| Reason::write(&error))? {
                return Err(Reason::DirectoryReplaced);
            }
            shared.tiles_astray.store(true, Ordering::SeqCst);
            Ok(())
        }
    }
}

/// A new file with these records, synced and in its place.
fn write_again(shared: &Shared, segments: &[Arc<Segment>], from: u64, end: u64) -> Result<Segment, Reason> {
    let failed = |error: io::Error| Reason::write(&error);
    let new = Path::new(NEW);
    let kept: Vec<(u64, Arc<Leaves>)> = {
        let recent = locked(&shared.recent);
        recent.entries.iter().filter(|(first, leaves)| first + u64::from(leaves.count()) > from).cloned().collect()
    };
    // Of an event that is partly before, all is in memory or nothing is read from there.
    let in_memory = kept.iter().map(|(first, _)| *first).find(|first| *first >= from).unwrap_or(end);
    let file = shared.disk.create(new).map_err(failed)?;
    let segment = Segment::new(&shared.disk, file, from, 0).map_err(failed)?;
    let mut at = 0;
    if from < in_memory {
        at = copy(shared, segments, &segment, from, in_memory)?;
    }
    let kept: Vec<Arc<Leaves>> =
        kept.into_iter().filter(|(first, _)| *first >= in_memory).map(|(_, leaves)| leaves).collect();
    let bytes: u64 = kept.iter().map(|leaves| leaves.framed().len() as u64).sum();
    sync::allocate(shared, &segment, at + bytes, shared.sizes.segment + shared.settings.reserve_bytes)?;
    let mut slices: Vec<IoSlice<'_>> = kept.iter().map(|leaves| IoSlice::new(leaves.framed())).collect();
    shared.disk.write(&segment.file, new, &mut slices, at).map_err(failed)?;
    let in_place = |error: io::Error| Reason::sync(&error);
    shared.disk.sync_data(&segment.file, new).map_err(in_place)?;
    let path = layout::journal(from);
    unless_a_folder(shared, &path, || shared.disk.rename(new, &path))?;
    shared.disk.sync_directory(Path::new(JOURNAL)).map_err(in_place)?;
    shared.disk.sync_directory(Path::new("")).map_err(in_place)?;
    Ok(segment)
}

/// Copies records from the old files. Says how many bytes that were.
fn copy(shared: &Shared, segments: &[Arc<Segment>], to: &Segment, from: u64, end: u64) -> Result<u64, Reason> {
    let failed = |error: io::Error| Reason::write(&error);
    let (mut next, mut at) = (from, 0);
    for (number, segment) in segments.iter().enumerate() {
        let segment_end = segments.get(number + 1).map_or(end, |later| later.first).min(end);
        let mut reader = Reader::new(&shared.disk, segment);
        while next < segment_end && segment.first <= next {
            let before = reader.next();
            let Some(entry) = reader.record().map_err(failed)? else { return Err(Reason::Lost(next)) };
            if before < next {
                continue;
            }
            let leaves = Leaves::one(&entry.record).map_err(|_| Reason::Lost(next))?;
            let slices = &mut [IoSlice::new(leaves.framed())];
            shared.disk.write(&to.file, Path::new(NEW), slices, at).map_err(failed)?;
            at += leaves.framed().len() as u64;
            next += 1;
        }
    }
    if next == end { Ok(at) } else { Err(Reason::Lost(next)) }
}
