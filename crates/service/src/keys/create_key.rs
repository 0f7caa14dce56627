//! CreateKey: begins a key, or finds the one that the same client token began, and waits until it is Enabled.

use std::collections::BTreeMap;

use crate::core::access::{Details, NO_KEY, Named};
use crate::core::proposal::Proposal;
use crate::core::{Core, validate};
use crate::keys::describe_key::{KeyMetadata, metadata};
use crate::keys::token;
use crate::lifecycle::{Lifecycle, Origin, Plan, VersionStep, transient};
use crate::{Error, RequestContext, Service};
use auth::peer::Principal;
use model::exception::Exception;
use model::id::{HsmId, KeyId, KeyStoreId, KeyVersionId};
use model::key::KeyState;
use model::operation::Operation;
use store::access::NewKeyPolicy;
use store::{Begun, NewKey};

/// What is to be made.
#[derive(Clone, Debug, Default)]
pub struct CreateKeyInput {
    /// Empty: the only store there is.
    pub key_store_id: String,
    /// At most 8,192 characters.
    pub description: String,
    /// Empty: none.
    pub client_token: String,
    /// Key and value; no key twice. They need the permission of TagResource.
    pub tags: Vec<(String, String)>,
    /// Its policy; empty: the default one.
    pub policy: String,
    /// The caller takes it upon itself that nobody can change the policy again.
    pub bypass_lockout_check: bool,
}

impl Service {
    /// Makes a key. The procedure goes on to its end when the caller leaves. Unless `bypass_lockout_check`, a policy that
    /// is given must let the caller change it.
    pub async fn create_key(&self, call: &RequestContext, mut input: CreateKeyInput) -> Result<KeyMetadata, Error> {
        let tags = (!input.tags.is_empty()).then(|| input.tags.clone());
        let bypass = input.bypass_lockout_check;
        // The only store there is may be another one when the call is made again.
        if let Some(store) =
            self.core.meant(Operation::CreateKey, || store_for(&self.core, &input.key_store_id).ok()).get()
        {
            input.key_store_id = store.to_string();
        }
        let meant = self.core.meant_by_new_key(&input.policy);
        // Without the client token, which is another one when the call is made again by hand.
        let proposal = Proposal::new()
            .text("customKeyStoreId", &input.key_store_id)
            .text("description", &input.description)
            .tags(&input.tags)
            .policy(&input.policy, &meant)
            .flag("bypassPolicyLockoutSafetyCheck", bypass);
        let details = Details { makes_key: true, tags, bypass_lockout_check: Some(bypass), ..Details::default() };
        let details = details.asking(proposal);
        let named = Named::nothing().with(details.clone());
        // Tags are given to a key, if to one that has no id yet.
        let tagged = Named::other(self.core.scope().key_arn(NO_KEY)).with(details);
        let (of_look, has_tags) = (tagged.clone(), !input.tags.is_empty());
        let look = move |core: &Core, call: &RequestContext| tagging(core, call, &of_look, has_tags);
        let resource = Ok(named.if_before(look));
        let (core, lifecycle, call_of_task) = (self.core.clone(), self.lifecycle.clone(), call.clone());
        self.core
            .on_one(call, Operation::CreateKey, resource, async move {
                validate::description(&input.description)?;
                validate::client_token(&input.client_token)?;
                let tags = validate::tags(std::mem::take(&mut input.tags), core.quotas().tags_per_key)?;
                tagging(&core, &call_of_task, &tagged, !tags.is_empty())?;
                let policy =
                    core.policy_of_new_key(&call_of_task, std::mem::take(&mut input.policy), bypass, &meant)?;
                let key = begin(&core, &lifecycle, &call_of_task.principal, input, (tags, policy)).await?;
                let keyring = core.keyring();
                let entry = keyring.key(key).ok_or_else(|| Error::internal("a key that was made is not there"))?;
                let (request_id, principal) = (&*call_of_task.request_id, call_of_task.principal.as_str());
                tracing::info!(request_id, principal, key = %key, "key created");
                Ok(metadata(&core, entry))
            })
            .await
    }
}

/// Tags need a permission of their own.
fn tagging(core: &Core, call: &RequestContext, named: &Named, has_tags: bool) -> Result<(), Error> {
    if has_tags { named.is_allowed(core, call, Operation::TagResource) } else { Ok(()) }
}

/// Begins the key or finds it, has it finished, and returns its id once it is.
async fn begin(
    core: &Core,
    lifecycle: &Lifecycle,
    principal: &Principal,
    input: CreateKeyInput,
    (tags, policy): (BTreeMap<String, String>, Option<NewKeyPolicy>),
) -> Result<KeyId, Error> {
    let store_id = store_for(core, &input.key_store_id)?;
    let (_, members) = core.connected_store(store_id.as_str())?;
    let said = [store_id.as_str(), &input.description].into_iter();
    let parameters = said.chain(tags.iter().flat_map(|(name, value)| [name.as_str(), value]));
    let parameters = parameters.chain(policy.iter().map(|policy| policy.document.as_str()));
    let token = token::of(principal, Operation::CreateKey, input.client_token, parameters);
    // Held from the look at the token to the entry in the list of what is being made, so that two calls with one
    // token never work on the same key.
    let mut creations = lifecycle.creations().lock().await;
    let known = match &token {
        Some(token) => core.store().key_of_token(token).await.map_err(Error::of_store)?,
        None => None,
    };
    let begun = match known {
        Some(key) => Begun::Existing(key),
        None => {
            // Before there is a row: nothing is begun that cannot be finished.
            members.hsm_cluster.reachable_for_creation().map_err(|error| Error::of_cluster(error, None))?;
            let hsms: Vec<HsmId> = members.hsms.iter().map(|(hsm, _)| hsm.clone()).collect();
            let most = core.quotas().keys_per_key_store;
            let new = NewKey { key_store: store_id, description: input.description, tags, hsms, most };
            let beginning = core.store().begin_key_with_policy(new, policy.clone(), token.as_ref());
            transient(VersionStep::RecordBegun, beginning).await.map_err(Error::of_store)?
        }
    };
    let (key, origin) = match begun {
        Begun::New(key) => (key, Origin::New),
        Begun::Existing(key) => (key, Origin::Interrupted),
    };
    let state = core.store().catalogue().key(key).map(|key| key.state);
    // Begun by an earlier call with the same token, and taken away this moment because it could not be made.
    let Some(state) = state else {
        let why = "the key that this client token began could not be made; the same call makes another";
        return Err(Error::transient(Exception::KmsInternal, why));
    };
    if state == KeyState::Creating {
        let version = KeyVersionId { key, version: 1 };
        let outcome = lifecycle.finish(&mut creations, Plan { version, members, origin });
        drop(creations);
        outcome.result().await?;
    }
    Ok(key)
}

/// The store that the caller named, or the only one there is.
fn store_for(core: &Core, id: &str) -> Result<KeyStoreId, Error> {
    if !id.is_empty() {
        return Ok(id.into());
    }
    let catalogue = core.store().catalogue();
    let mut stores = catalogue.key_stores().map(|store| &store.id);
    match (stores.next(), stores.next()) {
        (Some(only), None) => Ok(only.clone()),
        (Some(_), Some(_)) => Err(Error::validation("There are several key stores; specify a key store id.")),
        (None, _) => Err(Error::permanent(Exception::CustomKeyStoreNotFound, "there is no key store")),
    }
}
