//! GetStatistics: what each HSM did, and how long it took.

use std::sync::Arc;
use std::time::SystemTime;

use crate::clusters::describe_clusters::clusters_named;
use crate::key_stores::describe_key_stores::{HsmView, hsm_views};
use crate::{Error, RequestContext, Service};
use model::id::ClusterId;
use model::operation::Operation;
use store::KeyStore;

/// What HSMs did.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// When it was read.
    pub at: SystemTime,
    /// Cluster by cluster.
    pub clusters: Vec<ClusterStatistics>,
}

/// A cluster in numbers.
#[derive(Clone, Debug)]
pub struct ClusterStatistics {
    /// The cluster.
    pub cluster: ClusterId,
    /// The key store over it.
    pub store: Option<Arc<KeyStore>>,
    /// Its HSMs; what each did is in its status.
    pub hsms: Vec<HsmView>,
}

impl Service {
    /// Shows one cluster of the configuration in numbers, or all where `id` is empty.
    pub async fn get_statistics(&self, call: &RequestContext, id: &str) -> Result<Statistics, Error> {
        let (id, resource) = (id.to_owned(), self.core.arn_of(Operation::GetStatistics, id));
        self.core
            .on_catalogue(call, Operation::GetStatistics, resource, move |core| {
                let clusters = clusters_named(core, &id)?.into_iter().map(|(cluster, store)| {
                    let hsms = hsm_views(core, &cluster, store.as_ref().map(|store| &store.id));
                    ClusterStatistics { cluster, store, hsms }
                });
                Ok(Statistics { at: core.clock().calendar(), clusters: clusters.collect() })
            })
            .await
    }
}
