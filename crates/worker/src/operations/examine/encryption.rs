//! AES-GCM: who makes the IV, how long things may be, and what a wrong tag is called.

use std::cell::Cell;

use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use super::bench::{Bench, Settled, nothing_works, said};
use crate::fault::Failure;
use crate::operations::gcm;
use crate::operations::self_test::{AAD, Drawn, does_so};
use model::ciphertext::{BOUND_BYTES, IV_BYTES};
use model::limits;
use model::profile::examination::{Setting, Tried, WrongTag};
use model::profile::{Gcm, IvBy};
use model::secret::Secret;
use protocol::Class;

/// Numbers by which vendors call AES-GCM: the standard's, and CloudHSM's own for an IV before the ciphertext.
const NUMBERS: [u64; 2] = [0x1087, 0x8000_1087];
/// What ulIvBits may say.
const BITS: [u64; 2] = [96, 0];
/// In the order in which they are likely.
const WAYS: [IvBy; 4] = [IvBy::Caller, IvBy::ZeroedWriteback, IvBy::NullAppended, IvBy::NullPrepended];

/// Whether the token does it as its capabilities have it, and how it does it where it does not.
pub(super) fn way(bench: &mut Bench<'_>, key: ObjectHandle) -> Result<Setting<Gcm>, Failure> {
    let outcome = bench.settle(|bench| {
        let (module, desk) = (bench.module(), &bench.desk);
        let seal = |iv, plaintext: &[u8]| gcm::seal(module, desk, key, iv, AAD, plaintext);
        test(bench, module.capabilities().gcm.iv, seal, |iv, sealed| gcm::open(module, desk, key, iv, AAD, sealed))
    })?;
    let fault = match outcome {
        Settled::Done(()) => return Ok(Setting::works()),
        // That another way works says nothing against this one.
        Settled::NotJudged(fault) => return Ok(Setting::not_judged(said(&fault))),
        Settled::Refused(fault) => fault,
    };
    let (of, mut unjudged) = (&bench.of().gcm, None);
    for mechanism in likely(of.mechanism, &NUMBERS) {
        for iv in likely(of.iv, &WAYS) {
            for iv_bits in likely(of.iv_bits, &BITS) {
                let gcm = Gcm { mechanism, iv, iv_bits, ..of.clone() };
                if gcm == *of {
                    continue;
                }
                match is_way(bench, key, &gcm)? {
                    Tried::Works => {
                        let as_said = Tried::Fails(said(&fault));
                        return Ok(Setting { as_said, instead: Some(gcm), unjudged: None });
                    }
                    Tried::NotJudged(said) => unjudged = Some(said),
                    Tried::Not | Tried::Fails(_) => {}
                }
            }
        }
    }
    nothing_works(fault, unjudged)
}

/// What is said first, then the others.
fn likely<T: Copy + PartialEq>(said: T, all: &[T]) -> Vec<T> {
    std::iter::once(said).chain(all.iter().copied().filter(|other| *other != said)).collect()
}

fn is_way(bench: &mut Bench<'_>, key: ObjectHandle, gcm: &Gcm) -> Result<Tried, Failure> {
    bench.tried(|bench| {
        let (module, desk) = (bench.module(), &bench.desk);
        let seal = |iv, plaintext: &[u8]| gcm::as_if::seal(module, gcm, desk, key, iv, AAD, plaintext);
        test(bench, gcm.iv, seal, |iv, sealed| gcm::as_if::open(module, gcm, desk, key, iv, AAD, sealed))
    })
}

fn test(
    bench: &Bench<'_>,
    by: IvBy,
    seal: impl Fn([u8; IV_BYTES], &[u8]) -> Result<([u8; IV_BYTES], Vec<u8>), Failure>,
    open: impl Fn([u8; IV_BYTES], &[u8]) -> Result<Secret, Failure>,
) -> Result<(), Failure> {
    let (drawn, opened) = (Drawn::by(Bench::random)?, Cell::new(false));
    let codes = bench.module().codes();
    let open = |iv, sealed: &[u8]| {
        let outcome = open(iv, sealed);
        // The second is under another IV. By what code it is refused is a question of its own, unless it may be none.
        match (opened.replace(true), outcome) {
            (true, Err(failure)) if !failure.class(codes).may_be_busy() => {
                Err(Failure::own(Class::Request, "C_Decrypt", "refused"))
            }
            (_, outcome) => outcome,
        }
    };
    does_so(by, &drawn, |iv| seal(iv, &drawn.plaintext), open, codes)
}

/// Whether what callers may send is taken.
pub(super) fn longest(bench: &mut Bench<'_>, key: ObjectHandle) -> Result<Tried, Failure> {
    let plaintext = vec![0x5a; limits::PLAINTEXT_BYTES];
    // The longest context, behind what every ciphertext begins with.
    let aad = vec![0xa5; BOUND_BYTES + limits::CONTEXT_BYTES];
    bench.tried(|bench| {
        let (module, desk) = (bench.module(), &bench.desk);
        let (iv, sealed) = seal(bench, desk, key, &aad, &plaintext)?;
        let opened = gcm::open(module, desk, key, iv, &aad, &sealed)?;
        if opened.expose() != plaintext {
            return Err(Failure::own(Class::Token, "C_Decrypt", "another plaintext comes back"));
        }
        Ok(())
    })
}

fn seal(
    bench: &Bench<'_>,
    desk: &Session,
    key: ObjectHandle,
    aad: &[u8],
    plaintext: &[u8],
) -> Result<([u8; IV_BYTES], Vec<u8>), Failure> {
    let mut iv = [0; IV_BYTES];
    Bench::random(&mut iv)?;
    gcm::seal(bench.module(), desk, key, iv, aad, plaintext)
}

/// What is said of a ciphertext whose tag is wrong.
pub(super) fn wrong_tag(bench: &mut Bench<'_>, key: ObjectHandle) -> Result<WrongTag, Failure> {
    let (iv, mut sealed) = bench.need(|bench| seal(bench, &bench.desk, key, AAD, b"a plaintext"))?;
    if let Some(last) = sealed.last_mut() {
        *last ^= 1;
    }
    let opened = bench.settle(|bench| gcm::open(bench.module(), &bench.desk, key, iv, AAD, &sealed).map(drop))?;
    Ok(match opened {
        Settled::Done(()) => WrongTag::Opened,
        Settled::NotJudged(fault) => WrongTag::NotJudged(said(&fault)),
        Settled::Refused(fault) => WrongTag::Refused {
            function: fault.function.to_string(),
            code: fault.code,
            said: said(&fault),
            understood: matches!(fault.class, Class::Request | Class::Ambiguous),
        },
    })
}
