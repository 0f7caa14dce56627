//! Reads records one after the other, wherever they are: in bundles, compressed ones, an archive, or the journal.

#[cfg(test)]
mod tests;

use super::files::{Bundles, Journal, Listed, MOST_RECORDS, Place, Unreadable, WIDTH, as_they_are};
use super::layout;

/// A record with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number, from 0 on.
    pub number: u64,
    /// What was recorded.
    pub bytes: &'a [u8],
}

/// What tells whether the journal's files are other ones by now.
type FilesSeen = Vec<(u64, u64, u64)>;

/// The records of a log from one on. Where there is none any more, one may come: whoever follows asks again later.
pub struct Records {
    place: Place,
    next: u64,
    bundles: Bundles,
    /// The bundle that is in memory.
    loaded: Option<u64>,
    journal: Option<Journal>,
    /// The journal's files as they were when one was looked for, and what was found out about them.
    listed: Option<(FilesSeen, Listed)>,
    /// The record that none of those had.
    ended: Option<u64>,
}

impl Records {
    /// Reads from this record on.
    pub fn from(place: &Place, number: u64) -> Result<Self, Unreadable> {
        let (bundles, place) = (Bundles::new(place)?, place.clone());
        Ok(Self { place, next: number, bundles, loaded: None, journal: None, listed: None, ended: None })
    }

    /// The number of the record that is read next.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.next
    }

    /// Goes on with another record.
    pub fn seek(&mut self, number: u64) {
        if number != self.next {
            self.next = number;
            self.journal = None;
        }
    }

    /// The next record; absent where there is none now.
    #[allow(clippy::should_implement_trait, reason = "what is lent cannot be an iterator's item, and the end is none")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, Unreadable> {
        if self.next >= MOST_RECORDS {
            return Ok(None);
        }
        let number = self.next;
        if self.is_in_bundle()? {
            self.next += 1;
            let (_, within) = split(number);
            return Ok(self.bundles.current().record(within).map(|bytes| Record { number, bytes }));
        }
        self.find_journal()?;
        let Some(journal) = &mut self.journal else { return Ok(None) };
        let Some(entry) = journal.next()? else { return Ok(None) };
        self.next += 1;
        Ok(Some(Record { number, bytes: entry.record }))
    }

    /// Whether a bundle has the next record; it is in memory then.
    fn is_in_bundle(&mut self) -> Result<bool, Unreadable> {
        // While the journal goes on there is no need to look for files again and again.
        if let Some(journal) = &mut self.journal
            && journal.number() == self.next
            && journal.is_more()?
        {
            return Ok(false);
        }
        let (index, within) = split(self.next);
        if self.loaded != Some(index) || within >= self.bundles.current().len() {
            self.loaded = self.bundles.load_file(index, within + 1)?.then_some(index);
            if self.loaded.is_some() && self.bundles.is_damaged() {
                // Torn by a loss of power, before a head was over all of it: what it had is elsewhere, too.
                self.bundles.load(index, (within + 1).min(WIDTH - 1))?;
            }
        }
        Ok(self.loaded == Some(index) && within < self.bundles.current().len())
    }

    /// Goes on with another file of the journal where this one has no more: the writer may have begun a new one, and taken
    /// the old one away.
    fn find_journal(&mut self) -> Result<(), Unreadable> {
        let goes_on = match &mut self.journal {
            Some(journal) => journal.number() == self.next && journal.is_more()?,
            None => false,
        };
        if goes_on {
            return Ok(());
        }
        // Whoever follows comes here again and again: files that have not changed since are not read again, neither for the same
        // record nor for a later one.
        let seen = as_they_are(&self.place)?;
        let listed = match &mut self.listed {
            Some((known, listed)) if *known == seen => {
                if self.ended == Some(self.next) {
                    return Ok(());
                }
                listed
            }
            other => &mut other.insert((seen, Listed::now(&self.place)?)).1,
        };
        self.journal = listed.choose(&self.place, self.next)?;
        let more = self.journal.as_mut().map_or(Ok(false), Journal::is_more)?;
        self.ended = (!more).then_some(self.next);
        Ok(())
    }
}

/// Which bundle has a record, and where in it.
fn split(number: u64) -> (u64, usize) {
    (number / layout::FULL, (number % layout::FULL) as usize)
}
