//! Proof ciphertexts: whether it is the ciphertext or the key that is bad.
//!
//! A key's proof is a ciphertext of known bytes, made with this very key at its creation. When an HSM's code does not
//! say whose fault a failed decryption is, the proof is opened in the same HSM. There is at most one such check for
//! each key and HSM at a time, and its outcome holds for a second, so that a flood of bad ciphertexts costs next to
//! nothing. An HSM that says by one code that a ciphertext is bad and that it has too much to do is believed where it opens
//! the proof; where it does not, nothing follows for the key.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use lru::LruCache;

use super::member::Member;
use super::port::Port;
use super::throttle::PAUSES;
use super::{KeyRef, Proof};
use model::ciphertext::authenticated_data;
use model::clock::Clock;
use model::context::EncryptionContext;
use model::id::KeyVersionId;
use model::lock::MutexExt as _;
use model::secret::Secret;
use protocol::{Class, DecryptItem, EncryptItem, Fault, Op, Reply};

/// How long an outcome holds.
const MEMORY: Duration = Duration::from_secs(1);
/// The same for those who have nobody else to ask.
const LAST_RESORT: Duration = Duration::from_millis(100);
/// Longest that one check takes; its callers wait no longer than their own deadlines.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most outcomes that are remembered, the latest used stay.
const MOST_KNOWN: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4_095);
/// Stands before the version's bytes in the plaintext of a proof; together 32 bytes.
const TAG: &[u8; 12] = b"ks proof v1:";

/// What a proof told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The key opens it: whatever else did not open was bad itself.
    Opens,
    /// The key does not: it is not the right one, or the token is broken.
    Broken,
    /// The key's object is gone.
    Absent,
    /// The member has too much to do, or says by the same code that it does not open: nothing is known.
    Busy,
    /// There was no answer, or one that says nothing.
    Unknown,
}

impl Outcome {
    /// For how long it is believed, where one of this age would do.
    fn holds(self, age: Duration) -> Duration {
        if self == Self::Busy { age.min(PAUSES.0) } else { age }
    }
}

/// The item that makes the proof of a version.
#[must_use]
pub fn to_seal(version: KeyVersionId) -> EncryptItem {
    EncryptItem { key: version, aad: aad(version), plaintext: Secret::new(plaintext(version).to_vec()) }
}

/// The item that opens the proof of a version.
#[must_use]
pub fn to_open(version: KeyVersionId, proof: &Proof) -> DecryptItem {
    DecryptItem { key: version, aad: aad(version), iv: proof.iv, sealed: proof.sealed.clone() }
}

/// Whether these are the bytes of a version's proof.
#[must_use]
pub fn is_plaintext(version: KeyVersionId, bytes: &Secret) -> bool {
    bytes.expose() == plaintext(version)
}

fn plaintext(version: KeyVersionId) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..TAG.len()].copy_from_slice(TAG);
    bytes[TAG.len()..].copy_from_slice(&version.to_bytes());
    bytes
}

fn aad(version: KeyVersionId) -> bytes::Bytes {
    authenticated_data(version, &EncryptionContext::default()).into()
}

/// The checks under way and the outcomes that still hold.
pub(super) struct Proofs {
    table: Mutex<LruCache<(usize, KeyVersionId), Check>>,
}

enum Check {
    Running { given_up: Instant, outcome: Shared<BoxFuture<'static, Outcome>> },
    Known { since: Instant, outcome: Outcome },
}

impl Proofs {
    pub(super) fn new() -> Self {
        Self { table: Mutex::new(LruCache::new(MOST_KNOWN)) }
    }

    /// Opens the key's proof in one member, together with everybody else who asks for the same at the same time.
    pub(super) async fn check<P: Port>(
        &self,
        member: &Arc<Member<P>>,
        key: &Arc<KeyRef>,
        clock: &Clock,
        deadline: Instant,
    ) -> Outcome {
        self.not_older(MEMORY, member, key, clock, deadline).await
    }

    /// The same with an outcome of this moment.
    pub(super) async fn recheck<P: Port>(
        &self,
        member: &Arc<Member<P>>,
        key: &Arc<KeyRef>,
        clock: &Clock,
        deadline: Instant,
    ) -> Outcome {
        self.not_older(LAST_RESORT, member, key, clock, deadline).await
    }

    /// The same, where an outcome was [`Outcome::Busy`]: asked again after the pauses of a member that has too much to do,
    /// until it says something else, or for [`PATIENCE`].
    pub(super) async fn settle<P: Port>(
        &self,
        member: &Arc<Member<P>>,
        key: &Arc<KeyRef>,
        clock: &Clock,
        deadline: Instant,
    ) -> Outcome {
        let until = deadline.min(clock.now() + PATIENCE);
        let mut pause = PAUSES.0;
        while clock.now() + pause < until {
            tokio::time::sleep(pause).await;
            match self.not_older(LAST_RESORT, member, key, clock, deadline).await {
                Outcome::Busy => pause = (2 * pause).min(PAUSES.1),
                outcome => return outcome,
            }
        }
        Outcome::Busy
    }

