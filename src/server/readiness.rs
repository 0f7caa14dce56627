//! Whether the daemon serves, and why not: the one answer behind /readyz, the gRPC health service and the metrics.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use cluster::{Health, MemberStatus, StatisticsSnapshot};
use model::id::{HsmId, KeyVersionId};
use model::key_store::ConnectionState;
use service::{HsmView, KeyStoreView, Service};
use telemetry::metrics::{HsmCounts, HsmLabels, HsmReading, KeyStoreLabels, KeyVersionLabels, Metrics};

/// What /readyz says.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// [`Report::status`], in words.
    status: &'static str,
    pub(super) ready: bool,
    /// What is wrong, one sentence each; may hold something while `ready` is true: one zone of one key store is enough
    /// to serve.
    pub(super) reasons: Vec<String>,
    /// How many of the reasons are of each kind.
    #[serde(skip)]
    troubles: BTreeMap<Trouble, usize>,
    pub(super) key_stores: Vec<StoreReport>,
    /// HSMs in use.
    pub(super) hsms: Vec<HsmReport>,
    #[serde(skip)]
    pins: Vec<PinReport>,
    /// Key versions with the fewest encryptions left.
    #[serde(skip)]
    scarcest: Vec<(KeyVersionId, u64)>,
    /// Key versions that each HSM has still to destroy.
    #[serde(skip)]
    destructions: BTreeMap<HsmId, usize>,
}

/// Key versions whose rest is shown: whoever is about to use a key up sees it, and ten thousand keys are not as many
/// series.
const SCARCEST: usize = 10;

/// The report in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Calls are answered, and nothing is wrong.
    Ready,
    /// Calls are answered, and something is wrong.
    Degraded,
    /// Calls are not answered.
    Unready,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Unready => "unready",
        }
    }
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// An HSM does not serve, or is suspected.
    Hsm,
    /// A key store is FAILED.
    KeyStore,
    /// Log lines are lost.
    Log,
    /// The metadata cannot be written.
    Disk,
    /// The audit log accepts nothing, its disk fills up, its records cannot be passed on, or what the service did by itself
    /// is not on record.
    Audit,
    /// A certificate has ended or soon will.
    Certificate,
    /// Strangers, or too many callers, want connections.
    Connections,
    /// The process may have less of something than its configuration needs.
    Limits,
    /// A task that the daemon needs does not turn.
    Tasks,
}

impl Trouble {
    const ALL: [Self; 9] = [
        Self::Hsm,
        Self::KeyStore,
        Self::Log,
        Self::Disk,
        Self::Audit,
        Self::Certificate,
        Self::Connections,
        Self::Limits,
        Self::Tasks,
    ];

    /// As the metric's label has it.
    const fn name(self) -> &'static str {
        match self {
            Self::Hsm => "hsm",
            Self::KeyStore => "key_store",
            Self::Log => "log",
            Self::Disk => "disk",
            Self::Audit => "audit",
            Self::Certificate => "certificate",
            Self::Connections => "connections",
            Self::Limits => "limits",
            Self::Tasks => "tasks",
        }
    }
}

/// One key store in the report.
#[derive(Debug, Serialize)]
pub(super) struct StoreReport {
    key_store: String,
    name: String,
    cluster: String,
    state: &'static str,
    error_code: Option<&'static str>,
}

/// One HSM in the report.
#[derive(Debug, Serialize)]
pub(super) struct HsmReport {
    cluster: String,
    hsm: String,
    zone: String,
    health: &'static str,
    reason: Option<String>,
    since_unix_ms: u64,
    data_workers: u16,
    control_worker: bool,
    proven: bool,
    restarts: u64,
    load_items: usize,
    /// What is not in force of its workers' confinement, or known to be kept from the module.
    confinement_gaps: Vec<String>,
    #[serde(skip)]
    counts: HsmCounts,
}

