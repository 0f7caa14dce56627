//! Looks for records by what they say, a bounded piece of the log at a time: from one number on, or from one back.
//!
//! `keystorectl` looks at a log's files with it and the daemon for callers over the network, so that both find the same.

mod facts;
#[cfg(test)]
mod tests;
mod time;

pub use self::facts::Facts;
pub use self::time::time;

use super::files::{Bundle, Bundles, Place, Unreadable};
use super::layout::FULL;

/// A look back from the newest record with [`Filter::since`] ends when so many in a row are a day older than that, or more.
///
/// Records are nearly in the order of time. What is recorded late is calls, which take minutes, and what waited while the log
/// took nothing: at most 1,024 events of the service, and some 2,200 counts of refused calls and of strangers. So of as many in a
/// row as here, one at least was recorded when it says, and what lies before it is older than it, but for a calendar that was put
/// back. The day is for that.
pub const OLDER: u64 = 8_192;

/// Why a look came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// A file of the log cannot be read.
    #[error("cannot read {0}")]
    Unreadable(#[from] Unreadable),
    /// The record is in no bundle.
    #[error("record {0} is not there: its bundle was moved away or is lost")]
    Missing(u64),
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Ok,
    /// The caller may not.
    Denied,
    /// It was refused or came to nothing for another reason.
    Failed,
}

impl Outcome {
    /// By the error code of a record; empty where it has none.
    #[must_use]
    pub fn of(code: &str) -> Self {
        match code {
            "" => Self::Ok,
            "AccessDenied" | "AccessDeniedException" => Self::Denied,
            _ => Self::Failed,
        }
    }
}

/// Which records are wanted. What is absent leaves all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The id of their event.
    pub event: Option<String>,
    /// The ARN of what they are about, or the end of it behind `/` or `:`, such as a key's id.
    pub key: Option<String>,
    /// The ARN of whose call it was, or the end of it likewise.
    pub principal: Option<String>,
    /// The operation, in large or small letters.
    pub operation: Option<String>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// From this time on: what [`time`] has read.
    pub since: Option<String>,
    /// Before this time, likewise.
    pub until: Option<String>,
}

impl Filter {
    /// Whether this record is wanted.
    #[must_use]
    pub fn wants(&self, record: &[u8]) -> bool {
        // What is not looked for need not be read.
        *self == Self::default() || self.fits(&Facts::of(record))
    }

    fn fits(&self, facts: &Facts<'_>) -> bool {
        let ends = |whole: &str, end: &str| {
            whole.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with(['/', ':']))
        };
        let of = |wanted: &Option<String>, is: &dyn Fn(&str) -> bool| wanted.as_deref().is_none_or(is);
        of(&self.event, &|event| facts.event_id() == event)
            && of(&self.key, &|key| facts.resources().any(|arn| ends(arn, key)))
            && of(&self.principal, &|principal| ends(facts.who(), principal))
            && of(&self.operation, &|operation| facts.event_name().eq_ignore_ascii_case(operation))
            && self.outcome.is_none_or(|outcome| outcome == Outcome::of(facts.error_code()))
            // Both are UTC with the same digits in the same places: they sort as texts do.
            && of(&self.since, &|since| facts.time() >= since)
            && of(&self.until, &|until| facts.time() < until)
    }
}

/// Which way a look goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From this record on.
    On(u64),
    /// From the one before `before` back.
    Back {
        /// The record behind the first that is looked at.
        before: u64,
        /// How many from there on, in a row, were found to be too old by looks before.
        older: u64,
    },
}

impl Way {
    /// From the record before this one back.
    #[must_use]
    pub const fn back(before: u64) -> Self {
        Self::Back { before, older: 0 }
    }
}

/// Where a look ends, whatever it has found.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Records that it gives.
    pub records: usize,
    /// Their bytes; the one that comes to it is the last.
    pub bytes: usize,
    /// Records that it looks at.
    pub looked_at: usize,
    /// Their bytes, likewise.
    pub read: usize,
}

