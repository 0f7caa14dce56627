//! The files of the journal, and the records in them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::disk::{Disk, Look};
use super::leaves::record_hash;
use crate::layout::{self, FRAME};

/// What a file of the journal is called until it has its first record's number, or has all it should have.
pub(crate) const NEW: &str = "journal/new";

/// How much is read at once.
const CHUNK: usize = 1 << 20;

/// One file of the journal. It stays open until it is trimmed: what was in it can be read also when somebody removed it.
pub(crate) struct Segment {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    /// The number of its first record.
    pub(crate) first: u64,
    /// Up to where there is room for it.
    pub(crate) allocated: AtomicU64,
    /// What it holds, once another one goes on behind it.
    pub(crate) length: AtomicU64,
    /// What it was when it was opened.
    look: Look,
}

impl Segment {
    pub(crate) fn new(disk: &Disk, file: File, first: u64, allocated: u64) -> io::Result<Self> {
        let look = disk.look_at(&file)?;
        let (allocated, length) = (AtomicU64::new(allocated), AtomicU64::new(look.length));
        Ok(Self { file, path: layout::journal(first), first, allocated, length, look })
    }

    pub(crate) fn allocated(&self) -> u64 {
        self.allocated.load(Ordering::Acquire)
    }

    /// Whether this is the same file.
    pub(crate) fn is(&self, look: &Look) -> bool {
        self.look.identity == look.identity
    }
}

/// A record as it stands in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) hash: [u8; 32],
    pub(crate) record: Vec<u8>,
}

/// Takes the first record off. `Ok(None)`: there is not a whole one. `Err`: what stands there is none.
pub(crate) fn take(bytes: &mut &[u8]) -> Result<Option<Entry>, NoRecord> {
    let Some((frame, rest)) = bytes.split_at_checked(FRAME) else { return Ok(None) };
    let [high, low, ..] = frame else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length == 0 {
        return Err(NoRecord);
    }
    let Some((record, rest)) = rest.split_at_checked(length) else { return Ok(None) };
    let hash = record_hash(record);
    if frame.get(2..) != hash.get(..FRAME - 2) {
        return Err(NoRecord);
    }
    *bytes = rest;
    Ok(Some(Entry { hash, record: record.to_vec() }))
}

/// Not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRecord;

/// Reads a file of the journal from its beginning on.
pub(crate) struct Reader<'a> {
    disk: &'a Disk,
    file: &'a File,
    path: &'a Path,
    /// What was read and not yet given out.
    ahead: Vec<u8>,
    used: usize,
    /// Where in the file that ends.
    read: u64,
    /// The number of the next record.
    next: u64,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(disk: &'a Disk, segment: &'a Segment) -> Self {
        Self {
            disk,
            file: &segment.file,
            path: &segment.path,
            ahead: Vec::new(),
            used: 0,
            read: 0,
            next: segment.first,
        }
    }

    /// The number of the record that comes next.
    pub(crate) const fn next(&self) -> u64 {
        self.next
    }

    /// Where that begins.
    pub(crate) fn offset(&self) -> u64 {
        self.read - (self.ahead.len() - self.used) as u64
    }

    /// The next record; `None` where there is no whole one, which is the end, or what a crash has torn.
    pub(crate) fn record(&mut self) -> io::Result<Option<Entry>> {
        loop {
            let mut rest = self.ahead.get(self.used..).unwrap_or_default();
            let before = rest.len();
            match take(&mut rest) {
                Err(NoRecord) => return Ok(None),
                Ok(Some(entry)) => {
                    self.used += before - rest.len();
                    self.next += 1;
                    return Ok(Some(entry));
                }
                Ok(None) => {
                    let more = self.disk.read_at(self.file, self.path, CHUNK, self.read)?;
                    if more.is_empty() {
                        return Ok(None);
                    }
                    self.read += more.len() as u64;
                    self.ahead.drain(..self.used);
                    self.used = 0;
                    self.ahead.extend(more);
                }
            }
        }
    }
}

/// Takes off the first record of what was framed by ourselves.
pub(crate) fn skip<'a>(framed: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (frame, rest) = framed.split_at_checked(FRAME)?;
    let (length, _) = frame.split_first_chunk::<2>()?;
    let (record, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *framed = rest;
    Some(record)
}
