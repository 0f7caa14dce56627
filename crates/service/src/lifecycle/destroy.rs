//! Destroying the material of a key: first in the metadata, irrevocably, then HSM by HSM, each result on record. An HSM
//! that is away has it done when it returns, by whoever looks at what it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;

use super::{DestroyStep, Lifecycle, transient};
use crate::Error;
use crate::core::hsm_cluster::{HsmCluster, Members};
use model::id::{HsmId, KeyId, KeyStoreId, KeyVersionId};
use model::key::KeyState;
use store::{Catalogue, Destroyed, GiveUp, Key};

/// For one version in one HSM, with others waiting before it.
const STEP: Duration = Duration::from_secs(20);

impl Lifecycle {
    /// Gives up the material of a key, which is pending deletion then. From here on nothing brings it back.
    pub(crate) async fn give_up_material(&self, key: &Key, why: GiveUp) -> Result<(), Error> {
        let hsms: Vec<HsmId> = self.configured(&key.key_store).into_iter().collect();
        let giving_up = self.core.store().give_up_material(key.id, why, &hsms);
        transient(DestroyStep::RecordGivenUp, giving_up).await.map_err(|error| self.core.of_store(error))?;
        tracing::warn!(key = %key.id, versions = key.versions.len(), "the material of the key was given up");
        Ok(())
    }

    /// Destroys what was given up of a key in each HSM that can be reached now.
    pub(crate) async fn destroy_material(&self, key: KeyId) {
        let catalogue = self.core.store().catalogue();
        let Some(row) = catalogue.key(key) else { return };
        let Some(members) = self.core.members_of(&row.key_store) else { return };
        let reachable = members.hsm_cluster.reachable();
        // Perhaps their data workers alone are away: then no start of a control worker tells that something is to be done.
        let away = members.hsms.iter().enumerate().filter(|(member, _)| !reachable.contains(member));
        away.for_each(|(_, (hsm, _))| self.inner.reconcilers.ask(hsm));
        let destroying = join_all(reachable.into_iter().map(|member| self.destroy_in(row, &members, member)));
        let outcomes = transient(DestroyStep::Destroy, destroying).await;
        self.note_destroyed(outcomes.into_iter().flatten().collect()).await;
    }

