//! Finds out what is wrong with a log, by whatever can still be believed.
//!
//! The signed heads are believed, and nothing else is from the start. Hashes of records stand in the tiles of the lowest
//! level; those of the next level have a hash over each of these tiles; and the records themselves make hashes. Whoever
//! changed something has changed some of the three. So the tree is made three times, each time with another of them first,
//! and what makes the root of a signed head is true. With true hashes of records it is exactly known which record differs;
//! with a true hash over a tile, among which 256; with neither, between which two signed heads.

use tlog_tiles::tlog::Hash;

use super::difference::{Row, compare};
use super::finding::{Finding, Findings};
use super::heads::Gathered;
use super::swift::within;
use super::tree::{Tree, over};
use crate::files::{Bundles, Place, Unreadable, WIDTH};
use crate::layout::FULL;

/// So many bundles in a row that are not there end a count: whoever has the log's key can sign a head of more records than
/// anybody has room for.
pub(super) const GAP: u64 = 1 << 16;
/// Behind so many in a row, bundles alone are looked for, and neither what is not whole yet nor the journal.
const FEW: u64 = 64;

/// What is believed first where there is a choice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    /// Hashes in tiles.
    Tiles,
    /// The hash over a tile, of the next level: what fits it is true.
    Upper,
    /// The records.
    Records,
}

/// What is known of 256 records, or fewer at the end.
enum Known {
    /// The hash of each.
    Leaves(Vec<Hash>),
    /// The hash over all of them.
    Over(Hash),
    Nothing,
}

/// Chooses what is believed of each 256 records.
struct Chooser<'a> {
    place: &'a Place,
    bundles: Bundles,
    first: First,
    own: u64,
    size: u64,
    /// The tile of the next level that is in memory.
    upper: Option<(u64, Vec<Hash>)>,
}

impl<'a> Chooser<'a> {
    fn new(place: &'a Place, gathered: &Gathered, first: First) -> Result<Self, Unreadable> {
        let size = gathered.heads.last().map_or(0, |head| head.size);
        Ok(Self { place, bundles: Bundles::new(place)?, first, own: gathered.own, size, upper: None })
    }

    /// Where not all are known, those before the first of which nothing is.
    fn known(&mut self, index: u64) -> Result<Known, Unreadable> {
        let wanted = self.wanted(index);
        let upper = self.upper(index)?;
        let tile = self.place.tile_as_wide(0, index, wanted)?.unwrap_or_default();
        let fits = |leaves: &[Hash]| upper.is_some_and(|hash| leaves.len() == WIDTH && over(leaves) == hash);
        if tile.len() == wanted && (self.first == First::Tiles || self.first == First::Upper && fits(&tile)) {
            return Ok(Known::Leaves(tile));
        }
        let records = self.records(index, wanted)?;
        let (mut leaves, others) = match (self.first, upper) {
            (First::Upper, Some(_)) if fits(&records) => return Ok(Known::Leaves(records)),
            (First::Upper, Some(hash)) => return Ok(Known::Over(hash)),
            (First::Records, _) => (records, tile),
            _ => (tile, records),
        };
        // What the one does not have the other may.
        leaves.extend(others.into_iter().skip(leaves.len()));
        Ok(match upper {
            Some(hash) if leaves.is_empty() => Known::Over(hash),
            _ if leaves.is_empty() => Known::Nothing,
            _ => Known::Leaves(leaves),
        })
    }

    /// As many records there are to be.
    fn wanted(&self, index: u64) -> usize {
        within(self.size.saturating_sub(index * FULL))
    }

    /// Hashes of the records that are there, where they can be told apart.
    fn records(&mut self, index: u64, wanted: usize) -> Result<Vec<Hash>, Unreadable> {
        let bundle = self.bundles.load(index, wanted)?;
        let bundle = bundle.filter(|bundle| bundle.is_whole() && bundle.len() <= WIDTH);
        Ok(bundle.map(|bundle| bundle.leaves().take(wanted).collect()).unwrap_or_default())
    }

