//! The journal's files as they were listed at a moment, and which of them has a record.
//!
//! Whoever goes through what heads are over asks for one record after the other, and so do those who look backwards. What was
//! found out about a file is remembered, so that none is read again from its beginning for each bundle: otherwise somebody who
//! can write there could hold whoever checks for hours, with a long file and many that begin behind it.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::Path;

use super::journal::{CHUNK, Journal, journals};
use super::{Place, Unreadable, root};
use crate::layout::JOURNAL;
use crate::within;

/// Most places that are remembered of one file.
const MARKS: u64 = 1_024;
/// So often the files are listed anew because the folder was changed meanwhile. Whoever writes the log does that after trouble;
/// somebody else may do it all the time.
pub(super) const LISTINGS: usize = 8;

/// When the journal's folder was changed last, and which one it is.
type Stamp = Option<(u64, i64, u64)>;

fn stamp(place: &Place) -> Result<Stamp, Unreadable> {
    let directory = place.directory();
    let Some(root) = root(directory).map_err(Unreadable::at(directory))? else { return Ok(None) };
    let found = within::look(root.as_fd(), Path::new(JOURNAL)).map_err(Unreadable::at(&directory.join(JOURNAL)))?;
    Ok(found.map(|stat| (stat.st_ino, stat.st_ctime, stat.st_ctime_nsec)))
}

/// The files as they were listed.
pub(crate) struct Listed {
    /// The folder before it was listed.
    stamp: Stamp,
    firsts: Vec<u64>,
    known: BTreeMap<u64, Known>,
    /// Behind the record that was taken last: who goes on there need not look for a file again.
    held: Option<Journal>,
    /// How often they were listed anew.
    listings: usize,
}

/// What was found out about one of the files.
#[derive(Default)]
struct Known {
    /// The first record that it does not have, once it was read to its end.
    end: Option<u64>,
    /// Where some of its records begin, in order.
    marks: Vec<(u64, u64)>,
    /// How far apart those are.
    apart: u64,
    /// What it has before this record was compared with later files, and is the same.
    agrees_to: u64,
    /// It says something else of that record than a later file.
    differs: bool,
}

impl Known {
    /// Whether it is known to say something else than later files of a record before this one.
    const fn contradicts(&self, number: u64) -> bool {
        self.differs && self.agrees_to < number
    }

    /// Goes on to this record, if the file has all before that.
    fn forward(&mut self, journal: &mut Journal, number: u64) -> Result<bool, Unreadable> {
        if self.apart == 0 {
            self.apart = (journal.length()? / MARKS).max(CHUNK as u64);
        }
        let passed = self.marks.partition_point(|(marked, _)| *marked <= number);
        if let Some((marked, place)) = passed.checked_sub(1).and_then(|last| self.marks.get(last))
            && *marked > journal.number()
        {
            journal.go_to(*marked, *place);
        }
        while journal.number() < number && journal.next()?.is_some() {
            self.mark(journal);
        }
        Ok(journal.number() == number)
    }

    /// Remembers where the next record begins, where that is far enough behind what is remembered.
    fn mark(&mut self, journal: &Journal) {
        let last = self.marks.last().map_or(0, |(_, place)| *place);
        if journal.position() >= last.saturating_add(self.apart) {
            self.marks.push((journal.number(), journal.position()));
        }
    }
}

impl Listed {
    /// As they are now.
    pub(crate) fn now(place: &Place) -> Result<Self, Unreadable> {
        let stamp = stamp(place)?;
        Ok(Self { stamp, firsts: journals(place)?, known: BTreeMap::new(), held: None, listings: 0 })
    }

