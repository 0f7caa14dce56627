//! The ways from a key store to its cluster.

use std::sync::Arc;

use super::hsm_cluster::Members;
use super::{Core, validate};
use crate::Error;
use model::exception::Exception;
use model::id::KeyStoreId;
use model::key_store::{ConnectionState, Event, Next};
use model::limits;
use store::{Catalogue, KeyStore};

impl Core {
    /// The store with this id.
    pub(crate) fn key_store(&self, id: &KeyStoreId) -> Option<Arc<KeyStore>> {
        self.inner.store.catalogue().key_store(id).cloned()
    }

    /// The cluster in use by a key store.
    pub(crate) fn members_of(&self, key_store: &KeyStoreId) -> Option<Members> {
        self.inner.registry.active_of(key_store).map(|active| active.members)
    }

    /// The store with this id.
    pub(crate) fn store_with_id(&self, id: &str) -> Result<Arc<KeyStore>, Error> {
        store_with_id(&self.inner.store.catalogue(), id).cloned()
    }

    /// Whether this can happen to the store with this id, in its present state.
    pub(crate) fn can_happen(&self, id: &str, event: Event) -> Result<(), Error> {
        let store = self.store_with_id(id)?;
        match store.state.next(event) {
            Next::Refused => Err(Error::of_store(store::Error::State(store.state))),
            Next::State(_) | Next::Gone => Ok(()),
        }
    }

    /// Whether the store with this id is as it would be after this.
    pub(crate) fn has_happened(&self, id: &str, event: Event) -> bool {
        self.store_with_id(id).is_ok_and(|store| store.state.next(event) == Next::State(store.state))
    }

    /// The store with this id and its cluster, if it is connected.
    pub(crate) fn connected_store(&self, id: &str) -> Result<(Arc<KeyStore>, Members), Error> {
        let catalogue = self.inner.store.catalogue();
        let store = store_with_id(&catalogue, id)?;
        let wrong = |why: String| Error::permanent(Exception::CustomKeyStoreInvalidState, why);
        if store.state != ConnectionState::Connected {
            return Err(wrong(format!("key store {} is {}; it must be CONNECTED", store.name, store.state.name())));
        }
        let members = self.members_of(&store.id).ok_or_else(|| {
            wrong(format!(
                "key store {}: its cluster {} cannot be used; the daemon's log says why",
                store.name, store.cluster
            ))
        })?;
        Ok((Arc::clone(store), members))
    }
}

/// The store with the id that a caller gave.
pub(crate) fn store_with_id<'a>(catalogue: &'a Catalogue, id: &str) -> Result<&'a Arc<KeyStore>, Error> {
    validate::length("customKeyStoreId", id.len(), 1, limits::KEY_STORE_ID_BYTES)?;
    catalogue.key_store(&KeyStoreId::from(id)).ok_or_else(|| Error::no_key_store(id))
}
