//! The journal: records that came after the last bundle, each behind its length and the beginning of its hash.

#[cfg(test)]
use std::cell::Cell;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use tlog_tiles::tlog::record_hash;

use super::{Place, Unreadable, names, open, root};
use crate::layout::{self, JOURNAL, RECORD_BYTES};
use crate::within;

/// Most files of a journal: it has at most 4 GiB, in files of 16 MiB and more.
const FILES: usize = 1_024;

/// Bytes of a length, and of the beginning of a hash.
const HEAD_BYTES: usize = 2 + 8;
/// So much is read at once: more than any record.
pub(super) const CHUNK: usize = 2 * RECORD_BYTES;

#[cfg(test)]
thread_local! {
    /// How many bytes of journals this thread has read.
    pub(crate) static READ: Cell<u64> = const { Cell::new(0) };
}

/// A record of the journal.
pub(crate) struct Entry<'a> {
    pub(crate) record: &'a [u8],
}

/// One file of the journal, from a record on.
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    /// Where in the file `bytes` begin.
    offset: u64,
    bytes: Vec<u8>,
    /// How many of them were read.
    filled: usize,
    /// How many of these have been given out.
    used: usize,
    /// The number of its first record, and of the next one.
    first: u64,
    number: u64,
    /// The record that it was chosen for among the files.
    pub(super) chosen_for: u64,
}

/// The first records of the journal's files, in order.
pub(crate) fn journals(place: &Place) -> Result<Vec<u64>, Unreadable> {
    // Another program's file may be called anything; ours are called in one way. Some were put aside, and bear other names.
    let mut firsts: Vec<u64> = names(place.directory(), Path::new(JOURNAL), within::NAMES)?
        .iter()
        .filter_map(|name| {
            let first = name.parse::<u64>().ok()?;
            (layout::journal(first).file_name()? == name.as_str()).then_some(first)
        })
        .collect();
    if firsts.len() > FILES {
        let why = "more files than a log's journal has".to_owned();
        let source = std::io::Error::new(std::io::ErrorKind::InvalidData, why);
        return Err(Unreadable { path: place.directory().join(JOURNAL), source });
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// The journal's files as they are at a moment: the first record of each, which file it is, and how long.
pub(crate) fn as_they_are(place: &Place) -> Result<Vec<(u64, u64, u64)>, Unreadable> {
    let directory = place.directory();
    let firsts = journals(place)?;
    let Some(root) = root(directory).map_err(Unreadable::at(directory))? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for first in firsts {
        let path = layout::journal(first);
        let there = within::look(root.as_fd(), &path).map_err(Unreadable::at(&directory.join(&path)))?;
        found.extend(there.map(|stat| (first, stat.st_ino, u64::try_from(stat.st_size).unwrap_or(0))));
    }
    Ok(found)
}

impl Journal {
    /// The file that begins with this record.
    pub(crate) fn open(place: &Place, first: u64) -> Result<Option<Self>, Unreadable> {
        let name = layout::journal(first);
        let path = place.directory().join(&name);
        let Some(file) = open(place.directory(), &name).map_err(Unreadable::at(&path))? else { return Ok(None) };
        Ok(Some(Self {
            path,
            file,
            offset: 0,
            bytes: vec![0; CHUNK],
            filled: 0,
            used: 0,
            first,
            number: first,
            chosen_for: first,
        }))
    }

    /// The number of its first record, by its name.
    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    /// Where in the file the next record begins.
    pub(super) const fn position(&self) -> u64 {
        self.offset + self.used as u64
    }

    /// Goes on with this record, of which it is known where in the file it begins.
    pub(super) const fn go_to(&mut self, number: u64, position: u64) {
        (self.number, self.offset, self.used, self.filled) = (number, position, 0, 0);
    }

    /// How long the file is.
    pub(super) fn length(&self) -> Result<u64, Unreadable> {
        Ok(self.file.metadata().map_err(Unreadable::at(&self.path))?.len())
    }

    /// The number of the next record.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// Whether there is a next record now.
    pub(crate) fn is_more(&mut self) -> Result<bool, Unreadable> {
        Ok(self.complete()?.is_some())
    }

    /// Bytes behind the last record that could be read.
    pub(crate) fn rest(&self) -> Result<u64, Unreadable> {
        Ok(self.length()?.saturating_sub(self.position()))
    }

    /// The next record. Absent where the file ends or is torn; it may go on later.
    pub(crate) fn next(&mut self) -> Result<Option<Entry<'_>>, Unreadable> {
        let Some(length) = self.complete()? else { return Ok(None) };
        let start = self.used + HEAD_BYTES;

        self.used = start + length;
        self.number = self.number.saturating_add(1);
        let record = self.bytes.get(start..self.used).unwrap_or_default();
        Ok(Some(Entry { record }))
    }

    /// Has the next record in memory, if there is a whole one, and says how long it is.
    fn complete(&mut self) -> Result<Option<usize>, Unreadable> {
        for fresh in [false, true] {
            if fresh {
                self.refill()?;
            }
            let rest = self.bytes.get(self.used..self.filled).unwrap_or_default();
            let Some((head, rest)) = rest.split_first_chunk::<HEAD_BYTES>() else { continue };
            let [high, low, beginning @ ..] = head;
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if rest.get(..length).is_some_and(|record| record_hash(record).0.starts_with(beginning)) {
                return Ok(Some(length));
            }
        }
        Ok(None)
    }

    /// Reads anew from where the next record begins: what was torn may be whole by now.
    fn refill(&mut self) -> Result<(), Unreadable> {
        self.offset += self.used as u64;
        (self.used, self.filled) = (0, 0);
        while let Some(rest) = self.bytes.get_mut(self.filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, self.offset + self.filled as u64) {
                Ok(0) => break,
                Ok(read) => {
                    #[cfg(test)]
                    READ.set(READ.get() + read as u64);
                    self.filled += read;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Unreadable { path: self.path.clone(), source: error }),
            }
        }
        Ok(())
    }
}
