//! What is counted and under which names. Everything is named here and nowhere else.
//!
//! Labels come from closed sets alone (operations, exceptions, configured HSMs, the operator's own certificates), never
//! from what a caller sends: so their number is bounded.

mod audit;
mod certificates;
mod connections;
mod destructions;
mod disk;
mod hsm;
mod log;
mod rates;
mod shares;
mod tasks;
mod trouble;
mod wear;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use model::exception::Exception;
use model::operation::Operation;

/// The outcome label of what succeeded; the others are exception names.
const SUCCESS: &str = "ok";
/// 25 µs to 26 s, each twice the one before: an in-token encryption takes 7 µs, an RSA generation a second.
const BUCKETS: (f64, f64, u16) = (25e-6, 2.0, 21);

pub use audit::{AuditReading, SinkReading, UnrecordedReading};
pub use certificates::CertificateLabels;
pub use connections::{Connected, Listener, Refused};
pub use hsm::HsmCounts;
pub use shares::Places;
pub use wear::KeyVersionLabels;

/// An HSM, as labels name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HsmLabels {
    /// Its cluster.
    pub cluster: String,
    /// Its id.
    pub hsm: String,
    /// Its zone.
    pub zone: String,
}

/// How one HSM is at the moment of a scrape.
#[derive(Clone, Debug)]
pub struct HsmReading {
    /// Its labels.
    pub labels: HsmLabels,
    /// Its health: one of the names in `healths`.
    pub health: &'static str,
    /// Every name that `health` can have.
    pub healths: &'static [&'static str],
    /// Workers started again since the daemon started.
    pub restarts: u64,
    /// Items that wait for it or are in it.
    pub load: usize,
    /// Data workers that take requests.
    pub data_workers: u16,
    /// What is not in force of its workers' confinement.
    pub confinement_gaps: usize,
    /// What it has done.
    pub counts: HsmCounts,
}

