//! Open each ciphertext and encrypt what it holds under the item's key.

use super::{decrypt, encrypt};
use crate::owner::Owner;
use protocol::{Fault, ReEncryptItem, Reply, Sealed};

/// One item's failure is never another's. The plaintext is wiped with the item.
pub(super) fn run(owner: &mut Owner, items: Vec<ReEncryptItem>) -> Reply {
    let now = owner.token.clock.now();
    let anew = |item: ReEncryptItem| -> Result<Sealed, Fault> {
        let opened = decrypt::open(owner, now, &item.source).map_err(Fault::of_source)?;
        encrypt::seal(owner, now, item.key, &item.aad, opened.expose())
    };
    Reply::ReEncrypted(items.into_iter().map(anew).collect())
}
