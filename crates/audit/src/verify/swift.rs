//! The check of a log that is as it should be: once through all records. What is wrong with another, [`super::diagnosis`]
//! finds out.

use tlog_tiles::tlog::Hash;

use super::heads::Gathered;
use super::tree::Tree;
use crate::files::{Bundles, Place, Unreadable, WIDTH};
use crate::layout::FULL;
use crate::note::Head;

/// How far a check has come: records, and of how many.
pub(super) type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Whether all records are what all heads say, and all tiles what the records make.
pub(super) fn check(place: &Place, gathered: &Gathered, progress: Progress<'_>) -> Result<bool, Unreadable> {
    let heads = &gathered.heads;
    let size = heads.last().map_or(0, |head| head.size);
    let mut bundles = Bundles::new(place)?;
    let mut checked = Checked { place, own: gathered.own, upper: Vec::new(), indexes: Vec::new(), sound: true };
    let mut tree = Tree::default();
    let mut rest = heads.as_slice();
    if !agree(&tree, &mut rest) {
        return Ok(false);
    }
    for index in 0..size.div_ceil(FULL) {
        let first = index * FULL;
        let wanted = within(size - first);
        let Some(bundle) = bundles.load(index, wanted)? else { return Ok(false) };
        if !bundle.is_whole() || bundle.len() < wanted || bundle.len() > WIDTH {
            return Ok(false);
        }
        // Of what only a head kept elsewhere is about, there may be no tile.
        let tiled = within(gathered.own.saturating_sub(first));
        let tile = if tiled > 0 { place.tile(0, index, tiled)? } else { Some(Vec::new()) };
        let Some(tile) = tile else { return Ok(false) };
        let mut hashes = tile.iter();
        for leaf in bundle.leaves().take(wanted) {
            if hashes.next().is_some_and(|hash| *hash != leaf) {
                return Ok(false);
            }
            tree.push(0, leaf, |level, hash| checked.push(level, hash));
            if rest.first().is_some_and(|head| head.size == tree.size()) && !agree(&tree, &mut rest) {
                return Ok(false);
            }
            if tree.size() == gathered.own {
                checked.narrow()?;
            }
        }
        checked.whole()?;
        if !checked.sound {
            return Ok(false);
        }
        progress(tree.size(), size);
    }
    Ok(rest.is_empty())
}

/// As many records of a bundle.
pub(super) fn within(count: u64) -> usize {
    count.min(FULL) as usize
}

/// Whether the heads of this size have this root; takes them.
fn agree(tree: &Tree, rest: &mut &[Head]) -> bool {
    let mut root = None;
    while let Some((head, others)) = rest.split_first()
        && head.size == tree.size()
    {
        if root.get_or_insert_with(|| tree.root()).0 != head.root {
            return false;
        }
        *rest = others;
    }
    true
}

/// Compares the tiles above the lowest level with what the records make.
struct Checked<'a> {
    place: &'a Place,
    own: u64,
    upper: Vec<Vec<Hash>>,
    indexes: Vec<u64>,
    sound: bool,
}

impl Checked<'_> {
    fn push(&mut self, level: u8, hash: Hash) {
        let at = usize::from(level).saturating_sub(1);
        if self.upper.len() <= at {
            self.upper.resize_with(at + 1, Vec::new);
            self.indexes.resize(at + 1, 0);
        }
        if let Some(hashes) = self.upper.get_mut(at) {
            hashes.push(hash);
        }
    }

    /// Tiles that are whole by now.
    fn whole(&mut self) -> Result<(), Unreadable> {
        for (at, hashes) in self.upper.iter_mut().enumerate() {
            let Some(index) = self.indexes.get_mut(at) else { continue };
            if hashes.len() < WIDTH {
                continue;
            }
            let level = level(at);
            let end = (*index + 1).saturating_mul(FULL.saturating_pow(u32::from(level) + 1));
            if end <= self.own {
                self.sound &= self.place.tile(level, *index, WIDTH)?.is_some_and(|tile| tile == *hashes);
            }
            *index += 1;
            hashes.clear();
        }
        Ok(())
    }

    /// Tiles that are not whole yet when the log's own newest head is reached.
    fn narrow(&mut self) -> Result<(), Unreadable> {
        for (at, hashes) in self.upper.iter().enumerate() {
            let index = self.indexes.get(at).copied().unwrap_or(0);
            if (1..WIDTH).contains(&hashes.len()) {
                let tile = self.place.tile(level(at), index, hashes.len())?;
                self.sound &= tile.is_some_and(|tile| tile == *hashes);
            }
        }
        Ok(())
    }
}

fn level(at: usize) -> u8 {
    u8::try_from(at + 1).unwrap_or(u8::MAX)
}
