//! CreateAlias: a further name for a key.

use crate::core::notes::Notes;
use crate::core::{Core, validate};
use crate::keys::token;
use crate::keys::update_alias::target;
use crate::{Error, RequestContext, Service};
use model::operation::Operation;
use store::Admits;

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
            target(core, call, operation, &of_look.target_key_id)?;
            validate::client_token(&of_look.client_token)?;
            validate::new_alias(&of_look.alias_name).map(drop)
        };
        let notes = Notes::default();
        let alias = self.core.arn_of(operation, &input.alias_name).noting(&notes);
        let resource = alias.asking(move |_, say| say.text("targetKeyId", &said)).if_before(look);
        let (core, call_of_task) = (self.core.clone(), call.clone());
        self.core
            .on_one(call, operation, resource, async move {
                let name = validate::new_alias(&input.alias_name)?;
                validate::client_token(&input.client_token)?;
                let key = target(&core, &call_of_task, operation, &input.target_key_id)?;
                notes.about(core.scope().key_arn(key.id));
                let parameters = [name.as_str(), &key.id.to_string()];
                let token = token::of(&core, &call_of_task, operation, input.client_token, parameters);
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
