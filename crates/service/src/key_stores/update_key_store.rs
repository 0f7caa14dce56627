//! UpdateKeyStore: another name, kmsuser's PIN, that an officer has reset it, another cluster.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::core::cluster_registry::ClusterSpec;
use crate::core::pin_record::{READS, busy, said_of};
use crate::core::proposal::Proposal;
use crate::core::{Core, validate};
use crate::key_stores::inspect::inspect;
use crate::lifecycle::{Lifecycle, has_keys_in_place};
use crate::{Error, RequestContext, Service};
use cluster::kmsuser::{Said, record_of};
use model::exception::Exception;
use model::id::{ClusterId, HsmId, KeyStoreId};
use model::key_store::{Event, Next};
use model::operation::Operation;

use model::secret::Secret;
use pki::identity::TrustAnchor;
use store::{self, KeyStore, KeyStoreChange};

/// What is to be changed about a key store. Absent: unchanged.
#[derive(Clone, Debug, Default)]
pub struct UpdateKeyStoreInput {
    /// The key store.
    pub key_store_id: String,
    /// Another name.
    pub new_name: Option<String>,
    /// kmsuser's PIN ...
    pub password: Option<Secret>,
    /// The security officer has set it, or has unlocked kmsuser where no password is given: the token's own count of
    /// wrong PINs is cleared ...
    pub pin_was_reset: bool,
    /// ... in these HSMs; in all where empty.
    pub hsm_ids: Vec<String>,
    /// Another cluster.
    pub cluster_id: Option<String>,
}

/// What is to be changed, after it was looked at.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) cluster: Option<ClusterId>,
    /// Of whose PINs something is said.
    pub(crate) records: BTreeSet<HsmId>,
    pub(crate) was_reset: Option<i64>,
}

impl Service {
    /// Changes what is named. What a PIN changes about what is known of the PINs is decided in `cluster::kmsuser`.
    pub async fn update_key_store(&self, call: &RequestContext, input: UpdateKeyStoreInput) -> Result<(), Error> {
        let resource = self.core.arn_of(Operation::UpdateKeyStore, &input.key_store_id);
        let input = Arc::new(input);
        let said = Arc::clone(&input);
        let looked = Arc::clone(&input);
        let resource = resource.asking(move |_, say| said.proposal(say));
        let resource = resource.if_before(move |core, _| checked(core, &looked).map(drop));
        let (core, lifecycle, principal) = (self.core.clone(), self.lifecycle.clone(), call.principal.clone());
        self.core.on_one(call, Operation::UpdateKeyStore, resource, async move {
            let id = KeyStoreId::from(input.key_store_id.as_str());
            let plan = plan_of(&core, &id, &input).await?;
            let _turn = core.registry().turn(&id).await;
            carry_out(&core, &lifecycle, &id, &input, &plan).await?;
            if let Some(store) = core.store().catalogue().key_store(&id)
                && let Some(spec) = core.registry().spec(&store.cluster)
            {
                let pins = core.store().pins(&id).await.map_err(Error::of_store)?;
                core.registry().pins.replace(&id, &pins, spec.login_tries);
            }
            tracing::info!(key_store = %id, name = ?input.new_name, cluster = ?input.cluster_id,
                pin = input.password.is_some(), hsms = ?input.hsm_ids, "key store updated");
            if plan.was_reset.is_some() {
                let hsms: Vec<&str> = plan.records.iter().map(HsmId::as_str).collect();
                tracing::warn!(principal = principal.as_str(), key_store = %id, ?hsms, pin = input.password.is_some(),
                    "kmsuser's PIN was said to be reset by the security officer; its failed logins are counted anew");
            }
            Ok(())
        })
        .await
    }
}

impl UpdateKeyStoreInput {
    /// What others may have to approve: a PIN, that it was reset, another cluster, but not a name.
    fn proposal(&self, say: Proposal) -> Proposal {
        let Self { new_name, password, pin_was_reset, hsm_ids, cluster_id, .. } = self;
        say.free_if(password.is_none() && !pin_was_reset && cluster_id.is_none())
            .maybe("newCustomKeyStoreName", new_name.as_deref())
            .secret("keyStorePassword", password.as_ref().map(Secret::expose))
            .others_alone(|say| say.flag("pinWasReset", *pin_was_reset))
            .in_record(|fields| if *pin_was_reset { fields.flag("pinWasReset", true) } else { fields })
            .texts("hsmIds", hsm_ids.iter().map(String::as_str))
            .maybe("cloudHsmClusterId", cluster_id.as_deref())
    }
}

/// Looks once more at what may have changed since the plan was made, for which HSMs were asked, and records it. No key is begun
/// in between.
pub(crate) async fn carry_out(
    core: &Core,
    lifecycle: &Lifecycle,
    id: &KeyStoreId,
    input: &UpdateKeyStoreInput,
    plan: &Plan,
) -> Result<(), Error> {
    let _none_made = lifecycle.creations().lock().await;
    if let Some(cluster) = &plan.cluster {
        let store = core.store_with_id(id.as_str())?;
        may_move(core, &store, cluster)?;
    }
    record_update(core, id, input, plan).await
}

