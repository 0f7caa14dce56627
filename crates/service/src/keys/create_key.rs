//! CreateKey: begins a key, or finds the one that the same client token began, and waits until it is Enabled.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::access::{Details, NO_KEY, Named};
use crate::core::meant::Meant;
use crate::core::notes::Notes;
use crate::core::proposal::Proposal;
use crate::core::repeated::{Again, Done};
use crate::core::room;
use crate::core::{Core, validate};
use crate::keys::describe_key::{KeyMetadata, metadata};
use crate::keys::recorded::{constant, note_material, recorded};
use crate::keys::token;
use crate::lifecycle::{Lifecycle, Origin, Plan, VersionStep, transient};
use crate::{Error, RequestContext, Service};
use audit::event::{Fields, Value};
use model::exception::Exception;
use model::id::{HsmId, KeyId, KeyStoreId, KeyVersionId};
use model::key::KeyState;
use model::operation::Operation;
use store::access::{Names, NewKeyPolicy};
use store::{Begun, ClientToken, NewKey};

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
    pub async fn create_key(&self, call: &RequestContext, input: CreateKeyInput) -> Result<KeyMetadata, Error> {
        let tags = (!input.tags.is_empty()).then(|| input.tags.clone());
        let bypass = Some(input.bypass_lockout_check);
        let details = Details { makes_key: true, tags, bypass_lockout_check: bypass, ..Details::default() };
        let notes = Notes::default();
        let named = Named::nothing().with(details.clone()).noting(&notes);
        // Tags are given to a key, if to one that has no id yet.
        let tagged = Named::other(self.core.scope().key_arn(NO_KEY)).with(details);
        let wanted = Arc::new(Wanted { input, tagged, store: Meant::default(), names: Meant::default() });
        let [said, looked, repeated] = [&wanted; 3].map(Arc::clone);
        let done = Done::default();
        let token = &wanted.input.client_token;
        let again = (!token.is_empty()).then(|| {
            Again::recorded(&done, token, move |core, call| {
                let wanted = Arc::clone(&repeated);
                async move { wanted.was_made(&core, &call).await }
            })
        });
        let resource = named
            .asking(move |core, say| said.proposal(core, say))
            .if_before(move |core, call| looked.can_be_made(core, call))
            .unless_done(again);
        let (core, lifecycle, call_of_task) = (self.core.clone(), self.lifecycle.clone(), call.clone());
        self.core
            .on_one(call, Operation::CreateKey, resource, async move {
                let checked = wanted.checked(&core, &call_of_task)?;
                let (key, made) = begin(&core, &lifecycle, &call_of_task, (&wanted.input, &done), checked).await?;
                let keyring = core.keyring();
                let entry = keyring.key(key).ok_or_else(|| Error::internal("a key that was made is not there"))?;
                if made {
                    let (request_id, principal) = (&*call_of_task.request_id, call_of_task.principal.as_str());
                    tracing::info!(request_id, principal, key = %key, "key created");
                }
                let made = metadata(&core, entry);
                notes.about(made.arn.as_str());
                notes.answer(Fields::new().with("keyMetadata", Value::Object(recorded(&made))));
                note_material(&notes, entry);
                Ok(made)
            })
            .await
    }
}

/// What a call wants, and what its words mean once others are told of it.
struct Wanted {
    input: CreateKeyInput,
    /// What needs the permission to give tags.
    tagged: Named,
    /// The only store there is may be another one when the call is made again.
    store: Meant<KeyStoreId>,
    names: Meant<Names>,
}

/// What was looked at, and is fine.
struct Checked {
    store: KeyStoreId,
    tags: BTreeMap<String, String>,
    policy: Option<NewKeyPolicy>,
}

impl Wanted {
    /// Without the client token, which is another one when the call is made again by hand.
    fn proposal(&self, core: &Core, say: Proposal) -> Proposal {
        let CreateKeyInput { key_store_id, description, tags, policy, bypass_lockout_check, .. } = &self.input;
        say.others_alone(|say| {
            let store = self.store.look(|| store_for(core, key_store_id).ok());
            say.text("customKeyStoreId", store.map_or(key_store_id, KeyStoreId::as_str))
        })
        .in_record(|fields| constant(fields.given("customKeyStoreId", key_store_id)))
        .text("description", description)
        .tags(tags)
        .policy("policy", policy, || core.whom_new_key_names(policy, &self.names))
        .flag("bypassPolicyLockoutSafetyCheck", *bypass_lockout_check)
    }

