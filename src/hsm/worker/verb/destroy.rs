//! Destroy the token object of a key version.

use crate::hsm::protocol::{Class, Reply};
use crate::hsm::worker::fault::Failure;
use crate::hsm::worker::objects;
use crate::hsm::worker::owner::Owner;
use crate::model::id::KeyVersionId;

/// Succeeds also when there is none, which only a sound token can tell.
pub(super) fn run(owner: &mut Owner, key: KeyVersionId) -> Result<Reply, Failure> {
    owner.forget(&[key]);
    owner.token_info()?;
    for handle in objects::of_key(&owner.session, key)? {
        match owner.session.destroy_object(handle).map_err(Failure::from) {
            Err(failure) if failure.class(owner.profile()) == Class::KeyAbsent => owner.token_info()?,
            outcome => outcome?,
        }
    }
    Ok(Reply::Done)
}
