//! What each HSM has taken for kmsuser's PIN since the connect, and what it has said instead by a word that says nothing of a PIN.
//!
//! Where such a word counts as a wrong PIN, the next try comes after a pause: each worker that is started tries, and a second of
//! trouble would else cost all the tries that there are.

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

/// Each HSM by itself, whichever of its workers tries.
#[derive(Debug, Default)]
pub(crate) struct Unclear(Mutex<BTreeMap<HsmId, Known>>);

#[derive(Debug, Default)]
struct Known {
    /// The PIN that its token has taken last; sealed.
    taken: Option<Bytes>,
    /// Such words in a row.
    times: u32,
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

    /// Takes note of such a word that counts as a wrong PIN, and says so.
    pub(crate) fn counts(&self, hsm: &HsmId, why: &str, now: Instant) -> AdmissionError {
        let mut all = self.0.lock_anyway();
        let known = all.entry(hsm.clone()).or_default();
        let pause = if known.times == 0 { PAUSES.0 } else { PAUSES.1 };
        known.times = known.times.saturating_add(1);
        known.wait = Some((now + pause, why.to_owned()));
        refusal(hsm, why, pause)
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
        "HSM {hsm}, logging in: {why}. That may be said of a wrong PIN, so it has cost one of login_tries. The next is tried \
         within {} s, and at once after a disconnect and connect; see to the HSM and its network, and to the PIN",
        left.as_secs().saturating_add(1)
    );
    AdmissionError::transient(Code::NetworkErrors, reason).not_before(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::clock::Clock;

    #[test]
    fn what_counts_is_tried_with_pauses_whichever_worker_tries() {
        let (unclear, hsm, now) = (Unclear::default(), HsmId::from("hsm-a"), Clock::system().now());
        let after = |seconds: u64| now + Duration::from_secs(seconds);
        assert_eq!(unclear.refusal(&hsm, now), None);
        assert_eq!(unclear.counts(&hsm, "C_Login: CKR_DEVICE_ERROR", now).after, Some(Duration::from_secs(10)));
        let refusal = unclear.refusal(&hsm, after(4)).unwrap();
        assert_eq!((refusal.permanent, refusal.after), (false, Some(Duration::from_secs(6))));
        assert!(refusal.reason.contains("C_Login: CKR_DEVICE_ERROR"), "{refusal}");
        assert_eq!(unclear.refusal(&hsm, after(10)), None);
        assert_eq!(unclear.refusal(&"hsm-b".into(), now), None, "another HSM has said nothing");
        for _ in 0..2 {
            unclear.counts(&hsm, "C_Login: CKR_DEVICE_ERROR", after(10));
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
        unclear.counts(&hsm, "C_Login: CKR_DEVICE_ERROR", Clock::system().now());
        assert!(unclear.has_taken(&hsm, &new));
    }
}
