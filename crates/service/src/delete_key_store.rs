//! DeleteKeyStore: forgets a key store that is disconnected and empty. Its HSMs are not touched.

use super::{Call, Error, Service};
use model::operation::Operation;

impl Service {
    /// Forgets a key store, and the PINs of its HSMs with it: whoever wants a store over the same cluster later has the
    /// officer set kmsuser's PIN again.
    pub async fn delete_key_store(&self, call: &Call, id: &str) -> Result<(), Error> {
        let (service, id) = (self.clone(), id.to_owned());
        self.on_one(call, Operation::DeleteKeyStore, async move {
            let store = service.store_with_id(&id)?;
            let _turn = service.inner.registry.turn(&store.id).await;
            service.inner.store.delete_key_store(&store.id).await.map_err(Error::of_store)?;
            service.inner.registry.pins.replace(&store.id, &[], 0);
            tracing::info!(key_store = %store.id, name = store.name, "key store deleted");
            Ok(())
        })
        .await
    }
}
