//! Unwrap a blob as the token object of a key version.

use cryptoki::mechanism::Mechanism;

use crate::fault::Failure;
use crate::owner::Owner;
use crate::{objects, template};
use model::id::KeyVersionId;
use protocol::{Class, Reply};

/// An object that is already there is left alone: whether it holds the right key, its proof ciphertext tells.
pub(super) fn run(owner: &mut Owner, key: KeyVersionId, label: &str, blob: &[u8]) -> Result<Reply, Failure> {
    owner.token_info()?;
    if let Some(handle) = objects::of_key(&owner.session, key)?.first() {
        owner.token.keys.found(key, *handle);
        return Ok(Reply::Done);
    }
    let placed = owner.with_wrapping_key(|session, wrapping| {
        Ok(session.unwrap_key(&Mechanism::AesKeyWrap, wrapping, blob, &template::placed_key(key, label))?)
    });
    let handle = placed.map_err(|failure| {
        // A blob that does not unwrap was made under another wrapping key or is damaged; this token is in order.
        let mut fault = failure.during(&format!("placing key {key}"), owner.profile());
        if fault.class == Class::Ambiguous {
            fault.class = Class::Refused;
        }
        fault
    })?;
    owner.token.keys.found(key, handle);
    Ok(Reply::Done)
}
