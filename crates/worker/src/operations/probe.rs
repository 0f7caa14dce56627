//! Whether the token works: token info, then a round trip with the canary's token object.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{ObjectClass, ObjectHandle};

use super::gcm;
use crate::fault::Failure;
use crate::owner::{Owner, lock};
use crate::{objects, template};
use model::ciphertext::IV_BYTES;
use model::profile::Codes;
use protocol::{Class, Fault, Reply};

/// What the canary encrypts, beside fresh random bytes.
const AAD: &[u8] = b"keystored probe";
/// Bytes of them: one block, so that they and their ciphertext differ by the beginning of the key stream.
const BLOCK: usize = 16;

/// The beginning of a key stream, which the IV makes.
pub(crate) type KeyStream = [u8; BLOCK];

/// Fails with `Class::Token` whatever is wrong, but for what the token does otherwise than it must.
pub(super) fn run(owner: &mut Owner) -> Result<Reply, Failure> {
    owner.token_info()?;
    with_canary(owner, round_trip)?;
    Ok(Reply::Done)
}

/// Does something with the canary key, found again where its handle went stale; or, in a token that had none when the
/// worker logged in, with a key of the same kind that lives as long as the worker.
pub(super) fn with_canary(
    owner: &mut Owner,
    act: impl Fn(&mut Owner, ObjectHandle) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let known = owner.canary().or_else(|| *lock(&owner.token.stand_in));
    let key = match known {
        Some(key) => key,
        None => stand_in(owner)?,
    };
    match act(owner, key) {
        Err(failure) if failure.class(owner.codes()) == Class::KeyAbsent => {
            owner.searches();
            let found = objects::named(&owner.session, ObjectClass::SECRET_KEY, template::CANARY)?;
            let canary = found.ok_or_else(|| Failure::own(Class::Token, "probe", "the canary key is gone"))?;
            *lock(&owner.token.canary) = Some(canary);
            act(owner, canary)
        }
        outcome => outcome,
    }
}

/// The canary's own ciphertext did not open. No caller's is involved, so nothing about this is ambiguous, but that there may
/// be too much to do.
pub(super) fn its_own(failure: Failure, codes: &Codes) -> Fault {
    let mut fault = failure.during("the canary's own ciphertext", codes);
    fault.class = match fault.class {
        Class::Ambiguous | Class::Request => Class::Token,
        Class::AmbiguousOrBusy => Class::Busy,
        class => class,
    };
    fault
}

/// It opened to something else.
pub(super) fn otherwise() -> Failure {
    Failure::own(Class::Token, "probe", "the canary key gave back something else than was encrypted")
}

/// A session object, like the hot copies: it goes with the session that keeps the login.
fn stand_in(owner: &Owner) -> Result<ObjectHandle, Failure> {
    let made = lock(&owner.token.pinned)
        .generate_key(&Mechanism::AesKeyGen, &template::stand_in(owner.token.module.capabilities()));
    let key = made.map_err(|error| {
        let what = "the token holds no canary key, and making one for this worker alone: carry the ceremony out again";
        Failure::from(error).during(what, owner.codes())
    })?;
    tracing::warn!(
        "the token holds no canary key; a key of this worker's own stands in for it, which tells less: carry the ceremony \
         out again"
    );
    *lock(&owner.token.stand_in) = Some(key);
    Ok(key)
}

fn round_trip(owner: &mut Owner, canary: ObjectHandle) -> Result<(), Failure> {
    let (mut iv, mut plaintext) = ([0; IV_BYTES], [0; BLOCK]);
    owner.random(&mut iv)?;
    owner.random(&mut plaintext)?;
    let module = &*owner.token.module;
    let (iv, sealed) = gcm::seal(module, &owner.session, canary, iv, AAD, &plaintext)?;
    let opened = gcm::open(module, &owner.session, canary, iv, AAD, &sealed);
    let opened = opened.map_err(|failure| its_own(failure, owner.codes()))?;
    if opened.expose() != plaintext {
        return Err(otherwise());
    }
    // Another IV makes another key stream.
    let mut stream = plaintext;
    stream.iter_mut().zip(&sealed).for_each(|(byte, sealed)| *byte ^= sealed);
    match lock(&owner.token.last_stream).replace(stream) {
        Some(last) if last == stream => {
            Err(gcm::incompatible("C_Encrypt", "takes no account of the IV that it is given, or makes one twice"))
        }
        _ => Ok(()),
    }
}
