//! Make a random data key for each item and encrypt it under the item's key.

use super::encrypt;
use crate::owner::Owner;
use protocol::{DataKey, DataKeyItem, Fault, Reply};

/// One item's failure is never another's.
pub(super) fn run(owner: &mut Owner, items: Vec<DataKeyItem>) -> Reply {
    let now = owner.token.clock.now();
    let make = |item: DataKeyItem| -> Result<DataKey, Fault> {
        let plaintext =
            super::random::secret(owner, item.length).map_err(|failure| failure.into_fault(owner.codes()))?;
        let sealed = encrypt::seal(owner, now, item.key, &item.aad, plaintext.expose())?;
        Ok(DataKey { plaintext, sealed })
    };
    Reply::DataKeys(items.into_iter().map(make).collect::<Vec<Result<DataKey, Fault>>>())
}
