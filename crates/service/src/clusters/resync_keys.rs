//! ResyncKeys: has HSMs filled with what they lack, and puts keys back where somebody removed them.

use crate::core::access::Named;
use crate::core::proposal::Proposal;
use crate::core::{Core, validate};
use crate::lifecycle::{Lifecycle, missing_in};
use crate::{Error, RequestContext, Service};
use model::exception::Exception;
use model::id::{HsmId, KeyId, KeyVersionId};
use model::key::Placement;
use model::operation::Operation;

/// Which keys are to be put back where somebody removed them.
#[derive(Clone, Debug, Default)]
pub struct ResyncInput {
    /// Its cluster.
    pub cluster_id: String,
    /// Key id or key ARN; empty: no key in particular.
    pub key_id: String,
    /// In this HSM; empty: in all.
    pub hsm_id: String,
    /// Every key that was removed in that HSM.
    pub all_removed: bool,
}

/// What a resync is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resynced {
    /// Versions that were taken for removed and are wanted again.
    pub wanted_again: usize,
    /// Versions that will be placed or proven, over all HSMs.
    pub to_place: usize,
}

impl Service {
    /// Returns when it is on record which keys are wanted again; placing them goes on after that.
    pub async fn resync_keys(&self, call: &RequestContext, input: ResyncInput) -> Result<Resynced, Error> {
        let (said, of_look) = (input.clone(), input.key_id.clone());
        let proposal = move |_: &Core, say: Proposal| {
            say.text("keyId", &said.key_id).text("hsmId", &said.hsm_id).flag("allRemoved", said.all_removed)
        };
        let resource = self.core.arn_of(Operation::ResyncKeys, &input.cluster_id).asking(proposal);
        let resource = resource.if_before(move |core, call| key_in(core, call, &of_look).map(drop));
        let (core, lifecycle, of_task) = (self.core.clone(), self.lifecycle.clone(), call.clone());
        let work = async move { resync(&core, &lifecycle, &of_task, &input).await };
        self.core.on_one(call, Operation::ResyncKeys, resource, work).await
    }
}

/// The key that is named, for callers who may do this with it.
///
/// Identity policies alone are asked: where a key lies is an operator's affair, and whoever writes key policies must not be
/// able to keep it from being put back.
fn key_in(core: &Core, call: &RequestContext, text: &str) -> Result<Option<KeyId>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let id = core.key_named(call, Operation::ResyncKeys, text, &core.store().catalogue())?;
    Named::other(core.scope().key_arn(id)).is_allowed(core, call, Operation::ResyncKeys)?;
    Ok(Some(id))
}

async fn resync(
    core: &Core,
    lifecycle: &Lifecycle,
    call: &RequestContext,
    input: &ResyncInput,
) -> Result<Resynced, Error> {
    let key = key_in(core, call, &input.key_id)?;
    let cluster = validate::cluster_id(&input.cluster_id)?;
    let spec = core.registry().spec(&cluster).ok_or_else(|| Error::no_cluster(&input.cluster_id))?;
    let catalogue = core.store().catalogue();
    let store = catalogue.key_store_over(&cluster);
    let active = store.and_then(|store| core.registry().active_of(&store.id));
    let (Some(store), Some(_)) = (store, active) else {
        let why = format!("no key store over {cluster} is connected; connect it, and its HSMs are filled");
        return Err(Error::permanent(Exception::CustomKeyStoreInvalidState, why));
    };
    let hsms: Vec<HsmId> = spec.hsms.iter().map(|hsm| hsm.hsm.clone()).collect();
    let named: Vec<HsmId> = match input.hsm_id.as_str() {
        "" => hsms.clone(),
        id => {
            let hsm = validate::hsm_id("hsmId", id)?;
            if !hsms.contains(&hsm) {
                return Err(Error::validation(format!("the cluster {cluster} has no HSM {hsm}")));
            }
            vec![hsm]
        }
    };
    if input.all_removed && (input.hsm_id.is_empty() || !input.key_id.is_empty()) {
        return Err(Error::validation("to put all removed keys back, name the HSM, and no key"));
    }
    let known = |id: &KeyId| catalogue.key(*id).is_some_and(|key| key.key_store == store.id);
    if let Some(unknown) = key.filter(|id| !known(id)) {
        return Err(Error::no_key(&core.scope().key_arn(unknown)));
    }
    let keys = catalogue.keys_of(&store.id);
    let meant = keys.filter(|known| input.all_removed || key == Some(known.id)).flat_map(|key| &key.versions);
    let removed: Vec<(KeyVersionId, &HsmId)> = meant
        .flat_map(|version| named.iter().map(move |hsm| (version, hsm)))
        .filter(|(version, hsm)| version.placements.get(*hsm) == Some(&Placement::Removed))
        .map(|(version, hsm)| (version.id, hsm))
        .collect();
    for (version, hsm) in &removed {
        core.store().set_placement(*version, hsm, Placement::Pending).await.map_err(Error::of_store)?;
        tracing::info!(%hsm, key_version = %version, "the key that was removed in this HSM is wanted there again");
    }
    // As it is now, with what is wanted again.
    let now = core.store().catalogue();
    let to_place = hsms.iter().map(|hsm| missing_in(&now, &store.id, hsm).len()).sum();
    hsms.iter().for_each(|hsm| lifecycle.reconcilers().ask(hsm));
    Ok(Resynced { wanted_again: removed.len(), to_place })
}
