//! Counts what the service tells.

use std::sync::Arc;
use std::time::Duration;

use cluster::Removal;
use model::exception::Exception;
use model::operation::Operation;
use service::observer::{Observer, RateLimit};
use telemetry::metrics::Metrics;

/// The service's observer over the metrics.
pub(super) struct Counting(Arc<Metrics>);

impl Counting {
    /// Limits are counted from the start: what has not been refused yet is none, and not unknown.
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        RateLimit::ALL.iter().for_each(|limit| metrics.throttled(limit.label(), 0));
        Self(Arc::clone(metrics))
    }
}

impl Observer for Counting {
    fn finished(&self, operation: Operation, outcome: Option<Exception>, took: Duration, items: usize) {
        self.0.finished(operation, outcome, took, items);
    }

    fn throttled(&self, limit: RateLimit, requests: usize) {
        self.0.throttled(limit.label(), requests);
    }

    fn removed(&self, removal: &Removal) {
        self.0.removed(removal.hsm.as_str());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_there_before_the_first_refusal() {
        let metrics = Arc::new(Metrics::new());
        let _counting = Counting::new(&metrics);
        let text = metrics.text();
        for limit in ["principal", "key_store"] {
            let line = format!("keystored_requests_throttled_total{{limit=\"{limit}\"}} 0");
            assert!(text.contains(&line), "{line} in {text}");
        }
    }
}
