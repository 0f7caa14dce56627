//! Connecting a key store: start its HSMs, let them in, judge what came of it.
//!
//! The state is on record before anything is started, so that a crash at any point leads back here: the next start of
//! the daemon goes on with a store that is CONNECTING. What happens to PINs meanwhile is admission's business, and as
//! durable.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, select_all};
use tokio_util::sync::CancellationToken;

use super::Lifecycle;
use super::escrow::Escrow;
use super::recorded::Pauses;
use super::{ConnectStep, transient};
use crate::core::cluster_registry::{ActiveCluster, ClusterSpec, RunningCluster};
use crate::core::hsm_cluster::Members;
use crate::core::service_event::ServiceEvent;
use cluster::Cluster;
use cluster::admission::KeyStoreAdmission;
use cluster::connect::{Seen, Verdict, judge};
use cluster::kmsuser::{Kmsuser, PinLocks, record_of};
use model::id::{ClusterId, HsmId, KeyStoreId};
use model::key_store::{ConnectionErrorCode as Code, ConnectionState, Event};
use model::profile::PinScope;
use pki::identity::TrustAnchor;
use store::KeyStore;
use supervisor::{self, Hsm};
use telemetry::watchdog::Task;

/// The judgement depends on the time too.
const LOOK: Duration = Duration::from_millis(100);
/// What HSMs get to leave after a connect that failed or was broken off.
pub(super) const LEAVE: Duration = Duration::from_secs(5);

/// Why the HSMs of a key store cannot even be started.
type StartBlocker = (Code, String);

impl Lifecycle {
    /// Goes on with a store that is CONNECTING, in a task of its own, until it is CONNECTED, FAILED or broken off.
    pub(super) fn connect_in_background(&self, id: &KeyStoreId) {
        let (lifecycle, connecting) = (self.clone(), id.clone());
        let broken_off = self.inner.procedures.begin(id);
        // On panic: started again with the state that is on record.
        self.inner.procedures.spawn(&self.core.registry().watchdog, Task::Connect, id, move |heartbeat| {
            let (lifecycle, id, broken_off) = (lifecycle.clone(), connecting.clone(), broken_off.clone());
            async move { heartbeat.idle(lifecycle.run_connect(&id, broken_off)).await }
        });
    }

    async fn run_connect(&self, id: &KeyStoreId, broken_off: CancellationToken) {
        let started = self.core.clock().now();
        let Some(store) = self.core.key_store(id) else { return };
        match store.state {
            ConnectionState::Connecting => {}
            // A run before this one was broken off behind its record.
            ConnectionState::Failed => return self.stop_hsms(id, LEAVE).await,
            _ => return,
        }
        let outcome = transient(ConnectStep::Start, self.start_hsms(&store)).await;
        let verdict = match &outcome {
            Ok(hsms) => {
                tokio::select! {
                    biased;
                    () = broken_off.cancelled() => return,
                    verdict = self.judged(hsms) => verdict,
                }
            }
            Err((code, why)) => Verdict::Failed(*code, why.clone()),
        };
        let name = &store.name;
        match verdict {
            Verdict::Connected | Verdict::Wait => {
                let record = transient(ConnectStep::RecordConnected, self.recorded(id, Event::ConnectSucceeded, None));
                let record = tokio::select! {
                    biased;
                    () = broken_off.cancelled() => return,
                    record = record => record,
                };
                match record {
                    Ok(_) => {
                        let took = self.core.clock().now().saturating_duration_since(started);
                        tracing::info!(key_store = %id, name, ?took, "the key store is connected");
                        self.core.happened(self.of_connect(&store, "KeyStoreConnected"));
                        self.resume_in_background();
                    }
                    Err(error) => tracing::info!(key_store = %id, name, %error, "a connect was overtaken"),
                }
            }
            Verdict::Failed(code, why) => {
                tracing::error!(key_store = %id, name, code = code.name(), why, "the key store could not be connected");
                self.core.happened(self.of_connect(&store, "KeyStoreConnectFailed").failed(code.name(), &why));
                let error = Some((code, why));
                let mut pauses = Pauses::new();
                let _turn = loop {
                    // Nobody starts another HSM between the record and the stop.
                    let turn = self.core.registry().turn(id).await;
                    let record = self.core.store().advance_key_store(id, Event::ConnectFailed, error.clone(), false);
                    match transient(ConnectStep::RecordFailed, record).await {
                        Ok(_) => break turn,
                        Err(error) if error.passes() => drop(turn),
                        Err(error) => {
                            tracing::info!(key_store = %id, name, %error, "a connect was overtaken");
                            break turn;
                        }
                    }
                    // Without the turn, so that a disconnect has its way.
                    tokio::select! {
                        biased;
                        () = broken_off.cancelled() => return,
                        () = pauses.pass() => {}
                    }
                };
                // How each HSM was stays to be seen until somebody disconnects.
                transient(ConnectStep::Stop, self.stop_hsms(id, LEAVE)).await;
            }
        }
    }

    fn of_connect(&self, store: &KeyStore, name: &'static str) -> ServiceEvent {
        ServiceEvent::ours(self.core.clock().unix_millis(), name)
            .saying("customKeyStoreId", store.id.as_str())
            .saying("customKeyStoreName", store.name.as_str())
            .saying("clusterId", store.cluster.as_str())
    }

