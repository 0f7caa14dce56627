//! Filling an HSM from escrow: keys that are wanted in it and are not there, or not proven there. Of one that was made in
//! place it is only looked whether it is there again. One after the other
//! and with a rest after each, so that the HSM goes on serving callers meanwhile.

use std::time::Duration;

use super::Lifecycle;
use super::sight::Sight;
use crate::core::hsm_cluster::HsmCluster;
use cluster::Proof;
use model::id::{HsmId, KeyVersionId};
use model::key::Placement;
use protocol::Class;

/// For one step in one HSM, with others waiting before it.
const STEP: Duration = Duration::from_secs(20);
/// A key is followed by a rest of one part in so many of the time that it took: the HSM is filled two thirds of the
/// time at most, however slow it is.
const REST: u32 = 2;
/// Where the HSM hangs over a key, the rest is no longer than this.
const LONGEST_REST: Duration = Duration::from_secs(1);
/// Why a key that was made in place cannot be placed.
const GONE: &str = "it was made in this HSM, which does not hold it any more, and there is no copy of it that could be placed: \
                    it comes back only where the vendor's own means restore the HSM";

impl Lifecycle {
    /// Places and proves each of these versions; whether all of them are there now. What was made in place is lost only where the
    /// HSM was seen not to have it.
    pub(super) async fn fill(
        &self,
        cluster: &dyn HsmCluster,
        member: usize,
        hsm: &HsmId,
        missing: Vec<KeyVersionId>,
        sight: Option<&Sight>,
    ) -> bool {
        if missing.is_empty() {
            return true;
        }
        let all = missing.len();
        tracing::info!(%hsm, keys = all, "filling the HSM from escrow");
        let (mut filled, mut failed) = (0_usize, 0_usize);
        for version in missing {
            let began = self.core.clock().now();
            let is_lacking = sight.is_some_and(|sight| sight.lacks(version));
            match self.fill_one(cluster, member, hsm, version, is_lacking).await {
                Ok(()) => filled += 1,
                Err(why) => {
                    failed += 1;
                    tracing::warn!(%hsm, key_version = %version, why, "the key could not be placed from escrow");
                }
            }
            // Nobody would be served by going on against an HSM that has gone, or where nothing can be recorded.
            if !self.core.store().records() || !cluster.reachable().contains(&member) {
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
        cluster: &dyn HsmCluster,
        member: usize,
        hsm: &HsmId,
        version: KeyVersionId,
        is_lacking: bool,
    ) -> Result<(), String> {
        let catalogue = self.core.store().catalogue();
        let row = catalogue.key(version.key).and_then(|key| key.versions.iter().find(|row| row.id == version));
        let Some((row, (iv, sealed))) = row.and_then(|row| Some((row, row.proof.clone()?))) else {
            return Err("it has no proof".to_owned());
        };
        let (proof, within) = (Proof { iv, sealed }, || self.core.clock().now() + STEP);
        match &row.blob {
            Some(blob) => {
                let arn = self.core.scope().key_arn(version.key);
                let placed = cluster.place(member, version, &arn, blob, within()).await;
                if self.core.store().catalogue().is_destroyed(version) {
                    // Perhaps it was destroyed there before it was placed. Whoever gives it up from here on has it destroyed
                    // after it was.
                    self.destroy_late(cluster, member, hsm, version).await?;
                    return Err("its material was given up meanwhile".to_owned());
                }
                placed.map_err(|error| error.to_string())?;
            }
            // It is there again, or it is lost.
            None if row.in_place => {}
            None => return Err("it has no escrow".to_owned()),
        }
        let (at, why) = match cluster.prove(member, version, &proof, within()).await {
            Ok(()) => (Placement::Present, None),
            // One that is shown may be on its way between the HSMs behind the slot: it is tried again.
            Err(error) if row.in_place && is_lacking && is_absent(&error) => (Placement::Removed, Some(GONE)),
            Err(error) => return Err(error.to_string()),
        };
        let placed = self.core.store().set_placement(version, hsm, at).await;
        placed.map_err(|error| error.to_string())?;
        why.map_or(Ok(()), |why| Err(why.to_owned()))
    }
}

/// The HSM is sound, and has no such object.
fn is_absent(error: &cluster::Error) -> bool {
    matches!(error, cluster::Error::Hsm { fault, .. } if fault.class == Class::KeyAbsent)
}