/// What the metrics tell of an HSM in use or not.
#[derive(Debug)]
struct PinReport {
    labels: HsmLabels,
    rotated_at: Option<i64>,
    tries_left: Option<u32>,
    refusals: u64,
}

const HEALTHS: &[&str] = &["starting", "healthy", "suspect", "down"];

fn name(health: Health) -> &'static str {
    match health {
        Health::Starting => "starting",
        Health::Healthy => "healthy",
        Health::Suspect => "suspect",
        Health::Down => "down",
    }
}

/// Looks at every key store. The daemon is ready when it is not draining and at least one connected key store has an
/// HSM that serves; or when none is connected, and operators can be served.
///
/// `refuses` is why nothing can be recorded, so that no call is answered. `concerns` is what else is wrong beside the key
/// stores, and never makes the daemon unready: what keeps calls from being answered shows in the calls.
pub(super) fn report(
    service: &Service,
    draining: bool,
    refuses: Option<String>,
    concerns: impl Iterator<Item = (Trouble, String)>,
) -> Report {
    let mut report = Report {
        status: "",
        ready: false,
        reasons: Vec::new(),
        troubles: BTreeMap::new(),
        key_stores: Vec::new(),
        hsms: Vec::new(),
        pins: Vec::new(),
        scarcest: service.scarcest(SCARCEST),
        destructions: service.destructions_pending(),
    };
    let mut connected = false;
    for view in service.key_stores() {
        let is_connected = view.store.state == ConnectionState::Connected;
        connected |= is_connected;
        let serving = report.look_at(service, &view);
        report.ready |= is_connected && serving;
        if is_connected && !serving {
            report.reasons.push(format!("no HSM of {} serves", view.store.cluster));
        }
    }
    if !connected {
        report.ready = true;
        report.reasons.push("no key store is connected".to_owned());
    }
    if let Some(sentence) = refuses {
        report.ready = false;
        report.note(Trouble::Audit, sentence);
    }
    for (trouble, sentence) in concerns {
        report.note(trouble, sentence);
    }
    if draining {
        report.ready = false;
        report.reasons.push("the daemon is shutting down".to_owned());
    }
    report.status = report.status().name();
    report
}

impl Report {
    /// In a word.
    pub(super) fn status(&self) -> Status {
        match (self.ready, self.troubles.is_empty()) {
            (false, _) => Status::Unready,
            (true, true) => Status::Ready,
            (true, false) => Status::Degraded,
        }
    }

    /// The same, with what is wrong.
    pub(super) fn line(&self) -> String {
        match self.reasons.is_empty() {
            true => self.status.to_owned(),
            false => format!("{}: {}", self.status, self.reasons.join("; ")),
        }
    }

    /// Nobody has looked for so long whether those turn who keep what is shown here. So it is not known to be so, and
    /// what could be taken for a figure of now is not shown.
    pub(super) fn is_not_known(&mut self, late: Duration) {
        self.ready = false;
        self.hsms.clear();
        self.note(
            Trouble::Tasks,
            format!("the watchdog has not turned for {} s, so nothing is known to be so now", late.as_secs()),
        );
        self.status = self.status().name();
    }

    fn note(&mut self, trouble: Trouble, sentence: String) {
        *self.troubles.entry(trouble).or_default() += 1;
        self.reasons.push(sentence);
    }

