//! CreateKeyStore: a look at the cluster's HSMs without logging in, then a store in state DISCONNECTED.

use std::collections::BTreeSet;

use super::cluster_registry::ClusterSpec;
use super::{Call, CreateKeyStoreInput, Error, Service, validate};
use cluster::discovery::{DiscoveredHsm, discover};
use cluster::kmsuser::{Said, is_given, record_of};
use model::exception::Exception;
use model::id::{ClusterId, HsmId, KeyStoreId, Zone};
use model::key_store::ConnectionState;
use model::limits;
use model::operation::Operation;
use model::pin::Pin;
use pki::identity::{Kind, TrustAnchor};
use store::NewKeyStore;

/// A key store needs HSMs in as many zones.
const ZONES: usize = 2;

impl Service {
    /// Makes a key store. The same call gives the same store while that is DISCONNECTED.
    pub async fn create_key_store(&self, call: &Call, input: CreateKeyStoreInput) -> Result<KeyStoreId, Error> {
        let service = self.clone();
        self.on_one(call, Operation::CreateKeyStore, async move {
            validate::key_store_name(&input.name)?;
            validate::length("trustAnchorCertificate", input.trust_anchor.len(), 1, limits::TRUST_ANCHOR_CHARS)?;
            validate::pin(&input.password)?;
            let cluster = validate::cluster_id(&input.cluster_id)?;
            let _alone = service.inner.registry.creating.lock().await;
            if let Some(twin) = service.twin(&cluster, &input).await? {
                return Ok(twin);
            }
            service.is_free(&input.name, &cluster)?;
            let spec = service.inner.registry.spec(&cluster).ok_or_else(|| Error::no_cluster(cluster.as_str()))?;
            let anchor = TrustAnchor::from_pem(&input.trust_anchor).map_err(|error| {
                Error::permanent(Exception::IncorrectTrustAnchor, format!("trustAnchorCertificate: {error}"))
            })?;
            service.is_alone(&anchor)?;
            service.inspect(&spec, &anchor, Exception::IncorrectTrustAnchor).await?;
            let id = KeyStoreId::random();
            let records: BTreeSet<HsmId> = spec.hsms.iter().map(|hsm| record_of(spec.pin_scope, &hsm.hsm)).collect();
            let first = Said { pin: Some(&input.password), was_reset: None };
            let pins = records.iter().map(|record| service.said_of(&id, &[], record, first));
            let pins = pins.filter_map(Result::transpose).map(|pin| pin.map(|pin| (pin.hsm, pin.after)));
            let pins = pins.collect::<Result<_, Error>>()?;
            let (name, trust_anchor) = (input.name.clone(), input.trust_anchor.clone());
            let new = NewKeyStore { id: id.clone(), name, cluster, trust_anchor, pins };
            service.inner.store.create_key_store(new).await.map_err(Error::of_store)?;
            // What failed before, under a key store that was deleted, is counted.
            let pins = service.inner.store.pins(&id).await.map_err(Error::of_store)?;
            service.inner.registry.pins.replace(&id, &pins, spec.login_tries);
            tracing::info!(key_store = %id, name = input.name, cluster = %spec.settings.id, "key store created");
            Ok(id)
        })
        .await
    }

    /// The store that this very call has made before, if nobody has connected it since.
    async fn twin(&self, cluster: &ClusterId, input: &CreateKeyStoreInput) -> Result<Option<KeyStoreId>, Error> {
        let catalogue = self.inner.store.catalogue();
        let same = catalogue.key_stores.values().find(|store| {
            store.name == input.name
                && store.cluster == *cluster
                && store.trust_anchor == input.trust_anchor
                && store.state == ConnectionState::Disconnected
        });
        let Some(store) = same else { return Ok(None) };
        let pins = self.inner.store.pins(&store.id).await.map_err(Error::of_store)?;
        let seals = self.inner.registry.seals.load();
        let same_pin = |(record, pin): &(HsmId, Pin)| is_given(&seals, &store.id, record, pin, &input.password);
        Ok((!pins.is_empty() && pins.iter().all(same_pin)).then(|| store.id.clone()))
    }

    /// Before anything is looked at that takes time. The metadata has the last word.
    fn is_free(&self, name: &str, cluster: &ClusterId) -> Result<(), Error> {
        let catalogue = self.inner.store.catalogue();
        let mut stores = catalogue.key_stores.values();
        if stores.clone().any(|store| store.name == name) {
            return Err(Error::of_store(store::Error::NameInUse(name.to_owned())));
        }
        if stores.clone().any(|store| store.cluster == *cluster) {
            return Err(Error::of_store(store::Error::ClusterInUse(cluster.clone())));
        }
        if stores.by_ref().count() >= limits::KEY_STORES {
            return Err(Error::of_store(store::Error::Quota(limits::KEY_STORES)));
        }
        Ok(())
    }

    /// Clusters under one authority share their history: at most one of them belongs to a key store.
    fn is_alone(&self, anchor: &TrustAnchor) -> Result<(), Error> {
        let catalogue = self.inner.store.catalogue();
        let same = catalogue.key_stores.values().find(|store| {
            TrustAnchor::from_pem(&store.trust_anchor).is_ok_and(|other| other.is_same_authority(anchor))
        });
        let Some(store) = same else { return Ok(()) };
        Err(Error::permanent(
            Exception::CloudHsmClusterInUse,
            format!("key store {} has a cluster under the same trust anchor: {}", store.name, store.cluster),
        ))
    }

    /// Looks at a cluster's HSMs: at least two active ones, in distinct zones, certified under the anchor. `unrelated`
    /// is what it means to the caller when they are certified under another.
    pub(super) async fn inspect(
        &self,
        spec: &ClusterSpec,
        anchor: &TrustAnchor,
        unrelated: Exception,
    ) -> Result<(), Error> {
        let now = self.inner.clock.calendar();
        let mut zones: BTreeSet<Zone> = BTreeSet::new();
        let (mut active, mut wrong, mut unknown) = (0_usize, Vec::new(), Vec::new());
        for DiscoveredHsm { hsm, zone, seen } in discover(&spec.hsms, &self.inner.clock).await {
            let certificate = match seen {
                Ok(ready) => ready.identity,
                Err(why) => {
                    wrong.push(format!("HSM {hsm} in zone {zone}: {why}"));
                    continue;
                }
            };
            let Some(certificate) = certificate else {
                wrong.push(format!("HSM {hsm} in zone {zone}: its token did not go through the key ceremony"));
                continue;
            };
            active += 1;
            match anchor.certified(Kind::Identity, &certificate, now) {
                Ok(certified) if certified.hsm == hsm => drop(zones.insert(zone)),
                Ok(certified) => {
                    wrong.push(format!("HSM {hsm} in zone {zone}: its token was certified as HSM {}", certified.hsm));
                }
                Err(error) => unknown.push(format!("HSM {hsm}: {error}")),
            }
        }
        let cluster = &spec.settings.id;
        if !unknown.is_empty() {
            return Err(Error::permanent(
                unrelated,
                format!("the HSMs of {cluster} are not certified under this trust anchor: {}", unknown.join("; ")),
            ));
        }
        if active == 0 {
            return Err(Error::permanent(
                Exception::CloudHsmClusterNotActive,
                format!("no HSM of {cluster} is active: {}", wrong.join("; ")),
            ));
        }
        if zones.len() < ZONES {
            return Err(Error::permanent(
                Exception::CloudHsmClusterInvalidConfiguration,
                format!("{cluster} needs at least {ZONES} active HSMs in distinct zones: {}", wrong.join("; ")),
            ));
        }
        Ok(())
    }
}
