//! The log keys of all connected key stores' HSMs, and their signatures of heads of the audit log.

use std::time::Instant;

use futures_util::future::join_all;

use crate::Service;
use crate::core::Core;
use crate::core::hsm_cluster::Members;
use cluster::AuditKey;
use model::id::{HsmId, KeyStoreId};
use model::key_store::ConnectionState;

/// The log keys of a key store's HSMs.
#[derive(Clone, Debug)]
pub struct StoreAuditKeys {
    /// The key store.
    pub key_store: KeyStoreId,
    /// PEM of the authority under which its HSMs are certified.
    pub trust_anchor: String,
    /// Of those of its HSMs that have one and could be asked.
    pub keys: Vec<AuditKey>,
}

impl Service {
    /// The log keys of every connected key store's HSMs, named for the log of this origin. Made shortly after an HSM was let
    /// in, so that they are to be asked for again; cheap where nothing has changed.
    pub async fn audit_keys(&self, origin: &str, deadline: Instant) -> Vec<StoreAuditKeys> {
        let stores = connected(&self.core);
        join_all(stores.into_iter().map(|(key_store, trust_anchor, members)| async move {
            let keys = members.hsm_cluster.audit_keys(origin, deadline).await;
            StoreAuditKeys { key_store, trust_anchor, keys }
        }))
        .await
    }

    /// Has every HSM of a connected key store that has a log key sign the head of an audit log, all at once: those that have
    /// signed by the deadline.
    pub async fn sign_checkpoint(&self, text: &[u8], deadline: Instant) -> Vec<(HsmId, Vec<u8>)> {
        let stores = connected(&self.core);
        let asked = stores
            .into_iter()
            .map(|(_, _, members)| async move { members.hsm_cluster.sign_checkpoint(text, deadline).await });
        join_all(asked).await.into_iter().flatten().collect()
    }
}

fn connected(core: &Core) -> Vec<(KeyStoreId, String, Members)> {
    let catalogue = core.store().catalogue();
    let connected = catalogue.key_stores().filter(|store| store.state == ConnectionState::Connected);
    connected
        .filter_map(|store| Some((store.id.clone(), store.trust_anchor.clone(), core.members_of(&store.id)?)))
        .collect()
}
