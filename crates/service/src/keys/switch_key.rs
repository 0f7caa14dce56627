//! EnableKey and DisableKey. While a key is Unavailable they succeed and take effect when its key store is connected.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::core::Core;
use crate::core::access::Details;
use crate::core::cluster_registry::ActiveCluster;
use crate::core::repeated::{Again, Done};
use crate::{Error, RequestContext, Service};
use model::id::KeyVersionId;
use model::key::KeyState;
use model::operation::Operation;
use protocol::Op;
use store::Key;

/// Workers that have not forgotten a disabled key by then hold it as a copy that nobody can ask for.
const FORGET: Duration = Duration::from_secs(1);

impl Service {
    /// Makes a key usable; a success where it is already.
    pub async fn enable_key(&self, call: &RequestContext, key_id: &str) -> Result<(), Error> {
        self.switch_key(call, Operation::EnableKey, key_id, KeyState::Enabled).await
    }

    /// Makes a key unusable: when this returns, no operation with it succeeds any more.
    pub async fn disable_key(&self, call: &RequestContext, key_id: &str) -> Result<(), Error> {
        self.switch_key(call, Operation::DisableKey, key_id, KeyState::Disabled).await
    }

    async fn switch_key(
        &self,
        call: &RequestContext,
        operation: Operation,
        key_id: &str,
        to: KeyState,
    ) -> Result<(), Error> {
        let done = Done::default();
        let again = Again::seen(&done, "", move |core, _, id| {
            core.store().catalogue().key(id).is_some_and(|key| key.state == to)
        });
        let work = move |core: Core, key: Arc<Key>| async move {
            if key.state == to || done.is_found() {
                // Whoever switched it may not have been answered yet.
                core.wait_for_releases();
                return Ok(());
            }
            let from = Operation::EnableKey.spec().allowed_states;
            core.store().set_state(key.id, from, to).await.map_err(|error| core.of_store(error))?;
            core.wait_for_releases();
            if to == KeyState::Disabled {
                forget(&core, &key).await;
            }
            tracing::info!(key = %key.id, to = to.name(), "the key was switched");
            Ok(())
        };
        let details = Details::default().asking(|_, say| say).unless_done(again);
        self.core.on_key_with(call, operation, key_id, details, work).await
    }
}

/// Has every worker drop what it keeps of the key in memory.
pub(super) async fn forget(core: &Core, key: &Key) {
    let Some(ActiveCluster { running: Some(running), .. }) = core.registry().active_of(&key.key_store) else {
        return;
    };
    let versions: Vec<KeyVersionId> = key.versions.iter().map(|version| version.id).collect();
    let (op, deadline) = (Arc::new(Op::Forget(versions)), core.clock().now() + FORGET);
    join_all(running.cluster.members().iter().map(|hsm| hsm.call(Arc::clone(&op), deadline))).await;
}
