//! The self-test at the gate: a token is let in when it is as its capabilities have it.
//!
//! A contradiction is said with the setting that would be right, and is tried again as whatever keeps an HSM out: it ends
//! when the token does otherwise, or when the configuration says so. What is not judged keeps nobody out: the token may be
//! busy, or other workers may have the sessions that are missing. [`super::reexamination`] looks at it again.

use super::admission::{ours, transient};
use model::id::HsmId;
use model::key_store::ConnectionErrorCode as Code;
use model::profile::Capabilities;
use model::profile::examination::Examined;
use model::profile::judgement::{Judgement, judge};
use protocol::{Class, Fault, Op, Reply};
use supervisor::{AdmissionError, AdmissionSession};

/// Has the worker examine its token, and says why that keeps the HSM out where it does.
pub(super) async fn run(session: &AdmissionSession, hsm: &HsmId) -> Result<(), AdmissionError> {
    let step = "examining its token";
    let settings = session.settings();
    let alone = session.is_alone();
    let found = match session.call(Op::Examine { sessions: settings.sessions }).await {
        Ok(Reply::Examined(found)) => found,
        Ok(Reply::Failed(fault)) => return Err(not_judged(hsm, step, &fault)),
        Ok(_) => return Err(ours(hsm, "the worker answered something else to an examination")),
        Err(error) => return Err(transient(hsm, step, &error)),
    };
    // Before and after: one that leaves has sessions until it is gone.
    let Some(judgement) = judged(&settings.capabilities, *found, alone && session.is_alone()) else {
        if session.is_examined() {
            tracing::info!(%hsm, "no sessions were left to examine the token with; what was found before stands");
            return Ok(());
        }
        return Err(transient(hsm, step, &"no sessions are left to examine it with"));
    };
    let (contradiction, unjudged) = (judgement.contradiction(), judgement.not_judged());
    if !unjudged.is_empty() {
        let what = unjudged.join(", ");
        tracing::warn!(%hsm, what, "not judged, since the token may be busy, or other workers have its sessions");
    }
    session.examined(judgement);
    match contradiction {
        None => Ok(()),
        Some(why) => {
            tracing::error!(%hsm, %why, "the token contradicts the HSM's profile; the HSM is not used");
            Err(AdmissionError::contradicts(hsm, &why))
        }
    }
}

/// What is to be thought of what was found; `None` where there was nothing to look with, and others may be why.
pub(super) fn judged(of: &Capabilities, mut found: Examined, alone: bool) -> Option<Judgement> {
    if !alone {
        found.sessions = found.sessions.beside_others();
    }
    (!found.is_of_nothing()).then(|| judge(of, &found))
}

/// A worker could not say how the token is, or says that it does AES-GCM otherwise.
pub(super) fn not_judged(hsm: &HsmId, step: &str, fault: &Fault) -> AdmissionError {
    match fault.class {
        Class::Incompatible => {
            tracing::error!(%hsm, %fault, "the HSM does not do AES-GCM as it must; it is not used");
            let reason = format!("HSM {hsm} is not used: {fault}");
            AdmissionError::transient(Code::InsufficientCloudHsmHsms, reason)
        }
        // The token is there, and does not do with a key of its own what it would have to do with the others.
        Class::KeyAbsent | Class::KeyUnusable | Class::Refused | Class::Request => {
            tracing::error!(%hsm, %fault, step, "the HSM could not be tried; it is not used");
            let reason = format!("HSM {hsm} is not used, since it could not be tried ({step}): {fault}");
            AdmissionError::transient(Code::InsufficientCloudHsmHsms, reason)
        }
        Class::Token
        | Class::Session
        | Class::Ambiguous
        | Class::AmbiguousOrBusy
        | Class::Login
        | Class::Locked
        | Class::Busy => transient(hsm, step, fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::profile::examination::Count;
    use model::profile::judgement::Verdict;

    /// Where a token's limit is for all processes together, a control worker that starts anew meets it by what the others
    /// have.
    #[test]
    fn sessions_that_others_may_have_are_held_against_nobody() {
        let few = |random: u64| Examined {
            sessions: Count {
                wanted: 12,
                found: 9,
                said: Some("C_OpenSession: CKR_SESSION_COUNT".to_owned()),
                unjudged: None,
            },
            random: Count { wanted: random, found: random, ..Count::default() },
            ..Examined::default()
        };
        let of = Capabilities::standard();
        let sessions = |found, alone| judged(&of, found, alone).map(|judgement| judgement.findings[0].clone());
        for looked in [0, 4_096] {
            let alone = sessions(few(looked), true).unwrap();
            assert_eq!((alone.name, alone.verdict), ("run.sessions", Verdict::Contradicts), "{alone:?}");
            assert!(alone.sentence.unwrap().contains("sessions = 5"), "nobody else has any");
        }
        let beside = sessions(few(4_096), false).unwrap();
        assert_eq!((beside.verdict, beside.sentence), (Verdict::NotJudged, None));
        assert!(
            beside.found.contains("other workers") && beside.found.contains("CKR_SESSION_COUNT"),
            "{}",
            beside.found
        );
        // With nothing else looked at, what was found before stands, or it is examined again.
        assert_eq!(judged(&of, few(0), false), None);
        // What is enough is enough beside others, too.
        let enough = Examined { sessions: Count { wanted: 12, found: 12, ..Count::default() }, ..few(4_096) };
        assert_eq!(sessions(enough, false).unwrap().verdict, Verdict::Holds);
    }

    /// Whatever it is, it is tried again: a token that is busy at the moment, or mended, is let in later.
    #[test]
    fn nothing_is_for_ever() {
        for class in [
            Class::Request,
            Class::KeyAbsent,
            Class::KeyUnusable,
            Class::Session,
            Class::Token,
            Class::Login,
            Class::Ambiguous,
            Class::AmbiguousOrBusy,
            Class::Locked,
            Class::Busy,
            Class::Refused,
            Class::Incompatible,
        ] {
            let error = not_judged(&"hsm-a".into(), "a step", &Fault::own(class, "C_Some", "why"));
            assert!(!error.permanent, "{class:?}");
            assert!(error.reason.contains("hsm-a") && error.reason.contains("why"), "{error}");
            let of_moment = !matches!(
                class,
                Class::Request | Class::KeyAbsent | Class::KeyUnusable | Class::Refused | Class::Incompatible
            );
            let code = if of_moment { Code::NetworkErrors } else { Code::InsufficientCloudHsmHsms };
            assert_eq!(error.code, code, "{class:?}");
        }
    }
}
