//! What troubles the daemon while it still answers calls.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TroubleLabels {
    reason: &'static str,
}

/// One gauge for each kind of trouble.
pub(super) struct TroubleMetrics(Family<TroubleLabels, Gauge>);

impl TroubleMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let degraded = Family::<TroubleLabels, Gauge>::default();
        registry.register(
            "degraded",
            "How many things are wrong, by kind; calls may be answered all the same. /readyz has them in words",
            degraded.clone(),
        );
        Self(degraded)
    }

    pub(super) fn read(&self, counts: impl Iterator<Item = (&'static str, usize)>) {
        for (reason, count) in counts {
            self.0.get_or_create(&TroubleLabels { reason }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
