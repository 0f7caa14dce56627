//! DescribeKeyStores, and the ways from a key store to its cluster.

use std::sync::Arc;

use crate::core::access::Named;
use crate::core::key_store::store_with_id;
use crate::core::{Core, page, validate};
use crate::{Error, Page, RequestContext, Service};
use cluster::MemberStatus;
use cluster::kmsuser::PinStatus;
use model::id::{ClusterId, KeyStoreId};
use model::id::{HsmId, Zone};
use model::operation::Operation;
use model::profile::notes;
use store::KeyStore;

/// One HSM as operators see it.
#[derive(Clone, Debug)]
pub struct HsmView {
    /// The HSM.
    pub hsm: HsmId,
    /// Its zone.
    pub zone: Zone,
    /// Data workers that there should be.
    pub data_workers: u16,
    /// What people should know of it beforehand, one sentence each; empty where the configuration does not describe it.
    pub notes: Vec<String>,
    /// How it is, while its key store is in use.
    pub status: Option<MemberStatus>,
    /// What is known of its PIN; absent where none is on record: it has not joined.
    pub pin: Option<PinStatus>,
}

impl HsmView {
    /// It has joined, and its token holds the cluster's wrapping key, or makes its keys in place and needs none.
    #[must_use]
    pub fn is_member(&self) -> bool {
        let can_have_keys = |member: &MemberStatus| match member.in_place {
            true => member.status.logged_in.is_some(),
            false => member.status.holds_wrapping_key(),
        };
        self.pin.is_some() && self.status.as_ref().is_some_and(can_have_keys)
    }
}

/// A key store as operators see it.
#[derive(Clone, Debug)]
pub struct KeyStoreView {
    /// What is on record.
    pub store: Arc<KeyStore>,
    /// Its HSMs.
    pub hsms: Vec<HsmView>,
}

impl Service {
    /// Every key store with its HSMs, for metrics and readiness.
    #[must_use]
    pub fn key_stores(&self) -> Vec<KeyStoreView> {
        self.core.store().catalogue().key_stores().map(|store| view(&self.core, store)).collect()
    }

    /// Shows key stores with the health of their HSMs. At most one of id and name is not empty; permission is asked about the
    /// store that is named, and about none in particular where all are listed.
    pub async fn describe_key_stores(
        &self,
        call: &RequestContext,
        id: &str,
        name: &str,
        limit: Option<u32>,
        marker: &str,
    ) -> Result<Page<KeyStoreView>, Error> {
        let said = (name.to_owned(), marker.to_owned());
        // A store that is named is asked about, by its name as by its id. Which one has the name is looked at once: what is
        // shown is what was asked about.
        let named = match (id, name) {
            ("", name) if !name.is_empty() => Some(self.key_store_shown(call, name)),
            _ => None,
        };
        let resource = match &named {
            Some(store) => self.key_store_called(store.as_deref(), name),
            None => self.core.arn_of(Operation::DescribeKeyStores, id),
        };
        let resource = resource.asking(move |_, say| say.text("customKeyStoreName", &said.0).page(limit, &said.1));
        let (id, name, marker) = (id.to_owned(), name.to_owned(), marker.to_owned());
        self.core
            .on_catalogue(call, Operation::DescribeKeyStores, resource, move |core| {
                let limit = validate::page_limit(limit)?;
                let after = page::after('s', &marker, |text| Some(KeyStoreId::from(text)))?;
                let catalogue = core.store().catalogue();
                let with_health = |store: &Arc<KeyStore>| view(core, store);
                let one = match (id.as_str(), name.as_str()) {
                    ("", "") => None,
                    (id, "") => Some(store_with_id(&catalogue, id)?),
                    ("", name) => {
                        let known = named.flatten().and_then(|store| catalogue.key_store(&store.id));
                        Some(known.ok_or_else(|| Error::no_such_key_store("name", name))?)
                    }
                    _ => return Err(Error::validation("Specify either a key store id or a key store name, not both.")),
                };
                if let Some(store) = one {
                    return Ok(Page { items: vec![with_health(store)], next_marker: None });
                }
                let stores = catalogue.key_stores_after(after.as_ref());
                let page = page::cut('s', stores, limit, |store| store.id.clone());
                Ok(Page { items: page.items.into_iter().map(with_health).collect(), next_marker: page.next_marker })
            })
            .await
    }

    /// The key store of this name, as far as the caller is to know of it. Whoever is told that there is no store of a name
    /// where there is none, and may not see the one that has this name, is told the same of it.
    fn key_store_shown(&self, call: &RequestContext, name: &str) -> Option<Arc<KeyStore>> {
        let store = self.core.store().catalogue().key_store_named(name).cloned()?;
        let may_see = |store: Option<&KeyStore>| {
            self.key_store_called(store, name).is_allowed(&self.core, call, Operation::DescribeKeyStores).is_ok()
        };
        (may_see(Some(&store)) || !may_see(None)).then_some(store)
    }

    /// What permission is asked about, of a store that is looked for by its name.
    fn key_store_called(&self, store: Option<&KeyStore>, name: &str) -> Named {
        Named::key_store_called(self.core.scope(), store.map(|store| store.id.as_str()), name)
    }
}

/// A key store with its HSMs.
pub(crate) fn view(core: &Core, store: &Arc<KeyStore>) -> KeyStoreView {
    KeyStoreView { store: Arc::clone(store), hsms: hsm_views(core, &store.cluster, Some(&store.id)) }
}

/// The HSMs of a cluster of the configuration, in its order.
pub(crate) fn hsm_views(core: &Core, cluster: &ClusterId, key_store: Option<&KeyStoreId>) -> Vec<HsmView> {
    let active = key_store.and_then(|key_store| core.registry().active_of(key_store));
    let mut statuses = active.map(|active| active.members.hsm_cluster.status()).unwrap_or_default();
    let spec = core.registry().spec(cluster);
    let mut views: Vec<HsmView> = spec
        .iter()
        .flat_map(|spec| &spec.hsms)
        .map(|hsm| {
            let at = statuses.iter().position(|status| status.hsm == hsm.hsm);
            HsmView {
                hsm: hsm.hsm.clone(),
                zone: hsm.zone.clone(),
                data_workers: hsm.data_workers,
                notes: notes(&hsm.capabilities),
                status: at.map(|at| statuses.swap_remove(at)),
                pin: key_store.and_then(|key_store| core.registry().pins.status(key_store, &hsm.hsm)),
            }
        })
        .collect();
    // In use, though the configuration does not describe them any more.
    views.extend(statuses.into_iter().map(|status| HsmView {
        hsm: status.hsm.clone(),
        zone: status.zone.clone(),
        data_workers: status.data_workers,
        notes: Vec::new(),
        pin: key_store.and_then(|key_store| core.registry().pins.status(key_store, &status.hsm)),
        status: Some(status),
    }));
    views
}
