//! Use cases. `pipeline` is the only way to keys; `lifecycle` runs the durable procedures.
//!
//! Invariants: nothing is done and nothing given out that permission, key state and key store don't allow before the
//! act and still after it; whatever has reached a token is recorded to its end, even if its caller has left; requests
//! read the catalogue only, never the database.

#![forbid(unsafe_code)]

mod add_hsm;
mod admission;
mod budget;
pub mod cluster_registry;
mod connect_key_store;
mod create_key;
mod create_key_store;
mod decrypt;
mod delete_key_store;
mod describe_clusters;
mod describe_key;
mod describe_key_stores;
mod disconnect_key_store;
mod encrypt;
mod error;
mod generate_data_key;
mod generate_random;
mod get_statistics;
mod hsm_cluster;
mod keyring;
pub mod lifecycle;
mod list_keys;
pub mod observer;
mod page;
mod pipeline;
mod reseal_pins;
mod resync_keys;
mod switch_key;
#[cfg(test)]
mod tests;
mod update_key_store;
mod validate;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant, SystemTime};

use tokio_util::task::TaskTracker;

pub use add_hsm::{AddHsmInput, AddedHsm};
use admission::Admission;
use budget::Budgets;
use cluster_registry::ClusterRegistry;
use keyring::Keyrings;
use lifecycle::{Creations, Procedures, Reconcilers};
use observer::Observer;

use auth::peer::Principal;
use cluster::kmsuser::PinStatus;
use cluster::{Cluster, MemberStatus};
use model::call_options::{CallOptions, FlowId};
use model::clock::Clock;
use model::exception::Exception;
use model::id::{ClusterId, HsmId, KeyId, KeyStoreId, KeyVersionId, Scope, Zone};
use model::key::{DataKeySpec, KeyState, Placement};
use model::lock::RwLockExt as _;
use model::secret::Secret;
use pki::seal::SealKeys;
use store::{KeyStore, Store};

/// How requests are admitted.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What every ARN carries.
    pub scope: Scope,
    /// Most items in work at once over all callers; past it a call is refused with ThrottlingException.
    pub items_in_work: usize,
    /// Most of those that one principal may have.
    pub items_in_work_per_principal: usize,
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    store: Store,
    registry: ClusterRegistry,
    clock: Clock,
    observer: Arc<dyn Observer>,
    admission: Arc<Admission>,
    tasks: TaskTracker,
    keyring: Keyrings,
    budgets: Budgets,
    creations: Creations,
    procedures: Procedures,
    reconcilers: Reconcilers,
    /// Held for reading from the second look at permission, state and store to the giving out of the result.
    release_lock: RwLock<()>,
}

/// Who calls, under which id, until when.
#[derive(Clone, Debug)]
pub struct Call {
    /// The caller.
    pub principal: Principal,
    /// Chosen by the interface, in every log line of this call.
    pub request_id: Arc<str>,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// What the interface counts for the call. It is kept for as long as anything is done for it, also when the caller
    /// has left, so that work which nobody waits for any more is still somebody's.
    pub charge: Option<Arc<dyn Any + Send + Sync>>,
}

impl Call {
    /// For the HSMs.
    fn options(&self) -> CallOptions {
        CallOptions { deadline: self.deadline, flow: FlowId::of(self.principal.as_str()) }
    }
}

/// What went wrong, as the caller may know it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{exception}: {message}")]
pub struct Error {
    /// AWS's exception name.
    pub exception: Exception,
    /// For humans: what happened, to which key, and what to do. Empty for InvalidCiphertextException.
    pub message: String,
    /// The same call may succeed in a moment.
    pub retryable: bool,
}

/// One item of Encrypt.
#[derive(Debug)]
pub struct EncryptInput {
    /// Key id or key ARN.
    pub key_id: String,
    /// 1 to 4,096 bytes.
    pub plaintext: Secret,
    /// Pairs of the encryption context.
    pub context: BTreeMap<String, String>,
}

/// What Encrypt gives.
#[derive(Clone, Debug)]
pub struct Encrypted {
    /// The key's ARN.
    pub key_arn: Arc<str>,
    /// The ciphertext, format 1.
    pub ciphertext: Vec<u8>,
}

