//! What the service asks of a cluster of HSMs. A border, so that the service can be tried against HSMs that fail on
//! demand.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use cluster::{Cluster, DataKeyTask, DecryptTask, EncryptTask, Error, Homes, MemberStatus, Proof};
use model::id::{HsmId, KeyVersionId, Zone};
use model::key::Placement;
use model::secret::Secret;
use model::terms::Terms;
use protocol::{DataKey, Sealed};
use store::Version;

/// A cluster. Its methods are those of [`Cluster`].
pub(super) trait Pool: Send + Sync {
    fn members(&self) -> Vec<(HsmId, Zone)>;
    fn status(&self) -> Vec<MemberStatus>;
    fn encrypt(&self, items: Vec<EncryptTask>, terms: Terms) -> BoxFuture<'_, Vec<Result<Sealed, Error>>>;
    fn decrypt(&self, items: Vec<DecryptTask>, terms: Terms) -> BoxFuture<'_, Vec<Result<Secret, Error>>>;
    fn generate_data_keys(&self, items: Vec<DataKeyTask>, terms: Terms) -> BoxFuture<'_, Vec<Result<DataKey, Error>>>;
    fn random(&self, length: u16, terms: Terms) -> BoxFuture<'_, Result<Secret, Error>>;
    fn reachable_for_creation(&self) -> Result<Vec<usize>, Error>;
    fn make_key(&self, deadline: Instant) -> BoxFuture<'_, Result<Bytes, Error>>;
    fn place<'a>(
        &'a self,
        member: usize,
        version: KeyVersionId,
        label: &'a str,
        blob: &'a Bytes,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<(), Error>>;
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
}

impl Pool for Cluster {
    fn members(&self) -> Vec<(HsmId, Zone)> {
        let of = |hsm: &supervisor::Hsm| (hsm.settings().hsm.clone(), hsm.settings().zone.clone());
        self.members().iter().map(of).collect()
    }

    fn status(&self) -> Vec<MemberStatus> {
        self.status()
    }

    fn encrypt(&self, items: Vec<EncryptTask>, terms: Terms) -> BoxFuture<'_, Vec<Result<Sealed, Error>>> {
        Box::pin(self.encrypt(items, terms))
    }

    fn decrypt(&self, items: Vec<DecryptTask>, terms: Terms) -> BoxFuture<'_, Vec<Result<Secret, Error>>> {
        Box::pin(self.decrypt(items, terms))
    }

    fn generate_data_keys(&self, items: Vec<DataKeyTask>, terms: Terms) -> BoxFuture<'_, Vec<Result<DataKey, Error>>> {
        Box::pin(self.generate_data_keys(items, terms))
    }

    fn random(&self, length: u16, terms: Terms) -> BoxFuture<'_, Result<Secret, Error>> {
        Box::pin(self.random(length, terms))
    }

    fn reachable_for_creation(&self) -> Result<Vec<usize>, Error> {
        self.reachable_for_creation()
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
}

/// A cluster with what never changes about it.
#[derive(Clone)]
pub(super) struct Members {
    pub(super) pool: Arc<dyn Pool>,
    /// In the order of the configuration, which is the order of the bits in [`Homes`].
    pub(super) hsms: Arc<[(HsmId, Zone)]>,
}

impl Members {
    pub(super) fn of(pool: Arc<dyn Pool>) -> Self {
        Self { hsms: pool.members().into(), pool }
    }

    /// In which members a version is present. HSMs that are no longer configured have no bit.
    pub(super) fn homes(&self, version: &Version) -> Homes {
        let present = |hsm: &HsmId| version.placements.get(hsm) == Some(&Placement::Present);
        let bits = self.hsms.iter().zip(0_u32..64).filter(|((hsm, _), _)| present(hsm));
        Homes(bits.fold(0, |homes, (_, bit)| homes | 1 << bit))
    }

    /// The zone of an HSM, if it is still configured.
    pub(super) fn zone(&self, hsm: &HsmId) -> Option<&Zone> {
        self.hsms.iter().find(|(id, _)| id == hsm).map(|(_, zone)| zone)
    }
}
