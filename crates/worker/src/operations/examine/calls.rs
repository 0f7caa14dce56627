//! Sessions, random numbers and copies.

use std::thread;

use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::Session;

use super::bench::{Bench, Settled, said};
use super::patience::{Patience, Question, Then};
use crate::fault::Failure;
use crate::operations::gcm;
use crate::operations::self_test::AAD;
use crate::owner::Owner;
use model::ciphertext::IV_BYTES;
use model::profile::examination::{Count, Tried};
use model::profile::judgement::FURTHER_SESSIONS;

/// Most sessions that are opened to see whether they can be.
const MOST_SESSIONS: u64 = 64;
/// What is drawn at once, at most.
const BLOCK_BYTES: u64 = 4_096;
/// Less is never drawn.
const LEAST_RANDOM: u64 = 32;

/// Whether a worker has the sessions that it is to have, the one that keeps the login, and those that this looks with. This
/// worker has most of them already, or it would not have come so far.
pub(super) fn sessions(owner: &Owner, each: u64) -> Result<Count, Failure> {
    let held = owner.token.sessions;
    let wanted = (each + FURTHER_SESSIONS).min(held + MOST_SESSIONS);
    let (mut question, mut patience) = (Question::default(), Patience::default());
    loop {
        let mut opened: Vec<Session> = Vec::new();
        let failure = loop {
            let found = held + opened.len() as u64;
            if found >= wanted {
                return Ok(Count { wanted, found, ..Count::default() });
            }
            match owner.token.module.open(owner.token.slot) {
                Ok(session) => opened.push(session),
                Err(failure) => break failure,
            }
        };
        let found = held + opened.len() as u64;
        drop(opened);
        owner.token_info()?;
        let fault = failure.into_fault(owner.codes());
        let count = |refused, unjudged| Ok(Count { wanted, found, said: refused, unjudged });
        match question.after(fault.class, &mut patience) {
            Then::Again => {}
            Then::After(pause) => thread::sleep(pause),
            Then::Believed => return count(Some(said(&fault)), None),
            Then::NotJudged => return count(None, Some(said(&fault))),
        }
    }
}

/// How many random bytes the token gives at once.
pub(super) fn random(bench: &mut Bench<'_>) -> Result<Count, Failure> {
    let wanted = bench.of().calls.random_bytes.min(BLOCK_BYTES);
    let (mut asked, mut refused, mut unjudged) = (wanted, None, None);
    loop {
        let bytes = usize::try_from(asked).unwrap_or_default();
        match bench.settle(|bench| Ok(bench.desk.generate_random_slice(&mut vec![0; bytes])?))? {
            Settled::Done(()) => return Ok(Count { wanted, found: asked, said: refused, unjudged }),
            Settled::Refused(fault) => refused = Some(refused.unwrap_or_else(|| said(&fault))),
            Settled::NotJudged(fault) => unjudged = Some(said(&fault)),
        }
        asked /= 2;
        // That less is given says nothing of more that was not judged.
        if asked < LEAST_RANDOM || refused.is_none() {
            return Ok(Count { wanted, found: 0, said: refused, unjudged });
        }
    }
}

/// Whether read-only sessions are opened, and keys are used in them.
pub(super) fn read_only_session(bench: &mut Bench<'_>, key: ObjectHandle) -> Result<Tried, Failure> {
    bench.tried(|bench| {
        let session = bench.module().pkcs11().open_ro_session(bench.owner().token.slot)?;
        let mut iv = [0; IV_BYTES];
        Bench::random(&mut iv)?;
        gcm::seal(bench.module(), &session, key, iv, AAD, b"in a read-only session").map(drop)
    })
}

/// Whether keys are copied.
pub(super) fn copy_object(bench: &mut Bench<'_>, key: ObjectHandle) -> Result<Tried, Failure> {
    bench.tried(|bench| {
        let copied = bench.keeper().copy_object(key, &[Attribute::Token(false), Attribute::Private(true)])?;
        bench.keep(copied);
        Ok(())
    })
}