/// One item of Decrypt.
#[derive(Debug)]
pub struct DecryptInput {
    /// Key id or key ARN; empty: the key that the ciphertext names.
    pub key_id: String,
    /// 1 to 6,144 bytes.
    pub ciphertext: bytes::Bytes,
    /// Pairs of the encryption context.
    pub context: BTreeMap<String, String>,
}

/// What Decrypt gives.
#[derive(Clone, Debug)]
pub struct Decrypted {
    /// The key's ARN.
    pub key_arn: Arc<str>,
    /// The plaintext.
    pub plaintext: Secret,
}

/// One item of GenerateDataKey and GenerateDataKeyWithoutPlaintext.
#[derive(Debug)]
pub struct DataKeyInput {
    /// Key id or key ARN.
    pub key_id: String,
    /// Exactly one of this ...
    pub key_spec: Option<DataKeySpec>,
    /// ... and this, 1 to 1,024.
    pub number_of_bytes: Option<u32>,
    /// Pairs of the encryption context.
    pub context: BTreeMap<String, String>,
}

/// What GenerateDataKey gives.
#[derive(Clone, Debug)]
pub struct GeneratedDataKey {
    /// The key's ARN.
    pub key_arn: Arc<str>,
    /// The data key.
    pub plaintext: Secret,
    /// The data key, encrypted; format 1.
    pub ciphertext: Vec<u8>,
}

/// What is to be made.
#[derive(Clone, Debug, Default)]
pub struct CreateKeyInput {
    /// Empty: the only store there is.
    pub key_store_id: String,
    /// At most 8,192 characters.
    pub description: String,
    /// Empty: none.
    pub client_token: String,
}

/// A key as DescribeKey shows it.
#[derive(Clone, Debug)]
pub struct KeyMetadata {
    /// Its id.
    pub id: KeyId,
    /// Its ARN.
    pub arn: String,
    /// Account in the ARN.
    pub account: String,
    /// State as callers see it, `Unavailable` included.
    pub state: KeyState,
    /// The creator's words.
    pub description: String,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
    /// Its store.
    pub key_store: KeyStoreId,
    /// The store's cluster.
    pub cluster: String,
    /// Version that Encrypt uses.
    pub current_version: u32,
    /// HSM id, zone (empty where the HSM is no longer configured) and placement of the current version.
    pub placements: Vec<(String, String, Placement)>,
}

/// A key store that is to be made.
#[derive(Clone, Debug)]
pub struct CreateKeyStoreInput {
    /// 1 to 256 characters.
    pub name: String,
    /// A cluster of the configuration.
    pub cluster_id: String,
    /// PEM.
    pub trust_anchor: String,
    /// kmsuser's PIN.
    pub password: Secret,
}

/// What is to be changed about a key store. Absent: unchanged.
#[derive(Clone, Debug, Default)]
pub struct UpdateKeyStoreInput {
    /// The key store.
    pub key_store_id: String,
    /// Another name.
    pub new_name: Option<String>,
    /// kmsuser's PIN ...
    pub password: Option<Secret>,
    /// The security officer has set it, or has unlocked kmsuser where no password is given: the token's own count of
    /// wrong PINs is cleared ...
    pub pin_was_reset: bool,
    /// ... in these HSMs; in all where empty.
    pub hsm_ids: Vec<String>,
    /// Another cluster.
    pub cluster_id: Option<String>,
}

/// One HSM as operators see it.
#[derive(Clone, Debug)]
pub struct HsmView {
    /// The HSM.
    pub hsm: HsmId,
    /// Its zone.
    pub zone: Zone,
    /// Data workers that there should be.
    pub data_workers: u16,
    /// How it is, while its key store is in use.
    pub status: Option<MemberStatus>,
    /// What is known of its PIN; absent where none is on record: it has not joined.
    pub pin: Option<PinStatus>,
}

impl HsmView {
    /// It has joined, and its token holds the cluster's wrapping key.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.pin.is_some() && self.status.as_ref().is_some_and(|member| member.status.holds_wrapping_key())
    }
}

