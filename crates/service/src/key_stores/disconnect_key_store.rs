//! DisconnectKeyStore: ends the use of a key store's keys, and logs out of its HSMs.

use crate::core::repeated::{Again, Done};
use crate::{Error, RequestContext, Service};
use model::key_store::Event;
use model::operation::Operation;

impl Service {
    /// When this returns, no operation with the store's keys succeeds any more. Logging out goes on.
    pub async fn disconnect_key_store(&self, call: &RequestContext, id: &str) -> Result<(), Error> {
        let [looked, repeated] = [id; 2].map(str::to_owned);
        let done = Done::default();
        let again = Again::seen(&done, "", move |core, _, _| core.has_happened(&repeated, Event::Disconnect));
        let resource = self.core.arn_of(Operation::DisconnectKeyStore, id).asking(|_, say| say);
        let resource =
            resource.if_before(move |core, _| core.can_happen(&looked, Event::Disconnect)).unless_done(again);
        let (core, lifecycle, id) = (self.core.clone(), self.lifecycle.clone(), id.to_owned());
        self.core
            .on_one(call, Operation::DisconnectKeyStore, resource, async move {
                let store = core.store_with_id(&id)?;
                if done.is_found() {
                    core.wait_for_releases();
                    return Ok(());
                }
                lifecycle.begin_disconnect(&store.id).await
            })
            .await
    }
}
