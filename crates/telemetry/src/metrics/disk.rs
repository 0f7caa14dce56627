//! The disk with the metadata.

use std::sync::atomic::{AtomicI64, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Metrics;

/// Read off the store at each look.
pub(super) struct DiskMetrics {
    free: Gauge<i64, AtomicI64>,
    reserve: Gauge<i64, AtomicI64>,
    whole: Gauge<i64, AtomicI64>,
    failures: Counter,
}

impl DiskMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let gauge = Gauge::<i64, AtomicI64>::default;
        let (free, reserve, whole) = (gauge(), gauge(), gauge());
        registry.register_with_unit(
            "state_free",
            "Room on the disk of state_dir for users other than root",
            Unit::Bytes,
            free.clone(),
        );
        registry.register_with_unit(
            "state_reserve",
            "Size of the reserve for what takes keys out of use on a full disk",
            Unit::Bytes,
            reserve.clone(),
        );
        registry.register(
            "state_reserve_whole",
            "1 while all of the reserve is there; else a full disk has used some, or never had room for it",
            whole.clone(),
        );
        let failures = Counter::default();
        registry.register(
            "state_write_failures",
            "Changes of the metadata that could not be recorded because of the disk or the machine",
            failures.clone(),
        );
        Self { free, reserve, whole, failures }
    }
}

impl Metrics {
    /// Takes over how the disk with the metadata is. `failures` counts since the start.
    pub fn disk(&self, free: Option<u64>, reserve: u64, whole: bool, failures: u64) {
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        if let Some(free) = free {
            self.disk.free.set(bytes(free));
        }
        self.disk.reserve.set(bytes(reserve));
        self.disk.whole.set(i64::from(whole));
        self.disk.failures.inner().store(failures, Ordering::Relaxed);
    }
}
