//! Destroy the token object of a key version.

use cryptoki::object::ObjectHandle;

use crate::fault::Failure;
use crate::objects;
use crate::owner::Owner;
use model::id::KeyVersionId;
use protocol::{Class, Reply};

/// Looks for the object so often. There are modules that say OK while another process writes, and destroy nothing.
const LOOKS: u8 = 4;

/// Succeeds also when there is none, which only a sound token can tell. What is reported as destroyed was looked for in
/// vain afterwards.
pub(super) fn run(owner: &mut Owner, key: KeyVersionId) -> Result<Reply, Failure> {
    let known = owner.token.keys.object(key);
    owner.forget(&[key]);
    owner.token_info()?;
    // Without a search: the one afterwards, which must find nothing, is needed anyway.
    if let Some(known) = known
        && objects::is_of_key(&owner.token.module, &owner.session, known, key)?
    {
        object(owner, known)?;
    }
    for _ in 0..LOOKS {
        let found = objects::of_key(&owner.session, key)?;
        if found.is_empty() {
            return Ok(Reply::Done);
        }
        for handle in found {
            object(owner, handle)?;
        }
    }
    Err(Failure::own(Class::Token, "C_DestroyObject", format!("the object of key {key} is still there")))
}

/// Destroys one object. One that is gone by then was destroyed.
pub(super) fn object(owner: &Owner, handle: ObjectHandle) -> Result<(), Failure> {
    match owner.session.destroy_object(handle).map_err(Failure::from) {
        Err(failure) if failure.class(owner.codes()) == Class::KeyAbsent => owner.token_info(),
        outcome => outcome,
    }
}