/// A key store as operators see it.
#[derive(Clone, Debug)]
pub struct KeyStoreView {
    /// What is on record.
    pub store: Arc<KeyStore>,
    /// Its HSMs.
    pub hsms: Vec<HsmView>,
}

/// A cluster as operators see it.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// The cluster.
    pub cluster: ClusterId,
    /// The key store over it.
    pub store: Option<Arc<KeyStore>>,
    /// Its HSMs, each with what is to be said of keys in it.
    pub hsms: Vec<(HsmView, HsmKeys)>,
    /// Key versions of the store.
    pub keys: usize,
}

/// What HSMs did.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// When it was read.
    pub at: SystemTime,
    /// Cluster by cluster.
    pub clusters: Vec<ClusterStatistics>,
}

/// A cluster in numbers.
#[derive(Clone, Debug)]
pub struct ClusterStatistics {
    /// The cluster.
    pub cluster: ClusterId,
    /// The key store over it.
    pub store: Option<Arc<KeyStore>>,
    /// Its HSMs; what each did is in its status.
    pub hsms: Vec<HsmView>,
}

/// Keys in one HSM.
#[derive(Clone, Debug, Default)]
pub struct HsmKeys {
    /// Versions that are wanted in it and not known to be there.
    pub missing: Vec<KeyVersionId>,
    /// Versions that somebody removed in it.
    pub removed: usize,
    /// Versions that it holds and no key explains.
    pub orphans: Vec<KeyVersionId>,
}

/// Which keys are to be put back where somebody removed them.
#[derive(Clone, Debug, Default)]
pub struct ResyncInput {
    /// Its cluster.
    pub cluster_id: String,
    /// Key id or key ARN; empty: no key in particular.
    pub key_id: String,
    /// In this HSM; empty: in all.
    pub hsm_id: String,
    /// Every key that was removed in that HSM.
    pub all_removed: bool,
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next begins; absent on the last.
    pub next_marker: Option<String>,
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
    ) -> Self {
        let admission = Admission::new(settings.items_in_work, settings.items_in_work_per_principal);
        Self {
            inner: Arc::new(Inner {
                settings,
                store,
                registry,
                clock,
                observer,
                admission: Arc::new(admission),
                tasks: TaskTracker::new(),
                keyring: Keyrings::default(),
                budgets: Budgets::default(),
                creations: Creations::default(),
                procedures: Procedures::default(),
                reconcilers: Reconcilers::default(),
                release_lock: RwLock::default(),
            }),
        }
    }

    /// The clusters in use, each with the key store that uses it.
    #[must_use]
    pub fn clusters(&self) -> Vec<(KeyStoreId, Arc<Cluster>)> {
        let active = self.inner.registry.active();
        let clusters = active.iter().filter_map(|active| {
            let running = active.running.as_ref()?;
            Some((active.key_store.clone(), Arc::clone(&running.cluster)))
        });
        clusters.collect()
    }

    /// Every key store with its HSMs, for metrics and readiness.
    #[must_use]
    pub fn key_stores(&self) -> Vec<KeyStoreView> {
        self.inner.store.catalogue().key_stores.values().map(|store| self.view(store)).collect()
    }

    /// How often an HSM was refused because it did not prove its identity.
    #[must_use]
    pub fn identity_refusals(&self, hsm: &HsmId) -> u64 {
        self.inner.registry.identities.refusals(hsm)
    }

    /// Takes over seal keys that were read anew.
    pub fn set_seals(&self, seals: SealKeys) {
        self.inner.registry.seals.store(Arc::new(seals));
    }

    /// Waits until every result that was decided on before a change has been given out. A result that is decided on
    /// from now on sees the change. Quick: nothing is awaited while the lock is held.
    fn wait_for_releases(&self) {
        drop(self.inner.release_lock.write_anyway());
    }

    /// Ends when every operation that has reached a token has been recorded, or after `within`.
    pub async fn drained(&self, within: Duration) {
        self.inner.tasks.close();
        if tokio::time::timeout(within, self.inner.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.inner.tasks.len(), "operations were still under way when the drain ended");
        }
    }
}
