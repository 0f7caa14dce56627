//! DescribeClusters: who is proven, in which zone, with which keys missing.

use std::sync::Arc;

use super::{Call, ClusterView, Error, HsmKeys, Service, validate};
use model::id::{ClusterId, HsmId, KeyStoreId};
use model::key::{KeyState, Placement};
use model::operation::Operation;
use store::KeyStore;

/// A cluster of the configuration, and the key store over it.
type Named = (ClusterId, Option<Arc<KeyStore>>);

impl Service {
    /// Shows one cluster of the configuration, or all where `id` is empty.
    pub async fn describe_clusters(&self, call: &Call, id: &str) -> Result<Vec<ClusterView>, Error> {
        self.on_catalogue(call, Operation::DescribeClusters, |_| {
            let catalogue = self.inner.store.catalogue();
            let view = self.clusters_named(id)?.into_iter().map(|(cluster, store)| {
                let hsms = self.hsm_views(&cluster, store.as_ref().map(|store| &store.id));
                let keys = |hsm: &HsmId| store.as_ref().map(|store| self.keys_in(&store.id, hsm)).unwrap_or_default();
                let hsms = hsms.into_iter().map(|hsm| {
                    let keys = keys(&hsm.hsm);
                    (hsm, keys)
                });
                let versions = store.as_ref().map_or(0, |store| {
                    let keys = catalogue.keys.values().filter(|key| key.key_store == store.id);
                    keys.map(|key| key.versions.len()).sum()
                });
                ClusterView { cluster, hsms: hsms.collect(), store: store.clone(), keys: versions }
            });
            Ok(view.collect())
        })
    }

    /// One cluster of the configuration, or all where `id` is empty, each with the key store over it.
    pub(super) fn clusters_named(&self, id: &str) -> Result<Vec<Named>, Error> {
        let specs = self.inner.registry.specs();
        if !id.is_empty() && !specs.contains_key(&validate::cluster_id(id)?) {
            return Err(Error::no_cluster(id));
        }
        let catalogue = self.inner.store.catalogue();
        let named = specs.keys().filter(|cluster| id.is_empty() || cluster.as_str() == id);
        let store_over = |cluster: &ClusterId| catalogue.key_stores.values().find(|store| store.cluster == *cluster);
        Ok(named.map(|cluster| (cluster.clone(), store_over(cluster).cloned())).collect())
    }

    fn keys_in(&self, key_store: &KeyStoreId, hsm: &HsmId) -> HsmKeys {
        let catalogue = self.inner.store.catalogue();
        let keys = catalogue.keys.values().filter(|key| key.key_store == *key_store && key.state != KeyState::Creating);
        let removed = |placement: Option<&Placement>| placement == Some(&Placement::Removed);
        HsmKeys {
            removed: keys.flat_map(|key| &key.versions).filter(|version| removed(version.placements.get(hsm))).count(),
            missing: self.missing_in(key_store, hsm),
            orphans: self.inner.reconcilers.orphans(hsm),
        }
    }
}
