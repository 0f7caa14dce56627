//! GenerateRandom: random bytes out of a key store's HSMs.

use std::sync::{Arc, PoisonError};

use super::pool::Pool;
use super::{Call, Error, Service, validate};
use model::exception::Exception;
use model::id::KeyStoreId;
use model::key_store::ConnectionState;
use model::operation::Operation;
use model::secret::Secret;
use store::KeyStore;

impl Service {
    /// Random bytes. `key_store_id` empty: any connected store.
    pub async fn generate_random(
        &self,
        call: &Call,
        number_of_bytes: Option<u32>,
        key_store_id: &str,
    ) -> Result<Secret, Error> {
        let (service, terms, key_store_id) = (self.clone(), call.terms(), key_store_id.to_owned());
        self.on_one(call, Operation::GenerateRandom, async move {
            let number = number_of_bytes.ok_or_else(|| Error::validation("NumberOfBytes is required."))?;
            let length = validate::random_length(number)?;
            let (id, pool) = service.source(&key_store_id)?;
            let random = pool.random(length, terms).await.map_err(|error| Error::of_cluster(error, None))?;
            // The store may have been disconnected meanwhile.
            let _giving_out = service.inner.giving_out.read().unwrap_or_else(PoisonError::into_inner);
            service.source(id.as_str())?;
            Ok(random)
        })
        .await
    }

    fn source(&self, key_store_id: &str) -> Result<(KeyStoreId, Arc<dyn Pool>), Error> {
        if !key_store_id.is_empty() {
            let (store, members) = self.connected_store(key_store_id)?;
            return Ok((store.id.clone(), members.pool));
        }
        let catalogue = self.inner.store.catalogue();
        let usable = |store: &Arc<KeyStore>| {
            let members = self.members_of(&store.id)?;
            (store.state == ConnectionState::Connected).then(|| (store.id.clone(), members.pool))
        };
        catalogue.key_stores.values().find_map(usable).ok_or_else(|| {
            Error::lasting(Exception::CustomKeyStoreInvalidState, "no key store is connected; connect one first")
        })
    }
}
