//! What the service asks of a cluster of HSMs. A border, so that the service can be tried against HSMs that fail on
//! demand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use cluster::item::{Answers, Batch, Done};
use cluster::{AuditKey, Cluster, Error, Kept, MemberStatus, PlacementMask, Proof};
use model::call_options::CallOptions;
use model::id::{HsmId, KeyVersionId, Zone};
use model::key::Placement;
use model::profile::Topology;
use model::secret::Secret;
use store::Version;

/// A cluster. Its methods are those of [`Cluster`].
pub(crate) trait HsmCluster: Send + Sync {
    fn members(&self) -> Vec<(HsmId, Zone)>;
    fn status(&self) -> Vec<MemberStatus>;
    /// How many key versions each member takes, of those of which that is known.
    fn most_versions(&self) -> Vec<(HsmId, u64)>;
    /// How long a member that replicates its keys by itself may take to have a new object wherever it keeps them, or to take
    /// one away everywhere; nothing where it is one token.
    fn settles(&self, member: usize) -> Duration;
    /// Whether a member's module has its keys in several HSMs by itself.
    fn replicates(&self, member: usize) -> bool;
    fn carry_out(&self, batch: Batch, options: CallOptions) -> BoxFuture<'_, Answers>;
    fn random(&self, length: u16, options: CallOptions) -> BoxFuture<'_, Result<Done<Secret>, Error>>;
    fn makes_in_place(&self) -> bool;
    fn reachable_for_creation(&self) -> Result<Vec<usize>, Error>;
    fn reachable(&self) -> Vec<usize>;
    fn make_key(&self, deadline: Instant) -> BoxFuture<'_, Result<Bytes, Error>>;
    fn place<'a>(
        &'a self,
        member: usize,
        version: KeyVersionId,
        label: &'a str,
        blob: &'a Bytes,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<(), Error>>;
    fn make_in_place<'a>(
        &'a self,
        member: usize,
        version: KeyVersionId,
        label: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<(), Error>>;
    fn confirm_in_place(
        &self,
        member: usize,
        version: KeyVersionId,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<(), Error>>;
    fn make_proof(
        &self,
        member: usize,
        version: KeyVersionId,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Proof, Error>>;
    fn prove<'a>(
        &'a self,
        member: usize,
        version: KeyVersionId,
        proof: &'a Proof,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<(), Error>>;
    fn destroy(&self, member: usize, version: KeyVersionId, deadline: Instant) -> BoxFuture<'_, Result<(), Error>>;
    fn keep_proven<'a>(
        &'a self,
        member: usize,
        version: KeyVersionId,
        proof: &'a Proof,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Kept, Error>>;
    fn list(&self, member: usize, deadline: Instant) -> BoxFuture<'_, Result<Vec<KeyVersionId>, Error>>;
    fn audit_keys<'a>(&'a self, origin: &'a str, deadline: Instant) -> BoxFuture<'a, Vec<AuditKey>>;
    fn sign_checkpoint<'a>(&'a self, text: &'a [u8], deadline: Instant) -> BoxFuture<'a, Vec<(HsmId, Vec<u8>)>>;
}

impl HsmCluster for Cluster {
    fn members(&self) -> Vec<(HsmId, Zone)> {
        let of = |hsm: &supervisor::Hsm| (hsm.settings().hsm.clone(), hsm.settings().zone.clone());
        self.members().iter().map(of).collect()
    }

    fn status(&self) -> Vec<MemberStatus> {
        self.status()
    }

    fn most_versions(&self) -> Vec<(HsmId, u64)> {
        let of = |hsm: &supervisor::Hsm| {
            let settings = hsm.settings();
            Some((settings.hsm.clone(), settings.capabilities.objects.versions_max()?))
        };
        self.members().iter().filter_map(of).collect()
    }

    fn settles(&self, member: usize) -> Duration {
        let topology = self.members().get(member).map(|hsm| &hsm.settings().capabilities.topology);
        topology.filter(|topology| topology.replicates()).map_or(Duration::ZERO, Topology::settles)
    }

    fn replicates(&self, member: usize) -> bool {
        self.members().get(member).is_some_and(|hsm| hsm.settings().capabilities.topology.replicates())
    }

    fn carry_out(&self, batch: Batch, options: CallOptions) -> BoxFuture<'_, Answers> {
        Box::pin(self.carry_out(batch, options))
    }

    fn random(&self, length: u16, options: CallOptions) -> BoxFuture<'_, Result<Done<Secret>, Error>> {
        Box::pin(self.random(length, options))
    }