    /// All that can be looked at before anything is done.
    fn checked(&self, core: &Core, call: &RequestContext) -> Result<Checked, Error> {
        let CreateKeyInput { key_store_id, description, client_token, tags, policy, bypass_lockout_check } =
            &self.input;
        validate::description(description)?;
        validate::client_token(client_token)?;
        let tags = validate::tags(tags.clone(), core.quotas().tags_per_key)?;
        tagging(core, call, &self.tagged, !tags.is_empty())?;
        let policy = core.policy_of_new_key(call, policy, *bypass_lockout_check, &self.names)?;
        let store = store_for(core, self.store.seen().map_or(key_store_id, KeyStoreId::as_str))?;
        core.connected_store(store.as_str())?;
        Ok(Checked { store, tags, policy })
    }

    /// The same, and whether there is room for one more key.
    fn can_be_made(&self, core: &Core, call: &RequestContext) -> Result<(), Error> {
        let Checked { store, .. } = self.checked(core, call)?;
        let (_, members) = core.connected_store(store.as_str())?;
        members.room(&core.store().catalogue(), &store)?;
        core.has_room(|catalogue| room::for_key(catalogue, &store, core.quotas().keys_per_key_store))
    }

    /// Whether the same client token has begun it.
    async fn was_made(&self, core: &Core, call: &RequestContext) -> Result<bool, Error> {
        // What is wrong with it is told where it is looked at.
        let Ok(checked) = self.checked(core, call) else { return Ok(false) };
        match token_of(core, call, &self.input, &checked) {
            Some(token) => Ok(core.store().key_of_token(&token).await.map_err(Error::of_store)?.is_some()),
            None => Ok(false),
        }
    }
}

/// The client token of a call, with all that must be the same when it comes again.
fn token_of(core: &Core, call: &RequestContext, input: &CreateKeyInput, checked: &Checked) -> Option<ClientToken> {
    let Checked { store, tags, policy } = checked;
    let said = [store.as_str(), &input.description].into_iter();
    let parameters = said.chain(tags.iter().flat_map(|(name, value)| [name.as_str(), value]));
    let parameters = parameters.chain(policy.iter().map(|policy| policy.document.as_str()));
    // No tag has an empty name. Where it is not bypassed nothing is said, as by those who began keys before it was compared.
    let bypass = ["", "bypassPolicyLockoutSafetyCheck"].into_iter().filter(|_| input.bypass_lockout_check);
    let parameters = parameters.chain(bypass);
    token::of(core, call, Operation::CreateKey, input.client_token.clone(), parameters)
}

/// Tags need a permission of their own.
fn tagging(core: &Core, call: &RequestContext, named: &Named, has_tags: bool) -> Result<(), Error> {
    if has_tags { named.is_allowed(core, call, Operation::TagResource) } else { Ok(()) }
}

/// Begins the key or finds it, has it finished, and returns its id once it is, and whether this call made it. One that was
/// there already was made by an earlier call with the same token.
async fn begin(
    core: &Core,
    lifecycle: &Lifecycle,
    call: &RequestContext,
    (input, repeated): (&CreateKeyInput, &Done),
    checked: Checked,
) -> Result<(KeyId, bool), Error> {
    let token = token_of(core, call, input, &checked);
    let Checked { store: store_id, tags, policy } = checked;
    // Held from the look at the token to the entry in the list of what is being made, so that two calls with one
    // token never work on the same key.
    let mut creations = lifecycle.creations().lock().await;
    // Under that too: whoever gives a key store another cluster holds it.
    let (_, members) = core.connected_store(store_id.as_str())?;
    let known = match &token {
        Some(token) => core.store().key_of_token(token).await.map_err(Error::of_store)?,
        None => None,
    };
    let begun = match known {
        Some(key) => Begun::Existing(key),
        // Nobody has approved another one.
        None if repeated.is_found() => return Err(Done::gone("the key that this client token began")),
        None => {
            // Before there is a row, and held until there is one: nothing is begun that cannot be finished.
            members.hsm_cluster.reachable_for_creation().map_err(|error| Error::of_cluster(error, None))?;
            members.room(&core.store().catalogue(), &store_id)?;
            let hsms: Vec<HsmId> = members.hsms.iter().map(|(hsm, _)| hsm.clone()).collect();
            let most = core.quotas().keys_per_key_store;
            let (description, in_place) = (input.description.clone(), members.in_place);
            let new = NewKey { key_store: store_id, description, tags, hsms, in_place, most };
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
    let made = state == KeyState::Creating;
    if made {
        let version = KeyVersionId { key, version: 1 };
        let outcome = lifecycle.finish(&mut creations, Plan { version, members, origin, listed: None }, None);
        drop(creations);
        outcome.result().await?;
    }
    Ok((key, made))
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