/// Records it all, or nothing.
async fn record_update(core: &Core, id: &KeyStoreId, input: &UpdateKeyStoreInput, plan: &Plan) -> Result<(), Error> {
    let what = Said { pin: input.password.as_ref(), was_reset: plan.was_reset };
    for _ in 0..READS {
        let known = core.store().pins(id).await.map_err(Error::of_store)?;
        let pins = plan.records.iter().map(|record| said_of(core, id, &known, record, what));
        let pins = pins.filter_map(Result::transpose).collect::<Result<_, Error>>()?;
        let change = KeyStoreChange { name: input.new_name.clone(), cluster: plan.cluster.clone(), pins };
        match core.store().update_key_store(id, change).await {
            // What a login has recorded meanwhile is read again.
            Err(store::Error::PinChanged(_)) => {}
            done => return done.map_err(Error::of_store),
        }
    }
    Err(busy())
}

/// The store, once all is looked at that is seen without a secret or an HSM.
fn checked(core: &Core, input: &UpdateKeyStoreInput) -> Result<(Arc<KeyStore>, Option<ClusterId>), Error> {
    let store = core.store_with_id(&input.key_store_id)?;
    let of_pins = input.password.is_some() || input.pin_was_reset;
    if input.new_name.is_none() && !of_pins && input.cluster_id.is_none() {
        return Err(Error::validation(
            "Specify at least one of a new name, a password, that the PIN was reset, and a cluster id.",
        ));
    }
    if !of_pins && !input.hsm_ids.is_empty() {
        return Err(Error::validation(
            "HSM ids say for which HSMs a password is, or in which the PIN was reset; specify that too.",
        ));
    }
    if let Some(name) = &input.new_name {
        validate::key_store_name(name)?;
    }
    if of_pins || input.cluster_id.is_some() {
        // The metadata has the last word.
        if store.state.next(Event::Change) == Next::Refused {
            return Err(Error::of_store(store::Error::State(store.state)));
        }
    }
    input.password.as_ref().map(validate::pin).transpose()?;
    let cluster = input.cluster_id.as_deref().map(validate::cluster_id).transpose()?;
    if of_pins || cluster.is_some() {
        hsms_named(input, &*spec_of(core, cluster.as_ref().unwrap_or(&store.cluster))?)?;
    }
    if let Some(cluster) = &cluster {
        may_move(core, &store, cluster)?;
    }
    Ok((store, cluster))
}

/// Refuses another cluster than the one that has made keys which it gives to no other one.
fn may_move(core: &Core, store: &KeyStore, to: &ClusterId) -> Result<(), Error> {
    if *to == store.cluster || !has_keys_in_place(&core.store().catalogue(), &store.id) {
        return Ok(());
    }
    let why = format!(
        "the key store has keys that were made in place in {}, which gives none away: no other cluster can have them",
        store.cluster
    );
    Err(Error::permanent(Exception::CloudHsmClusterInvalidConfiguration, why))
}

async fn plan_of(core: &Core, id: &KeyStoreId, input: &UpdateKeyStoreInput) -> Result<Plan, Error> {
    let (store, cluster) = checked(core, input)?;
    let of_pins = input.password.is_some() || input.pin_was_reset;
    let target = cluster.as_ref().unwrap_or(&store.cluster);
    let mut records = BTreeSet::new();
    if cluster.is_some() || of_pins {
        let spec = spec_of(core, target)?;
        if cluster.is_some() {
            let anchor = TrustAnchor::from_pem(&store.trust_anchor)
                .map_err(|error| Error::internal(&format!("the trust anchor cannot be read: {error}")))?;
            inspect(core, &spec, &anchor, Exception::CloudHsmClusterNotRelated).await?;
        }
        if of_pins {
            records = records_of(core, id, input, &spec).await?;
        }
    }
    let was_reset = input.pin_was_reset.then(|| core.clock().unix_millis());
    Ok(Plan { cluster, records, was_reset })
}

fn spec_of(core: &Core, cluster: &ClusterId) -> Result<Arc<ClusterSpec>, Error> {
    core.registry().spec(cluster).ok_or_else(|| Error::no_cluster(cluster.as_str()))
}

/// The HSMs that the call names, of those that there are.
fn hsms_named(input: &UpdateKeyStoreInput, spec: &ClusterSpec) -> Result<Vec<HsmId>, Error> {
    let named: Result<Vec<HsmId>, Error> = input.hsm_ids.iter().map(|id| validate::hsm_id("hsmIds", id)).collect();
    let named = named?;
    match named.iter().find(|hsm| spec.hsm(hsm).is_none()) {
        Some(stranger) => {
            let cluster = &spec.settings.id;
            Err(Error::validation(format!("HSM '{stranger}' is not in the configuration of {cluster}")))
        }
        None => Ok(named),
    }
}

/// Of whose PINs something is said.
async fn records_of(
    core: &Core,
    id: &KeyStoreId,
    input: &UpdateKeyStoreInput,
    spec: &Arc<ClusterSpec>,
) -> Result<BTreeSet<HsmId>, Error> {
    let named = hsms_named(input, spec)?;
    let all = spec.hsms.iter().map(|hsm| hsm.hsm.clone());
    let meant = if named.is_empty() { all.collect() } else { named.clone() };
    let meant = meant.iter().map(|hsm| record_of(spec.pin_scope, hsm));
    if input.password.is_some() {
        return Ok(meant.collect());
    }
    // That a PIN was reset can be said of one that is known.
    let pins = core.store().pins(id).await.map_err(Error::of_store)?;
    let (known, unknown): (BTreeSet<_>, BTreeSet<_>) =
        meant.partition(|record| pins.iter().any(|(of, _)| of == record));
    match unknown.first() {
        Some(hsm) if known.is_empty() || !named.is_empty() => {
            Err(Error::validation(format!("no PIN of kmsuser is on record for HSM {hsm}; specify the password too")))
        }
        _ => Ok(known),
    }
}
