//! Use cases. `pipeline` is the only door; `lifecycle` runs the durable procedures.
//!
//! Invariants: nothing is done and nothing given out that permission, key state and key store don't allow before the
//! act and still after it; whatever has reached a token is booked to its end, even if its caller has left; requests
//! read the catalogue only, never the database.

mod admission;
mod budget;
mod create_key;
mod decrypt;
mod describe_key;
mod describe_key_stores;
mod encrypt;
mod error;
mod generate_data_key;
mod generate_random;
mod keyring;
mod lifecycle;
mod list_keys;
pub mod observer;
mod page;
mod pipeline;
mod pool;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use admission::{Admission, Tasks};
use budget::Budgets;
use keyring::Keyrings;
use lifecycle::Creations;
use observer::Observer;
use pool::{Members, Pool};

use crate::auth::peer::Principal;
use crate::cluster::Cluster;
use crate::model::clock::Clock;
use crate::model::exception::Exception;
use crate::model::id::{KeyId, KeyStoreId, Scope};
use crate::model::key::{DataKeySpec, KeyState, Placement};
use crate::model::secret::Secret;
use crate::store::Store;

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
    clusters: Vec<Members>,
    clock: Clock,
    observer: Arc<dyn Observer>,
    admission: Arc<Admission>,
    tasks: Arc<Tasks>,
    keyring: Keyrings,
    budgets: Budgets,
    creations: Creations,
}

/// Who calls, under which id, until when.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who.
    pub principal: Principal,
    /// Chosen by the interface, in every log line of this call.
    pub request_id: Arc<str>,
    /// When the caller stops waiting.
    pub deadline: Instant,
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
        clusters: Vec<Arc<Cluster>>,
        clock: Clock,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let pools = clusters.into_iter().map(|cluster| cluster as Arc<dyn Pool>).collect();
        Self::over(settings, store, pools, clock, observer)
    }

    fn over(
        settings: Settings,
        store: Store,
        pools: Vec<Arc<dyn Pool>>,
        clock: Clock,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let admission = Admission::new(settings.items_in_work, settings.items_in_work_per_principal);
        let inner = Inner {
            settings,
            store,
            clusters: pools.into_iter().map(Members::of).collect(),
            clock,
            observer,
            admission: Arc::new(admission),
            tasks: Arc::default(),
            keyring: Keyrings::default(),
            budgets: Budgets::default(),
            creations: Creations::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Ends when every operation that has reached a token has been booked, or after `within`.
    pub async fn drained(&self, within: Duration) {
        if tokio::time::timeout(within, self.inner.tasks.idle()).await.is_err() {
            tracing::warn!(left = self.inner.tasks.count(), "operations were still under way when the drain ended");
        }
    }
}
