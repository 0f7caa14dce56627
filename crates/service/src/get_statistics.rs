//! GetStatistics: what each HSM did, and how long it took.

use super::{Call, ClusterStatistics, Error, Service, Statistics};
use model::operation::Operation;

impl Service {
    /// Shows one cluster of the configuration in numbers, or all where `id` is empty.
    pub async fn get_statistics(&self, call: &Call, id: &str) -> Result<Statistics, Error> {
        self.on_catalogue(call, Operation::GetStatistics, |_| {
            let clusters = self.clusters_named(id)?.into_iter().map(|(cluster, store)| {
                let hsms = self.hsm_views(&cluster, store.as_ref().map(|store| &store.id));
                ClusterStatistics { cluster, store, hsms }
            });
            Ok(Statistics { at: self.inner.clock.calendar(), clusters: clusters.collect() })
        })
    }
}
