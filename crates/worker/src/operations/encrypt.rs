//! Encrypt each item under its key, with a fresh random IV, which some HSMs make themselves.

use std::time::Instant;

use super::gcm;
use crate::owner::Owner;
use model::ciphertext::IV_BYTES;
use model::id::KeyVersionId;
use model::profile::IvBy;
use protocol::{EncryptItem, Fault, Reply, Sealed};

/// One item's failure is never another's.
pub(super) fn run(owner: &mut Owner, items: Vec<EncryptItem>) -> Reply {
    // One look at the clock per request: it lasts a fraction of the second for which a proof holds.
    let now = owner.token.clock.now();
    let seal_item = |item: EncryptItem| seal(owner, now, item.key, &item.aad, item.plaintext.expose());
    Reply::Encrypted(items.into_iter().map(seal_item).collect())
}

/// Encrypts `plaintext` under `key`.
pub(super) fn seal(
    owner: &mut Owner,
    now: Instant,
    key: KeyVersionId,
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Sealed, Fault> {
    let mut iv = [0; IV_BYTES];
    if owner.token.module.capabilities().gcm.iv == IvBy::Caller {
        owner.random(&mut iv).map_err(|failure| failure.into_fault(owner.codes()))?;
    }
    let (iv, sealed) =
        owner.with_key(key, now, |module, session, handle| gcm::seal(module, session, handle, iv, aad, plaintext))?;
    Ok(Sealed { iv, sealed: sealed.into() })
}
