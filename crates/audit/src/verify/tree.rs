//! The tree over records that come one after the other: no more is kept than what the next one needs.

use tlog_tiles::tlog::{EMPTY_HASH, Hash, node_hash};

use crate::layout::HEIGHT;

/// RFC 6962's tree so far: its complete subtrees, the largest first.
#[derive(Default)]
pub(crate) struct Tree {
    size: u64,
    subtrees: Vec<(u8, Hash)>,
}

impl Tree {
    /// How many records there are.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Adds a subtree of 2^height records; as many must divide the size. What becomes a hash of a higher tile is told, with
    /// the tile's level.
    pub(crate) fn push(&mut self, height: u8, hash: Hash, mut higher: impl FnMut(u8, Hash)) {
        let (mut height, mut hash) = (height, hash);
        self.size += 1 << height;
        if height > 0 && height.is_multiple_of(HEIGHT) {
            higher(height / HEIGHT, hash);
        }
        while let Some((_, left)) = self.subtrees.pop_if(|(last, _)| *last == height) {
            hash = node_hash(left, hash);
            height += 1;
            if height.is_multiple_of(HEIGHT) {
                higher(height / HEIGHT, hash);
            }
        }
        self.subtrees.push((height, hash));
    }

    /// The root over all of them.
    pub(crate) fn root(&self) -> Hash {
        let mut hashes = self.subtrees.iter().rev().map(|(_, hash)| *hash);
        let Some(last) = hashes.next() else { return EMPTY_HASH };
        hashes.fold(last, |right, left| node_hash(left, right))
    }
}

/// The root over the hashes of a whole tile.
pub(crate) fn over(hashes: &[Hash]) -> Hash {
    let mut tree = Tree::default();
    for hash in hashes {
        tree.push(0, *hash, |_, _| {});
    }
    tree.root()
}
