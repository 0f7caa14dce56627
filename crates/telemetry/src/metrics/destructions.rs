//! Key material that was given up and is not destroyed everywhere yet.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;

/// Which HSM.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    /// The HSM.
    hsm: String,
}

/// Versions that each HSM has still to destroy.
pub(super) struct DestructionMetrics(Family<Labels, Gauge>);

impl DestructionMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let pending = Family::<Labels, Gauge>::default();
        registry.register(
            "key_destructions_pending",
            "Key versions whose material was given up and that this HSM has not destroyed yet",
            pending.clone(),
        );
        Self(pending)
    }
}

impl Metrics {
    /// Takes over what each HSM has still to destroy, in the place of what was known.
    pub fn key_destructions_pending(&self, pending: impl Iterator<Item = (String, usize)>) {
        self.destructions.0.clear();
        for (hsm, versions) in pending {
            self.destructions.0.get_or_create(&Labels { hsm }).set(i64::try_from(versions).unwrap_or(i64::MAX));
        }
    }
}
