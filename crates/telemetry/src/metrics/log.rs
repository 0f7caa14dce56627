//! What becomes of log lines.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use crate::log;

/// Counted by the log itself, and taken over at each scrape.
pub(super) struct LogMetrics {
    dropped: Counter,
}

impl LogMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let dropped = Counter::default();
        registry.register(
            "log_lines_dropped",
            "Log lines of the daemon, its workers and their modules that standard error did not take, or that were a module's \
             too many",
            dropped.clone(),
        );
        Self { dropped }
    }

    pub(super) fn read(&self) {
        self.dropped.inner().store(log::dropped(), Ordering::Relaxed);
    }
}
