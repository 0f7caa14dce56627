//! Compares records with what was recorded, both as rows of hashes, and says which are altered, missing, inserted, moved.
//!
//! Whoever takes a record away may close the gap behind it, so that every later record stands in another's place. So the two
//! rows are aligned as texts are by a line-by-line comparison, with windows that grow where no end of a difference is seen:
//! memory is bounded, and a difference that is longer than the last window is told less well.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};

use tlog_tiles::tlog::Hash;

use super::finding::{Finding, Findings};
use crate::files::Unreadable;

/// How far is looked for the end of a difference.
const WINDOWS: [usize; 4] = [64, 1_024, 16_384, 131_072];
/// So many differences are remembered to find out what was moved.
const REMEMBERED: usize = 4_096;

/// A row of hashes that comes bit by bit.
pub(super) trait Row {
    /// The next one.
    fn next(&mut self) -> Result<Option<Hash>, Unreadable>;
}

struct Side<R> {
    row: R,
    ahead: VecDeque<Hash>,
}

impl<R: Row> Side<R> {
    fn fill(&mut self, window: usize) -> Result<(), Unreadable> {
        while self.ahead.len() < window {
            match self.row.next()? {
                Some(hash) => self.ahead.push_back(hash),
                None => break,
            }
        }
        Ok(())
    }
}

/// What differs at one place.
struct Hunk {
    /// The number of the first record that is not found.
    at: u64,
    lost: Vec<Hash>,
    extra: Vec<Hash>,
}

/// Compares, from the record of this number on. What is there behind the last record that was recorded is no difference
/// where the rows are `open`.
pub(super) fn compare(
    first: u64,
    recorded: impl Row,
    there: impl Row,
    open: bool,
    found: &mut Findings,
) -> Result<(), Unreadable> {
    let mut recorded = Side { row: recorded, ahead: VecDeque::new() };
    let mut there = Side { row: there, ahead: VecDeque::new() };
    let mut number = first;
    let mut hunks: Vec<Hunk> = Vec::new();
    let mut remembered = 0;
    loop {
        recorded.fill(1)?;
        there.fill(1)?;
        match (recorded.ahead.front(), there.ahead.front()) {
            (None, None) => break,
            (None, Some(_)) if open => {
                // Records that were moved to the end stand among those that came later.
                there.fill(WINDOWS[0])?;
                let lost: HashSet<[u8; 32]> = hunks.iter().flat_map(|hunk| &hunk.lost).map(|hash| hash.0).collect();
                let moved = there.ahead.drain(..).filter(|hash| lost.contains(&hash.0)).collect();
                hunks.push(Hunk { at: number, lost: Vec::new(), extra: moved });
                break;
            }
            (Some(one), Some(other)) if one == other => {
                recorded.ahead.pop_front();
                there.ahead.pop_front();
                number += 1;
            }
            _ => {
                let (lost, extra) = end_of_difference(&mut recorded, &mut there, open)?;
                let hunk = Hunk {
                    at: number,
                    lost: recorded.ahead.drain(..lost).collect(),
                    extra: there.ahead.drain(..extra).collect(),
                };
                number += lost as u64;
                remembered += lost + extra;
                hunks.push(hunk);
                if remembered > REMEMBERED {
                    tell(&std::mem::take(&mut hunks), found);
                    remembered = 0;
                }
            }
        }
    }
    tell(&hunks, found);
    Ok(())
}