    /// What came of it, where that is known. Where the HSM's module has its objects in several HSMs, that no session finds one any
    /// more is told by the two lists of a look.
    async fn destroy_in(&self, key: &Key, members: &Members, member: usize) -> Vec<Destroyed> {
        let (hsm, _) = &members.hsms[member];
        let tells = members.hsm_cluster.settles(member).is_zero();
        let mut outcomes = Vec::new();
        for version in undone_of(key, hsm) {
            let deadline = self.core.clock().now() + STEP;
            let failure = match members.hsm_cluster.destroy(member, version, deadline).await {
                Ok(()) if tells => None,
                Ok(()) => {
                    self.inner.reconcilers.ask(hsm);
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%hsm, key_version = %version, %error,
                        "the material could not be destroyed in this HSM now; it is tried again");
                    self.inner.reconcilers.ask(hsm);
                    Some(error.to_string())
                }
            };
            outcomes.push(Destroyed { version, hsm: hsm.clone(), failure });
        }
        outcomes
    }

    /// Destroys what was placed in an HSM after it had been destroyed there, and may be on record as that: first it is on record
    /// as to be destroyed.
    pub(super) async fn destroy_late(
        &self,
        cluster: &dyn HsmCluster,
        member: usize,
        hsm: &HsmId,
        version: KeyVersionId,
    ) -> Result<(), String> {
        let noted = self.core.store().note_undestroyed(version, hsm, None).await;
        let destroyed = cluster.destroy(member, version, self.core.clock().now() + STEP).await;
        noted.map_err(|error| error.to_string())?;
        let failure = destroyed.err().map(|error| error.to_string());
        // What one session tells of several HSMs is left to the next look.
        if failure.is_some() || cluster.settles(member).is_zero() {
            self.note_destroyed(vec![Destroyed { version, hsm: hsm.clone(), failure: failure.clone() }]).await;
        }
        failure.map_or(Ok(()), Err)
    }

    /// Puts on record what came of destroying.
    pub(super) async fn note_destroyed(&self, outcomes: Vec<Destroyed>) {
        if outcomes.is_empty() {
            return;
        }
        for Destroyed { version, hsm, .. } in outcomes.iter().filter(|outcome| outcome.failure.is_none()) {
            tracing::info!(%hsm, key_version = %version, "the material is destroyed in this HSM");
        }
        let noting = self.core.store().note_destroyed(&outcomes);
        if let Err(error) = transient(DestroyStep::RecordDestroyed, noting).await {
            // The next look at the HSM finds it gone and records that.
            tracing::warn!(%error, "what was destroyed could not be recorded");
        }
    }

    /// Puts on record that an HSM was seen to hold what it was to have destroyed, and why it does so still. Of keys that are
    /// gone from the metadata there is nothing to be put on record.
    pub(super) async fn note_undestroyed(&self, version: KeyVersionId, hsm: &HsmId, why: &str) {
        let catalogue = self.core.store().catalogue();
        let Some(row) = catalogue.key(version.key).and_then(|key| key.version(version.version)) else { return };
        // Each look finds the same.
        let is_known = row
            .destructions
            .get(hsm)
            .is_some_and(|known| known.destroyed_at.is_none() && known.failure.as_deref() == Some(why));
        if !is_known && let Err(error) = self.core.store().note_undestroyed(version, hsm, Some(why)).await {
            tracing::warn!(%hsm, key_version = %version, %error,
                "that the HSM holds what it was to have destroyed could not be recorded");
        }
    }

    /// Whether the material of a key is gone from every HSM of its cluster that the configuration has. Of a cluster that
    /// it does not have nothing is known.
    pub(super) fn is_gone_everywhere(&self, key: &Key) -> bool {
        let hsms = self.configured(&key.key_store);
        !hsms.is_empty() && hsms.iter().all(|hsm| undone_of(key, hsm).is_empty())
    }

    /// How many versions whose material was given up each HSM has still to destroy.
    pub(crate) fn destructions_pending(&self) -> BTreeMap<HsmId, usize> {
        let mut pending = BTreeMap::new();
        let catalogue = self.core.store().catalogue();
        let keys = catalogue.keys_in(KeyState::PendingDeletion);
        for (hsm, destruction) in keys.flat_map(|key| &key.versions).flat_map(|version| &version.destructions) {
            if destruction.destroyed_at.is_none() {
                *pending.entry(hsm.clone()).or_default() += 1;
            }
        }
        pending
    }

    /// The HSMs of the cluster under a key store, whether it is connected or not.
    fn configured(&self, key_store: &KeyStoreId) -> BTreeSet<HsmId> {
        let catalogue = self.core.store().catalogue();
        let spec = catalogue.key_store(key_store).and_then(|store| self.core.registry().spec(&store.cluster));
        let described = spec.iter().flat_map(|spec| spec.hsms.iter().map(|hsm| hsm.hsm.clone()));
        // In use may be some that the configuration has just lost.
        let members = self.core.members_of(key_store);
        let used = members.iter().flat_map(|members| members.hsms.iter().map(|(hsm, _)| hsm.clone()));
        described.chain(used).collect()
    }
}

/// Versions whose material was given up and that an HSM has not been seen to have destroyed.
pub(super) fn undone_in(catalogue: &Catalogue, key_store: &KeyStoreId, hsm: &HsmId) -> Vec<KeyVersionId> {
    catalogue.keys_of(key_store).flat_map(|key| undone_of(key, hsm)).collect()
}

fn undone_of(key: &Key, hsm: &HsmId) -> Vec<KeyVersionId> {
    let undone = key
        .versions
        .iter()
        .filter(|version| version.destructions.get(hsm).is_some_and(|destruction| destruction.destroyed_at.is_none()));
    undone.map(|version| version.id).collect()
}