    /// The hash over this tile, as the next level has it.
    fn upper(&mut self, index: u64) -> Result<Option<Hash>, Unreadable> {
        let above = index / FULL;
        if self.upper.as_ref().is_none_or(|(loaded, _)| *loaded != above) {
            let width = within((self.own / FULL).saturating_sub(above * FULL));
            self.upper = Some((above, self.place.tile(1, above, width)?.unwrap_or_default()));
        }
        let at = (index % FULL) as usize;
        Ok(self.upper.as_ref().and_then(|(_, hashes)| hashes.get(at).copied()))
    }
}

/// What came of one of the three.
struct Outcome {
    first: First,
    /// Up to here all is true: as many records has the largest head whose root came out.
    true_to: u64,
    /// Sizes of heads whose root did not come out.
    others: Vec<u64>,
}

/// Makes the tree.
fn try_out(place: &Place, gathered: &Gathered, first: First) -> Result<Outcome, Unreadable> {
    let mut chooser = Chooser::new(place, gathered, first)?;
    let mut tree = Tree::default();
    let mut outcome = Outcome { first, true_to: 0, others: Vec::new() };
    let mut rest = gathered.heads.iter().peekable();
    let mut judge = |tree: &Tree, outcome: &mut Outcome| {
        while let Some(head) = rest.next_if(|head| head.size <= tree.size()) {
            // Within what is known by one hash nothing can be told.
            if head.size == tree.size() {
                match tree.root().0 == head.root {
                    true => outcome.true_to = head.size,
                    false => outcome.others.push(head.size),
                }
            }
        }
    };
    judge(&tree, &mut outcome);
    for index in 0..chooser.size.div_ceil(FULL) {
        match chooser.known(index)? {
            Known::Leaves(leaves) => {
                for leaf in &leaves {
                    tree.push(0, *leaf, |_, _| {});
                    judge(&tree, &mut outcome);
                }
                if leaves.len() < chooser.wanted(index) {
                    break;
                }
            }
            Known::Over(hash) => {
                tree.push(8, hash, |_, _| {});
                judge(&tree, &mut outcome);
            }
            Known::Nothing => break,
        }
    }
    Ok(outcome)
}

/// Says what is wrong.
pub(super) fn diagnose(place: &Place, gathered: &Gathered, found: &mut Findings) -> Result<(), Unreadable> {
    let mut best: Option<Outcome> = None;
    for first in [First::Tiles, First::Upper, First::Records] {
        let outcome = try_out(place, gathered, first)?;
        let all = gathered.heads.last().is_some_and(|head| head.size == outcome.true_to);
        if best.as_ref().is_none_or(|best| outcome.true_to > best.true_to) {
            best = Some(outcome);
        }
        if all {
            break;
        }
    }
    let Some(best) = best else { return Ok(()) };
    let sizes = || gathered.heads.iter().map(|head| head.size);
    for size in best.others.iter().filter(|size| **size <= best.true_to) {
        if sizes().filter(|other| other == size).count() == 1 {
            found.push(Finding::Contradiction { size: *size });
        }
    }
    differences(place, gathered, &best, found)?;
    let size = sizes().next_back().unwrap_or(0);
    if best.true_to < size {
        let there = count(place, size)?;
        if there == best.true_to {
            found.push(Finding::Missing { first: there, count: size - there });
        } else {
            let end = sizes().find(|size| *size > best.true_to).unwrap_or(size);
            found.push(Finding::Between { first: best.true_to, end });
            if there < size {
                found.push(Finding::Fewer { there, signed: size });
            }
        }
    }
    tiles(place, gathered, &best, found)
}

/// How many records there are, if not as many as these. Those behind a long gap are not counted.
fn count(place: &Place, size: u64) -> Result<u64, Unreadable> {
    let mut bundles = Bundles::new(place)?;
    let (mut there, mut gap) = (0, 0);
    for index in 0..size.div_ceil(FULL) {
        let wanted = within(size - index * FULL);
        let found = match gap < FEW || place.has_bundle(index)? {
            true => bundles.load(index, wanted)?.map_or(0, |bundle| bundle.len() as u64),
            false => 0,
        };
        there += found;
        gap = if found == 0 { gap + 1 } else { 0 };
        if gap == GAP {
            break;
        }
    }
    Ok(there)
}