/// What a look has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Records with their numbers, in the order of the way.
    pub records: Vec<(u64, Vec<u8>)>,
    /// How the next look goes on; absent where there is nothing more.
    pub next: Option<Way>,
}

/// Looks at the records below `end`.
pub fn look(place: &Place, filter: &Filter, way: Way, end: u64, bounds: Bounds) -> Result<Found, LookError> {
    let older = if let Way::Back { older, .. } = way { older } else { 0 };
    let too_old = filter.since.as_deref().and_then(time::day_before);
    let mut look = Look { filter, too_old, bounds, found: Found::default(), bytes: 0, looked_at: 0, read: 0, older };
    let mut bundles = Bundles::new(place)?;
    let mut at = way;
    loop {
        let (first, wanted) = match at {
            Way::On(number) if number >= end => break,
            Way::On(number) => (number / FULL * FULL, number / FULL * FULL..end),
            Way::Back { before, .. } => {
                let before = before.min(end);
                let Some(last) = before.checked_sub(1) else { break };
                (last / FULL * FULL, last / FULL * FULL..before)
            }
        };
        if look.is_full() {
            look.found.next = Some(at);
            break;
        }
        let count = (wanted.end - wanted.start).min(FULL) as usize;
        let bundle = bundles.load(first / FULL, count)?.map(|bundle| &*bundle);
        let here = bundle.map_or(0, Bundle::len);
        if here < count {
            // What was found is given out first; the next look says what is missing.
            let missing = first + here as u64;
            if look.looked_at == 0 {
                return Err(LookError::Missing(missing));
            }
            look.found.next = Some(at);
            break;
        }
        let Some(bundle) = bundle else { break };
        match look.through(bundle, first, count, at) {
            Some(next) => at = next,
            None => break,
        }
    }
    Ok(look.found)
}

struct Look<'a> {
    filter: &'a Filter,
    /// What was before that is too old, in a look back.
    too_old: Option<String>,
    bounds: Bounds,
    found: Found,
    bytes: usize,
    looked_at: usize,
    read: usize,
    /// How many in a row were too old, up to the last one.
    older: u64,
}

impl Look<'_> {
    fn is_full(&self) -> bool {
        let Bounds { records, bytes, looked_at, read } = self.bounds;
        self.found.records.len() >= records || self.bytes >= bytes || self.looked_at >= looked_at || self.read >= read
    }

    /// Goes through a bundle; how it goes on behind it. Nothing where the look has ended.
    fn through(&mut self, bundle: &Bundle, first: u64, count: usize, at: Way) -> Option<Way> {
        match at {
            Way::On(number) => {
                for number in number..first + count as u64 {
                    if self.is_full() {
                        self.found.next = Some(Way::On(number));
                        return None;
                    }
                    self.take(bundle, first, number);
                }
                Some(Way::On(first + count as u64))
            }
            Way::Back { .. } => {
                for number in (first..first + count as u64).rev() {
                    if self.older >= OLDER {
                        return None;
                    }
                    if self.is_full() {
                        self.found.next = Some(Way::Back { before: number + 1, older: self.older });
                        return None;
                    }
                    let too_old = self.take(bundle, first, number);
                    self.older = if too_old { self.older + 1 } else { 0 };
                }
                (self.older < OLDER).then_some(Way::Back { before: first, older: self.older })
            }
        }
    }

    /// Looks at a record, and takes it if it is wanted; whether it is much older than anything that is.
    fn take(&mut self, bundle: &Bundle, first: u64, number: u64) -> bool {
        let record = bundle.record((number - first) as usize).unwrap_or_default();
        self.looked_at += 1;
        self.read += record.len();
        if *self.filter != Filter::default() {
            let facts = Facts::of(record);
            if !self.filter.fits(&facts) {
                // What says no time may be of any.
                let too_old = self.too_old.as_deref().filter(|_| !facts.time().is_empty());
                return too_old.is_some_and(|too_old| facts.time() < too_old);
            }
        }
        self.bytes += record.len();
        self.found.records.push((number, record.to_vec()));
        false
    }
}
