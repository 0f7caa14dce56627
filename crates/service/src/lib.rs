//! Use cases, each in a file of its own: `crypto` with keys, on `keys`, on `key_stores`, on `clusters`, on `access`, on the
//! `audit_log`. They stand on `core`, whose pipeline is the only way to keys, and on `lifecycle`, which runs the durable
//! procedures.
//!
//! Invariants: nothing is done and nothing given out that permission, key state and key store don't allow before the
//! act and still after it; whatever has reached a token is recorded to its end, even if its caller has left; requests
//! read the catalogue only, never the database.

#![forbid(unsafe_code)]

mod access;
mod audit_log;
mod clusters;
mod core;
mod crypto;
mod key_stores;
mod keys;
pub mod lifecycle;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cluster::{Cluster, Removal};
use model::clock::Clock;
use model::id::{HsmId, KeyStoreId, KeyVersionId};
use pki::seal::SealKeys;
use store::Store;
use telemetry::watchdog::Heartbeat;

pub use audit::look::{Filter as AuditFilter, Outcome as AuditOutcome};
pub use auth::request::{Interface, RequestContext};

pub use self::access::access_keys::{AccessKeyView, CreatedAccessKey};
pub use self::access::approvals::{ApprovalStanding, ApprovalView, VoteView};
pub use self::access::explain::{CallParameters, CheckedPolicy, ExplainInput, Explained, NearStatement, PolicyFinding};
pub use self::access::grant_view::GrantView;
pub use self::access::grants::{CreateGrantInput, CreatedGrant, RetireGrantInput};
pub use self::access::groups::GroupView;
pub use self::access::key_policy::PutKeyPolicyInput;
pub use self::access::policies::{Attached, PolicyView, PutPolicyInput};
pub use self::access::principals::{CreatePrincipalInput, Identified, PrincipalView};
pub use self::audit_log::follow_audit_records::{AuditFollower, FollowAuditRecordsInput, Followed};
pub use self::audit_log::list_audit_records::{AuditRecord, AuditRecords, ListAuditRecordsInput};
pub use self::clusters::describe_clusters::{ClusterView, HsmKeys};
pub use self::clusters::diagnose_hsm::HsmDiagnosis;
pub use self::clusters::get_statistics::{ClusterStatistics, Statistics};
pub use self::clusters::resync_keys::{ResyncInput, Resynced};
pub use self::core::access_key::AccessKey;
pub use self::core::approval::Approvals;
pub use self::core::audit_keys::StoreAuditKeys;
pub use self::core::error::Error;
pub use self::core::grant_token::GrantTokens;
pub use self::core::page::Page;
pub use self::core::rate::RateLimits;
pub use self::core::{
    LogRecorder, Settings, audit_key, audit_reader, audit_recorder, cluster_registry, observer, recorder,
};
pub use self::crypto::decrypt::{DecryptInput, Decrypted};
pub use self::crypto::encrypt::{EncryptInput, Encrypted};
pub use self::crypto::extras::Extras;
pub use self::crypto::generate_data_key::{DataKeyInput, GeneratedDataKey, RequestedSpec};
pub use self::crypto::re_encrypt::{ReEncryptInput, ReEncrypted};
pub use self::key_stores::create_key_store::CreateKeyStoreInput;
pub use self::key_stores::describe_key_stores::{HsmView, KeyStoreView};
pub use self::key_stores::reseal_pins::Resealed;
pub use self::key_stores::update_key_store::UpdateKeyStoreInput;
pub use self::keys::create_alias::CreateAliasInput;
pub use self::keys::create_key::CreateKeyInput;
pub use self::keys::delete_key::ScheduledDeletion;
pub use self::keys::describe_key::{KeyDestruction, KeyMetadata};
pub use self::keys::destroy_key_material::DestroyedMaterial;
pub use self::keys::get_key_last_usage::KeyLastUsage;
pub use self::keys::list_aliases::AliasEntry;
pub use self::keys::list_keys::{KeyDetails, KeyEntry, KeyFilter, ListKeysInput};
pub use self::keys::rotate_key::{KeyRotation, RotationStatus};
pub use self::lifecycle::{AddHsmInput, AddedHsm};

use self::audit_reader::AuditReader;
use self::cluster_registry::{ClusterRegistry, ClusterSpec};
use self::core::Core;
use self::lifecycle::Lifecycle;
use self::observer::Observer;
use self::recorder::Recorder;

/// The service: its use cases, over the parts that each of them takes. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    core: Core,
    lifecycle: Lifecycle,
}

impl Service {
    /// Builds the service over its parts.
    #[must_use]
    pub fn new(
        settings: Settings,
        store: Store,
        registry: ClusterRegistry,
        clock: Clock,
        observer: Arc<dyn Observer>,
        recorder: Arc<dyn Recorder>,
    ) -> Self {
        let core = Core::new(settings, store, registry, clock, observer, recorder);
        Self { lifecycle: Lifecycle::new(core.clone()), core }
    }

    /// Has callers read this audit log from now on. Given once.
    pub fn set_audit_reader(&self, reader: Arc<dyn AuditReader>) {
        self.core.set_audit_reader(reader);
    }

    /// Takes up what every key store was about when the daemon ended.
    pub async fn start(&self) {
        self.core.load_usage().await;
        self.core.load_access_uses().await;
        self.lifecycle.start().await;
    }

    /// Rotates and deletes keys when that is due, for as long as the daemon runs.
    pub async fn tend_keys(self, heartbeat: Heartbeat) {
        self.lifecycle.tend_keys(heartbeat).await;
    }

