//! What each HSM has taken for kmsuser's PIN since the connect, and what it has said instead by a word that says nothing of a PIN.
//!
//! Where such a word counts as a wrong PIN, the next try comes after a pause: each worker that is started tries, and a second of
//! trouble would else cost all the tries that there are. The last try comes long after: by then it is no trouble of a moment.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;

use model::id::HsmId;
use model::key_store::ConnectionErrorCode as Code;
use model::lock::MutexExt as _;
use supervisor::AdmissionError;

/// After the first one in a row, and after each further one.
const PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));
/// Before the last try, whichever HSM with the same record has cost the one before it.
const LAST: Duration = Duration::from_secs(600);

/// Each HSM by itself, whichever of its workers tries.
#[derive(Debug, Default)]
pub(crate) struct Unclear(Mutex<BTreeMap<HsmId, Known>>);

#[derive(Debug, Default)]
struct Known {
    /// The PIN that its token has taken last; sealed.
    taken: Option<Bytes>,
    /// Such words in a row.
    times: u32,
    /// When the last of them was said.
    said: Option<Instant>,
    /// No PIN is tried before, and what was said.
    wait: Option<(Instant, String)>,
}

impl Unclear {
    /// Whether the token has taken this very PIN, sealed as it is.
    pub(crate) fn has_taken(&self, hsm: &HsmId, sealed: &Bytes) -> bool {
        self.0.lock_anyway().get(hsm).is_some_and(|known| known.taken.as_ref() == Some(sealed))
    }

    /// The token has taken this PIN.
    pub(crate) fn taken(&self, hsm: &HsmId, sealed: &Bytes) {
        self.0.lock_anyway().insert(hsm.clone(), Known { taken: Some(sealed.clone()), ..Known::default() });
    }

    /// Takes note of such a word that counts as a wrong PIN, and says so. So many tries are `left`.
    pub(crate) fn counts(&self, hsm: &HsmId, why: &str, left: u32, now: Instant) -> AdmissionError {
        let mut all = self.0.lock_anyway();
        let known = all.entry(hsm.clone()).or_default();
        let pause = match (left, known.times) {
            (1, _) => LAST,
            (_, 0) => PAUSES.0,
            _ => PAUSES.1,
        };
        (known.times, known.said) = (known.times.saturating_add(1), Some(now));
        known.wait = Some((now + pause, why.to_owned()));
        refusal(hsm, why, pause)
    }

    /// Why the last try that there is may not be spent on this HSM now, if it may not. The tries are those of all HSMs, of which
    /// one that has said such words must not keep out one whose token takes the PIN.
    pub(crate) fn last_try(&self, hsm: &HsmId, sealed: &Bytes, now: Instant) -> Option<AdmissionError> {
        let all = self.0.lock_anyway();
        let known = all.get(hsm)?;
        if known.times == 0 || known.taken.as_ref() == Some(sealed) {
            return None;
        }
        let others = || all.iter().filter(|(other, _)| *other != hsm);
        if let Some((other, _)) = others().find(|(_, other)| other.taken.as_ref() == Some(sealed)) {
            let kept = format!(
                "HSM {hsm}, logging in: what it said may be said of a wrong PIN, and the last of login_tries is kept for HSM \
                 {other}, whose token has taken the PIN. None is tried here before that one has logged in again, or after a \
                 disconnect and connect; see to the HSM and its network, and to the PIN"
            );
            return Some(AdmissionError::transient(Code::NetworkErrors, kept).not_before(PAUSES.1));
        }
        let (other, said) =
            others().filter_map(|(other, known)| Some((other, known.said?))).max_by_key(|(_, said)| *said)?;
        let left = (said + LAST).saturating_duration_since(now);
        let before = format!("one of login_tries is left, and HSM {other} has cost the one before");
        (!left.is_zero()).then(|| refusal(hsm, &before, left))
    }

    /// Why no PIN may be tried yet, if none may.
    pub(crate) fn refusal(&self, hsm: &HsmId, now: Instant) -> Option<AdmissionError> {
        let all = self.0.lock_anyway();
        let (until, why) = all.get(hsm)?.wait.as_ref()?;
        let left = until.saturating_duration_since(now);
        (!left.is_zero()).then(|| refusal(hsm, why, left))
    }
}

