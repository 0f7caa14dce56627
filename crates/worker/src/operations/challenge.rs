//! Whether two tokens hold one cluster wrapping key, without either showing it: a member wraps a fresh key and encrypts
//! with it; whoever holds the same wrapping key opens both.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use zeroize::Zeroizing;

use super::gcm;
use crate::fault::Failure;
use crate::module::Module;
use crate::owner::Owner;
use crate::template::{self, Kind};
use model::ciphertext::IV_BYTES;
use model::secret::Secret;
use protocol::{Challenge, Class, Fault, Reply, Sealed};

/// What the answer is encrypted with beside the key.
const AAD: &[u8] = b"keystored wrapping key challenge";
const ANSWER_BYTES: usize = 32;

/// Makes one, in a token that holds the wrapping key.
pub(super) fn make(owner: &mut Owner) -> Result<Reply, Failure> {
    let (mut iv, mut answer) = ([0; IV_BYTES], Zeroizing::new([0; ANSWER_BYTES]));
    owner.random(&mut iv)?;
    owner.random(&mut *answer)?;
    let (wrapped, (iv, sealed)) = owner.with_wrapping_key(|module, session, wrapping| {
        let key_wrap = module.key_wrap()?;
        let key = session
            .generate_key(&Mechanism::AesKeyGen, &template::challenge_key(module.capabilities(), Kind::Encryption))?;
        let made = module.extra().wrap_key(session, &key_wrap, wrapping, key).map_err(Failure::from);
        let made = made.and_then(|wrapped| Ok((wrapped, gcm::seal(module, session, key, iv, AAD, &*answer)?)));
        let destroyed = session.destroy_object(key);
        let made = made?;
        destroyed?;
        Ok(made)
    })?;
    let sealed = Sealed { iv, sealed: sealed.into() };
    Ok(Reply::Challenge(Box::new(Challenge { wrapped: wrapped.into(), sealed, answer: Secret::new(answer.to_vec()) })))
}

/// Whether this key is the wrapping key that the challenge was made under. `what` names it for people.
pub(super) fn check(
    module: &Module,
    session: &Session,
    wrapping: ObjectHandle,
    challenge: &Challenge,
    what: &str,
) -> Result<(), Failure> {
    let another = || format!("{what} is not the wrapping key of this cluster");
    // Whatever a token says where the keys differ, it says about what it was given: it is in order itself.
    let judged = |failure: Failure| -> Fault {
        let mut fault = failure.during(&another(), module.codes());
        if matches!(fault.class, Class::Ambiguous | Class::Request) {
            fault.class = Class::Refused;
        }
        fault
    };
    let template = template::challenge_key_opened(module.capabilities(), Kind::Encryption);
    let opened = session.unwrap_key(&module.key_wrap()?, wrapping, &challenge.wrapped, &template);
    let key = opened.map_err(|error| judged(error.into()))?;
    let answer = gcm::open(module, session, key, challenge.sealed.iv, AAD, &challenge.sealed.sealed);
    let destroyed = session.destroy_object(key);
    let answer = answer.map_err(judged)?;
    destroyed?;
    verify_slices_are_equal(answer.expose(), challenge.answer.expose())
        .map_err(|_| Failure::own(Class::Refused, "wrapping key challenge", another()))
}