/// A key store, as labels name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KeyStoreLabels {
    /// Its id.
    pub key_store: String,
    /// Its cluster.
    pub cluster: String,
    /// A state.
    pub state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HealthLabels {
    cluster: String,
    hsm: String,
    zone: String,
    health: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RemovalLabels {
    hsm: String,
}

/// The hot path's counters of one operation, found without a lock.
struct Hot {
    calls: Counter,
    items: Counter,
    seconds: Histogram,
}

/// Every metric of the daemon.
pub struct Metrics {
    registry: Registry,
    succeeded: Vec<Hot>,
    calls: Family<CallLabels, Counter>,
    items: Family<CallLabels, Counter>,
    removals: Family<RemovalLabels, Counter>,
    certificates: certificates::CertificateMetrics,
    connections: connections::ConnectionMetrics,
    shares: shares::ShareMetrics,
    rates: rates::RateMetrics,
    health: Family<HealthLabels, Gauge>,
    restarts: Family<HsmLabels, Counter>,
    load: Family<HsmLabels, Gauge>,
    data_workers: Family<HsmLabels, Gauge>,
    confinement_gaps: Family<HsmLabels, Gauge>,
    hsms: hsm::HsmMetrics,
    key_stores: Family<KeyStoreLabels, Gauge>,
    rotation: Family<HsmLabels, Gauge<f64, AtomicU64>>,
    tries_left: Family<HsmLabels, Gauge>,
    wear: wear::WearMetrics,
    destructions: destructions::DestructionMetrics,
    identity_refusals: Family<HsmLabels, Counter>,
    ready: Gauge,
    troubles: trouble::TroubleMetrics,
    disk: disk::DiskMetrics,
    audit: audit::AuditMetrics,
    log: log::LogMetrics,
    tasks: tasks::TaskMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Names and registers everything.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("keystored");
        let r = &mut registry;
        let calls = Family::<CallLabels, Counter>::default();
        r.register(
            "calls",
            "Calls by operation and outcome; a call whose items ended in several ways counts once for each",
            calls.clone(),
        );
        let items = Family::<CallLabels, Counter>::default();
        r.register("items", "Items of calls by operation and outcome", items.clone());
        let seconds = Family::<OperationLabels, Histogram>::new_with_constructor(|| {
            let (start, factor, length) = BUCKETS;
            Histogram::new(exponential_buckets(start, factor, length))
        });
        r.register_with_unit(
            "call_duration",
            "Time from a call's arrival to its end, where it succeeded",
            Unit::Seconds,
            seconds.clone(),
        );
        let removals = Family::<RemovalLabels, Counter>::default();
        r.register("keys_removed", "Key objects that somebody else removed in an HSM", removals.clone());
        let certificates = certificates::CertificateMetrics::new(r);
        let connections = connections::ConnectionMetrics::new(r);
        let shares = shares::ShareMetrics::new(r);
        let rates = rates::RateMetrics::new(r);
        let health = Family::<HealthLabels, Gauge>::default();
        r.register("hsm_health", "1 for the health that an HSM has, 0 for the others", health.clone());
        let restarts = Family::<HsmLabels, Counter>::default();
        r.register("hsm_worker_restarts", "Worker processes started again after a death", restarts.clone());
        let load = Family::<HsmLabels, Gauge>::default();
        r.register("hsm_load_items", "Items that wait for an HSM or are in it", load.clone());
        let data_workers = Family::<HsmLabels, Gauge>::default();
        r.register("hsm_data_workers", "Data workers that take requests", data_workers.clone());
        let confinement_gaps = Family::<HsmLabels, Gauge>::default();
        r.register(
            "hsm_confinement_gaps",
            "What is not in force of the confinement of an HSM's workers; /readyz has it in words",
            confinement_gaps.clone(),
        );
        let hsms = hsm::HsmMetrics::new(r);
        let key_stores = Family::<KeyStoreLabels, Gauge>::default();
        r.register(
            "key_store_state",
            "1 for the connection state that a key store has, 0 for the others",
            key_stores.clone(),
        );
        let rotation = Family::<HsmLabels, Gauge<f64, AtomicU64>>::default();
        r.register_with_unit(
            "kmsuser_last_rotation_timestamp",
            "When kmsuser's PIN was last rotated in an HSM, since the Unix epoch",
            Unit::Seconds,
            rotation.clone(),
        );
        let tries_left = Family::<HsmLabels, Gauge>::default();
        r.register(
            "kmsuser_pin_tries_left",
            "Logins that may still fail before none is tried any more",
            tries_left.clone(),
        );
        let wear = wear::WearMetrics::new(r);
        let destructions = destructions::DestructionMetrics::new(r);
        let identity_refusals = Family::<HsmLabels, Counter>::default();
        r.register(
            "hsm_identity_refusals",
            "Workers that were not let in because their HSM did not prove its identity",
            identity_refusals.clone(),
        );
        let ready = Gauge::<i64, AtomicI64>::default();
        r.register("ready", "1 while /readyz says yes", ready.clone());
        let troubles = trouble::TroubleMetrics::new(r);
        let disk = disk::DiskMetrics::new(r);
        let audit = audit::AuditMetrics::new(r);
        let log = log::LogMetrics::new(r);
        let tasks = tasks::TaskMetrics::new(r);
        let succeeded = Operation::ALL.iter().map(|operation| {
            let operation = operation.spec().label;
            let labels = CallLabels { operation, outcome: SUCCESS };
            Hot {
                calls: calls.get_or_create_owned(&labels),
                items: items.get_or_create_owned(&labels),
                seconds: seconds.get_or_create_owned(&OperationLabels { operation }),
            }
        });
        let succeeded = succeeded.collect();
        Self {
            registry,
            succeeded,
            calls,
            items,
            removals,
            certificates,
            connections,
            shares,
            rates,
            health,
            restarts,
            load,
            data_workers,
            confinement_gaps,
            hsms,
            key_stores,
            rotation,
            tries_left,
            wear,
            destructions,
            identity_refusals,
            ready,
            troubles,
            disk,
            audit,
            log,
            tasks,
        }
    }

    /// `items` items of one call ended in this way, `took` after the call came in.
    pub fn finished(&self, operation: Operation, outcome: Option<Exception>, took: Duration, items: usize) {
        let Some(exception) = outcome else {
            if let Some(hot) = self.succeeded.get(operation as usize) {
                hot.calls.inc();
                hot.items.inc_by(items as u64);
                hot.seconds.observe(took.as_secs_f64());
            }
            return;
        };
        let labels = CallLabels { operation: operation.spec().label, outcome: exception.name() };
        self.calls.get_or_create(&labels).inc();
        self.items.get_or_create(&labels).inc_by(items as u64);
    }

    /// A key's object was found removed in this HSM.
    pub fn removed(&self, hsm: &str) {
        self.removals.get_or_create(&RemovalLabels { hsm: hsm.to_owned() }).inc();
    }

    /// Takes over in which state each key store is, out of all that there are; in the place of what was known.
    pub fn key_stores<S>(&self, stores: impl Iterator<Item = (KeyStoreLabels, S)>)
    where
        S: Iterator<Item = &'static str>,
    {
        self.key_stores.clear();
        for (labels, states) in stores {
            for state in states {
                let one = KeyStoreLabels { state, ..labels.clone() };
                self.key_stores.get_or_create(&one).set(i64::from(state == labels.state));
            }
        }
    }

    /// Takes over what is known of kmsuser in an HSM. `rotated_at` is in milliseconds since the Unix epoch.
    pub fn kmsuser(&self, hsm: &HsmLabels, rotated_at: Option<i64>, tries_left: Option<u32>, refusals: u64) {
        if let Some(millis) = rotated_at {
            // Exact for the next hundred thousand years.
            #[allow(clippy::cast_precision_loss, reason = "see above")]
            self.rotation.get_or_create(hsm).set(millis as f64 / 1_000.0);
        }
        if let Some(left) = tries_left {
            self.tries_left.get_or_create(hsm).set(left.into());
        }
        self.identity_refusals.get_or_create(hsm).inner().store(refusals, Ordering::Relaxed);
    }

    /// Takes over how the HSMs in use are, in the place of what was known.
    pub fn hsms(&self, readings: impl Iterator<Item = HsmReading>) {
        self.health.clear();
        self.load.clear();
        self.data_workers.clear();
        for reading in readings {
            self.read(&reading);
        }
    }

    fn read(&self, reading: &HsmReading) {
        let HsmLabels { cluster, hsm, zone } = reading.labels.clone();
        for &health in reading.healths {
            let labels = HealthLabels { cluster: cluster.clone(), hsm: hsm.clone(), zone: zone.clone(), health };
            self.health.get_or_create(&labels).set(i64::from(health == reading.health));
        }
        self.restarts.get_or_create(&reading.labels).inner().store(reading.restarts, Ordering::Relaxed);
        self.load.get_or_create(&reading.labels).set(i64::try_from(reading.load).unwrap_or(i64::MAX));
        self.data_workers.get_or_create(&reading.labels).set(i64::from(reading.data_workers));
        let gaps = i64::try_from(reading.confinement_gaps).unwrap_or(i64::MAX);
        self.confinement_gaps.get_or_create(&reading.labels).set(gaps);
        self.hsms.read(&reading.labels, &reading.counts);
    }

    /// Whether /readyz says yes.
    pub fn ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }

    /// How many things of each kind are wrong; all kinds there are.
    pub fn degraded(&self, counts: impl Iterator<Item = (&'static str, usize)>) {
        self.troubles.read(counts);
    }

    /// Everything in OpenMetrics text.
    #[must_use]
    pub fn text(&self) -> String {
        self.log.read();
        let mut out = String::with_capacity(16 << 10);
        // A String takes everything; what was written before an error would still be of use.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_indexed_in_the_order_of_the_table() {
        for (place, operation) in Operation::ALL.iter().enumerate() {
            assert_eq!(*operation as usize, place);
        }
    }

    #[test]
    fn what_happened_can_be_read() {
        let metrics = Metrics::new();
        metrics.finished(Operation::Encrypt, None, Duration::from_millis(1), 3);
        metrics.finished(Operation::Decrypt, Some(Exception::InvalidCiphertext), Duration::from_millis(1), 1);
        metrics.removed("hsm-a");
        metrics.refused(Refused::Full);
        metrics.reloaded(false);
        let open = metrics.connected(Listener::Grpc);
        metrics.read(&HsmReading {
            labels: HsmLabels { cluster: "c".into(), hsm: "hsm-a".into(), zone: "a".into() },
            health: "down",
            healths: &["healthy", "down"],
            restarts: 2,
            load: 7,
            data_workers: 0,
            confinement_gaps: 1,
            counts: HsmCounts::default(),
        });
        let text = metrics.text();
        for line in [
            "keystored_calls_total{operation=\"encrypt\",outcome=\"ok\"} 1",
            "keystored_items_total{operation=\"encrypt\",outcome=\"ok\"} 3",
            "keystored_calls_total{operation=\"decrypt\",outcome=\"InvalidCiphertextException\"} 1",
            "keystored_call_duration_seconds_count{operation=\"encrypt\"} 1",
            "keystored_keys_removed_total{hsm=\"hsm-a\"} 1",
            "keystored_connections 1",
            "keystored_connections_refused_total{reason=\"full\"} 1",
            "keystored_certificate_reloads_total{outcome=\"refused\"} 1",
            "keystored_hsm_health{cluster=\"c\",hsm=\"hsm-a\",zone=\"a\",health=\"down\"} 1",
            "keystored_hsm_health{cluster=\"c\",hsm=\"hsm-a\",zone=\"a\",health=\"healthy\"} 0",
            "keystored_hsm_worker_restarts_total{cluster=\"c\",hsm=\"hsm-a\",zone=\"a\"} 2",
            "keystored_hsm_load_items{cluster=\"c\",hsm=\"hsm-a\",zone=\"a\"} 7",
            "keystored_hsm_confinement_gaps{cluster=\"c\",hsm=\"hsm-a\",zone=\"a\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        drop(open);
        assert!(metrics.text().contains("keystored_connections 0"));
    }
}