fn refusal(hsm: &HsmId, why: &str, left: Duration) -> AdmissionError {
    let reason = format!(
        "HSM {hsm}, logging in: {why}. What it says may be said of a wrong PIN, so each time costs one of login_tries. The next is \
         tried after {} s, and at once after a disconnect and connect; see to the HSM and its network, and to the PIN",
        left.as_secs().saturating_add(1)
    );
    AdmissionError::transient(Code::NetworkErrors, reason).not_before(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::clock::Clock;

    #[test]
    fn the_last_try_comes_long_after_and_is_kept_for_those_whose_tokens_take_the_pin() {
        let (unclear, now) = (Unclear::default(), Clock::system().now());
        let [a, b, c] = ["hsm-a", "hsm-b", "hsm-c"].map(HsmId::from);
        let after = |seconds: u64| now + Duration::from_secs(seconds);
        let (pin, other) = (Bytes::from_static(b"sealed"), Bytes::from_static(b"another"));
        assert_eq!(unclear.counts(&a, "C_Login: CKR_DEVICE_ERROR", 2, now).after, Some(Duration::from_secs(10)));
        assert_eq!(unclear.counts(&b, "C_Login: CKR_DEVICE_ERROR", 1, after(5)).after, Some(LAST));
        assert_eq!(unclear.refusal(&b, after(70)).unwrap().after, Some(Duration::from_secs(535)));
        // With one record for both, the one before the last was the other's.
        assert_eq!(unclear.refusal(&a, after(70)), None);
        let refusal = unclear.last_try(&a, &pin, after(70)).unwrap();
        assert_eq!((refusal.permanent, refusal.after), (false, Some(Duration::from_secs(535))));
        assert!(refusal.reason.contains("HSM hsm-b has cost"), "{refusal}");
        assert_eq!(unclear.last_try(&a, &pin, after(605)), None);
        assert_eq!(unclear.last_try(&c, &pin, after(70)), None, "it has said nothing");
        // Another one's token takes it: what is left is for that one.
        unclear.taken(&c, &pin);
        let refusal = unclear.last_try(&a, &pin, after(5_000)).unwrap();
        assert!(!refusal.permanent && refusal.reason.contains("is kept for HSM hsm-c"), "{refusal}");
        assert_eq!(unclear.last_try(&a, &other, after(5_000)), None, "that is another PIN");
        assert_eq!(unclear.last_try(&c, &pin, after(70)), None);
        unclear.counts(&c, "C_Login: CKR_DEVICE_ERROR", 1, after(70));
        assert_eq!(unclear.last_try(&c, &pin, after(71)), None, "it has taken it itself");
    }

    #[test]
    fn what_counts_is_tried_with_pauses_whichever_worker_tries() {
        let (unclear, hsm, now) = (Unclear::default(), HsmId::from("hsm-a"), Clock::system().now());
        let after = |seconds: u64| now + Duration::from_secs(seconds);
        assert_eq!(unclear.refusal(&hsm, now), None);
        assert_eq!(unclear.counts(&hsm, "C_Login: CKR_DEVICE_ERROR", 5, now).after, Some(Duration::from_secs(10)));
        let refusal = unclear.refusal(&hsm, after(4)).unwrap();
        assert_eq!((refusal.permanent, refusal.after), (false, Some(Duration::from_secs(6))));
        assert!(refusal.reason.contains("C_Login: CKR_DEVICE_ERROR"), "{refusal}");
        assert_eq!(unclear.refusal(&hsm, after(10)), None);
        assert_eq!(unclear.refusal(&"hsm-b".into(), now), None, "another HSM has said nothing");
        for _ in 0..2 {
            unclear.counts(&hsm, "C_Login: CKR_DEVICE_ERROR", 5, after(10));
            assert_eq!(unclear.refusal(&hsm, after(10)).unwrap().after, Some(Duration::from_secs(60)));
        }
        unclear.taken(&hsm, &Bytes::from_static(b"sealed"));
        assert_eq!(unclear.refusal(&hsm, after(10)), None);
    }

    #[test]
    fn only_the_pin_that_it_has_taken_last_is_its() {
        let (unclear, hsm, other) = (Unclear::default(), HsmId::from("hsm-a"), HsmId::from("hsm-b"));
        let (old, new) = (Bytes::from_static(b"old"), Bytes::from_static(b"new"));
        assert!(!unclear.has_taken(&hsm, &old));
        unclear.taken(&hsm, &old);
        assert!(unclear.has_taken(&hsm, &old) && !unclear.has_taken(&other, &old));
        unclear.taken(&hsm, &new);
        assert!(unclear.has_taken(&hsm, &new) && !unclear.has_taken(&hsm, &old));
        // A word that says nothing does not change what it has taken before.
        unclear.counts(&hsm, "C_Login: CKR_DEVICE_ERROR", 5, Clock::system().now());
        assert!(unclear.has_taken(&hsm, &new));
    }
}
