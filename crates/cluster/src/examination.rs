//! The self-test at the gate: a token is let in when it is as its capabilities have it.
//!
//! A contradiction is said with the setting that would be right, and is tried again as whatever keeps an HSM out: it ends
//! when the token does otherwise, or when the configuration says so.

use super::admission::{ours, transient};
use model::id::HsmId;
use model::key_store::ConnectionErrorCode as Code;
use model::profile::judgement::judge;
use protocol::{Class, Fault, Op, Reply};
use supervisor::{AdmissionError, AdmissionSession};

/// Has the worker examine its token, and says why that keeps the HSM out where it does.
pub(super) async fn run(session: &AdmissionSession, hsm: &HsmId) -> Result<(), AdmissionError> {
    let step = "examining its token";
    let settings = session.settings();
    let found = match session.call(Op::Examine { sessions: settings.sessions }).await {
        Ok(Reply::Examined(found)) => found,
        Ok(Reply::Failed(fault)) => return Err(not_judged(hsm, step, &fault)),
        Ok(_) => return Err(ours(hsm, "the worker answered something else to an examination")),
        Err(error) => return Err(transient(hsm, step, &error)),
    };
    let judgement = judge(&settings.capabilities, &found);
    let contradiction = judgement.contradiction();
    session.examined(judgement);
    match contradiction {
        None => Ok(()),
        Some(why) => {
            tracing::error!(%hsm, %why, "the token contradicts the HSM's profile; the HSM is not used");
            let reason = format!("HSM {hsm} is not used, since its token contradicts its profile: {why}");
            Err(AdmissionError::transient(Code::InsufficientCloudHsmHsms, reason))
        }
    }
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