    async fn not_older<P: Port>(
        &self,
        age: Duration,
        member: &Arc<Member<P>>,
        key: &Arc<KeyRef>,
        clock: &Clock,
        deadline: Instant,
    ) -> Outcome {
        let at = (member.place, key.version);
        let now = clock.now();
        let running = {
            let mut table = self.table.lock_anyway();
            match table.get(&at) {
                Some(Check::Known { since, outcome }) if now < *since + outcome.holds(age) => return *outcome,
                // One whose callers have all gone away is not driven by anybody; past its time it is of no use.
                Some(Check::Running { given_up, outcome }) if now < *given_up => outcome.clone(),
                _ => {
                    let given_up = now + PATIENCE;
                    let outcome = open(Arc::clone(member), Arc::clone(key), given_up).boxed().shared();
                    table.put(at, Check::Running { given_up, outcome: outcome.clone() });
                    outcome
                }
            }
        };
        let Ok(outcome) = tokio::time::timeout_at(deadline.into(), running.clone()).await else {
            return Outcome::Unknown;
        };
        let mut table = self.table.lock_anyway();
        // The first to see the end of a check writes it down; the others find it written, or a newer check.
        if matches!(table.peek(&at), Some(Check::Running { outcome, .. }) if outcome.ptr_eq(&running)) {
            match outcome {
                Outcome::Unknown => drop(table.pop(&at)),
                outcome => drop(table.put(at, Check::Known { since: clock.now(), outcome })),
            }
        }
        outcome
    }

    /// Forgets an outcome: the object was placed anew or destroyed.
    pub(super) fn forget(&self, member: usize, version: KeyVersionId) {
        self.table.lock_anyway().pop(&(member, version));
    }
}

async fn open<P: Port>(member: Arc<Member<P>>, key: Arc<KeyRef>, deadline: Instant) -> Outcome {
    let op = Arc::new(Op::Decrypt(vec![to_open(key.version, &key.proof)]));
    let Ok(reply) = member.port.call(op, deadline.into()).await else { return Outcome::Unknown };
    member.answered();
    outcome(key.version, reply)
}

fn outcome(version: KeyVersionId, reply: Reply) -> Outcome {
    let mut items = match reply {
        Reply::Decrypted(items) => items,
        Reply::Failed(fault) if fault.class.may_be_busy() => return Outcome::Busy,
        _ => return Outcome::Unknown,
    };
    match (items.pop(), items.is_empty()) {
        (Some(Ok(bytes)), true) if is_plaintext(version, &bytes) => Outcome::Opens,
        (Some(Ok(_)), true) => Outcome::Broken,
        (Some(Err(Fault { class: Class::Ambiguous | Class::Request | Class::KeyUnusable, .. })), true) => {
            Outcome::Broken
        }
        (Some(Err(Fault { class: Class::KeyAbsent, .. })), true) => Outcome::Absent,
        (Some(Err(Fault { class: Class::Busy | Class::AmbiguousOrBusy, .. })), true) => Outcome::Busy,
        _ => Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::KeyId;

    #[test]
    fn a_proof_is_bound_to_its_version() {
        let key = KeyId::random();
        let (one, two) = (KeyVersionId { key, version: 1 }, KeyVersionId { key, version: 2 });
        assert!(is_plaintext(one, &to_seal(one).plaintext));
        assert!(!is_plaintext(two, &to_seal(one).plaintext));
        assert_ne!(aad(one), aad(two));
    }

    #[test]
    fn outcomes() {
        let version = KeyVersionId { key: KeyId::random(), version: 1 };
        let fault = |class| Reply::Decrypted(vec![Err(Fault::own(class, "C_Decrypt", "test"))]);
        let right = Reply::Decrypted(vec![Ok(to_seal(version).plaintext)]);
        assert_eq!(outcome(version, right), Outcome::Opens);
        let wrong = Reply::Decrypted(vec![Ok(Secret::new(vec![1]))]);
        assert_eq!(outcome(version, wrong), Outcome::Broken);
        assert_eq!(outcome(version, fault(Class::Ambiguous)), Outcome::Broken);
        assert_eq!(outcome(version, fault(Class::KeyAbsent)), Outcome::Absent);
        assert_eq!(outcome(version, fault(Class::Busy)), Outcome::Busy);
        assert_eq!(outcome(version, fault(Class::AmbiguousOrBusy)), Outcome::Busy);
        let whole = Fault::own(Class::Busy, "C_DecryptInit", "test");
        assert_eq!(outcome(version, Reply::Failed(whole)), Outcome::Busy);
        assert_eq!(outcome(version, fault(Class::Token)), Outcome::Unknown);
        assert_eq!(outcome(version, Reply::Done), Outcome::Unknown);
    }
}
