//! UpdateAlias: gives a name that one key has to another one, in one step.

use std::sync::Arc;

use crate::core::Core;
use crate::core::access::{Details, Named};
use crate::core::meant::Meant;
use crate::core::notes::Notes;
use crate::core::proposal::Proposal;
use crate::core::repeated::{Again, Done};
use crate::core::room;
use crate::{Error, RequestContext, Service};
use model::exception::Exception;
use model::id::{AliasName, KeyId, KeyReferenceError};
use model::operation::Operation;
use store::{Admits, Key};

/// So often the key that has the alias is looked for, where it is given to others meanwhile.
const LOOKS: usize = 5;

impl Service {
    /// Gives an alias to another key. Whoever names it from then on means that one.
    pub async fn update_alias(&self, call: &RequestContext, alias: &str, target_key_id: &str) -> Result<(), Error> {
        let operation = Operation::UpdateAlias;
        let held = Held::default();
        let notes = Notes::default();
        let resource = {
            let (held, said, target) = (held.clone(), alias.to_owned(), target_key_id.to_owned());
            let named = self.core.arn_of(operation, alias).noting(&notes);
            named.asking(move |core, say| held.said(core, &said, say).text("targetKeyId", &target))
        };
        let (core, call_of_task) = (self.core.clone(), call.clone());
        let (alias, target_key_id) = (alias.to_owned(), target_key_id.to_owned());
        let of_look = (alias.clone(), target_key_id.clone());
        let same = of_look.clone();
        let look = move |core: &Core, call: &RequestContext| {
            let target = target(core, call, operation, &of_look.1)?.id;
            let (_, from) = owner(core, call, operation, &of_look.0)?;
            let most = core.quotas().aliases_per_key;
            if from == target { Ok(()) } else { core.has_room(|catalogue| room::for_alias(catalogue, target, most)) }
        };
        let done = Done::default();
        let again = Again::seen(&done, "", move |core, call, _| {
            let catalogue = core.store().catalogue();
            let (alias, target) =
                (AliasName::parse(&same.0), core.key_named(call, operation, &same.1, &catalogue).ok());
            let owner = alias.and_then(|alias| catalogue.key_with_alias(&alias));
            owner.is_some_and(|owner| Some(owner.id) == target)
        });
        let resource = resource.if_before(look).unless_done(again);
        self.core
            .on_one(call, operation, resource, async move {
                let call = &call_of_task;
                let target = target(&core, call, operation, &target_key_id)?.id;
                notes.about(core.scope().key_arn(target));
                let admits = Admits { states: operation.spec().allowed_states, most: core.quotas().aliases_per_key };
                for _ in 0..LOOKS {
                    let (name, from) = owner(&core, call, operation, &alias)?;
                    held.is_still(&alias, from)?;
                    if done.is_found() {
                        return Ok(());
                    }
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

/// The key that has an alias when others are told of it.
#[derive(Clone, Default)]
pub(super) struct Held(Meant<KeyId>);

impl Held {
    /// What others approve is about that key alone.
    pub(super) fn said(&self, core: &Core, alias: &str, say: Proposal) -> Proposal {
        let look = || Some(core.store().catalogue().key_with_alias(&AliasName::parse(alias)?)?.id);
        say.others_alone(|say| say.maybe("keyId", self.0.look(look).map(ToString::to_string).as_deref()))
    }

    pub(super) fn is_still(&self, alias: &str, now: KeyId) -> Result<(), Error> {
        if self.0.is_still(&now) { Ok(()) } else { Err(contended(alias)) }
    }
}

/// The key that is to have an alias, for callers who may do this with it in its present state.
pub(super) fn target(
    core: &Core,
    call: &RequestContext,
    operation: Operation,
    key_id: &str,
) -> Result<Arc<Key>, Error> {
    let target = core.key_named(call, operation, key_id, &core.store().catalogue())?;
    core.open_key(call, operation, target, &Details::default())
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