    /// Notes how a key store is; whether an HSM of it serves.
    fn look_at(&mut self, service: &Service, view: &KeyStoreView) -> bool {
        let (store, mut serving) = (&view.store, false);
        self.key_stores.push(StoreReport {
            key_store: store.id.to_string(),
            name: store.name.clone(),
            cluster: store.cluster.to_string(),
            state: store.state.name(),
            error_code: store.error.as_ref().map(|(code, _)| code.name()),
        });
        if let Some((code, why)) = &store.error {
            let sentence = format!("key store {} is FAILED, {}: {why}", store.name, code.name());
            self.note(Trouble::KeyStore, sentence);
        }
        for hsm in &view.hsms {
            let labels =
                HsmLabels { cluster: store.cluster.to_string(), hsm: hsm.hsm.to_string(), zone: hsm.zone.to_string() };
            self.pins.push(PinReport {
                labels,
                rotated_at: hsm.pin.and_then(|pin| pin.rotated_at),
                tries_left: hsm.pin.map(|pin| pin.tries_left),
                refusals: service.identity_refusals(&hsm.hsm),
            });
            let Some(status) = &hsm.status else { continue };
            serving |= matches!(status.health, Health::Healthy | Health::Suspect);
            if status.health != Health::Healthy {
                self.note(Trouble::Hsm, sentence(status));
            }
            self.hsms.push(report_of(store.cluster.as_str(), hsm, status));
        }
        serving
    }

    /// Takes the report over into the metrics.
    pub(super) fn measure(&self, metrics: &Metrics) {
        metrics.ready(self.ready);
        let count = |trouble: &Trouble| self.troubles.get(trouble).copied().unwrap_or(0);
        metrics.degraded(Trouble::ALL.iter().map(|trouble| (trouble.name(), count(trouble))));
        metrics.key_stores(self.key_stores.iter().map(|store| {
            let labels = KeyStoreLabels {
                key_store: store.key_store.clone(),
                cluster: store.cluster.clone(),
                state: store.state,
            };
            (labels, ConnectionState::ALL.iter().map(|state| state.name()))
        }));
        metrics.hsms(self.hsms.iter().map(|hsm| HsmReading {
            labels: HsmLabels { cluster: hsm.cluster.clone(), hsm: hsm.hsm.clone(), zone: hsm.zone.clone() },
            health: hsm.health,
            healths: HEALTHS,
            restarts: hsm.restarts,
            load: hsm.load_items,
            data_workers: hsm.data_workers,
            confinement_gaps: hsm.confinement_gaps.len(),
            counts: hsm.counts.clone(),
        }));
        for pin in &self.pins {
            metrics.kmsuser(&pin.labels, pin.rotated_at, pin.tries_left, pin.refusals);
        }
        metrics.encryptions_left(self.scarcest.iter().map(|(version, left)| {
            (KeyVersionLabels { key_id: version.key.to_string(), key_version: version.version }, *left)
        }));
        metrics.key_destructions_pending(self.destructions.iter().map(|(hsm, versions)| (hsm.to_string(), *versions)));
    }
}

fn sentence(status: &MemberStatus) -> String {
    let why = status.reason.as_deref().or(status.status.reason.as_deref());
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    format!("HSM {} in zone {} is {}{why}", status.hsm, status.zone, name(status.health))
}

fn report_of(cluster: &str, hsm: &HsmView, status: &MemberStatus) -> HsmReport {
    let since = status.since.duration_since(UNIX_EPOCH).unwrap_or_default();
    HsmReport {
        cluster: cluster.to_owned(),
        hsm: hsm.hsm.to_string(),
        zone: hsm.zone.to_string(),
        health: name(status.health),
        reason: status.reason.clone().or_else(|| status.status.reason.clone()),
        since_unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        data_workers: status.status.data_ready,
        control_worker: status.status.control_ready,
        proven: status.status.proven,
        restarts: status.status.restarts,
        load_items: status.load,
        confinement_gaps: status.status.ready.as_ref().map(|ready| ready.degraded.clone()).unwrap_or_default(),
        counts: counts(&status.statistics),
    }
}

fn counts(statistics: &StatisticsSnapshot) -> HsmCounts {
    HsmCounts {
        requests: statistics.requests,
        items: statistics.items,
        failures: statistics.failures,
        changes: Health::ALL.map(name).into_iter().zip(statistics.changes).collect(),
        buckets: statistics.buckets().collect(),
        seconds: statistics.took.as_secs_f64(),
    }
}