    /// Starts the HSMs of a key store that have a PIN on record, or finds them started.
    pub(super) async fn start_hsms(&self, store: &KeyStore) -> Result<Vec<Hsm>, StartBlocker> {
        if let Some(running) = self.core.registry().active_of(&store.id).and_then(|active| active.running) {
            return Ok(running.cluster.members().to_vec());
        }
        let spec = self.core.registry().spec(&store.cluster).ok_or_else(|| {
            let why = format!(
                "the configuration describes no cluster {}; add it, then disconnect and connect",
                store.cluster
            );
            (Code::ClusterNotFound, why)
        })?;
        let anchor = TrustAnchor::from_pem(&store.trust_anchor).map_err(|error| {
            (Code::InternalError, format!("the trust anchor of the key store cannot be read: {error}"))
        })?;
        let joined = self.joined(store, &spec, spec.pin_scope).await?;
        if joined.is_empty() {
            let why = "no PIN of kmsuser is on record for any HSM of the cluster; disconnect, give it by UpdateKeyStore, \
                       connect";
            return Err((Code::InvalidCredentials, why.to_owned()));
        }
        let admission = self.gate_of(store, &spec, anchor);
        let hsms: Vec<Hsm> = spec
            .hsms
            .iter()
            .filter(|hsm| joined.contains(&hsm.hsm))
            .map(|hsm| self.start_hsm(hsm.clone(), &admission))
            .collect();
        self.put_in_use(&store.id, &spec, admission, hsms.clone());
        Ok(hsms)
    }

    /// Starts one HSM, whose workers this admission lets in.
    pub(super) fn start_hsm(&self, hsm: supervisor::Settings, admission: &KeyStoreAdmission) -> Hsm {
        let escrow = Arc::new(Escrow(self.core.store().clone()));
        let (clock, watchdog) = (self.core.clock().clone(), self.core.registry().watchdog.clone());
        Hsm::start(hsm, Arc::new(admission.clone()), escrow, clock, watchdog)
    }

    /// HSMs of the configuration that have a PIN on record.
    pub(super) async fn joined(
        &self,
        store: &KeyStore,
        spec: &ClusterSpec,
        scope: PinScope,
    ) -> Result<Vec<HsmId>, StartBlocker> {
        let pins = self.core.store().pins(&store.id).await.map_err(|error| (Code::InternalError, error.to_string()))?;
        self.core.registry().pins.replace(&store.id, &pins, spec.login_tries);
        let on_record = |hsm: &HsmId| pins.iter().any(|(of, _)| *of == record_of(scope, hsm));
        Ok(spec.hsms.iter().map(|hsm| hsm.hsm.clone()).filter(on_record).collect())
    }

    fn gate_of(&self, store: &KeyStore, spec: &ClusterSpec, anchor: TrustAnchor) -> KeyStoreAdmission {
        let registry = self.core.registry();
        let kmsuser = Kmsuser {
            records: Arc::new(self.core.store().clone()),
            seals: Arc::clone(&registry.seals),
            key_store: store.id.clone(),
            scope: spec.pin_scope,
            tries: spec.login_tries,
            statuses: Arc::clone(&registry.pins),
            locks: PinLocks::default(),
        };
        let (identities, clock) = (Arc::clone(&registry.identities), self.core.clock().clone());
        KeyStoreAdmission::new(store.cluster.clone(), anchor, kmsuser, identities, clock)
    }

    /// Has requests use these HSMs from now on, in the place of those that the store used before.
    pub(super) fn put_in_use(
        &self,
        key_store: &KeyStoreId,
        spec: &Arc<ClusterSpec>,
        admission: KeyStoreAdmission,
        hsms: Vec<Hsm>,
    ) {
        let registry = self.core.registry();
        let before = registry.active_of(key_store).and_then(|active| active.running);
        let before = before.as_ref().map(|running| &*running.cluster);
        let (settings, clock) = (spec.settings.clone(), self.core.clock().clone());
        let told = (registry.removals.clone(), &registry.identities);
        let cluster = Cluster::new(settings, hsms, clock, told, before, &registry.watchdog);
        let members = Members::of(Arc::clone(&cluster) as _);
        let running = Some(RunningCluster { cluster: Arc::clone(&cluster), admission });
        registry.put(ActiveCluster { key_store: key_store.clone(), members, running });
        self.reconcile_all(key_store, &cluster);
    }

    async fn judged(&self, hsms: &[Hsm]) -> Verdict {
        let started = self.core.clock().now();
        let mut watches: Vec<_> = hsms.iter().map(Hsm::watch).collect();
        loop {
            let seen: Vec<Seen> = hsms
                .iter()
                .zip(&mut watches)
                .map(|(hsm, watch)| Seen::of(&hsm.settings().hsm, &watch.borrow_and_update()))
                .collect();
            match judge(&seen, self.core.clock().now().saturating_duration_since(started)) {
                Verdict::Wait => {}
                verdict => return verdict,
            }
            let changes = select_all(watches.iter_mut().map(|watch| Box::pin(watch.changed())));
            // A time-out is as good as a change: the judgement depends on the time.
            let _ = tokio::time::timeout(LOOK, changes).await;
        }
    }

    /// Stops the HSMs of a store; they stay to be seen.
    pub(super) async fn stop_hsms(&self, id: &KeyStoreId, within: Duration) {
        let Some(running) = self.core.registry().active_of(id).and_then(|active| active.running) else { return };
        let hsms = running.cluster.members();
        join_all(hsms.iter().map(|hsm| async move {
            hsm.stop(within).await;
            self.core.registry().identities.release(&hsm.settings().hsm);
        }))
        .await;
    }

    /// Whether connecting a store over this cluster rotates PINs.
    pub(crate) fn rotates(&self, cluster: &ClusterId) -> bool {
        let spec = self.core.registry().spec(cluster);
        spec.is_some_and(|spec| spec.rotation == model::profile::Rotation::Connect)
    }
}
