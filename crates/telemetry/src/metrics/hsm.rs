//! What each HSM has done. Counted elsewhere, in atomics on the way of the requests, and taken over at each scrape.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

use super::HsmLabels;
use model::lock::MutexExt as _;

/// What one HSM has done up to a scrape.
#[derive(Clone, Debug, Default)]
pub struct HsmCounts {
    /// Requests that it answered.
    pub requests: u64,
    /// Items of those.
    pub items: u64,
    /// Requests that came to nothing by its own fault.
    pub failures: u64,
    /// How often its health became this one.
    pub changes: Vec<(&'static str, u64)>,
    /// Answered requests by their time: each bucket's upper bound in seconds, the last one infinite, and its own count.
    pub buckets: Vec<(f64, u64)>,
    /// That time in all, in seconds.
    pub seconds: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChangeLabels {
    cluster: String,
    hsm: String,
    zone: String,
    health: &'static str,
}

/// The metrics over [`HsmCounts`].
pub(super) struct HsmMetrics {
    requests: Family<HsmLabels, Counter>,
    items: Family<HsmLabels, Counter>,
    failures: Family<HsmLabels, Counter>,
    changes: Family<ChangeLabels, Counter>,
    duration: Family<HsmLabels, Taken>,
}

impl HsmMetrics {
    /// Names and registers them.
    pub(super) fn new(r: &mut Registry) -> Self {
        let requests = Family::<HsmLabels, Counter>::default();
        r.register("hsm_requests", "Requests that an HSM answered, each with one item or many", requests.clone());
        let items = Family::<HsmLabels, Counter>::default();
        r.register("hsm_items", "Items of the requests that an HSM answered", items.clone());
        let failures = Family::<HsmLabels, Counter>::default();
        r.register(
            "hsm_request_failures",
            "Requests to an HSM that came to nothing by its own fault: worker lost, token trouble, no answer in time",
            failures.clone(),
        );
        let changes = Family::<ChangeLabels, Counter>::default();
        r.register("hsm_health_changes", "How often an HSM's health became this one", changes.clone());
        let duration = Family::<HsmLabels, Taken>::default();
        r.register_with_unit(
            "hsm_request_duration",
            "Time from asking an HSM to its answer",
            Unit::Seconds,
            duration.clone(),
        );
        Self { requests, items, failures, changes, duration }
    }

    /// Takes over what an HSM has done.
    pub(super) fn read(&self, labels: &HsmLabels, counts: &HsmCounts) {
        let set = |of: &Family<HsmLabels, Counter>, to| of.get_or_create(labels).inner().store(to, Ordering::Relaxed);
        set(&self.requests, counts.requests);
        set(&self.items, counts.items);
        set(&self.failures, counts.failures);
        let HsmLabels { cluster, hsm, zone } = labels;
        for &(health, count) in &counts.changes {
            let (cluster, hsm, zone) = (cluster.clone(), hsm.clone(), zone.clone());
            let labels = ChangeLabels { cluster, hsm, zone, health };
            self.changes.get_or_create(&labels).inner().store(count, Ordering::Relaxed);
        }
        *self.duration.get_or_create(labels).0.lock_anyway() =
            Times { buckets: counts.buckets.clone(), seconds: counts.seconds };
    }
}

/// A histogram whose buckets were filled elsewhere. The library's own can only be told one observation after the other.
#[derive(Clone, Debug, Default)]
struct Taken(Arc<Mutex<Times>>);

/// Upper bounds with the count of each bucket alone, and the sum of all times.
#[derive(Debug, Default)]
struct Times {
    buckets: Vec<(f64, u64)>,
    seconds: f64,
}

impl TypedMetric for Taken {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Taken {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        let Times { buckets, seconds } = &*self.0.lock_anyway();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(*seconds, count, buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::super::{HsmReading, Metrics};
    use super::*;

    #[test]
    fn what_an_hsm_did_can_be_read() {
        let metrics = Metrics::new();
        let counts = HsmCounts {
            requests: 3,
            items: 70,
            failures: 1,
            changes: vec![("suspect", 2)],
            buckets: vec![(25e-6, 1), (50e-6, 2), (f64::INFINITY, 0)],
            seconds: 0.5,
        };
        let labels = HsmLabels { cluster: "c".into(), hsm: "hsm-a".into(), zone: "a".into() };
        let reading = HsmReading {
            labels,
            health: "healthy",
            healths: &["healthy"],
            restarts: 0,
            load: 0,
            data_workers: 1,
            confinement_gaps: 0,
            counts,
        };
        // A second scrape takes over and does not add.
        metrics.hsms([reading.clone(), reading].into_iter());
        let text = metrics.text();
        let hsm = "cluster=\"c\",hsm=\"hsm-a\",zone=\"a\"";
        for line in [
            format!("keystored_hsm_requests_total{{{hsm}}} 3"),
            format!("keystored_hsm_items_total{{{hsm}}} 70"),
            format!("keystored_hsm_request_failures_total{{{hsm}}} 1"),
            format!("keystored_hsm_health_changes_total{{{hsm},health=\"suspect\"}} 2"),
            "# TYPE keystored_hsm_request_duration_seconds histogram".to_owned(),
            format!("keystored_hsm_request_duration_seconds_sum{{{hsm}}} 0.5"),
            format!("keystored_hsm_request_duration_seconds_count{{{hsm}}} 3"),
            format!("keystored_hsm_request_duration_seconds_bucket{{le=\"0.000025\",{hsm}}} 1"),
            format!("keystored_hsm_request_duration_seconds_bucket{{le=\"0.00005\",{hsm}}} 3"),
            format!("keystored_hsm_request_duration_seconds_bucket{{le=\"+Inf\",{hsm}}} 3"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
