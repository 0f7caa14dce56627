//! The HSMs: clusters as the configuration describes them, and those in use by a key store.
//!
//! A cluster is in use from the beginning of a connect to the end of a disconnect. Its `Cluster` is immutable in its
//! members: when an HSM comes or goes, another one takes its place over the same HSMs, and nothing stops.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio::task::JoinSet;

use crate::core::hsm_cluster::Members;
use cluster::admission::KeyStoreAdmission;
use cluster::identity::Identities;
use cluster::kmsuser::{PinStatusRegistry, Seals};
use cluster::{self, Cluster, Removal};
use model::id::{ClusterId, HsmId, KeyStoreId};
use model::lock::MutexExt as _;
use model::profile::{PinScope, Rotation};
use pki::seal::SealKeys;
use telemetry::watchdog::Watchdog;

/// A cluster as the configuration describes it.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    /// How it is run.
    pub settings: cluster::Settings,
    /// Its HSMs, in the order of the configuration.
    pub hsms: Vec<supervisor::Settings>,
    /// Whose kmsuser's PIN is.
    pub pin_scope: PinScope,
    /// When it is rotated.
    pub rotation: Rotation,
    /// Logins in a row that may fail before none is tried any more.
    pub login_tries: u32,
}

/// Everything that the service needs to use HSMs.
pub struct ClusterRegistry {
    /// What PINs and secrets of access keys are sealed with.
    pub seals: Seals,
    /// Where clusters report keys that somebody removed.
    pub removals: mpsc::Sender<Removal>,
    /// The identity keys in use.
    pub identities: Arc<Identities>,
    /// What people may know of PINs.
    pub pins: Arc<PinStatusRegistry>,
    /// Who notices that a task has broken.
    pub watchdog: Watchdog,
    specs: ArcSwap<BTreeMap<ClusterId, Arc<ClusterSpec>>>,
    active: ArcSwap<Vec<ActiveCluster>>,
    generation: AtomicU64,
    /// One HSM at a time is brought in.
    pub(crate) adding: tokio::sync::Mutex<()>,
    /// One key store at a time is created, so that the same call twice at once makes one store.
    pub(crate) creating: tokio::sync::Mutex<()>,
    /// HSMs that somebody has looked at for a report.
    pub(crate) diagnosing: Mutex<BTreeSet<HsmId>>,
    turns: Mutex<BTreeMap<KeyStoreId, Arc<tokio::sync::Mutex<()>>>>,
    /// HSMs that went from the configuration and are being logged out of.
    leaving: Mutex<JoinSet<()>>,
}

/// A key store's cluster while it is in use.
#[derive(Clone)]
pub(crate) struct ActiveCluster {
    pub(crate) key_store: KeyStoreId,
    pub(crate) members: Members,
    /// The HSMs themselves and who lets them in; absent over a cluster that a test made up.
    pub(crate) running: Option<RunningCluster>,
}

/// The HSMs of a cluster in use.
#[derive(Clone)]
pub(crate) struct RunningCluster {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) admission: KeyStoreAdmission,
}

impl ClusterRegistry {
    /// With these clusters, none of them in use.
    #[must_use]
    pub fn new(specs: Vec<ClusterSpec>, seals: Seals, removals: mpsc::Sender<Removal>, watchdog: Watchdog) -> Self {
        let registry = Self {
            seals,
            removals,
            identities: Arc::default(),
            pins: Arc::default(),
            watchdog,
            specs: ArcSwap::default(),
            active: ArcSwap::default(),
            generation: AtomicU64::new(0),
            adding: tokio::sync::Mutex::default(),
            creating: tokio::sync::Mutex::default(),
            diagnosing: Mutex::default(),
            turns: Mutex::default(),
            leaving: Mutex::default(),
        };
        registry.set_specs(specs);
        registry
    }

    /// What the configuration says from now on.
    pub(crate) fn set_specs(&self, specs: Vec<ClusterSpec>) {
        let by_id = specs.into_iter().map(|spec| (spec.settings.id.clone(), Arc::new(spec))).collect();
        self.specs.store(Arc::new(by_id));
    }

    /// Sees that this is done before the daemon ends.
    pub(crate) fn leave(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut leaving = self.leaving.lock_anyway();
        while leaving.try_join_next().is_some() {}
        // On panic: the HSM is let go, so that its workers leave by themselves; nobody waits for them.
        leaving.spawn(work);
    }

    /// Waits until all that leaves has left.
    pub(crate) async fn left(&self) {
        let mut leaving = std::mem::take(&mut *self.leaving.lock_anyway());
        while leaving.join_next().await.is_some() {}
    }

    /// All clusters of the configuration.
    pub(crate) fn specs(&self) -> Arc<BTreeMap<ClusterId, Arc<ClusterSpec>>> {
        self.specs.load_full()
    }

    /// One cluster of the configuration.
    pub(crate) fn spec(&self, cluster: &ClusterId) -> Option<Arc<ClusterSpec>> {
        self.specs.load().get(cluster).cloned()
    }

    /// Clusters in use.
    pub(crate) fn active(&self) -> Arc<Vec<ActiveCluster>> {
        self.active.load_full()
    }

    /// The cluster in use by a key store.
    pub(crate) fn active_of(&self, key_store: &KeyStoreId) -> Option<ActiveCluster> {
        self.active.load().iter().find(|active| active.key_store == *key_store).cloned()
    }

    /// What PINs and secrets are sealed with from now on. What could not be opened may be now.
    pub(crate) fn set_seals(&self, seals: SealKeys) {
        self.seals.store(Arc::new(seals));
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Changes with every change of what is in use and of the seal keys; whoever keeps something made from it asks whether it is out of
    /// date.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// A cluster is in use from now on, or with other members.
    pub(crate) fn put(&self, active: ActiveCluster) {
        self.active.rcu(|all| {
            let mut all: Vec<ActiveCluster> =
                all.iter().filter(|other| other.key_store != active.key_store).cloned().collect();
            all.push(active.clone());
            all
        });
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// It is not any more.
    pub(crate) fn take(&self, key_store: &KeyStoreId) {
        self.active.rcu(|all| all.iter().filter(|active| active.key_store != *key_store).cloned().collect::<Vec<_>>());
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// One event at a time happens to a key store.
    pub(crate) async fn turn(&self, key_store: &KeyStoreId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock_anyway();
            Arc::clone(turns.entry(key_store.clone()).or_default())
        };
        turn.lock_owned().await
    }
}

impl ClusterSpec {
    /// How one of its HSMs is run.
    pub(crate) fn hsm(&self, id: &HsmId) -> Option<&supervisor::Settings> {
        self.hsms.iter().find(|hsm| hsm.hsm == *id)
    }
}
