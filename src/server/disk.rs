//! The disk with the metadata: looked after, measured, and told about where something is wrong with it.

use std::time::Duration;

use super::concerns::Concerns;
use super::readiness::Trouble;
use store::Store;
use store::reserve::{Kept, Standing};
use telemetry::metrics::Metrics;
use telemetry::watchdog::Heartbeat;

/// Between two looks: short, so that the end of a trouble is noticed while somebody watches.
const LOOK: Duration = Duration::from_secs(1);

/// Has the disk asked about.
pub(super) fn concern(concerns: &mut Concerns, store: &Store) {
    let store = store.clone();
    concerns.ask(Trouble::Disk, move || store.disk().sentences());
}

/// Looks after it for ever. Where it stands still, changes that find the disk full try to mend it by themselves.
pub(super) async fn tend(store: Store, heartbeat: Heartbeat) {
    loop {
        store.tend().await;
        heartbeat.idle(tokio::time::sleep(LOOK)).await;
    }
}

/// Takes over how it is now.
pub(super) fn measure(store: &Store, metrics: &Metrics) {
    let status = store.disk();
    let Kept { standing, bytes, .. } = status.reserve;
    metrics.disk(status.room.map(|room| room.free), bytes, standing == Standing::Whole, status.failures);
}