    /// The file that has this record, or will have it next. Absent where there is none. It is given back by [`Self::keep`].
    ///
    /// It is the newest that can have it. A file that was written again in place of several may stand before what a loss of power
    /// has brought back of those; then it goes on where they end, as when the log is opened.
    pub(crate) fn take(&mut self, place: &Place, number: u64) -> Result<Option<Journal>, Unreadable> {
        let mut found = self.choose(place, number)?;
        let more = found.as_mut().map_or(Ok(false), Journal::is_more)?;
        if more || self.listings >= LISTINGS || self.stamp == stamp(place)? {
            return Ok(found);
        }
        // There are other files by now: the journal of a log that is written to is made anew after trouble.
        let listings = self.listings + 1;
        *self = Self { listings, ..Self::now(place)? };
        self.choose(place, number)
    }

    /// Keeps one for whoever goes on behind what was read of it.
    pub(crate) fn keep(&mut self, journal: Journal) {
        self.known.entry(journal.first()).or_default().mark(&journal);
        self.held = Some(journal);
    }

    /// As [`Self::take`], of the files as they were listed.
    pub(crate) fn choose(&mut self, place: &Place, number: u64) -> Result<Option<Journal>, Unreadable> {
        let mut held = self.held.take();
        if let Some(mut journal) = held.take_if(|held| held.number() == number) {
            // As long as no other file begins, it is the one that would be chosen again.
            let others = self.firsts.iter().any(|first| *first > journal.chosen_for && *first <= number);
            if !others && journal.is_more()? {
                return Ok(Some(journal));
            }
            held = Some(journal);
        }
        let (mut later, mut ended) = (Vec::new(), None);
        for first in self.firsts.iter().rev().copied().filter(|first| *first <= number) {
            let known = self.known.entry(first).or_default();
            let is_before = known.end.is_some_and(|end| end < number);
            // Of those that are no copies of later ones, the newest alone matters.
            if is_before || (ended.is_some() && known.contradicts(number)) {
                later.push(first);
                continue;
            }
            let mut journal = match held.take_if(|held| held.first() == first && held.number() <= number) {
                Some(journal) => journal,
                None => match Journal::open(place, first)? {
                    Some(journal) => journal,
                    None => continue,
                },
            };
            journal.chosen_for = number;
            let reaches = known.forward(&mut journal, number)?;
            let more = reaches && journal.is_more()?;
            if !more {
                known.end = Some(journal.number());
            }
            if more && agrees(place, &mut self.known, first, &later, number)? {
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

/// Whether a file of the journal says the same as later ones, of which the newest is the first here, about the records before
/// this one, as far as those have them. Only then are they copies of each other. What was compared once is not compared again.
fn agrees(
    place: &Place,
    known: &mut BTreeMap<u64, Known>,
    first: u64,
    later: &[u64],
    number: u64,
) -> Result<bool, Unreadable> {
    let (before, differs) = known.get(&first).map_or((0, false), |known| (known.agrees_to, known.differs));
    if number <= before || later.is_empty() {
        return Ok(true);
    }
    if differs {
        return Ok(false);
    }
    let Some(mut ours) = Journal::open(place, first)? else { return Ok(false) };
    for (at, from) in later.iter().enumerate().rev() {
        let newer = at.checked_sub(1).and_then(|at| later.get(at));
        let (start, end) = (before.max(*from), newer.map_or(number, |newer| number.min(*newer)));
        let theirs_known = known.entry(*from).or_default();
        // One without records contradicts nobody.
        if start >= end || theirs_known.end.is_some_and(|end| end <= start) {
            continue;
        }
        let Some(mut theirs) = Journal::open(place, *from)? else { continue };
        if !theirs_known.forward(&mut theirs, start)? {
            continue;
        }
        let ours_known = known.entry(first).or_default();
        if !ours_known.forward(&mut ours, start)? {
            return Ok(false);
        }
        while theirs.number() < end {
            let of = theirs.number();
            let Some(their) = theirs.next()? else { break };
            if ours.next()?.is_none_or(|our| our.record != their.record) {
                (ours_known.agrees_to, ours_known.differs) = (of, true);
                return Ok(false);
            }
        }
    }
    known.entry(first).or_default().agrees_to = number;
    Ok(true)
}
