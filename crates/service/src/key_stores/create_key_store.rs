//! CreateKeyStore: a look at the cluster's HSMs without logging in, then a store in state DISCONNECTED.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::core::approval::{Person, as_of_now};
use crate::core::cluster_registry::ClusterSpec;
use crate::core::notes::Notes;
use crate::core::pin_record::said_of;
use crate::core::proposal::Proposal;
use crate::core::{Core, validate};
use crate::key_stores::inspect::inspect;
use crate::{Error, RequestContext, Service};
use audit::event::Fields;
use cluster::kmsuser::{Said, is_given, record_of};
use model::exception::Exception;
use model::id::{ClusterId, HsmId, KeyStoreId, PrincipalId};
use model::key_store::ConnectionState;
use model::limits;
use model::operation::Operation;
use model::pin::Pin;
use model::secret::Secret;
use pki::identity::TrustAnchor;
use store::{KeyStore, NewKeyStore};

/// A key store that is to be made.
#[derive(Clone, Debug)]
pub struct CreateKeyStoreInput {
    /// 1 to 256 characters.
    pub name: String,
    /// A cluster of the configuration.
    pub cluster_id: String,
    /// PEM.
    pub trust_anchor: String,
    /// kmsuser's PIN.
    pub password: Secret,
}

impl Service {
    /// Makes a key store. The same call of the same principal gives the same store while that is DISCONNECTED.
    pub async fn create_key_store(
        &self,
        call: &RequestContext,
        input: CreateKeyStoreInput,
    ) -> Result<KeyStoreId, Error> {
        let input = Arc::new(input);
        let said = Arc::clone(&input);
        let proposal = move |_: &Core, say: Proposal| {
            say.text("customKeyStoreName", &said.name)
                .text_as("cloudHsmClusterId", "clusterId", &said.cluster_id)
                .document("trustAnchorCertificate", &said.trust_anchor)
                .secret("keyStorePassword", Some(said.password.expose()))
        };
        let notes = Notes::default();
        let looked = Arc::clone(&input);
        let resource = self.core.arn_of(Operation::CreateKeyStore, "").noting(&notes).asking(proposal);
        // Whether the same call has made the store before is told to nobody whose call others have not approved: a call
        // that has only the PIN right would need nobody, and one that has it wrong would.
        let resource = resource.if_before(move |core, call| looked.checked(core, &maker(core, call)?).map(drop));
        let (core, of_task) = (self.core.clone(), call.clone());
        self.core
            .on_one(call, Operation::CreateKeyStore, resource, async move {
                let maker = maker(&core, &of_task)?;
                let cluster = input.checked(&core, &maker)?;
                let _alone = core.registry().creating.lock().await;
                let answer = |id: &KeyStoreId| notes.answer(Fields::new().text("customKeyStoreId", id.as_str()));
                if let Some(twin) = twin(&core, &cluster, &input, &maker).await? {
                    answer(&twin);
                    return Ok(twin);
                }
                let (spec, anchor) = input.is_possible(&core, &cluster)?;
                inspect(&core, &spec, &anchor, Exception::IncorrectTrustAnchor).await?;
                let id = KeyStoreId::random();
                let records: BTreeSet<HsmId> =
                    spec.hsms.iter().map(|hsm| record_of(spec.pin_scope, &hsm.hsm)).collect();
                let first = Said { pin: Some(&input.password), was_reset: None };
                let pins = records.iter().map(|record| said_of(&core, &id, &[], record, first));
                let pins = pins.filter_map(Result::transpose).map(|pin| pin.map(|pin| (pin.hsm, pin.after)));
                let pins = pins.collect::<Result<_, Error>>()?;
                let (name, trust_anchor) = (input.name.clone(), input.trust_anchor.clone());
                let new = NewKeyStore { id: id.clone(), name, cluster, trust_anchor, pins, maker: Some(maker) };
                core.store().create_key_store(new).await.map_err(Error::of_store)?;
                // What failed before, under a key store that was deleted, is counted.
                let pins = core.store().pins(&id).await.map_err(Error::of_store)?;
                core.registry().pins.replace(&id, &pins, spec.login_tries);
                answer(&id);
                tracing::info!(key_store = %id, name = input.name, cluster = %spec.settings.id, "key store created");
                Ok(id)
            })
            .await
    }
}

