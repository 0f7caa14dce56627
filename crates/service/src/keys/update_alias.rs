//! UpdateAlias: gives a name that one key has to another one, in one step.

use crate::core::Core;
use crate::core::access::{Details, Named};
use crate::core::proposal::Proposal;
use crate::{Error, RequestContext, Service};
use model::exception::Exception;
use model::id::{AliasName, KeyId, KeyReferenceError};
use model::operation::Operation;
use store::Admits;

/// So often the key that has the alias is looked for, where it is given to others meanwhile.
const LOOKS: usize = 5;

impl Service {
    /// Gives an alias to another key. Whoever names it from then on means that one.
    pub async fn update_alias(&self, call: &RequestContext, alias: &str, target_key_id: &str) -> Result<(), Error> {
        let operation = Operation::UpdateAlias;
        let proposal = Proposal::new().text("targetKeyId", target_key_id);
        let resource = self.core.arn_of(operation, alias).map(|alias| alias.asking(proposal));
        let (core, call_of_task) = (self.core.clone(), call.clone());
        let (alias, target_key_id) = (alias.to_owned(), target_key_id.to_owned());
        self.core
            .on_one(call, operation, resource, async move {
                let call = &call_of_task;
                let target = core.key_named(operation, &target_key_id, &core.store().catalogue())?;
                let target = core.open_key(call, operation, target, &Details::default())?.id;
                let admits = Admits { states: operation.spec().allowed_states, most: core.quotas().aliases_per_key };
                for _ in 0..LOOKS {
                    let (name, from) = owner(&core, call, operation, &alias)?;
                    match core.store().move_alias(&name, from, target, admits).await {
                        Ok(()) => {
                            tracing::info!(alias = %name, %from, to = %target, "alias given to another key");
                            return Ok(());
                        }
                        Err(store::Error::AliasMoved(_)) => {}
                        Err(error) => return Err(core.of_store(error)),
                    }
                }
                Err(contended(&alias))
            })
            .await
    }
}

/// The key that has an alias, for callers who may do this with it.
pub(super) fn owner(
    core: &Core,
    call: &RequestContext,
    operation: Operation,
    alias: &str,
) -> Result<(AliasName, KeyId), Error> {
    let (scope, catalogue) = (core.scope(), core.store().catalogue());
    let found = AliasName::parse(alias).and_then(|name| Some((catalogue.key_with_alias(&name)?.id, name)));
    let (key, name) = found.ok_or_else(|| KeyReferenceError::UnknownAlias(scope.alias_arn(alias)))?;
    Named::key(key, scope.key_arn(key)).is_allowed(core, call, operation)?;
    Ok((name, key))
}

/// Others change an alias faster than it can be looked at.
pub(super) fn contended(alias: &str) -> Error {
    Error::transient(
        Exception::Throttling,
        format!("{alias} is given from key to key at this moment; nothing was done: try again"),
    )
}
