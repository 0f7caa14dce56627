//! Make a random AES-256 key as the token object of a key version. It is never outside of the token, not even wrapped.

use cryptoki::mechanism::Mechanism;

use super::place;
use crate::fault::Failure;
use crate::owner::Owner;
use crate::template::Kind;
use crate::{objects, template};
use model::id::KeyVersionId;
use protocol::Reply;

/// An object that is already there is left alone: it is what an earlier try has made, whose answer was lost. The look is done
/// again in a new session where the old one failed, but the making is not: what it may have made another session need not see
/// yet where several HSMs stand behind the slot. When it is made again is for who asks for it.
pub(super) fn run(owner: &mut Owner, key: KeyVersionId, label: &str) -> Result<Reply, Failure> {
    let is_there = owner.persist(|owner| {
        owner.token_info()?;
        place::is_there(owner, key)
    })?;
    if is_there {
        return Ok(Reply::Done);
    }
    let template = template::key_made_in_place(owner.token.module.capabilities(), Kind::Encryption, key, label);
    match owner.session.generate_key(&Mechanism::AesKeyGen, &template) {
        Ok(handle) => {
            owner.token.keys.placed(key, handle, owner.token.clock.now());
            Ok(Reply::Done)
        }
        Err(error) => {
            // What failed may have been done all the same.
            owner.token.keys.doubt();
            Err(owner.left(error.into()))
        }
    }
}

/// Makes sure that the token holds one object of the version, which was made in it and never could leave it: with two of
/// them nobody could say which one encrypts, and somebody may have a copy of one that was brought in.
pub(super) fn confirm(owner: &mut Owner, key: KeyVersionId) -> Result<Reply, Failure> {
    owner.token_info()?;
    let found = objects::of_key(&owner.session, key)?;
    objects::never_left(&owner.session, &found, key)?;
    Ok(Reply::Done)
}
