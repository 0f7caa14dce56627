//! DeleteKeyStore: forgets a key store that is disconnected and empty. Its HSMs are not touched.

use crate::{Error, RequestContext, Service};
use model::key_store::Event;
use model::operation::Operation;

impl Service {
    /// Forgets a key store, and the PINs of its HSMs with it: whoever wants a store over the same cluster later has the
    /// officer set kmsuser's PIN again.
    pub async fn delete_key_store(&self, call: &RequestContext, id: &str) -> Result<(), Error> {
        let resource = self.core.arn_of(Operation::DeleteKeyStore, id).asking(|_, say| say);
        let looked = id.to_owned();
        let resource = resource.if_before(move |core, _| {
            core.can_happen(&looked, Event::Delete)?;
            let keys = core.store().catalogue().key_count_of(&looked.as_str().into());
            if keys == 0 { Ok(()) } else { Err(Error::of_store(store::Error::HasKeys)) }
        });
        let (core, id) = (self.core.clone(), id.to_owned());
        self.core
            .on_one(call, Operation::DeleteKeyStore, resource, async move {
                let store = core.store_with_id(&id)?;
                let _turn = core.registry().turn(&store.id).await;
                core.store().delete_key_store(&store.id).await.map_err(Error::of_store)?;
                core.registry().pins.replace(&store.id, &[], 0);
                tracing::info!(key_store = %store.id, name = store.name, "key store deleted");
                Ok(())
            })
            .await
    }
}
