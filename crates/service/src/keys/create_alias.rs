//! CreateAlias: a further name for a key.

use std::sync::Arc;

use crate::core::notes::Notes;
use crate::core::repeated::{Again, Done};
use crate::core::room;
use crate::core::{Core, validate};
use crate::keys::token;
use crate::keys::update_alias::target;
use crate::{Error, RequestContext, Service};
use model::id::KeyId;
use model::operation::Operation;
use store::{Admits, ClientToken};

/// What is to be made.
#[derive(Clone, Debug, Default)]
pub struct CreateAliasInput {
    /// With its prefix `alias/`.
    pub alias_name: String,
    /// Key id or key ARN.
    pub target_key_id: String,
    /// Empty: none.
    pub client_token: String,
}

impl Service {
    /// Makes an alias. With a client token the same call succeeds again for a day, and makes nothing again.
    pub async fn create_alias(&self, call: &RequestContext, input: CreateAliasInput) -> Result<(), Error> {
        let operation = Operation::CreateAlias;
        let (said, of_look) = (input.target_key_id.clone(), input.clone());
        let look = move |core: &Core, call: &RequestContext| {
            let key = target(core, call, operation, &of_look.target_key_id)?.id;
            validate::client_token(&of_look.client_token)?;
            let name = validate::new_alias(&of_look.alias_name)?;
            core.has_room(|catalogue| {
                room::is_free(catalogue, &name)?;
                room::for_alias(catalogue, key, core.quotas().aliases_per_key)
            })
        };
        let (done, repeated) = (Done::default(), Arc::new(input.clone()));
        let token = &input.client_token;
        let again = (!token.is_empty()).then(|| {
            Again::recorded(&done, token, move |core, call| {
                let input = Arc::clone(&repeated);
                async move { was_made(&core, &call, &input).await }
            })
        });
        let notes = Notes::default();
        let alias = self.core.arn_of(operation, &input.alias_name).noting(&notes);
        let resource = alias.asking(move |_, say| say.text("targetKeyId", &said)).if_before(look).unless_done(again);
        let (core, call_of_task) = (self.core.clone(), call.clone());
        self.core
            .on_one(call, operation, resource, async move {
                let name = validate::new_alias(&input.alias_name)?;
                validate::client_token(&input.client_token)?;
                let key = target(&core, &call_of_task, operation, &input.target_key_id)?;
                notes.about(core.scope().key_arn(key.id));
                if done.is_found() {
                    return Ok(());
                }
                let token = token_of(&core, &call_of_task, input.client_token, name.as_str(), key.id);
                let admits = Admits { states: operation.spec().allowed_states, most: core.quotas().aliases_per_key };
                core.store()
                    .create_alias(&name, key.id, admits, token.as_ref())
                    .await
                    .map_err(|error| core.of_store(error))?;
                tracing::info!(alias = %name, key = %key.id, "alias created");
                Ok(())
            })
            .await
    }
}

/// Whether the same client token has made it, whatever became of the alias since.
async fn was_made(core: &Core, call: &RequestContext, input: &CreateAliasInput) -> Result<bool, Error> {
    let CreateAliasInput { alias_name, target_key_id, client_token } = input;
    validate::client_token(client_token)?;
    // What is wrong with the rest is told where the call is looked at.
    let Ok(key) = core.key_named(call, Operation::CreateAlias, target_key_id, &core.store().catalogue()) else {
        return Ok(false);
    };
    match token_of(core, call, client_token.clone(), alias_name, key) {
        Some(token) => Ok(core.store().key_of_token(&token).await.map_err(|error| core.of_store(error))?.is_some()),
        None => Ok(false),
    }
}

fn token_of(core: &Core, call: &RequestContext, token: String, name: &str, key: KeyId) -> Option<ClientToken> {
    token::of(core, call, Operation::CreateAlias, token, [name, &key.to_string()])
}