    fn makes_in_place(&self) -> bool {
        self.makes_in_place()
    }

    fn reachable_for_creation(&self) -> Result<Vec<usize>, Error> {
        self.reachable_for_creation()
    }

    fn reachable(&self) -> Vec<usize> {
        self.reachable()
    }

    fn make_key(&self, deadline: Instant) -> BoxFuture<'_, Result<Bytes, Error>> {
        Box::pin(self.make_key(deadline))
    }

    fn place<'a>(
        &'a self,
        member: usize,
        version: KeyVersionId,
        label: &'a str,
        blob: &'a Bytes,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.place(member, version, label, blob, deadline))
    }

    fn make_in_place<'a>(
        &'a self,
        member: usize,
        version: KeyVersionId,
        label: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.make_in_place(member, version, label, deadline))
    }

    fn confirm_in_place(
        &self,
        member: usize,
        version: KeyVersionId,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.confirm_in_place(member, version, deadline))
    }

    fn make_proof(
        &self,
        member: usize,
        version: KeyVersionId,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Proof, Error>> {
        Box::pin(self.make_proof(member, version, deadline))
    }

    fn prove<'a>(
        &'a self,
        member: usize,
        version: KeyVersionId,
        proof: &'a Proof,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.prove(member, version, proof, deadline))
    }

    fn destroy(&self, member: usize, version: KeyVersionId, deadline: Instant) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.destroy(member, version, deadline))
    }

    fn keep_proven<'a>(
        &'a self,
        member: usize,
        version: KeyVersionId,
        proof: &'a Proof,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Kept, Error>> {
        Box::pin(self.keep_proven(member, version, proof, deadline))
    }

    fn list(&self, member: usize, deadline: Instant) -> BoxFuture<'_, Result<Vec<KeyVersionId>, Error>> {
        Box::pin(self.list(member, deadline))
    }

    fn audit_keys<'a>(&'a self, origin: &'a str, deadline: Instant) -> BoxFuture<'a, Vec<AuditKey>> {
        Box::pin(self.audit_keys(origin, deadline))
    }

    fn sign_checkpoint<'a>(&'a self, text: &'a [u8], deadline: Instant) -> BoxFuture<'a, Vec<(HsmId, Vec<u8>)>> {
        Box::pin(self.sign_checkpoint(text, deadline))
    }
}

/// A cluster with what never changes about it.
#[derive(Clone)]
pub(crate) struct Members {
    pub(crate) hsm_cluster: Arc<dyn HsmCluster>,
    /// In the order of the configuration, which is the order of the bits in [`PlacementMask`].
    pub(crate) hsms: Arc<[(HsmId, Zone)]>,
    /// There is one member, in which keys are made and stay.
    pub(crate) in_place: bool,
}

impl Members {
    pub(crate) fn of(hsm_cluster: Arc<dyn HsmCluster>) -> Self {
        Self { hsms: hsm_cluster.members().into(), in_place: hsm_cluster.makes_in_place(), hsm_cluster }
    }

    /// In which members a version is present. HSMs that are no longer configured have no bit.
    pub(crate) fn placed(&self, version: &Version) -> PlacementMask {
        let present = |hsm: &HsmId| version.placements.get(hsm) == Some(&Placement::Present);
        let bits = self.hsms.iter().zip(0_u32..64).filter(|((hsm, _), _)| present(hsm));
        PlacementMask(bits.fold(0, |placed, (_, bit)| placed | 1 << bit))
    }

    /// The zone of an HSM, if it is still configured.
    pub(crate) fn zone(&self, hsm: &HsmId) -> Option<&Zone> {
        self.hsms.iter().find(|(id, _)| id == hsm).map(|(_, zone)| zone)
    }
}
