//! Counts what the service tells.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Removal;
use crate::model::exception::Exception;
use crate::model::operation::Operation;
use crate::service::observer::Observer;
use crate::telemetry::metrics::Metrics;

/// The service's observer over the metrics.
pub(super) struct Counting(pub(super) Arc<Metrics>);

impl Observer for Counting {
    fn finished(&self, operation: Operation, outcome: Option<Exception>, took: Duration, items: usize) {
        self.0.finished(operation, outcome, took, items);
    }

    fn removed(&self, removal: &Removal) {
        self.0.removed(removal.hsm.as_str());
    }
}
