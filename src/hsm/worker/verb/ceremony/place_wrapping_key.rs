//! Unwrap a blob as this token's cluster wrapping key.
//!
//! Its unwrap template is what keeps keys inside tokens: without it, whoever holds kmsuser's PIN could unwrap a blob as
//! a key that can be read.

use cryptoki::object::ObjectClass;
use pkcs11_extra::UnwrapTemplate;

use super::oaep;
use crate::hsm::protocol::{Class, Reply};
use crate::hsm::worker::fault::Failure;
use crate::hsm::worker::owner::{Owner, lock};
use crate::hsm::worker::{objects, template};

/// Does nothing where there is one already: a step of bringing an HSM in, which can be repeated.
pub(in crate::hsm::worker::verb) fn ensure(owner: &mut Owner, blob: &[u8]) -> Result<Reply, Failure> {
    owner.token_info()?;
    if objects::named(&owner.session, ObjectClass::SECRET_KEY, template::WRAPPING)?.is_some() {
        return Ok(Reply::Done);
    }
    run(owner, blob)
}

/// Refuses where there is one already: with two of them nobody could say which is meant.
pub(super) fn run(owner: &mut Owner, blob: &[u8]) -> Result<Reply, Failure> {
    let refused = |detail: &str| Failure::own(Class::Refused, "PlaceWrappingKey", detail);
    let session = &owner.session;
    if objects::named(session, ObjectClass::SECRET_KEY, template::WRAPPING)?.is_some() {
        return Err(refused("the token already holds a cluster wrapping key"));
    }
    let transport = objects::named(session, ObjectClass::PRIVATE_KEY, template::TRANSPORT)?
        .ok_or_else(|| refused("the token holds no transport key; MakeTransportPair comes first"))?;
    let (first, unwraps_to, last) = template::wrapping_key();
    let template = UnwrapTemplate { first: &first, unwraps_to: &unwraps_to, last: &last };
    let placed = owner.token.module.extra().unwrap_key(session, &oaep(), transport, blob, template);
    let handle = placed.map_err(|error| Failure::from(error).during("unwrapping the blob", owner.profile()))?;
    *lock(&owner.token.wrapping) = Some(handle);
    Ok(Reply::Done)
}
