//! List the key versions that the token holds.

use super::probe;
use crate::fault::Failure;
use crate::objects;
use crate::owner::Owner;
use model::id::KeyVersionId;
use protocol::Reply;

/// Read anew from the token, each version as often as there are objects of it.
pub(super) fn run(owner: &mut Owner) -> Result<Reply, Failure> {
    let mut keys = all(owner)?;
    keys.sort_unstable();
    Ok(Reply::Keys(keys))
}

/// The same in no order, for the worker to know what the token holds and what it does not.
pub(super) fn all(owner: &mut Owner) -> Result<Vec<KeyVersionId>, Failure> {
    let found = objects::look(&owner.token.module, &owner.session, &[])?.keys;
    // A token that is being lost shows fewer and fewer objects, and no error. A list counts when the token is whole
    // after it was made: what it does not show would otherwise look like keys that somebody removed.
    probe::run(owner)?;
    owner.token.keys.listed(&found, owner.token.clock.now());
    Ok(found.into_iter().map(|(key, _)| key).collect())
}
