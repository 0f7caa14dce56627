//! What the way to a worker has to know of the items of an operation.

use super::{CompareItem, DataKeyItem, DecryptItem, EncryptItem, ReEncryptItem};
use model::id::KeyVersionId;

/// What an item takes in memory beside its bytes.
pub(super) const FIXED_BYTES: usize = 128;

/// What the way to a worker has to know of an item.
trait Item {
    /// Its key; of two the one that it encrypts with.
    fn key(&self) -> KeyVersionId;
    /// Its bytes.
    fn weight(&self) -> usize;
}

impl Item for EncryptItem {
    fn key(&self) -> KeyVersionId {
        self.key
    }

    fn weight(&self) -> usize {
        self.aad.len() + self.plaintext.len()
    }
}

impl Item for DecryptItem {
    fn key(&self) -> KeyVersionId {
        self.key
    }

    fn weight(&self) -> usize {
        self.aad.len() + self.sealed.len()
    }
}

impl Item for DataKeyItem {
    fn key(&self) -> KeyVersionId {
        self.key
    }

    fn weight(&self) -> usize {
        self.aad.len() + usize::from(self.length)
    }
}

impl Item for ReEncryptItem {
    fn key(&self) -> KeyVersionId {
        self.key
    }

    fn weight(&self) -> usize {
        self.source.weight() + self.aad.len()
    }
}

impl Item for CompareItem {
    fn key(&self) -> KeyVersionId {
        self.made.key
    }

    fn weight(&self) -> usize {
        self.source.weight() + self.made.weight()
    }
}

pub(super) trait Batch {
    fn count(&self) -> usize;
    fn key(&self, item: usize) -> Option<KeyVersionId>;
    fn weight(&self) -> usize;
}

impl<T: Item> Batch for Vec<T> {
    fn count(&self) -> usize {
        self.len()
    }

    fn key(&self, item: usize) -> Option<KeyVersionId> {
        self.get(item).map(Item::key)
    }

    fn weight(&self) -> usize {
        self.iter().map(|item| FIXED_BYTES + item.weight()).sum()
    }
}
