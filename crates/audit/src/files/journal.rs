//! The journal: records that came after the last bundle, each behind its length and the beginning of its hash.

#[cfg(test)]
use std::cell::Cell;
use std::collections::BTreeMap;
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
const CHUNK: usize = 2 * RECORD_BYTES;

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
    chosen_for: u64,
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

/// Whether a file of the journal says the same as later ones, of which the newest is the first here, about the records before
/// this one, as far as those have them. Only then are they copies of each other.
fn agrees(place: &Place, first: u64, later: &[u64], number: u64) -> Result<bool, Unreadable> {
    if later.is_empty() {
        return Ok(true);
    }
    let Some(mut ours) = Journal::open(place, first)? else { return Ok(false) };
    for (at, from) in later.iter().enumerate().rev() {
        let newer = at.checked_sub(1).and_then(|at| later.get(at));
        let end = newer.map_or(number, |newer| number.min(*newer));
        let Some(mut theirs) = Journal::open(place, *from)? else { continue };
        if !ours.forward(*from)? {
            return Ok(false);
        }
        while theirs.number < end
            && let Some(their) = theirs.next()?
        {
            if ours.next()?.is_none_or(|our| our.record != their.record) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// When the journal's folder was changed last, and which one it is.
type Stamp = Option<(u64, i64, u64)>;

fn stamp(place: &Place) -> Result<Stamp, Unreadable> {
    let directory = place.directory();
    let Some(root) = root(directory).map_err(Unreadable::at(directory))? else { return Ok(None) };
    let found = within::look(root.as_fd(), Path::new(JOURNAL)).map_err(Unreadable::at(&directory.join(JOURNAL)))?;
    Ok(found.map(|stat| (stat.st_ino, stat.st_ctime, stat.st_ctime_nsec)))
}

/// The journal's files for whoever goes through what heads are over. That was in them before they were listed, so they are listed
/// once, and none is read again of which it is known that it ends before what is wanted: otherwise somebody could have all of
/// them read for each bundle.
pub(crate) struct Listed {
    /// The folder before it was listed.
    stamp: Stamp,
    firsts: Vec<u64>,
    /// The first record that a file does not have, of each that was read to its end.
    ends: BTreeMap<u64, u64>,
    /// Behind the record that was taken last: who goes on there need not read the file from its beginning again.
    held: Option<Journal>,
}

impl Listed {
    /// As they are now.
    pub(crate) fn now(place: &Place) -> Result<Self, Unreadable> {
        let stamp = stamp(place)?;
        Ok(Self { stamp, firsts: journals(place)?, ends: BTreeMap::new(), held: None })
    }

    /// The file that has this record, or will have it next. Absent where there is none. It is given back by [`Self::keep`].
    ///
    /// It is the newest that can have it. A file that was written again in place of several may stand before what a loss of power
    /// has brought back of those; then it goes on where they end, as when the log is opened.
    pub(crate) fn take(&mut self, place: &Place, number: u64) -> Result<Option<Journal>, Unreadable> {
        let mut found = self.choose(place, number)?;
        let more = found.as_mut().map_or(Ok(false), Journal::is_more)?;
        if more || self.stamp == stamp(place)? {
            return Ok(found);
        }
        // There are other files by now: the journal of a log that is written to is made anew after trouble.
        *self = Self::now(place)?;
        self.choose(place, number)
    }

    /// Keeps one for whoever goes on behind what was read of it.
    pub(crate) fn keep(&mut self, journal: Journal) {
        self.held = Some(journal);
    }

    fn choose(&mut self, place: &Place, number: u64) -> Result<Option<Journal>, Unreadable> {
        let mut held = self.held.take();
        if let Some(mut journal) = held.take_if(|held| held.number == number) {
            // As long as no other file begins, it is the one that would be chosen again.
            let others = self.firsts.iter().any(|first| *first > journal.chosen_for && *first <= number);
            if !others && journal.is_more()? {
                return Ok(Some(journal));
            }
            held = Some(journal);
        }
        let (mut later, mut ended) = (Vec::new(), None);
        for first in self.firsts.iter().rev().copied().filter(|first| *first <= number) {
            if self.ends.get(&first).is_some_and(|end| *end < number) {
                later.push(first);
                continue;
            }
            let mut journal = match held.take_if(|held| held.first == first && held.number <= number) {
                Some(journal) => journal,
                None => match Journal::open(place, first)? {
                    Some(journal) => journal,
                    None => continue,
                },
            };
            journal.chosen_for = number;
            let reaches = journal.forward(number)?;
            let more = reaches && journal.is_more()?;
            if !more {
                self.ends.insert(first, journal.number);
            }
            // One without records contradicts nobody.
            let empty = |first: &u64| self.ends.get(first) == Some(first);
            if more && (later.iter().all(empty) || agrees(place, first, &later, number)?) {
                return Ok(Some(journal));
            }
            if reaches {
                ended.get_or_insert(journal);
            }
            later.push(first);
        }
        self.held = held;
        Ok(ended)
    }
}

impl Journal {
    /// The file that has this record, or will have it next, as [`Listed::take`] chooses it of the files that are there now.
    pub(crate) fn at(place: &Place, number: u64) -> Result<Option<Self>, Unreadable> {
        Listed::now(place)?.choose(place, number)
    }

    /// Goes on to this record, if it has all before that.
    fn forward(&mut self, number: u64) -> Result<bool, Unreadable> {
        while self.number < number && self.next()?.is_some() {}
        Ok(self.number == number)
    }

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
        let length = self.file.metadata().map_err(Unreadable::at(&self.path))?.len();
        Ok(length.saturating_sub(self.offset + self.used as u64))
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