    /// Goes on with keys that are being made, and reserves encryptions for those in use.
    pub async fn resume(&self) {
        self.lifecycle.resume().await;
    }

    /// Takes over clusters that were read anew from the configuration.
    pub async fn reconfigure(&self, specs: Vec<ClusterSpec>) {
        self.lifecycle.reconfigure(specs).await;
    }

    /// Takes note of a key that somebody removed in an HSM.
    pub async fn note_removal(&self, removal: Removal) {
        self.lifecycle.note_removal(removal).await;
    }

    /// Stops all HSMs.
    pub async fn stop(&self, within: Duration) {
        self.lifecycle.stop(within).await;
    }

    /// Ends when every operation that has reached a token has been recorded, or after `within`.
    pub async fn drained(&self, within: Duration) {
        self.core.drained(within).await;
    }

    /// Gives back to the metadata what was reserved and not used, tells it the last uses of keys and access keys, and records
    /// what has waited for that. For the end of the daemon: a start reserves anew.
    pub async fn return_budgets(&self) {
        self.core.record_usage().await;
        self.core.return_budgets().await;
        self.core.record_the_last().await;
    }

    /// The key versions with the fewest encryptions left, of those that encrypt; at most so many.
    #[must_use]
    pub fn scarcest(&self, most: usize) -> Vec<(KeyVersionId, u64)> {
        self.core.scarcest(most)
    }

    /// How many key versions whose material was given up each HSM has still to destroy; none where it is nothing.
    #[must_use]
    pub fn destructions_pending(&self) -> BTreeMap<HsmId, usize> {
        self.lifecycle.destructions_pending()
    }

    /// Puts on record that an interface refused a call, so that no use case has had it. Gives the number of the record's
    /// first leaf, and how many it has, where the call has a record of its own.
    pub async fn refused_at_entry(&self, call: recorder::RefusedCall) -> Option<(u64, u32)> {
        self.core.refused_at_entry(call).await.map(|position| (position.first, position.count))
    }

    /// The name of the audit log, in which records have their numbers; absent where there is none, and until it was open
    /// for the first time. It does not change as long as the process runs.
    #[must_use]
    pub fn audit_log(&self) -> Option<Arc<str>> {
        self.core.audit_log()
    }

    /// Takes note that a connection came to no handshake, so that nobody knows whose it was. There is one record for each
    /// source and minute.
    pub async fn handshake_failed(&self, source: Option<IpAddr>, why: &str) {
        self.core.handshake_failed(source, why).await;
    }

    /// How many events of what the service does by itself wait to be recorded, and how many there was no room for.
    #[must_use]
    pub fn unrecorded_events(&self) -> (usize, u64) {
        self.core.unrecorded_events()
    }

    /// What is wrong with the recording of what the service does by itself, one sentence each.
    #[must_use]
    pub fn troubles_of_events(&self) -> Vec<String> {
        self.core.troubles_of_events()
    }

    /// How many refused calls had no record of their own since the daemon was started, because their principal had as many
    /// as it may; and of how many the record was not accepted. All are counted in records of their principals.
    #[must_use]
    pub fn refusals_without_record(&self) -> (u64, u64) {
        self.core.refusals_without_record()
    }

    /// The clusters in use, each with the key store that uses it.
    #[must_use]
    pub fn clusters(&self) -> Vec<(KeyStoreId, Arc<Cluster>)> {
        let active = self.core.registry().active();
        let clusters = active.iter().filter_map(|active| {
            let running = active.running.as_ref()?;
            Some((active.key_store.clone(), Arc::clone(&running.cluster)))
        });
        clusters.collect()
    }

    /// How often an HSM was refused because it did not prove its identity.
    #[must_use]
    pub fn identity_refusals(&self, hsm: &HsmId) -> u64 {
        self.core.registry().identities.refusals(hsm)
    }

    /// Has these be the administrators from now on, whom no policy binds: names of certificates, such as `cn:admin`. There
    /// are none until then. When this returns, nothing is given out any more that needs one who is none.
    pub fn set_administrators(&self, names: BTreeSet<String>) {
        self.core.set_administrators(names);
    }

    /// Has other calls need the approval of others from now on; none do until then.
    pub fn set_approvals(&self, approvals: Approvals) {
        self.core.set_approvals(approvals);
    }

    /// Which calls need the approval of others.
    #[must_use]
    pub fn approvals(&self) -> Approvals {
        (*self.core.approvals()).clone()
    }

    /// How many principals, and administrators who are none, may approve calls whatever these are about. Whom a policy
    /// lets approve some calls only is not counted.
    #[must_use]
    pub fn approvers(&self) -> usize {
        self.core.approvers()
    }

    /// How many requests a second there may be.
    #[must_use]
    pub fn rate_limits(&self) -> RateLimits {
        self.core.rates().limits()
    }

    /// Has other limits on requests a second count from now on; there are none until then.
    pub fn set_rate_limits(&self, limits: RateLimits) {
        self.core.set_rate_limits(limits);
    }

    /// As whom somebody has shares of what is bounded: as the principal that its certificate or access key is mapped to, so
    /// that it has one share whatever it comes by; who is mapped to none, as itself.
    #[must_use]
    pub fn counted_as(&self, identity: &auth::peer::Principal) -> auth::peer::Principal {
        let caller = self.core.keyring().caller(identity);
        caller.map_or_else(|| identity.clone(), |caller| auth::peer::Principal::new(&caller.arn))
    }

    /// Takes over seal keys that were read anew.
    pub fn set_seals(&self, seals: SealKeys) {
        self.core.registry().set_seals(seals);
    }
}
