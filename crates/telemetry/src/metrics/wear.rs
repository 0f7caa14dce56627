//! How much of each key version's encryptions is left.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;

/// Which key version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KeyVersionLabels {
    /// The key's id.
    pub key_id: String,
    /// The version's number.
    pub key_version: u32,
}

/// The versions with the fewest encryptions left.
pub(super) struct WearMetrics(Family<KeyVersionLabels, Gauge>);

impl WearMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let left = Family::<KeyVersionLabels, Gauge>::default();
        registry.register(
            "key_version_encryptions_left",
            "Encryptions that a key version may still do, of the few versions with the fewest left",
            left.clone(),
        );
        Self(left)
    }
}

impl Metrics {
    /// Takes over which key versions have the fewest encryptions left, in the place of what was known.
    pub fn encryptions_left(&self, scarcest: impl Iterator<Item = (KeyVersionLabels, u64)>) {
        self.wear.0.clear();
        for (labels, left) in scarcest {
            self.wear.0.get_or_create(&labels).set(i64::try_from(left).unwrap_or(i64::MAX));
        }
    }
}
