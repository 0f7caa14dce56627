//! What to do when a connect has failed.

use model::key_store::ConnectionErrorCode;

/// What to do about a code, for the key store with this id. A code that is not known has the general advice.
pub(super) fn advice(code: &str, id: &str) -> String {
    let update = format!("`keystorectl key-store update {id}");
    let mend = match ConnectionErrorCode::from_name(code) {
        Some(ConnectionErrorCode::InvalidCredentials) => format!(
            "have an officer set kmsuser's PIN in the HSM, and tell it with {update} --ask-password --pin-was-reset` \
             (--hsm HSM where it is for one alone); if you know the PIN that the HSM has, tell that, without \
             --pin-was-reset"
        ),
        Some(ConnectionErrorCode::UserLockedOut) => format!(
            "have an officer set kmsuser's PIN in the HSM, which unlocks the user, and tell it with {update} \
             --ask-password --pin-was-reset` (--hsm HSM where it is for one alone)"
        ),
        Some(ConnectionErrorCode::UserNotFound) => format!(
            "have an officer make kmsuser in the HSM by setting the user PIN, and tell it with {update} --ask-password \
             --pin-was-reset` (--hsm HSM where it is for one alone)"
        ),
        Some(ConnectionErrorCode::InsufficientCloudHsmHsms) => {
            "bring an HSM of the cluster back; its token must be the one that the ceremony certified (`keystored check` \
             says what it finds)"
                .to_owned()
        }
        Some(ConnectionErrorCode::NetworkErrors) => {
            "wait a few minutes, or mend the way to the HSM; `keystorectl cluster status` and the log of the service say \
             which one does not answer"
                .to_owned()
        }
        Some(ConnectionErrorCode::ClusterNotFound) => {
            format!("put the cluster back into the configuration, or name another one with {update} --cluster CLUSTER`")
        }
        Some(ConnectionErrorCode::InternalError) | None => {
            "see what the error says, and the log of the service, which says more".to_owned()
        }
    };
    format!(
        "disconnect first (`keystorectl key-store disconnect {id} --wait`), then mend: {mend}; then connect again \
         (`keystorectl key-store connect {id} --wait`)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_says_in_which_order_it_is_mended() {
        for code in ConnectionErrorCode::ALL.iter().map(|code| code.name()).chain(["NEW_CODE"]) {
            let text = advice(code, "cks-1");
            let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{code}: no '{part}' in {text}"));
            assert!(at("disconnect cks-1") < at("mend: ") && at("mend: ") < at("key-store connect cks-1"), "{text}");
            assert!(!text.contains("  "), "{text}");
        }
    }

    #[test]
    fn a_pin_is_told_after_an_officer_has_set_it() {
        for code in ["INVALID_CREDENTIALS", "USER_LOCKED_OUT", "USER_NOT_FOUND"] {
            assert!(advice(code, "cks-1").contains("update cks-1 --ask-password --pin-was-reset"), "{code}");
        }
    }
}