/// Compares the records with what is known to be true, in stretches that end where nothing is there to compare.
fn differences(place: &Place, gathered: &Gathered, best: &Outcome, found: &mut Findings) -> Result<(), Unreadable> {
    // One for all stretches: what it knows of the journal need not be found out again for each.
    let choosers = || Chooser::new(place, gathered, best.first);
    let (mut chooser, mut of_recorded, mut of_there) = (choosers()?, choosers()?, choosers()?);
    let last = best.true_to.div_ceil(FULL);
    let mut index = 0;
    let mut there_to = None;
    while index < last {
        let (first, count) = (index * FULL, within(best.true_to - index * FULL) as u64);
        // As many are wanted wherever it is asked: of a bundle that is damaged it depends on that where it is looked for.
        let wanted = chooser.wanted(index);
        let there = chooser.bundles.load(index, wanted)?.map(|bundle| bundle.is_lost());
        match (chooser.known(index)?, there) {
            (Known::Over(_) | Known::Nothing, _) => {
                found.push(Finding::Within { first, end: first + count });
                index += 1;
            }
            (_, Some(true)) => {
                found.push(Finding::Bundle { first, count });
                index += 1;
            }
            (_, None) => {
                let start = index;
                index += 1;
                while index < last {
                    let wanted = chooser.wanted(index);
                    if chooser.bundles.load(index, wanted)?.is_some() {
                        break;
                    }
                    index += 1;
                }
                let end = best.true_to.min(index * FULL);
                found.push(Finding::Missing { first: start * FULL, count: end - start * FULL });
            }
            (Known::Leaves(_), Some(false)) => {
                let start = index;
                index = end_of_stretch(&mut chooser, start, last, &mut there_to)?;
                let end = best.true_to.min(index * FULL);
                let recorded = Recorded::new(&mut of_recorded, start, end);
                let stop = if index == last { u64::MAX } else { index };
                let there = There::new(&mut of_there, start, stop);
                compare(first, recorded, there, index == last, found)?;
            }
        }
    }
    Ok(())
}

/// The first behind this one of which there are no records, or no hashes. `there_to` is the first of those at the end of which
/// nothing is there, once that was looked for.
fn end_of_stretch(
    chooser: &mut Chooser<'_>,
    start: u64,
    last: u64,
    there_to: &mut Option<u64>,
) -> Result<u64, Unreadable> {
    let mut index = start + 1;
    while index < last {
        let wanted = chooser.wanted(index);
        let there = chooser.bundles.load(index, wanted)?.is_some_and(|bundle| !bundle.is_lost());
        if !there {
            let end = match *there_to {
                Some(end) => end,
                None => *there_to.insert(behind_all(chooser, index, last)?),
            };
            // At the end of a log, records that were taken away leave no bundle: that is part of the difference.
            if index < end {
                break;
            }
        }
        if !matches!(chooser.known(index)?, Known::Leaves(_)) {
            break;
        }
        index += 1;
    }
    Ok(index)
}

/// The number behind the last bundle of which something is there.
fn behind_all(chooser: &mut Chooser<'_>, first: u64, last: u64) -> Result<u64, Unreadable> {
    for index in (first..last).rev() {
        let wanted = chooser.wanted(index);
        if chooser.bundles.load(index, wanted)?.is_some() {
            return Ok(index + 1);
        }
    }
    Ok(first)
}

/// Hashes that are true.
struct Recorded<'c, 'a> {
    chooser: &'c mut Chooser<'a>,
    next: u64,
    end: u64,
    leaves: std::vec::IntoIter<Hash>,
}

impl<'c, 'a> Recorded<'c, 'a> {
    fn new(chooser: &'c mut Chooser<'a>, index: u64, end: u64) -> Self {
        Self { chooser, next: index * FULL, end, leaves: Vec::new().into_iter() }
    }
}

impl Row for Recorded<'_, '_> {
    fn next(&mut self) -> Result<Option<Hash>, Unreadable> {
        if self.next >= self.end {
            return Ok(None);
        }
        if self.next.is_multiple_of(FULL) {
            let Known::Leaves(leaves) = self.chooser.known(self.next / FULL)? else { return Ok(None) };
            self.leaves = leaves.into_iter();
        }
        self.next += 1;
        Ok(self.leaves.next())
    }
}

