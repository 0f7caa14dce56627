//! Filling an HSM from escrow: keys that are wanted in it and are not there, or not proven there. One after the other
//! and with a rest after each, so that the HSM goes on serving callers meanwhile.

use std::time::Duration;

use super::Lifecycle;
use cluster::{Cluster, Proof};
use model::id::{HsmId, KeyVersionId};
use model::key::Placement;

/// For one step in one HSM, with others waiting before it.
const STEP: Duration = Duration::from_secs(20);
/// A key is followed by a rest of one part in so many of the time that it took: the HSM is filled two thirds of the
/// time at most, however slow it is.
const REST: u32 = 2;
/// Where the HSM hangs over a key, the rest is no longer than this.
const LONGEST_REST: Duration = Duration::from_secs(1);

impl Lifecycle {
    /// Places and proves each of these versions; whether all of them are there now.
    pub(super) async fn fill(&self, cluster: &Cluster, member: usize, hsm: &HsmId, missing: Vec<KeyVersionId>) -> bool {
        if missing.is_empty() {
            return true;
        }
        let all = missing.len();
        tracing::info!(%hsm, keys = all, "filling the HSM from escrow");
        let (mut filled, mut failed) = (0_usize, 0_usize);
        for version in missing {
            let began = self.core.clock().now();
            match self.fill_one(cluster, member, hsm, version).await {
                Ok(()) => filled += 1,
                Err(why) => {
                    failed += 1;
                    tracing::warn!(%hsm, key_version = %version, why, "the key could not be placed from escrow");
                }
            }
            // Nobody would be served by going on against an HSM that has gone, or where nothing can be recorded.
            if !self.core.store().records()
                || !cluster.members().get(member).is_some_and(|hsm| hsm.status().control_ready)
            {
                break;
            }
            let took = self.core.clock().now().saturating_duration_since(began);
            tokio::time::sleep((took / REST).min(LONGEST_REST)).await;
        }
        tracing::info!(%hsm, filled, failed, "the HSM was filled from escrow");
        filled == all
    }

    async fn fill_one(
        &self,
        cluster: &Cluster,
        member: usize,
        hsm: &HsmId,
        version: KeyVersionId,
    ) -> Result<(), String> {
        let catalogue = self.core.store().catalogue();
        let row = catalogue.key(version.key).and_then(|key| key.versions.iter().find(|row| row.id == version));
        let Some((blob, (iv, sealed))) = row.and_then(|row| Some((row.blob.as_ref()?, row.proof.clone()?))) else {
            return Err("it has no escrow or no proof".to_owned());
        };
        let arn = self.core.scope().key_arn(version.key);
        let within = || self.core.clock().now() + STEP;
        cluster.place(member, version, &arn, blob, within()).await.map_err(|error| error.to_string())?;
        let proof = Proof { iv, sealed };
        cluster.prove(member, version, &proof, within()).await.map_err(|error| error.to_string())?;
        let placed = self.core.store().set_placement(version, hsm, Placement::Present).await;
        placed.map_err(|error| error.to_string())
    }
}
