//! Unwrap a blob as the token object of a key version.

use std::cell::Cell;

use super::list;
use crate::fault::Failure;
use crate::owner::Owner;
use crate::template::Kind;
use crate::{objects, template};
use model::id::KeyVersionId;
use protocol::{Class, Reply};

/// An object that is already there is left alone: whether it holds the right key, its proof ciphertext tells.
pub(super) fn run(owner: &mut Owner, key: KeyVersionId, label: &str, blob: &[u8]) -> Result<Reply, Failure> {
    owner.token_info()?;
    if is_there(owner, key)? {
        return Ok(Reply::Done);
    }
    let tried = Cell::new(false);
    let placed = owner.with_wrapping_key(|module, session, wrapping| {
        // What failed may have been done all the same, and a second object of the id would stay beside the first.
        if tried.replace(true) {
            for left in objects::of_key(session, key)? {
                session.destroy_object(left)?;
            }
        }
        let template = template::placed_key(module.capabilities(), Kind::Encryption, key, label);
        Ok(session.unwrap_key(&module.key_wrap()?, wrapping, blob, &template)?)
    });
    if placed.is_err() {
        // It may have come half-way.
        owner.token.keys.doubt();
    }
    let handle = placed.map_err(|failure| {
        // A blob that does not unwrap was made under another wrapping key or is damaged; this token is in order.
        let mut fault = failure.during(&format!("placing key {key}"), owner.codes());
        if fault.class == Class::Ambiguous {
            fault.class = Class::Refused;
        }
        fault
    })?;
    owner.token.keys.placed(key, handle, owner.token.clock.now());
    Ok(Reply::Done)
}

/// No search where what the token holds is known: this worker alone writes to it, and all objects are looked at anew with
/// each list. What a person puts there by other means, and between two lists, is not seen, and then there are two
/// objects with one id; a key that fails because of that is destroyed with all of them and placed anew.
pub(super) fn is_there(owner: &mut Owner, key: KeyVersionId) -> Result<bool, Failure> {
    let mut complete = owner.token.keys.is_complete();
    if let Some(known) = owner.token.keys.object(key) {
        if objects::is_of_key(&owner.token.module, &owner.session, known, key)? {
            return Ok(true);
        }
        // Somebody else has been at it.
        complete = false;
    }
    if !complete {
        list::all(owner)?;
    }
    Ok(owner.token.keys.object(key).is_some())
}
