//! The token's log key: it signs heads of audit logs and nothing else, so whoever finds its signature under one knows that
//! this token has seen that head.
//!
//! Others may make it at the same moment, in another process of this host or of another one. So whoever has made it looks
//! again, and takes its own away where there is another; where two do that at once, both begin anew, after pauses that
//! differ. One look at once is not enough: what another process has just made may not be shown yet (SoftHSM shows it with
//! the next change that somebody else makes), and what it has just made may be taken away again. So a pair is answered
//! that stood alone in two looks with a pause between them; and where the token is files, its makers take turns ([`turn`]).

pub(super) mod checkpoint;
mod turn;
pub(super) mod vouch;

use std::thread;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use bytes::Bytes;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use crate::fault::Failure;
use crate::owner::{Owner, lock};
use crate::{objects, template};
use protocol::{Class, LogKeyAlgorithm, LogPublicKey, Reply};

/// How many looks others have to come to an end with what they make. After that, what is half made is taken away.
const ROUNDS: u32 = 8;
/// The shortest pause between two looks; the longest is twice as long.
const PAUSE: Duration = Duration::from_millis(100);
/// What is signed to see whether the halves of a pair belong together: the head of a log that has no records, and that
/// nobody keeps. It is a head all the same, so that the key has signed nothing else even then.
const SAMPLE: &str = "keystored log key check\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";

/// The pair, once it was found to be sound.
#[derive(Clone)]
pub(in super::super) struct LogPair {
    private: ObjectHandle,
    public: LogPublicKey,
}

/// What a token shows of it: private and public halves.
#[derive(PartialEq, Eq)]
struct Seen {
    private: Vec<ObjectHandle>,
    public: Vec<ObjectHandle>,
}

/// How a pair is made.
struct Making {
    makes: Mechanism<'static>,
    /// For the pair, and for a signature with it.
    needs: [MechanismType; 2],
    curve: &'static [u8],
}

/// In the order in which they are tried.
const MAKINGS: [Making; 3] = [
    Making {
        makes: Mechanism::EccEdwardsKeyPairGen,
        needs: [MechanismType::ECC_EDWARDS_KEY_PAIR_GEN, MechanismType::EDDSA],
        curve: &template::EDWARDS_25519_NAME,
    },
    Making {
        makes: Mechanism::EccEdwardsKeyPairGen,
        needs: [MechanismType::ECC_EDWARDS_KEY_PAIR_GEN, MechanismType::EDDSA],
        curve: &template::EDWARDS_25519,
    },
    Making {
        makes: Mechanism::EccKeyPairGen,
        needs: [MechanismType::ECC_KEY_PAIR_GEN, MechanismType::ECDSA],
        curve: &template::P_256,
    },
];

/// Makes it where there is none, and answers its public half.
pub(super) fn ensure(owner: &mut Owner) -> Result<Reply, Failure> {
    for round in 1..=2 * ROUNDS {
        let last = round >= ROUNDS;
        // A token that is gone shows nothing and says OK.
        owner.token_info()?;
        owner.searches();
        let seen = look(owner)?;
        match (seen.private.len(), seen.public.len()) {
            (0, 0) => {
                // Until what is made has stood alone, or was taken away.
                let _turn = turn::take(owner)?;
                if look(owner)? == seen
                    && let Some(made) = make(owner)?
                {
                    pause(owner)?;
                    let pair = own_of(owner, &made);
                    if look(owner)? == made {
                        tracing::info!("the token's log key was made");
                        return Ok(Reply::LogKey(pair?.public));
                    }
                    take_away(&owner.session, made)?;
                }
            }
            (1, 1) => {
                let pair = own_of(owner, &seen);
                pause(owner)?;
                // Else it was another's, which has taken it away.
                if look(owner)? == seen {
                    return Ok(Reply::LogKey(pair?.public));
                }
            }
            // Others come to an end with what they make, or take it away.
            _ if !last => {}
            // What an interrupted making leaves: nobody was shown its public half, or nobody can sign with it.
            (0 | 1, 0 | 1) => take_away(&owner.session, seen)?,
            // Says that there are several.
            _ => own_of(owner, &seen).map(drop)?,
        }
        pause(owner)?;
    }
    Err(refused("others make the log key in this token, and none of them comes to an end"))
}

/// Answers its public half where there is one.
pub(super) fn show(owner: &mut Owner) -> Result<Reply, Failure> {
    // A token that is gone shows nothing and says OK.
    owner.token_info()?;
    Ok(Reply::LogKey(own(owner)?.public))
}

/// The pair, where it was made in this token and cannot leave it. The public object alone proves nothing: whoever has
/// kmsuser's PIN can put one there. So the private half has to sign something that opens with it.
///
/// Looked for in the token: what is answered is what it holds now.
pub(super) fn own(owner: &mut Owner) -> Result<LogPair, Failure> {
    owner.searches();
    let seen = look(owner)?;
    own_of(owner, &seen)
}

/// The same of the halves that the login has found, where they are still what they were; else looked for. Enough for a
/// signature that is compared with a key that was looked for.
pub(super) fn known(owner: &mut Owner) -> Result<LogPair, Failure> {
    let halves = lock(&owner.token.log_halves).take();
    if let Some([private, public]) = halves
        && owner.is_named(private, ObjectClass::PRIVATE_KEY, template::LOG)?
        && owner.is_named(public, ObjectClass::PUBLIC_KEY, template::LOG)?
    {
        return own_of(owner, &Seen { private: vec![private], public: vec![public] });
    }
    own(owner)
}

