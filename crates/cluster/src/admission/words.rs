//! What several steps of an admission say of what keeps an HSM out.

use model::id::HsmId;
use model::key_store::ConnectionErrorCode as Code;
use supervisor::AdmissionError;

/// A token that cannot do what is needed, so that nobody logs in to it. It is looked at again later: its policy may have
/// been changed, or its software.
pub(super) fn unable(hsm: &HsmId, why: &str) -> AdmissionError {
    tracing::error!(%hsm, why, "the HSM cannot do what keystored needs; it is not used");
    AdmissionError::transient(Code::InsufficientCloudHsmHsms, format!("HSM {hsm} is refused: {why}"))
}

pub(crate) fn ours(hsm: &HsmId, why: &str) -> AdmissionError {
    AdmissionError::transient(Code::InternalError, format!("HSM {hsm}: {why}"))
}

pub(crate) fn transient(hsm: &HsmId, step: &str, why: &dyn std::fmt::Display) -> AdmissionError {
    AdmissionError::transient(Code::NetworkErrors, format!("HSM {hsm}, {step}: {why}"))
}
