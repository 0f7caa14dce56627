//! The right edge of the tree: all that is needed to go on with it. Pure.

use super::leaves::node_hash;
use crate::layout::{FULL, HEIGHT};
use crate::note::Head;

/// The hashes of those tiles that are not full yet, from the lowest level up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edge {
    size: u64,
    levels: Vec<Vec<[u8; 32]>>,
}

/// A tile as it lies in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hashes {
    pub(crate) level: u8,
    pub(crate) index: u64,
    pub(crate) hashes: Vec<[u8; 32]>,
}

impl Hashes {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.hashes.concat()
    }

    pub(crate) fn width(&self) -> u32 {
        // Never more than FULL.
        u32::try_from(self.hashes.len()).unwrap_or(0)
    }
}

impl Edge {
    /// The edge of a log with so many records, by the hashes of its unfinished tiles from the lowest level up. `None`: those are
    /// not as many as such a log has.
    pub(crate) fn new(size: u64, levels: Vec<Vec<[u8; 32]>>) -> Option<Self> {
        let right = widths(size).eq(levels.iter().map(|level| level.len() as u64));
        right.then_some(Self { size, levels })
    }

    /// How many leaves there are.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Puts the next leaf to it. Tells of each tile that is full with it, the lowest first.
    pub(crate) fn push(&mut self, leaf: [u8; 32], mut full: impl FnMut(Hashes)) {
        let mut hash = leaf;
        self.size += 1;
        for level in 0_u8.. {
            let at = usize::from(level);
            if self.levels.len() == at {
                self.levels.push(Vec::new());
            }
            let Some(tile) = self.levels.get_mut(at) else { return };
            tile.push(hash);
            if tile.len() as u64 != FULL {
                return;
            }
            let hashes = std::mem::take(tile);
            hash = subtree(&hashes);
            let index = (self.size >> (u32::from(HEIGHT) * (u32::from(level) + 1))) - 1;
            full(Hashes { level, index, hashes });
        }
    }

    /// The tiles that are not full.
    pub(crate) fn partial(&self) -> impl Iterator<Item = Hashes> {
        (0_u8..).zip(&self.levels).filter(|(_, hashes)| !hashes.is_empty()).map(|(level, hashes)| Hashes {
            level,
            index: self.size >> (u32::from(HEIGHT) * (u32::from(level) + 1)),
            hashes: hashes.clone(),
        })
    }

    /// The head over all of it.
    pub(crate) fn head(&self) -> Head {
        // From right to left, each complete subtree is joined to all that is right of it (RFC 6962, 2.1).
        let mut root = None;
        for level in &self.levels {
            let mut rest = level.as_slice();
            while !rest.is_empty() {
                let (before, last) = rest.split_at(rest.len() - (1 << rest.len().trailing_zeros()));
                let left = subtree(last);
                root = Some(root.map_or(left, |right| node_hash(&left, &right)));
                rest = before;
            }
        }
        root.map_or(Head::EMPTY, |root| Head { size: self.size, root })
    }
}

/// How many hashes the unfinished tile of each level has, in a log of so many records.
pub(crate) fn widths(size: u64) -> impl Iterator<Item = u64> {
    let mut rest = size;
    std::iter::from_fn(move || {
        (rest > 0).then(|| {
            let width = rest % FULL;
            rest /= FULL;
            width
        })
    })
}

/// The root over as many hashes as a power of two.
pub(crate) fn subtree(hashes: &[[u8; 32]]) -> [u8; 32] {
    match hashes {
        [] => [0; 32],
        [one] => *one,
        more => {
            let (left, right) = more.split_at(more.len() / 2);
            node_hash(&subtree(left), &subtree(right))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tlog_tiles::tlog::{EMPTY_HASH, Hash, node_hash, record_hash};

    /// RFC 6962, 2.1, word by word, with the hashes of another library.
    fn defined(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => EMPTY_HASH,
            [one] => *one,
            more => {
                let (left, right) = more.split_at(more.len().next_power_of_two() / 2);
                node_hash(defined(left), defined(right))
            }
        }
    }

    /// Trees of more than two levels have the roots that are defined, and go on from what their tiles say.
    #[test]
    fn roots_are_those_that_are_defined() {
        let (mut leaves, mut tiles, mut edge) = (Vec::new(), Vec::new(), Edge::default());
        assert_eq!(edge.head(), Head::EMPTY);
        for number in 0..66_000_u64 {
            let leaf = record_hash(&number.to_be_bytes());
            edge.push(leaf.0, |tile| tiles.push(tile));
            leaves.push(leaf);
            if number < 600 || number % 4_999 == 0 || (65_534..65_538).contains(&number) {
                assert_eq!(edge.head(), Head { size: number + 1, root: defined(&leaves).0 }, "{number}");
                assert_eq!(Edge::new(edge.size(), edge.levels.clone()).as_ref(), Some(&edge));
            }
        }
        let indexes =
            |level| tiles.iter().filter(|tile| tile.level == level).map(|tile| tile.index).collect::<Vec<_>>();
        assert_eq!(indexes(0), (0..257).collect::<Vec<_>>());
        assert_eq!(indexes(1), [0]);
        assert!(tiles.iter().all(|tile| tile.width() == 256 && tile.bytes().len() == 8_192));
        let partial: Vec<_> = edge.partial().map(|tile| (tile.level, tile.index, tile.width())).collect();
        assert_eq!(partial, [(0, 257, 208), (1, 1, 1), (2, 0, 1)]);
        assert_eq!(Edge::new(3, vec![vec![[0; 32]; 2]]), None);
    }
}
