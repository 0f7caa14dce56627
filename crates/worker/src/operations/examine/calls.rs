//! Sessions, random numbers and copies.

use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::Session;

use super::bench::{Bench, said};
use crate::fault::Failure;
use crate::operations::gcm;
use crate::operations::self_test::AAD;
use crate::owner::Owner;
use model::ciphertext::IV_BYTES;
use model::profile::examination::{Count, Tried};
use model::profile::judgement::LEAST_SESSIONS;
use protocol::Class;

/// Sessions that a process has before this: the one that keeps the login, and the one that this is asked of.
const HELD: u64 = 2;
/// Most sessions that are opened to see whether they can be.
const MOST_SESSIONS: u64 = 65;
/// What is drawn at once, at most.
const BLOCK_BYTES: u64 = 4_096;
/// Less is never drawn.
const LEAST_RANDOM: u64 = 32;

/// Whether a data worker has the sessions that it is to have, and one that keeps the login.
pub(super) fn sessions(owner: &Owner, each: u64) -> Result<Count, Failure> {
    let wanted = (each + 1).clamp(LEAST_SESSIONS, MOST_SESSIONS);
    let mut refused = None;
    for _ in 0..2 {
        let mut opened: Vec<Session> = Vec::new();
        let failure = loop {
            let found = HELD + opened.len() as u64;
            if found >= wanted {
                return Ok(Count { wanted, found, said: None });
            }
            match owner.token.module.open(owner.token.slot) {
                Ok(session) => opened.push(session),
                Err(failure) => break failure,
            }
        };
        let found = HELD + opened.len() as u64;
        drop(opened);
        let fault = failure.into_fault(owner.codes());
        if fault.class == Class::Busy {
            return Err(fault.into());
        }
        owner.token_info()?;
        refused = Some(Count { wanted, found, said: Some(said(&fault)) });
    }
    Ok(refused.unwrap_or_default())
}

/// How many random bytes the token gives at once.
pub(super) fn random(bench: &mut Bench<'_>) -> Result<Count, Failure> {
    let wanted = bench.of().calls.random_bytes.min(BLOCK_BYTES);
    let (mut asked, mut refused) = (wanted, None);
    loop {
        let bytes = usize::try_from(asked).unwrap_or_default();
        match bench.settle(|bench| Ok(bench.desk.generate_random_slice(&mut vec![0; bytes])?))? {
            Ok(()) => return Ok(Count { wanted, found: asked, said: refused }),
            Err(fault) => refused = Some(refused.unwrap_or_else(|| said(&fault))),
        }
        asked /= 2;
        if asked < LEAST_RANDOM {
            return Ok(Count { wanted, found: 0, said: refused });
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
