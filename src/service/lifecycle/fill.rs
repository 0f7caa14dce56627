//! Filling an HSM from escrow: keys that are wanted in it and are not there, or not proven there.
//!
//! Done whenever an HSM becomes ready. What somebody removed in an HSM is not put back.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{Cluster, Proof};
use crate::model::id::{HsmId, KeyStoreId, KeyVersionId};
use crate::model::key::{KeyState, Placement};
use crate::service::Service;

/// For one step in one HSM, with others waiting before it.
const STEP: Duration = Duration::from_secs(20);

impl Service {
    /// Fills each HSM of a cluster whenever it becomes ready, for as long as the cluster is in use with these members.
    pub(super) fn fill_as_they_come(&self, key_store: &KeyStoreId, cluster: &Arc<Cluster>) {
        for (member, hsm) in cluster.members().iter().enumerate() {
            let (service, key_store, cluster) = (self.clone(), key_store.clone(), Arc::downgrade(cluster));
            let (id, mut status) = (hsm.settings().hsm.clone(), hsm.watch());
            tokio::spawn(async move {
                loop {
                    if status.wait_for(|status| status.control_ready).await.is_err() {
                        return;
                    }
                    let Some(cluster) = cluster.upgrade() else { return };
                    service.fill(&key_store, &cluster, member, &id).await;
                    drop(cluster);
                    if status.wait_for(|status| !status.control_ready).await.is_err() {
                        return;
                    }
                }
            });
        }
    }

    /// Versions of a store's keys that are wanted in an HSM and not known to be there.
    pub(in crate::service) fn missing_in(&self, key_store: &KeyStoreId, hsm: &HsmId) -> Vec<KeyVersionId> {
        let catalogue = self.inner.store.catalogue();
        let keys = catalogue.keys.values().filter(|key| key.key_store == *key_store && key.state != KeyState::Creating);
        let versions = keys.flat_map(|key| &key.versions);
        let wanted = versions.filter(|version| {
            matches!(version.placements.get(hsm), None | Some(Placement::Pending)) && version.blob.is_some()
        });
        wanted.map(|version| version.id).collect()
    }

    async fn fill(&self, key_store: &KeyStoreId, cluster: &Cluster, member: usize, hsm: &HsmId) {
        let missing = self.missing_in(key_store, hsm);
        if missing.is_empty() {
            return;
        }
        tracing::info!(%hsm, keys = missing.len(), "filling the HSM from escrow");
        let (mut filled, mut failed) = (0_usize, 0_usize);
        for version in missing {
            match self.fill_one(cluster, member, hsm, version).await {
                Ok(()) => filled += 1,
                Err(why) => {
                    failed += 1;
                    tracing::warn!(%hsm, key_version = %version, why, "the key could not be placed from escrow");
                }
            }
            // Nobody would be served by going on against an HSM that has gone.
            if !cluster.members().get(member).is_some_and(|hsm| hsm.status().control_ready) {
                break;
            }
        }
        tracing::info!(%hsm, filled, failed, "the HSM was filled from escrow");
    }

    async fn fill_one(
        &self,
        cluster: &Cluster,
        member: usize,
        hsm: &HsmId,
        version: KeyVersionId,
    ) -> Result<(), String> {
        let catalogue = self.inner.store.catalogue();
        let row = catalogue.keys.get(&version.key).and_then(|key| key.versions.iter().find(|row| row.id == version));
        let Some((blob, (iv, sealed))) = row.and_then(|row| Some((row.blob.as_ref()?, row.proof.clone()?))) else {
            return Err("it has no escrow or no proof".to_owned());
        };
        let arn = self.inner.settings.scope.key_arn(version.key);
        let within = || self.inner.clock.now() + STEP;
        cluster.place(member, version, &arn, blob, within()).await.map_err(|error| error.to_string())?;
        let proof = Proof { iv, sealed };
        cluster.prove(member, version, &proof, within()).await.map_err(|error| error.to_string())?;
        let placed = self.inner.store.set_placement(version, hsm, Placement::Present).await;
        placed.map_err(|error| error.to_string())
    }
}
