//! Drop what is known of keys: hot copies and handles, in all session threads at once.

use crate::owner::Owner;
use model::id::KeyVersionId;
use protocol::Reply;

/// When this is answered, no copy of these keys is left in the process.
pub(super) fn run(owner: &Owner, keys: &[KeyVersionId]) -> Reply {
    owner.forget(keys);
    Reply::Done
}
