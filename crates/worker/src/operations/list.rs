//! List the key versions that the token holds.

use super::probe;
use crate::fault::Failure;
use crate::objects;
use crate::owner::Owner;
use protocol::Reply;

/// Read anew from the token, each version once.
pub(super) fn run(owner: &mut Owner) -> Result<Reply, Failure> {
    let found = objects::new_keys(&owner.session, &[])?;
    // A token that is being lost shows fewer and fewer objects, and no error. A list counts when the token is whole
    // after it was made: what it does not show would otherwise look like keys that somebody removed.
    probe::run(owner)?;
    let mut keys: Vec<_> = found.into_iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys.dedup();
    Ok(Reply::Keys(keys))
}
