//! Counts what the service tells.

use std::sync::Arc;
use std::time::Duration;

use cluster::Removal;
use model::exception::Exception;
use model::operation::Operation;
use service::observer::{Observer, RateLimit};
use telemetry::metrics::Metrics;

/// The service's observer over the metrics.
pub(super) struct Counting(pub(super) Arc<Metrics>);

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
