//! The file with the heads that were signed before.
//!
//! A head is signed each second while records come, and what an auditor does with heads of the past needs no such number of
//! them: they tell between which two moments something was changed. So one is kept a minute. It is written when another one
//! is about to take its place, with all signatures that it has got by then; until then it lies in `checkpoint`. So the newest
//! head before a pause is kept as well, since a minute is over when the next one comes.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;
use std::time::{Duration, Instant};

use super::disk::Disk;
use crate::layout::HEADS;
use crate::note::Checkpoint;

/// Where the next head goes.
pub(crate) struct HeadFile {
    length: u64,
    /// An append failed: what is behind `length` is not whole.
    torn: bool,
    /// How far apart heads are.
    apart: Duration,
    /// The last head that is in the file.
    last: Option<Checkpoint>,
    /// When it was put there.
    kept_at: Option<Instant>,
}

impl HeadFile {
    /// Goes on behind so many bytes, of which the last are this head; what follows is not whole.
    pub(crate) const fn new(length: u64, last: Option<Checkpoint>, apart: Duration) -> Self {
        Self { length, torn: true, apart, last, kept_at: None }
    }

    /// Whether this head is to be kept before another one takes its place.
    pub(crate) fn is_due(&self, head: &Checkpoint, now: Instant) -> bool {
        let due = self.kept_at.is_none_or(|kept| now.saturating_duration_since(kept) >= self.apart);
        due && self.misses(head)
    }

    /// Whether this head is not the last one in the file.
    pub(crate) fn misses(&self, head: &Checkpoint) -> bool {
        self.last.as_ref() != Some(head)
    }

    /// Puts a head behind the others, on the disk. Says how many bytes that are.
    pub(crate) fn keep(&mut self, disk: &Disk, head: &Checkpoint, now: Instant) -> io::Result<u64> {
        let note = head.to_bytes();
        let file = self.append(disk, &note)?;
        disk.sync_data(&file, Path::new(HEADS))?;
        disk.sync_directory(Path::new(""))?;
        self.last = Some(head.clone());
        self.kept_at = Some(now);
        Ok(note.len() as u64)
    }

    fn append(&mut self, disk: &Disk, note: &[u8]) -> io::Result<File> {
        let path = Path::new(HEADS);
        let file = match disk.open_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(path)?,
            other => other?,
        };
        let found = disk.look_at(&file)?.length;
        // Somebody may have taken it away, to keep it elsewhere.
        let at = self.length.min(found);
        if self.torn && found > at {
            disk.truncate(&file, path, at)?;
        }
        self.torn = true;
        disk.write(&file, path, &mut [IoSlice::new(note)], at)?;
        self.torn = false;
        self.length = at + note.len() as u64;
        Ok(file)
    }
}
