//! Decrypt each item under its key.

use super::gcm;
use crate::owner::Owner;
use protocol::{DecryptItem, Reply};

/// One item's failure is never another's.
pub(super) fn run(owner: &mut Owner, items: Vec<DecryptItem>) -> Reply {
    let now = owner.token.clock.now();
    let open = |item: DecryptItem| {
        owner.with_key(item.key, now, |session, handle| gcm::open(session, handle, item.iv, &item.aad, &item.sealed))
    };
    Reply::Decrypted(items.into_iter().map(open).collect())
}