fn own_of(owner: &Owner, seen: &Seen) -> Result<LogPair, Failure> {
    let session = &owner.session;
    let missing = || refused("the token holds no log key");
    let private = objects::one(&seen.private, template::LOG)?.ok_or_else(missing)?;
    let public = objects::one(&seen.public, template::LOG)?.ok_or_else(missing)?;
    objects::made_here(session, private, template::LOG)?;
    let point = objects::ec_point(session, public)?.unwrap_or_default();
    let (algorithm, public) = match (objects::ed25519_point(&point), objects::p256_point(&point)) {
        (Some(bare), _) => (LogKeyAlgorithm::Ed25519, Bytes::copy_from_slice(bare)),
        (None, Some(bare)) => (LogKeyAlgorithm::EcdsaP256, Bytes::copy_from_slice(bare)),
        (None, None) => return Err(refused("the log key in the token is neither of Ed25519 nor of P-256")),
    };
    let pair = LogPair { private, public: LogPublicKey { algorithm, public } };
    let signature = pair.sign(session, SAMPLE.as_bytes())?;
    if !pair.has_signed(SAMPLE.as_bytes(), &signature) {
        return Err(refused("the public half of the log key in the token is not that of the private one"));
    }
    *lock(&owner.token.log_key) = Some(pair.clone());
    Ok(pair)
}

impl LogPair {
    /// 64 bytes, whatever it signs with.
    fn sign(&self, session: &Session, text: &[u8]) -> Result<Vec<u8>, Failure> {
        Ok(match self.public.algorithm {
            LogKeyAlgorithm::Ed25519 => {
                let plain = EddsaParams::new(EddsaSignatureScheme::Ed25519);
                session.sign(&Mechanism::Eddsa(plain), self.private, text)?
            }
            // The hash is made outside: that is what every vendor has.
            LogKeyAlgorithm::EcdsaP256 => {
                session.sign(&Mechanism::Ecdsa, self.private, digest(&SHA256, text).as_ref())?
            }
        })
    }

    fn has_signed(&self, text: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn VerificationAlgorithm = match self.public.algorithm {
            LogKeyAlgorithm::Ed25519 => &ED25519,
            LogKeyAlgorithm::EcdsaP256 => &ECDSA_P256_SHA256_FIXED,
        };
        UnparsedPublicKey::new(algorithm, &self.public.public).verify(text, signature).is_ok()
    }
}

/// One search for both halves; one for each where an object cannot be read at this moment, since another process is at it.
fn look(owner: &Owner) -> Result<Seen, Failure> {
    let Ok(labelled) = objects::labelled(&owner.token.module, &owner.session, template::LOG) else {
        let found = |class| objects::all_named(&owner.session, class, template::LOG);
        return Ok(Seen { private: found(ObjectClass::PRIVATE_KEY)?, public: found(ObjectClass::PUBLIC_KEY)? });
    };
    let of = |wanted| labelled.iter().filter(|(class, _)| *class == wanted).map(|(_, handle)| *handle).collect();
    Ok(Seen { private: of(ObjectClass::PRIVATE_KEY), public: of(ObjectClass::PUBLIC_KEY) })
}

/// Makes the pair where it is the only one then; else takes it away again.
fn make(owner: &mut Owner) -> Result<Option<Seen>, Failure> {
    // A token that is being lost shows fewer and fewer objects, and no error.
    let shown = objects::ceremony(&owner.session)?;
    if !(shown.identity || shown.transport || shown.wrapping || shown.canary) {
        return Err(refused("the token shows none of its objects, so that it may hold one all the same"));
    }
    let [public, private] = generate(owner)?;
    let made = Seen { private: vec![private], public: vec![public] };
    if look(owner)? == made {
        return Ok(Some(made));
    }
    take_away(&owner.session, made)?;
    Ok(None)
}

/// What this process has made beside another's, or what an interrupted making has left.
fn take_away(session: &Session, pair: Seen) -> Result<(), Failure> {
    for half in pair.private.into_iter().chain(pair.public) {
        session.destroy_object(half)?;
    }
    Ok(())
}

/// Both halves, public and private. What one way of making it fails with does not keep from trying the next: tokens list
/// curves that they do not have, and each says so in words of its own.
fn generate(owner: &mut Owner) -> Result<[ObjectHandle; 2], Failure> {
    let listed = owner.token.module.mechanisms(owner.token.slot)?;
    let mut first = None;
    for Making { makes, needs, curve } in &MAKINGS {
        if !needs.iter().all(|mechanism| listed.contains(mechanism)) {
            continue;
        }
        let [_, signs] = *needs;
        let (public, private) = template::log_pair(owner.token.module.capabilities(), curve, signs);
        match owner.session.generate_key_pair(makes, &public, &private).map_err(Failure::from) {
            Ok((public, private)) => return Ok([public, private]),
            Err(failure) if failure.class(owner.codes()) == Class::Session => return Err(failure),
            Err(failure) => first = first.or(Some(failure)),
        }
    }
    Err(first.unwrap_or_else(|| refused("the token makes no keys of Ed25519 or P-256")))
}

/// Others' pauses are of another length.
fn pause(owner: &mut Owner) -> Result<(), Failure> {
    let mut random = [0];
    owner.random(&mut random)?;
    thread::sleep(PAUSE + PAUSE * u32::from(random[0]) / 256);
    Ok(())
}

fn refused(detail: &str) -> Failure {
    Failure::own(Class::Refused, "log key", detail)
}
