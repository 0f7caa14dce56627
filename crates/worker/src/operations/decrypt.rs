//! Decrypt each item under its key.

use std::time::Instant;

use super::gcm;
use crate::owner::Owner;
use model::secret::Secret;
use protocol::{DecryptItem, Fault, Reply};

/// One item's failure is never another's.
pub(super) fn run(owner: &mut Owner, items: Vec<DecryptItem>) -> Reply {
    let now = owner.token.clock.now();
    Reply::Decrypted(items.into_iter().map(|item| open(owner, now, &item)).collect())
}

/// Opens one ciphertext.
pub(super) fn open(owner: &mut Owner, now: Instant, item: &DecryptItem) -> Result<Secret, Fault> {
    owner.with_key(item.key, now, |module, session, handle| {
        gcm::open(module, session, handle, item.iv, &item.aad, &item.sealed)
    })
}