/// Hashes of the records that are there.
struct There<'c, 'a> {
    chooser: &'c mut Chooser<'a>,
    next: u64,
    stop: u64,
    leaves: std::vec::IntoIter<Hash>,
}

impl<'c, 'a> There<'c, 'a> {
    fn new(chooser: &'c mut Chooser<'a>, next: u64, stop: u64) -> Self {
        Self { chooser, next, stop, leaves: Vec::new().into_iter() }
    }

    fn load(&mut self, index: u64) -> Result<Option<Vec<Hash>>, Unreadable> {
        let wanted = within(self.chooser.size.saturating_sub(index * FULL)).max(1);
        let Some(bundle) = self.chooser.bundles.load(index, wanted)? else { return Ok(None) };
        let leaves: Vec<Hash> = bundle.leaves().collect();
        if bundle.is_whole() {
            return Ok(Some(leaves));
        }
        // The length of a record was changed: which one's, and where the next one begins, the true hashes tell.
        let Known::Leaves(recorded) = self.chooser.known(index)? else { return Ok(Some(leaves)) };
        let broken = recorded.iter().zip(&leaves).take_while(|(one, other)| one == other).count();
        let Some(bundle) = self.chooser.bundles.load(index, wanted)? else { return Ok(None) };
        bundle.find_rest(broken, recorded.len());
        let mut leaves: Vec<Hash> = bundle.leaves().collect();
        // Also where nothing but its length was changed, the record is not what was recorded.
        if let Some(leaf) = leaves.get_mut(broken) {
            *leaf = Hash::default();
        }
        Ok(Some(leaves))
    }
}

impl Row for There<'_, '_> {
    fn next(&mut self) -> Result<Option<Hash>, Unreadable> {
        loop {
            if let Some(leaf) = self.leaves.next() {
                return Ok(Some(leaf));
            }
            if self.next >= self.stop {
                return Ok(None);
            }
            let Some(leaves) = self.load(self.next)? else { return Ok(None) };
            self.leaves = leaves.into_iter();
            self.next += 1;
        }
    }
}

/// Tiles that are not what is known to be true.
fn tiles(place: &Place, gathered: &Gathered, best: &Outcome, found: &mut Findings) -> Result<(), Unreadable> {
    let mut chooser = Chooser::new(place, gathered, best.first)?;
    let own = best.true_to.min(gathered.own);
    let mut levels: Vec<Vec<Hash>> = Vec::new();
    let mut indexes: Vec<u64> = Vec::new();
    let mut tree = Tree::default();
    let mut judge = |level: usize, index: u64, hashes: &[Hash]| -> Result<(), Unreadable> {
        let level = u8::try_from(level).unwrap_or(u8::MAX);
        let tile = place.tile(level, index, hashes.len())?;
        if tile.as_deref() != Some(hashes) {
            found.push(Finding::Tile { level, index, missing: tile.is_none() });
        }
        Ok(())
    };
    for index in 0..own.div_ceil(FULL) {
        let mut higher = |level: u8, hash: Hash| {
            let at = usize::from(level) - 1;
            if levels.len() <= at {
                levels.resize_with(at + 1, Vec::new);
                indexes.resize(at + 1, 0);
            }
            levels[at].push(hash);
        };
        match chooser.known(index)? {
            Known::Leaves(mut leaves) => {
                leaves.truncate(within(own - index * FULL));
                for leaf in &leaves {
                    tree.push(0, *leaf, &mut higher);
                }
                judge(0, index, &leaves)?;
            }
            Known::Over(hash) => tree.push(8, hash, &mut higher),
            Known::Nothing => return Ok(()),
        }
        for (at, hashes) in levels.iter_mut().enumerate().filter(|(_, hashes)| hashes.len() == WIDTH) {
            judge(at + 1, indexes[at], hashes)?;
            indexes[at] += 1;
            hashes.clear();
        }
    }
    // Those that are not whole yet are only known of the newest head.
    if own == gathered.own {
        for (at, hashes) in levels.iter().enumerate().filter(|(_, hashes)| !hashes.is_empty()) {
            judge(at + 1, indexes[at], hashes)?;
        }
    }
    Ok(())
}
