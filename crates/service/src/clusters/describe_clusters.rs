//! DescribeClusters: who is proven, in which zone, with which keys missing.

use std::sync::Arc;

use crate::core::{Core, validate};
use crate::key_stores::describe_key_stores::{HsmView, hsm_views};
use crate::lifecycle::{Lifecycle, missing_in};
use crate::{Error, RequestContext, Service};
use model::id::KeyVersionId;
use model::id::{ClusterId, HsmId, KeyStoreId};
use model::key::{KeyState, Placement};
use model::operation::Operation;
use store::KeyStore;

/// A cluster as operators see it.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// The cluster.
    pub cluster: ClusterId,
    /// The key store over it.
    pub store: Option<Arc<KeyStore>>,
    /// Its HSMs, each with what is to be said of keys in it.
    pub hsms: Vec<(HsmView, HsmKeys)>,
    /// Key versions of the store.
    pub keys: usize,
}

/// Keys in one HSM.
#[derive(Clone, Debug, Default)]
pub struct HsmKeys {
    /// Versions that are wanted in it and not known to be there.
    pub missing: Vec<KeyVersionId>,
    /// Versions that somebody removed in it.
    pub removed: usize,
    /// Versions that it holds and no key explains.
    pub orphans: Vec<KeyVersionId>,
}

/// A cluster of the configuration, and the key store over it.
type Named = (ClusterId, Option<Arc<KeyStore>>);

impl Service {
    /// Shows one cluster of the configuration, or all where `id` is empty.
    pub async fn describe_clusters(&self, call: &RequestContext, id: &str) -> Result<Vec<ClusterView>, Error> {
        let (id, resource) = (id.to_owned(), self.core.arn_of(Operation::DescribeClusters, id));
        let lifecycle = self.lifecycle.clone();
        self.core
            .on_catalogue(call, Operation::DescribeClusters, resource, move |core| {
                let catalogue = core.store().catalogue();
                let view = clusters_named(core, &id)?.into_iter().map(|(cluster, store)| {
                    let hsms = hsm_views(core, &cluster, store.as_ref().map(|store| &store.id));
                    let keys = |hsm: &HsmId| {
                        store.as_ref().map(|store| keys_in(core, &lifecycle, &store.id, hsm)).unwrap_or_default()
                    };
                    let hsms = hsms.into_iter().map(|hsm| {
                        let keys = keys(&hsm.hsm);
                        (hsm, keys)
                    });
                    let versions = store
                        .as_ref()
                        .map_or(0, |store| catalogue.keys_of(&store.id).map(|key| key.versions.len()).sum());
                    ClusterView { cluster, hsms: hsms.collect(), store: store.clone(), keys: versions }
                });
                Ok(view.collect())
            })
            .await
    }
}

/// One cluster of the configuration, or all where `id` is empty, each with the key store over it.
pub(crate) fn clusters_named(core: &Core, id: &str) -> Result<Vec<Named>, Error> {
    let specs = core.registry().specs();
    if !id.is_empty() && !specs.contains_key(&validate::cluster_id(id)?) {
        return Err(Error::no_cluster(id));
    }
    let catalogue = core.store().catalogue();
    let named = specs.keys().filter(|cluster| id.is_empty() || cluster.as_str() == id);
    Ok(named.map(|cluster| (cluster.clone(), catalogue.key_store_over(cluster).cloned())).collect())
}

fn keys_in(core: &Core, lifecycle: &Lifecycle, key_store: &KeyStoreId, hsm: &HsmId) -> HsmKeys {
    let catalogue = core.store().catalogue();
    let keys = catalogue.keys_of(key_store).filter(|key| key.state != KeyState::Creating);
    let removed = |placement: Option<&Placement>| placement == Some(&Placement::Removed);
    HsmKeys {
        removed: keys.flat_map(|key| &key.versions).filter(|version| removed(version.placements.get(hsm))).count(),
        missing: missing_in(&catalogue, key_store, hsm),
        orphans: lifecycle.reconcilers().orphans(hsm),
    }
}
