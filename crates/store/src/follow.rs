//! The catalogue follows the change log: what it says has changed is read anew, and nothing else.
//!
//! The process that makes a change follows it in the same transaction; one that only looks would do the same with what
//! others have committed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::engine::Connection;
use super::log::{self, Entity};
use super::{Catalogue, Error, load};

/// The catalogue as the database has it now; `None` where that is what it shows. What is read must be of one moment: the
/// caller is in a transaction.
pub(super) async fn follow(database: &mut Connection, old: &Catalogue) -> Result<Option<Catalogue>, Error> {
    let position = log::position(database).await?;
    if position == old.position {
        return Ok(None);
    }
    let Some(changes) = log::between(database, old.position, position).await? else {
        return load::catalogue(database).await.map(Some);
    };
    // The last word on each.
    let changed: BTreeMap<Entity, bool> = changes.into_iter().map(|change| (change.entity, change.gone)).collect();
    let mut next = Catalogue { revision: position.revision, position, ..old.clone() };
    for (entity, gone) in changed {
        match entity {
            Entity::Key(id) => {
                let key = if gone { None } else { load::key(database, id).await? };
                match key {
                    Some(key) => drop(next.keys.insert(id, Arc::new(key))),
                    None => drop(next.keys.remove(&id)),
                }
            }
            Entity::KeyStore(id) => {
                let store = if gone { None } else { load::key_store(database, &id).await? };
                match store {
                    Some(store) => drop(next.key_stores.insert(id, Arc::new(store))),
                    None => drop(next.key_stores.remove(&id)),
                }
            }
            Entity::Destroyed(key) => {
                let versions = load::destroyed(database, key).await?;
                Arc::make_mut(&mut next.destroyed).extend(versions);
            }
        }
    }
    Ok(Some(next))
}