/// How many of both belong to the difference.
fn end_of_difference<R: Row, T: Row>(
    recorded: &mut Side<R>,
    there: &mut Side<T>,
    open: bool,
) -> Result<(usize, usize), Unreadable> {
    for window in WINDOWS {
        recorded.fill(window)?;
        there.fill(window)?;
        let mut places: HashMap<[u8; 32], usize> = HashMap::new();
        for (at, hash) in recorded.ahead.iter().take(window).enumerate() {
            places.entry(hash.0).or_insert(at);
        }
        let both = there.ahead.iter().take(window).enumerate();
        let ends = both.filter_map(|(extra, hash)| places.get(&hash.0).map(|lost| (*lost, extra)));
        // The shortest; of two, that which leaves later records at their places.
        let end = ends.min_by_key(|(lost, extra)| (lost + extra, lost.abs_diff(*extra)));
        if let Some(end) = end {
            return Ok(end);
        }
        if recorded.ahead.len() < window && there.ahead.len() < window {
            break;
        }
    }
    let lost = recorded.ahead.len();
    let extra = there.ahead.len();
    // Where one of them ends, the other's rest is all that there is to tell. What follows the last record is no difference.
    if open && lost < extra { Ok((lost, lost)) } else { Ok((lost, extra)) }
}

/// Says what happened. A record that is missing in one place and stands in another was moved.
fn tell(hunks: &[Hunk], found: &mut Findings) {
    let mut lost: HashMap<[u8; 32], u64> = HashMap::new();
    let mut stands: HashMap<[u8; 32], u64> = HashMap::new();
    for hunk in hunks {
        for (number, hash) in (hunk.at..).zip(&hunk.lost) {
            lost.insert(hash.0, number);
        }
        for (index, hash) in hunk.extra.iter().enumerate() {
            stands.insert(hash.0, place(hunk, index));
        }
    }
    for hunk in hunks {
        let mut runs = Runs { found: &mut *found, last: None };
        let paired = hunk.lost.len().min(hunk.extra.len());
        for (index, hash) in hunk.extra.iter().enumerate() {
            let at = place(hunk, index);
            let replaced = hunk.lost.get(index).filter(|_| index < paired);
            match lost.get(&hash.0) {
                // Where nothing was in its place, its own old place closed up before it.
                Some(number) if replaced.is_none() && *number < at => {
                    runs.push(Finding::Moved { number: *number, at: at - 1 });
                }
                Some(number) => runs.push(Finding::Moved { number: *number, at }),
                // The record whose place this is may stand elsewhere.
                None => match replaced.filter(|own| !stands.contains_key(&own.0)) {
                    Some(_) => runs.push(Finding::Altered { first: at, count: 1 }),
                    None => runs.push(Finding::Inserted { before: at, count: 1 }),
                },
            }
            // In place of this one stands one that was moved here, and it stands nowhere.
            if replaced.is_some_and(|own| !stands.contains_key(&own.0)) && lost.contains_key(&hash.0) {
                runs.push(Finding::Missing { first: at, count: 1 });
            }
        }
        for (number, hash) in (hunk.at..).zip(&hunk.lost).skip(paired) {
            if !stands.contains_key(&hash.0) {
                runs.push(Finding::Missing { first: number, count: 1 });
            }
        }
        runs.end();
    }
}

/// Where an extra one stands: in the place of a record, or before the one that follows the difference.
fn place(hunk: &Hunk, index: usize) -> u64 {
    hunk.at + index.min(hunk.lost.len()) as u64
}

/// Joins findings of the same kind about neighbours.
struct Runs<'a> {
    found: &'a mut Findings,
    last: Option<Finding>,
}

impl Runs<'_> {
    fn push(&mut self, next: Finding) {
        match (&mut self.last, &next) {
            (Some(Finding::Altered { first, count }), Finding::Altered { first: at, .. })
            | (Some(Finding::Missing { first, count }), Finding::Missing { first: at, .. })
                if *first + *count == *at =>
            {
                *count += 1;
            }
            (Some(Finding::Inserted { before, count }), Finding::Inserted { before: at, .. }) if before == at => {
                *count += 1;
            }
            _ => {
                self.end();
                self.last = Some(next);
            }
        }
    }

    fn end(&mut self) {
        if let Some(last) = self.last.take() {
            self.found.push(last);
        }
    }
}