impl CreateKeyStoreInput {
    /// All that is wrong with it, or in its way, and is seen without a secret or an HSM. Of a store that is there already
    /// nothing is in the way of one that may be its [`twin`].
    fn checked(&self, core: &Core, maker: &PrincipalId) -> Result<ClusterId, Error> {
        validate::key_store_name(&self.name)?;
        validate::length("trustAnchorCertificate", self.trust_anchor.len(), 1, limits::TRUST_ANCHOR_CHARS)?;
        validate::pin(&self.password)?;
        let cluster = validate::cluster_id(&self.cluster_id)?;
        if self.same(core, &cluster, maker).is_none() {
            self.is_possible(core, &cluster)?;
        }
        Ok(cluster)
    }

    /// Whether there is nothing in the way of a new store.
    fn is_possible(&self, core: &Core, cluster: &ClusterId) -> Result<(Arc<ClusterSpec>, TrustAnchor), Error> {
        is_free(core, &self.name, cluster)?;
        let spec = core.registry().spec(cluster).ok_or_else(|| Error::no_cluster(cluster.as_str()))?;
        let anchor = TrustAnchor::from_pem(&self.trust_anchor).map_err(|error| {
            Error::permanent(Exception::IncorrectTrustAnchor, format!("trustAnchorCertificate: {error}"))
        })?;
        is_alone(core, &anchor)?;
        Ok((spec, anchor))
    }

    /// A store that the same principal has made, that nobody has connected and that differs in its PIN at most.
    fn same(&self, core: &Core, cluster: &ClusterId, maker: &PrincipalId) -> Option<Arc<KeyStore>> {
        let catalogue = core.store().catalogue();
        let same = catalogue.key_store_named(&self.name).filter(|store| {
            store.maker.as_ref().is_some_and(|of| as_of_now(&catalogue, of) == *maker)
                && store.cluster == *cluster
                && store.trust_anchor == self.trust_anchor
                && store.state == ConnectionState::Disconnected
        });
        same.cloned()
    }
}

/// Who calls, as it is on record who made a key store.
fn maker(core: &Core, call: &RequestContext) -> Result<PrincipalId, Error> {
    core.judged(call, |judge| Person::of(judge, call)).map(|person| person.id())
}

/// The store that this very call has made before, if nobody has connected it since. It is given to who made it alone: it
/// tells that the PIN in the call is the store's, which nobody else is to find out by trying.
async fn twin(
    core: &Core,
    cluster: &ClusterId,
    input: &CreateKeyStoreInput,
    maker: &PrincipalId,
) -> Result<Option<KeyStoreId>, Error> {
    let Some(store) = input.same(core, cluster, maker) else { return Ok(None) };
    let pins = core.store().pins(&store.id).await.map_err(Error::of_store)?;
    let seals = core.registry().seals.load();
    let same_pin = |(record, pin): &(HsmId, Pin)| is_given(&seals, &store.id, record, pin, &input.password);
    Ok((!pins.is_empty() && pins.iter().all(same_pin)).then(|| store.id.clone()))
}

/// Before anything is looked at that takes time. The metadata has the last word.
fn is_free(core: &Core, name: &str, cluster: &ClusterId) -> Result<(), Error> {
    let catalogue = core.store().catalogue();
    if catalogue.key_store_named(name).is_some() {
        return Err(Error::of_store(store::Error::NameInUse(name.to_owned())));
    }
    if catalogue.key_store_over(cluster).is_some() {
        return Err(Error::of_store(store::Error::ClusterInUse(cluster.clone())));
    }
    if catalogue.key_stores().count() >= limits::KEY_STORES {
        return Err(Error::of_store(store::Error::Quota(limits::KEY_STORES)));
    }
    Ok(())
}

/// Clusters under one authority share their history: at most one of them belongs to a key store.
fn is_alone(core: &Core, anchor: &TrustAnchor) -> Result<(), Error> {
    let catalogue = core.store().catalogue();
    let same = catalogue
        .key_stores()
        .find(|store| TrustAnchor::from_pem(&store.trust_anchor).is_ok_and(|other| other.is_same_authority(anchor)));
    let Some(store) = same else { return Ok(()) };
    Err(Error::permanent(
        Exception::CloudHsmClusterInUse,
        format!("key store {} has a cluster under the same trust anchor: {}", store.name, store.cluster),
    ))
}
