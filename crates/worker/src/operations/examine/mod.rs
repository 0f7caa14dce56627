//! Which of the HSM's capabilities hold in truth. What follows from what is found, `model::profile::judgement` says; here
//! things are tried, with session objects that are gone afterwards, whatever came of it.
//!
//! A refusal that may be the token's passing trouble is none: it is believed when the token does what every token must
//! right after it, and then refuses the same thing again ([`patience`]). What a token answers only as it may when it is busy
//! is asked again after pauses, and then is not judged. A token that fails otherwise is examined anew as after any other
//! failure. Ways that are not the capabilities' own are tried only where those fail.

mod bench;
mod calls;
mod encryption;
mod keeping;
mod patience;
pub(super) mod templates;
mod wrapping;

pub(super) use self::bench::Bench;

use cryptoki::object::ObjectHandle;

use crate::fault::Failure;
use crate::owner::Owner;
use model::profile::examination::{Examined, Setting, Tried};
use model::profile::judgement::FURTHER_SESSIONS;
use protocol::Reply;

/// Looks at everything once.
pub(super) fn run(owner: &mut Owner, sessions: u16) -> Result<Reply, Failure> {
    owner.token_info()?;
    let mut found = Examined { sessions: calls::sessions(owner, u64::from(sessions))?, ..Examined::default() };
    // Nothing else can be tried without them. The one that keeps the login is not one of them.
    if found.sessions.found >= owner.token.sessions + FURTHER_SESSIONS - 1 {
        let mut bench = Bench::open(owner)?;
        examine(&mut bench, &mut found)?;
    }
    Ok(Reply::Examined(Box::new(found)))
}

fn examine(bench: &mut Bench<'_>, found: &mut Examined) -> Result<(), Failure> {
    found.random = calls::random(bench)?;
    let key = bench.need(|bench| bench.generate(&templates::passing(bench.of())))?;
    found.gcm = encryption::way(bench, key)?;
    let encrypts = found.gcm.as_said == Tried::Works;
    if encrypts {
        found.gcm_longest = encryption::longest(bench, key)?;
        found.wrong_tag = encryption::wrong_tag(bench, key)?;
    }
    if found.gcm_longest == Tried::Works {
        found.read_only_sessions = calls::read_only_session(bench, key)?;
    }
    found.copy_object = calls::copy_object(bench, key)?;
    found.sensitive = keeping::sensitive(bench, key)?;
    (found.label, found.id) = templates::names(bench)?;
    match wraps(bench, found, key, encrypts) {
        // Nothing is wrapped there, so that nothing comes of how the token would do it. Whether it is still there is looked
        // at by what follows the examination.
        Err(failure) if bench.of().keys.in_place() => {
            if found.key_wrap.as_said == Tried::Not {
                let fault = failure.into_fault(bench.owner().codes());
                found.key_wrap = Setting::not_judged(bench::said(&fault));
            }
            Ok(())
        }
        outcome => outcome,
    }
}

fn wraps(bench: &mut Bench<'_>, found: &mut Examined, key: ObjectHandle, encrypts: bool) -> Result<(), Failure> {
    let wrapping = bench.need(|bench| bench.generate(&templates::wrapping(bench.of())))?;
    let wrap = wrapping::key_wrap(bench, wrapping, key, encrypts)?;
    found.key_wrap = wrap.found;
    found.oaep_hash = wrapping::oaep_hash(bench, key)?;
    // What follows is about keys that are unwrapped, as all keys of callers are, by what they are told of the number.
    if let (Some(by), Tried::Works) = (wrap.by, &found.key_wrap.as_said) {
        found.placed = templates::placed(bench, wrapping, &wrap.blob, by)?;
        found.allowed_mechanisms = keeping::allowed_mechanisms(bench, wrapping, &wrap.blob, by)?;
        found.extractable = keeping::extractable(bench, wrapping, &wrap.blob, by)?;
        found.unwrap_template = keeping::unwrap_template(bench, wrapping, key, by)?;
    }
    Ok(())
}
