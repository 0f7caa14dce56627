//! Open both ciphertexts of each item and compare what they hold.

use super::decrypt;
use crate::owner::Owner;
use protocol::{CompareItem, Fault, Reply};

/// One item's failure is never another's. What was opened is wiped with the item.
pub(super) fn run(owner: &mut Owner, items: Vec<CompareItem>) -> Reply {
    let now = owner.token.clock.now();
    let same = |item: CompareItem| -> Result<bool, Fault> {
        let source = decrypt::open(owner, now, &item.source).map_err(Fault::of_source)?;
        Ok(decrypt::open(owner, now, &item.made)?.expose() == source.expose())
    };
    Reply::Compared(items.into_iter().map(same).collect())
}
