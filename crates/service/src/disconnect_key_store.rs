//! DisconnectKeyStore: ends the use of a key store's keys, and logs out of its HSMs.

use super::{Call, Error, Service};
use model::operation::Operation;

impl Service {
    /// When this returns, no operation with the store's keys succeeds any more. Logging out goes on.
    pub async fn disconnect_key_store(&self, call: &Call, id: &str) -> Result<(), Error> {
        let (service, id) = (self.clone(), id.to_owned());
        self.on_one(call, Operation::DisconnectKeyStore, async move {
            let store = service.store_with_id(&id)?;
            service.begin_disconnect(&store.id).await
        })
        .await
    }
}
