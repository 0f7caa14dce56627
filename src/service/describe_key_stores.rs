//! DescribeKeyStores, and the ways from a key store to its cluster.

use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::pool::Members;
use super::{Call, Error, Page, Service, page, validate};
use crate::cluster::MemberStatus;
use crate::model::exception::Exception;
use crate::model::id::{ClusterId, KeyStoreId};
use crate::model::key_store::ConnectionState;
use crate::model::operation::Operation;
use crate::store::{Catalogue, KeyStore};

impl Service {
    /// Shows key stores with the health of their HSMs. At most one of id and name is not empty.
    pub async fn describe_key_stores(
        &self,
        call: &Call,
        id: &str,
        name: &str,
        limit: Option<u32>,
        marker: &str,
    ) -> Result<Page<(Arc<KeyStore>, Vec<MemberStatus>)>, Error> {
        self.on_catalogue(call, Operation::DescribeKeyStores, |_| {
            let limit = validate::page_limit(limit)?;
            let after = page::after('s', marker, |text| Some(KeyStoreId::from(text)))?;
            let catalogue = self.inner.store.catalogue();
            let with_health = |store: &Arc<KeyStore>| {
                let health = self.members_of(&store.cluster).map(|members| members.pool.status());
                (Arc::clone(store), health.unwrap_or_default())
            };
            let one = match (id, name) {
                ("", "") => None,
                (id, "") => Some(store_with_id(&catalogue, id)?),
                ("", name) => {
                    let named = catalogue.key_stores.values().find(|store| store.name == name);
                    Some(named.ok_or_else(|| not_found("name", name))?)
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

    /// The configured cluster with this id.
    pub(super) fn members_of(&self, cluster: &ClusterId) -> Option<&Members> {
        self.inner.clusters.iter().find(|members| members.id == *cluster)
    }

    /// The store with this id and its cluster, if it is connected.
    pub(super) fn connected_store(&self, id: &str) -> Result<(Arc<KeyStore>, Members), Error> {
        let catalogue = self.inner.store.catalogue();
        let store = store_with_id(&catalogue, id)?;
        let wrong = |why: String| Error::lasting(Exception::CustomKeyStoreInvalidState, why);
        if store.state != ConnectionState::Connected {
            return Err(wrong(format!("key store {} is {}; it must be CONNECTED", store.name, store.state.name())));
        }
        let members = self.members_of(&store.cluster).ok_or_else(|| {
            wrong(format!("key store {}: its cluster {} is not in the configuration", store.name, store.cluster))
        })?;
        Ok((Arc::clone(store), members.clone()))
    }
}

fn store_with_id<'a>(catalogue: &'a Catalogue, id: &str) -> Result<&'a Arc<KeyStore>, Error> {
    validate::length("customKeyStoreId", id.len(), 1, 64)?;
    catalogue.key_stores.get(&KeyStoreId::from(id)).ok_or_else(|| not_found("id", id))
}

fn not_found(what: &str, value: &str) -> Error {
    // Callers' text comes back cut to what a name may have.
    let shown: String = value.chars().take(256).collect();
    Error::lasting(Exception::CustomKeyStoreNotFound, format!("there is no key store with the {what} '{shown}'"))
}
