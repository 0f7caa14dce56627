//! DescribeKeyStores, and the ways from a key store to its cluster.

use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::hsm_cluster::Members;
use super::{Call, Error, HsmView, KeyStoreView, Page, Service, page, validate};
use model::exception::Exception;
use model::id::{ClusterId, KeyStoreId};
use model::key_store::ConnectionState;
use model::limits;
use model::operation::Operation;
use store::{Catalogue, KeyStore};

impl Service {
    /// Shows key stores with the health of their HSMs. At most one of id and name is not empty.
    pub async fn describe_key_stores(
        &self,
        call: &Call,
        id: &str,
        name: &str,
        limit: Option<u32>,
        marker: &str,
    ) -> Result<Page<KeyStoreView>, Error> {
        self.on_catalogue(call, Operation::DescribeKeyStores, |_| {
            let limit = validate::page_limit(limit)?;
            let after = page::after('s', marker, |text| Some(KeyStoreId::from(text)))?;
            let catalogue = self.inner.store.catalogue();
            let with_health = |store: &Arc<KeyStore>| self.view(store);
            let one = match (id, name) {
                ("", "") => None,
                (id, "") => Some(store_with_id(&catalogue, id)?),
                ("", name) => {
                    let named = catalogue.key_stores.values().find(|store| store.name == name);
                    Some(named.ok_or_else(|| Error::no_such_key_store("name", name))?)
                }
                _ => return Err(Error::validation("Specify either a key store id or a key store name, not both.")),
            };
            if let Some(store) = one {
                return Ok(Page { items: vec![with_health(store)], next_marker: None });
            }
            let from = after.map_or(Unbounded, Excluded);
            let stores = catalogue.key_stores.range((from, Unbounded)).map(|(_, store)| store);
            let page = page::cut('s', stores, limit, |store| store.id.clone());
            Ok(Page { items: page.items.into_iter().map(with_health).collect(), next_marker: page.next_marker })
        })
    }

    /// A key store with its HSMs.
    pub(super) fn view(&self, store: &Arc<KeyStore>) -> KeyStoreView {
        KeyStoreView { store: Arc::clone(store), hsms: self.hsm_views(&store.cluster, Some(&store.id)) }
    }

    /// The HSMs of a cluster of the configuration, in its order.
    pub(super) fn hsm_views(&self, cluster: &ClusterId, key_store: Option<&KeyStoreId>) -> Vec<HsmView> {
        let active = key_store.and_then(|key_store| self.inner.registry.active_of(key_store));
        let mut statuses = active.map(|active| active.members.hsm_cluster.status()).unwrap_or_default();
        let spec = self.inner.registry.spec(cluster);
        let mut views: Vec<HsmView> = spec
            .iter()
            .flat_map(|spec| &spec.hsms)
            .map(|hsm| {
                let at = statuses.iter().position(|status| status.hsm == hsm.hsm);
                HsmView {
                    hsm: hsm.hsm.clone(),
                    zone: hsm.zone.clone(),
                    data_workers: hsm.data_workers,
                    status: at.map(|at| statuses.swap_remove(at)),
                    pin: key_store.and_then(|key_store| self.inner.registry.pins.status(key_store, &hsm.hsm)),
                }
            })
            .collect();
        // In use, though the configuration does not describe them any more.
        views.extend(statuses.into_iter().map(|status| HsmView {
            hsm: status.hsm.clone(),
            zone: status.zone.clone(),
            data_workers: status.data_workers,
            pin: key_store.and_then(|key_store| self.inner.registry.pins.status(key_store, &status.hsm)),
            status: Some(status),
        }));
        views
    }

    /// The cluster in use by a key store.
    pub(super) fn members_of(&self, key_store: &KeyStoreId) -> Option<Members> {
        self.inner.registry.active_of(key_store).map(|active| active.members)
    }

    /// The store with this id.
    pub(super) fn store_with_id(&self, id: &str) -> Result<Arc<KeyStore>, Error> {
        store_with_id(&self.inner.store.catalogue(), id).cloned()
    }

    /// The store with this id and its cluster, if it is connected.
    pub(super) fn connected_store(&self, id: &str) -> Result<(Arc<KeyStore>, Members), Error> {
        let catalogue = self.inner.store.catalogue();
        let store = store_with_id(&catalogue, id)?;
        let wrong = |why: String| Error::permanent(Exception::CustomKeyStoreInvalidState, why);
        if store.state != ConnectionState::Connected {
            return Err(wrong(format!("key store {} is {}; it must be CONNECTED", store.name, store.state.name())));
        }
        let members = self.members_of(&store.id).ok_or_else(|| {
            wrong(format!(
                "key store {}: its cluster {} cannot be used; the daemon's log says why",
                store.name, store.cluster
            ))
        })?;
        Ok((Arc::clone(store), members))
    }
}

fn store_with_id<'a>(catalogue: &'a Catalogue, id: &str) -> Result<&'a Arc<KeyStore>, Error> {
    validate::length("customKeyStoreId", id.len(), 1, limits::KEY_STORE_ID_BYTES)?;
    catalogue.key_stores.get(&KeyStoreId::from(id)).ok_or_else(|| Error::no_key_store(id))
}
