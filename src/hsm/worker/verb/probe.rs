//! Whether the token works: token info, then a round trip with the canary's token object.

use super::gcm;
use crate::hsm::protocol::{Class, Reply};
use crate::hsm::worker::fault::Failure;
use crate::hsm::worker::owner::{Owner, lock};
use crate::hsm::worker::{objects, template};
use crate::model::ciphertext::IV_BYTES;
use cryptoki::object::{ObjectClass, ObjectHandle};

/// What the canary encrypts, beside fresh random bytes.
const AAD: &[u8] = b"keystored probe";

/// Fails with `Class::Token` whatever is wrong. A token that had no canary at the start is only asked for its info.
pub(super) fn run(owner: &mut Owner) -> Result<Reply, Failure> {
    owner.token_info()?;
    let Some(canary) = owner.canary() else { return Ok(Reply::Done) };
    match round_trip(owner, canary) {
        Err(failure) if failure.class(owner.profile()) == Class::KeyAbsent => {
            let found = objects::named(&owner.session, ObjectClass::SECRET_KEY, template::CANARY)?;
            let canary = found.ok_or_else(|| Failure::own(Class::Token, "probe", "the canary key is gone"))?;
            *lock(&owner.token.canary) = Some(canary);
            round_trip(owner, canary)?;
        }
        outcome => outcome?,
    }
    Ok(Reply::Done)
}

fn round_trip(owner: &mut Owner, canary: ObjectHandle) -> Result<(), Failure> {
    let (mut iv, mut plaintext) = ([0; IV_BYTES], [0; 16]);
    owner.random(&mut iv)?;
    owner.random(&mut plaintext)?;
    let sealed = gcm::seal(&owner.session, canary, iv, AAD, &plaintext)?;
    let opened = gcm::open(&owner.session, canary, iv, AAD, &sealed).map_err(|failure| {
        // No caller's ciphertext is involved, so nothing about this is ambiguous.
        let mut fault = failure.during("the canary's own ciphertext", owner.profile());
        if fault.class == Class::Ambiguous || fault.class == Class::Request {
            fault.class = Class::Token;
        }
        fault
    })?;
    if opened != plaintext {
        return Err(Failure::own(Class::Token, "probe", "the canary key gave back something else than was encrypted"));
    }
    Ok(())
}
