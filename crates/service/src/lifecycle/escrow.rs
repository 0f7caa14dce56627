//! Escrow for workers: what they make hot copies of.

use bytes::Bytes;

use model::id::KeyVersionId;
use store::Store;
use supervisor::WrappedKeys;

/// Keys as the catalogue has them at the moment.
pub(super) struct Escrow(pub(super) Store);

impl WrappedKeys for Escrow {
    fn of(&self, key: KeyVersionId) -> Option<Bytes> {
        let catalogue = self.0.catalogue();
        let version = catalogue.key(key.key)?.versions.iter().find(|version| version.id == key)?;
        version.blob.clone()
    }
}
