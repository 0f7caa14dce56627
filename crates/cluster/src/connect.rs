//! What a connect has come to, judged from how each HSM is. Pure.
//!
//! One HSM that serves is enough. A PIN that one HSM refuses fails the connect all the same, though others would serve:
//! an operator is there, who can mend it now.

use std::sync::Arc;
use std::time::Duration;

use model::id::HsmId;
use model::key_store::ConnectionErrorCode as Code;
use supervisor::{State, Status};

/// HSMs that have failed at first get this long to come after all.
const GRACE: Duration = Duration::from_secs(3);
/// HSMs that have not said anything get this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// How one HSM is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The HSM.
    pub hsm: HsmId,
    /// How it is.
    pub standing: Standing,
}

/// How one HSM is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has come to this step, if to any.
    Starting(Option<Arc<str>>),
    /// It has come so far that its data workers serve. Its control worker has failed and is tried again; the sentence names it.
    Half(Code, String),
    /// It serves.
    Ready,
    /// It has failed and is tried again; the sentence names it.
    Troubled(Code, String),
    /// It was refused for good; likewise.
    Refused(Code, String),
}

/// What the connect has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Wait,
    /// CONNECTED.
    Connected,
    /// FAILED.
    Failed(Code, String),
}

impl Seen {
    /// Takes it from what the supervisor says.
    #[must_use]
    pub fn of(hsm: &HsmId, status: &Status) -> Self {
        let code = status.code.unwrap_or(Code::InternalError);
        let named = |reason: &String| if status.names_hsm { reason.clone() } else { format!("HSM {hsm}: {reason}") };
        let reason = status.reason.as_ref().map(named);
        let standing = match (status.refused, status.state, reason) {
            (true, _, reason) => Standing::Refused(code, reason.unwrap_or_default()),
            (false, State::Serving, _) if status.control_ready => Standing::Ready,
            (false, State::Serving, Some(reason)) if status.control_failed => Standing::Half(code, reason),
            (false, State::Down, Some(reason)) => Standing::Troubled(code, reason),
            // The lock of an earlier run is waited for.
            (false, State::Starting, Some(reason)) if status.code.is_some() => Standing::Troubled(code, reason),
            _ => Standing::Starting(status.steps.last().map(|(_, step)| Arc::clone(step))),
        };
        Self { hsm: hsm.clone(), standing }
    }
}

/// Judges after `elapsed`.
#[must_use]
pub fn judge(seen: &[Seen], elapsed: Duration) -> Verdict {
    let count = |wanted: fn(&Standing) -> bool| seen.iter().filter(|hsm| wanted(&hsm.standing)).count();
    let ready = count(|standing| matches!(standing, Standing::Ready));
    let starting = count(|standing| matches!(standing, Standing::Starting(_) | Standing::Half(..)));
    let refused = count(|standing| matches!(standing, Standing::Refused(..)));
    if ready == seen.len() && ready > 0 {
        return Verdict::Connected;
    }
    // All that can be said at once is said at once.
    let settled = starting == 0 || elapsed >= PATIENCE;
    let over = settled && elapsed >= GRACE;
    if refused > 0 && (starting == 0 || elapsed >= GRACE) {
        return failed(seen);
    }
    match (over, ready) {
        (false, _) => Verdict::Wait,
        (true, 0) => failed(seen),
        (true, _) => Verdict::Connected,
    }
}

