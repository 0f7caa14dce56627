//! DisconnectKeyStore: ends the use of a key store's keys, and logs out of its HSMs.

use crate::{Error, RequestContext, Service};
use model::key_store::Event;
use model::operation::Operation;

impl Service {
    /// When this returns, no operation with the store's keys succeeds any more. Logging out goes on.
    pub async fn disconnect_key_store(&self, call: &RequestContext, id: &str) -> Result<(), Error> {
        let looked = id.to_owned();
        let resource = self.core.arn_of(Operation::DisconnectKeyStore, id).asking(|_, say| say);
        let resource = resource.if_before(move |core, _| core.can_happen(&looked, Event::Disconnect));
        let (core, lifecycle, id) = (self.core.clone(), self.lifecycle.clone(), id.to_owned());
        self.core
            .on_one(call, Operation::DisconnectKeyStore, resource, async move {
                let store = core.store_with_id(&id)?;
                lifecycle.begin_disconnect(&store.id).await
            })
            .await
    }
}
