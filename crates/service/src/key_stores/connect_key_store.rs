//! ConnectKeyStore: begins to log in to a key store's HSMs; what comes of it is shown by DescribeKeyStores.

use crate::core::repeated::{Again, Done};
use crate::{Error, RequestContext, Service};
use model::key_store::Event;
use model::operation::Operation;

impl Service {
    /// Begins to connect and returns. The connect goes on when the caller leaves, and after a restart of the daemon.
    pub async fn connect_key_store(&self, call: &RequestContext, id: &str) -> Result<(), Error> {
        let [looked, repeated] = [id; 2].map(str::to_owned);
        let done = Done::default();
        let again = Again::seen(&done, "", move |core, _, _| core.has_happened(&repeated, Event::Connect));
        let resource = self.core.arn_of(Operation::ConnectKeyStore, id).asking(|_, say| say);
        let resource = resource.if_before(move |core, _| core.can_happen(&looked, Event::Connect)).unless_done(again);
        let (core, lifecycle, id) = (self.core.clone(), self.lifecycle.clone(), id.to_owned());
        self.core
            .on_one(call, Operation::ConnectKeyStore, resource, async move {
                let store = core.store_with_id(&id)?;
                if done.is_found() {
                    return Ok(());
                }
                lifecycle.begin_connect(&store.id).await
            })
            .await
    }
}
