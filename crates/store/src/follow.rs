//! The catalogue follows the change log: what it says has changed is read anew, and nothing else.
//!
//! The process that makes a change follows it in the same transaction; one that only looks would do the same with what
//! others have committed.

use std::collections::BTreeMap;

use super::engine::Connection;
use super::log::{self, Entity};
use super::{Catalogue, Error, access, load};

/// The catalogue as the database has it now; `None` where that is what it shows. What is read must be of one moment: the
/// caller is in a transaction.
pub(super) async fn follow(database: &mut Connection, old: &Catalogue) -> Result<Option<Catalogue>, Error> {
    let position = log::position(database).await?;
    if position == old.position() {
        return Ok(None);
    }
    let Some(changes) = log::between(database, old.position(), position).await? else {
        return load::catalogue(database).await.map(Some);
    };
    let mut next = old.moved_on(position, &changes);
    // The last word on each.
    let changed: BTreeMap<Entity, bool> = changes.into_iter().map(|change| (change.entity, change.gone)).collect();
    for (entity, gone) in changed {
        match entity {
            Entity::Key(id) => {
                let key = if gone { None } else { load::key(database, id).await? };
                next.put_key(id, key);
            }
            Entity::KeyStore(id) => {
                let store = if gone { None } else { load::key_store(database, &id).await? };
                next.put_key_store(id, store);
            }
            Entity::Destroyed(key) => {
                load::destroyed(database, key).await?.into_iter().for_each(|version| next.bury(version));
            }
            // After keys, whose order is before theirs: a grant that went with its key is not found.
            entity => access::load::one(database, entity, gone, &mut next).await?,
        }
    }
    Ok(Some(next))
}
