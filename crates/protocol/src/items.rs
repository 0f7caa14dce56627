//! Items of operations, what comes of them, and what the way to a worker has to know of them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use model::ciphertext::IV_BYTES;
use model::id::KeyVersionId;
use model::secret::Secret;

/// One item of `Op::Encrypt`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EncryptItem {
    /// With which key.
    pub key: KeyVersionId,
    /// Additional authenticated data.
    pub aad: Bytes,
    /// What to encrypt.
    pub plaintext: Secret,
}

/// One item of `Op::Decrypt`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DecryptItem {
    /// With which key.
    pub key: KeyVersionId,
    /// Additional authenticated data.
    pub aad: Bytes,
    /// The initialisation vector.
    pub iv: [u8; IV_BYTES],
    /// Ciphertext and tag.
    pub sealed: Bytes,
}

/// One item of `Op::GenerateDataKey`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DataKeyItem {
    /// Under which key the data key is encrypted.
    pub key: KeyVersionId,
    /// Additional authenticated data.
    pub aad: Bytes,
    /// Length of the data key in bytes.
    pub length: u16,
}

/// One item of `Op::ReEncrypt`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReEncryptItem {
    /// What to open.
    pub source: DecryptItem,
    /// With which key to encrypt.
    pub key: KeyVersionId,
    /// Additional authenticated data of what is made.
    pub aad: Bytes,
}

/// One item of `Op::Compare`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CompareItem {
    /// What was opened to make the other.
    pub source: DecryptItem,
    /// What was made of it.
    pub made: DecryptItem,
}

/// What encrypting gave. The worker replies with the IV because some HSMs make it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The initialisation vector.
    pub iv: [u8; IV_BYTES],
    /// Ciphertext and tag.
    pub sealed: Bytes,
}

/// A data key, in clear and encrypted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DataKey {
    /// In clear.
    pub plaintext: Secret,
    /// Encrypted.
    pub sealed: Sealed,
}

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
