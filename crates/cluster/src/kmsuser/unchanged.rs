//! Tokens that do not change kmsuser's PIN when a rotation is due, and do not say why: in trouble, or by a code that the vendor
//! alone knows the meaning of. Trouble passes; what is said again and again is told to people, and tried with pauses that grow.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use model::id::HsmId;
use model::key_store::ConnectionErrorCode as Code;
use model::lock::MutexExt as _;
use protocol::Fault;
use supervisor::AdmissionError;

/// Said so often in a row, it is no trouble of a moment any more.
const TIMES: u32 = 3;
/// The first pause from then on, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3_600));

/// What each HSM has said last, and how often in a row. Before each time the token has taken the PIN from before.
#[derive(Debug, Default)]
pub(crate) struct Unchanged(Mutex<BTreeMap<HsmId, Said>>);

#[derive(Clone, Debug)]
struct Said {
    function: Cow<'static, str>,
    code: u64,
    times: u32,
}

impl Unchanged {
    /// Takes note of what a token says. Where it has said the same too often: how often, and the pause before it is tried again.
    pub(crate) fn again(&self, hsm: &HsmId, fault: &Fault) -> Option<(u32, Duration)> {
        // The worker's own words say nothing of the token.
        if fault.code == 0 {
            return None;
        }
        let mut all = self.0.lock_anyway();
        let before = all.get(hsm).filter(|said| said.code == fault.code && said.function == fault.function);
        let times = before.map_or(1, |said| said.times.saturating_add(1));
        all.insert(hsm.clone(), Said { function: fault.function.clone(), code: fault.code, times });
        let more = times.checked_sub(TIMES)?;
        Some((times, PAUSES.0.saturating_mul(2_u32.saturating_pow(more)).min(PAUSES.1)))
    }

    /// It has changed the PIN, or does not say that any more.
    pub(crate) fn over(&self, hsm: &HsmId) {
        self.0.lock_anyway().remove(hsm);
    }
}

/// The token goes on with the PIN that it has, and nobody knows why.
pub(crate) fn refusal(hsm: &HsmId, fault: &Fault, times: u32, pause: Duration) -> AdmissionError {
    let why = format!(
        "HSM {hsm} has not changed kmsuser's PIN, {times} times in a row ({fault}), and no new control worker is let in before it \
         has. Ask its vendor what the code means: where the token does not like the new PIN, say what it takes \
         (capabilities.login.pin_min, pin_max, pin_alphabet), and \"refused\" of the code (codes.meaning); where its user may not \
         change it, set rotation = \"none\" for the cluster. It is tried again within {} s, and at once after a disconnect and \
         connect",
        pause.as_secs()
    );
    tracing::error!(%hsm, %fault, times, ?pause, "the token does not change kmsuser's PIN, again and again");
    AdmissionError::transient(Code::InternalError, why).not_before(pause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Class;

    #[test]
    fn what_is_said_again_and_again_is_tried_less_and_less() {
        let (unchanged, hsm) = (Unchanged::default(), HsmId::from("hsm-a"));
        let says = |code| {
            let fault = Fault { code, ..Fault::own(Class::Token, "C_SetPIN", "") };
            unchanged.again(&hsm, &fault).map(|(times, pause)| (times, pause.as_secs()))
        };
        assert_eq!([says(0x8000_0042), says(0), says(0x8000_0042)], [None; 3]);
        assert_eq!([says(0x8000_0042), says(0x8000_0042)], [Some((3, 30)), Some((4, 60))]);
        assert_eq!(says(0x30), None, "that is another thing");
        let said: Vec<_> = (2..=100).map(|_| says(0x30)).collect();
        assert_eq!(said[..3], [None, Some((3, 30)), Some((4, 60))]);
        assert_eq!(said.last(), Some(&Some((100, 3_600))));
        let other = unchanged.again(&"hsm-b".into(), &Fault { code: 0x30, ..Fault::own(Class::Token, "C_SetPIN", "") });
        assert_eq!(other, None);
        unchanged.over(&hsm);
        assert_eq!(says(0x30), None);
    }
}
