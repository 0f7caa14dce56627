//! DeleteAlias: takes a name away. The key and what was encrypted with it stay as they are.

use super::update_alias::{Held, contended, owner};
use crate::core::notes::Notes;
use crate::{Error, RequestContext, Service};
use model::operation::Operation;

/// As for UpdateAlias.
const LOOKS: usize = 5;

impl Service {
    /// Takes an alias away.
    pub async fn delete_alias(&self, call: &RequestContext, alias: &str) -> Result<(), Error> {
        let operation = Operation::DeleteAlias;
        let held = Held::default();
        let notes = Notes::default();
        let (held_when_said, said) = (held.clone(), alias.to_owned());
        let resource = self.core.arn_of(operation, alias).noting(&notes);
        let resource = resource.asking(move |core, say| held_when_said.said(core, &said, say));
        let of_look = alias.to_owned();
        let resource = resource.if_before(move |core, call| owner(core, call, operation, &of_look).map(drop));
        let (core, call_of_task, alias) = (self.core.clone(), call.clone(), alias.to_owned());
        self.core
            .on_one(call, operation, resource, async move {
                for _ in 0..LOOKS {
                    let (name, key) = owner(&core, &call_of_task, operation, &alias)?;
                    held.is_still(&alias, key)?;
                    match core.store().remove_alias(&name, key).await {
                        Ok(()) => {
                            notes.about(core.scope().key_arn(key));
                            tracing::info!(alias = %name, %key, "alias deleted");
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
