//! Requests that were past a rate limit.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RateLabels {
    limit: &'static str,
}

pub(super) struct RateMetrics {
    throttled: Family<RateLabels, Counter>,
}

impl RateMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let throttled = Family::<RateLabels, Counter>::default();
        registry.register(
            "requests_throttled",
            "Requests that were refused because there were too many a second, of a principal or with a key store",
            throttled.clone(),
        );
        Self { throttled }
    }
}

impl super::Metrics {
    /// So many requests were past a limit, which is one of a few names.
    pub fn throttled(&self, limit: &'static str, requests: usize) {
        self.rates.throttled.get_or_create(&RateLabels { limit }).inc_by(requests as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;

    #[test]
    fn they_are_counted_by_the_limit() {
        let metrics = Metrics::new();
        metrics.throttled("principal", 2);
        metrics.throttled("principal", 3);
        metrics.throttled("key_store", 1);
        let text = metrics.text();
        assert!(text.contains("keystored_requests_throttled_total{limit=\"principal\"} 5"), "{text}");
        assert!(text.contains("keystored_requests_throttled_total{limit=\"key_store\"} 1"), "{text}");
    }
}