/// The gravest code, and what there is to say of every HSM that does not serve.
fn failed(seen: &[Seen]) -> Verdict {
    let mut refusals: Vec<Code> = Vec::new();
    let mut troubles: Vec<Code> = Vec::new();
    let mut sentences = Vec::new();
    for Seen { hsm, standing } in seen {
        match standing {
            Standing::Ready => {}
            Standing::Starting(step) => {
                troubles.push(Code::NetworkErrors);
                let at = step.as_deref().map(|step| format!(" and is still {step}")).unwrap_or_default();
                sentences.push(format!(
                    "HSM {hsm} has not answered{at}: see to it, to its network and to what its module needs"
                ));
            }
            Standing::Half(code, reason) | Standing::Troubled(code, reason) | Standing::Refused(code, reason) => {
                if matches!(standing, Standing::Refused(..)) { &mut refusals } else { &mut troubles }.push(*code);
                sentences.push(reason.clone());
            }
        }
    }
    // The order of the codes is that of their gravity.
    let code = refusals.into_iter().min().or_else(|| troubles.into_iter().min());
    Verdict::Failed(code.unwrap_or(Code::InsufficientCloudHsmHsms), sentences.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(standings: &[Standing]) -> Vec<Seen> {
        let one = |(at, standing): (usize, &Standing)| Seen {
            hsm: format!("hsm-{at}").as_str().into(),
            standing: standing.clone(),
        };
        standings.iter().enumerate().map(one).collect()
    }

    fn code(verdict: Verdict) -> Option<Code> {
        match verdict {
            Verdict::Failed(code, _) => Some(code),
            Verdict::Wait | Verdict::Connected => None,
        }
    }

    fn starting() -> Standing {
        Standing::Starting(Some("logging in".into()))
    }

    const NOW: Duration = Duration::ZERO;

    /// However short its name is: "a" is in nearly every sentence.
    #[test]
    fn every_hsm_is_named_once() {
        let mut status = crate::fake::status(State::Down, Some("data worker 0: the worker ended by itself"));
        let standing = |status: &Status| Seen::of(&"a".into(), status).standing;
        let Standing::Troubled(_, named) = standing(&status) else { panic!("it is in trouble") };
        assert_eq!(named, "HSM a: data worker 0: the worker ended by itself");
        (status.names_hsm, status.reason) = (true, Some("HSM a: its token refuses the PIN".to_owned()));
        let Standing::Troubled(_, named) = standing(&status) else { panic!("it is in trouble") };
        assert_eq!(named, "HSM a: its token refuses the PIN");
    }

    /// Not that it has not answered, which sends people to its network.
    #[test]
    fn one_whose_control_worker_fails_says_why() {
        let mut status = crate::fake::status(State::Serving, Some("HSM a has not changed kmsuser's PIN"));
        (status.control_ready, status.control_failed) = (false, true);
        (status.names_hsm, status.code) = (true, Some(Code::InternalError));
        let half = Seen::of(&"a".into(), &status);
        assert_eq!(judge(std::slice::from_ref(&half), GRACE), Verdict::Wait, "it may be in in a moment");
        let failed = Verdict::Failed(Code::InternalError, "HSM a has not changed kmsuser's PIN".to_owned());
        assert_eq!(judge(&[half], PATIENCE), failed);
        // What another worker's trouble is says nothing of it.
        status.control_failed = false;
        assert_eq!(Seen::of(&"a".into(), &status).standing, Standing::Starting(None));
        (status.reason, status.code) = (None, None);
        assert_eq!(Seen::of(&"a".into(), &status).standing, Standing::Starting(None));
    }

    #[test]
    fn all_ready_is_connected_at_once() {
        use Standing::{Ready, Troubled};
        assert_eq!(judge(&seen(&[Ready, Ready]), NOW), Verdict::Connected);
        assert_eq!(judge(&seen(&[Ready, starting()]), GRACE), Verdict::Wait);
        assert_eq!(judge(&seen(&[Ready, starting()]), PATIENCE), Verdict::Connected);
        let absent = Troubled(Code::InsufficientCloudHsmHsms, "no token".into());
        assert_eq!(judge(&seen(&[Ready, absent.clone()]), NOW), Verdict::Wait);
        assert_eq!(judge(&seen(&[Ready, absent]), GRACE), Verdict::Connected);
    }

    #[test]
    fn one_refused_pin_fails_the_connect() {
        use Standing::{Ready, Refused};
        let wrong = Refused(Code::InvalidCredentials, "HSM hsm-1: refused".into());
        assert_eq!(code(judge(&seen(&[Ready, wrong.clone()]), NOW)), Some(Code::InvalidCredentials));
        assert_eq!(judge(&seen(&[starting(), wrong.clone()]), NOW), Verdict::Wait);
        assert_eq!(code(judge(&seen(&[starting(), wrong.clone()]), GRACE)), Some(Code::InvalidCredentials));
        let locked = Refused(Code::UserLockedOut, "HSM hsm-0: locked".into());
        let Verdict::Failed(code, message) = judge(&seen(&[locked, wrong]), NOW) else { panic!("failed") };
        assert_eq!((code, message.as_str()), (Code::UserLockedOut, "HSM hsm-0: locked; HSM hsm-1: refused"));
    }

    #[test]
    fn without_any_hsm_the_gravest_trouble_counts() {
        use Standing::Troubled;
        let absent = Troubled(Code::InsufficientCloudHsmHsms, "no token".into());
        assert_eq!(judge(&seen(&[absent.clone(), absent.clone()]), NOW), Verdict::Wait);
        let verdict = judge(&seen(&[absent.clone(), absent.clone()]), GRACE);
        assert_eq!(code(verdict), Some(Code::InsufficientCloudHsmHsms));
        assert_eq!(code(judge(&seen(&[absent, starting()]), PATIENCE)), Some(Code::NetworkErrors));
        let Verdict::Failed(code, message) = judge(&seen(&[starting(), Standing::Starting(None)]), PATIENCE) else {
            panic!("failed")
        };
        assert_eq!(code, Code::NetworkErrors);
        assert!(message.contains("HSM hsm-0 has not answered and is still logging in: see"), "{message}");
        assert!(message.contains("HSM hsm-1 has not answered: see"), "{message}");
        assert_eq!(judge(&[], NOW), Verdict::Wait);
    }
}
