//! Whose trouble a CKR code is. The only place that decides it; pure.
//!
//! Two classes are first guesses that the worker checks before it reports them: `KeyAbsent` is checked by looking the
//! key up again in a token that is asked whether it is sound, `Session` by doing the same again in a new session.
//! `Ambiguous` and `AmbiguousOrBusy` are left to the parent, which holds the key's proof ciphertext.

use cryptoki_sys::*;

use model::profile::{Codes, Means};
use protocol::Class;

/// Judges what `function` returned: by what this HSM means with it, else by what the standard does. Where it wants more room,
/// the operation goes on, whatever else is meant: its session is of no use before that is closed.
pub(super) fn classify(function: &str, code: u64, codes: &Codes) -> Class {
    if code == CKR_BUFFER_TOO_SMALL {
        return Class::Session;
    }
    codes.means(function, code).map_or_else(
        || standard(code),
        |means| match means {
            Means::Request => Class::Request,
            Means::KeyAbsent => Class::KeyAbsent,
            Means::Session => Class::Session,
            Means::Token => Class::Token,
            Means::Login => Class::Login,
            Means::Locked => Class::Locked,
            Means::Ambiguous => Class::Ambiguous,
            Means::Refused => Class::Refused,
            Means::Busy => Class::Busy,
            Means::AmbiguousOrBusy => Class::AmbiguousOrBusy,
        },
    )
}

fn standard(code: u64) -> Class {
    match code {
        CKR_DATA_INVALID
        | CKR_DATA_LEN_RANGE
        | CKR_ENCRYPTED_DATA_INVALID
        | CKR_ENCRYPTED_DATA_LEN_RANGE
        | CKR_AEAD_DECRYPT_FAILED => Class::Request,

        CKR_OBJECT_HANDLE_INVALID
        | CKR_KEY_HANDLE_INVALID
        | CKR_WRAPPING_KEY_HANDLE_INVALID
        | CKR_UNWRAPPING_KEY_HANDLE_INVALID => Class::KeyAbsent,

        CKR_SESSION_HANDLE_INVALID
        | CKR_SESSION_CLOSED
        | CKR_SESSION_COUNT
        | CKR_OPERATION_ACTIVE
        | CKR_OPERATION_NOT_INITIALIZED
        | CKR_BUFFER_TOO_SMALL
        | CKR_FUNCTION_CANCELED
        | CKR_CANCEL => Class::Session,

        CKR_PIN_INCORRECT | CKR_PIN_INVALID | CKR_PIN_LEN_RANGE | CKR_PIN_EXPIRED | CKR_PIN_TOO_WEAK => Class::Login,
        CKR_PIN_LOCKED => Class::Locked,

        CKR_MECHANISM_INVALID
        | CKR_MECHANISM_PARAM_INVALID
        | CKR_FUNCTION_NOT_SUPPORTED
        | CKR_KEY_FUNCTION_NOT_PERMITTED
        | CKR_KEY_TYPE_INCONSISTENT
        | CKR_KEY_SIZE_RANGE
        | CKR_KEY_NOT_WRAPPABLE
        | CKR_KEY_UNEXTRACTABLE
        | CKR_TEMPLATE_INCOMPLETE
        | CKR_TEMPLATE_INCONSISTENT
        | CKR_ATTRIBUTE_READ_ONLY
        | CKR_ATTRIBUTE_SENSITIVE
        | CKR_ATTRIBUTE_TYPE_INVALID
        | CKR_ATTRIBUTE_VALUE_INVALID
        | CKR_ACTION_PROHIBITED
        | CKR_SESSION_READ_ONLY
        | CKR_TOKEN_WRITE_PROTECTED
        | CKR_WRAPPED_KEY_INVALID
        | CKR_WRAPPED_KEY_LEN_RANGE
        | CKR_ARGUMENTS_BAD
        | CKR_WRAPPING_KEY_SIZE_RANGE
        | CKR_WRAPPING_KEY_TYPE_INCONSISTENT
        | CKR_UNWRAPPING_KEY_SIZE_RANGE
        | CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT
        | CKR_PUBLIC_KEY_INVALID => Class::Refused,

        // Everything else, codes of vendors included, speaks against the token: a probe tells more.
        _ => Class::Token,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::profile::{Meaning, Profile};
    use protocol::Fault;

    #[test]
    fn the_table() {
        use Class::*;
        use Profile::*;
        let codes = |profile| config::capabilities(profile).unwrap().codes;
        let [softhsm, generic, cloudhsm] = [SoftHsm, Generic, CloudHsm].map(codes);
        #[rustfmt::skip]
        let rows: &[(&str, u64, Profile, Class)] = &[
            // A bad ciphertext, as each vendor puts it.
            ("C_Decrypt",        CKR_GENERAL_ERROR,             SoftHsm, Ambiguous),
            ("C_Decrypt",        CKR_GENERAL_ERROR,             Generic, Ambiguous),
            ("C_Decrypt",        CKR_FUNCTION_FAILED,           Generic, Ambiguous),
            ("C_Decrypt",        CKR_ENCRYPTED_DATA_INVALID,    Generic, Request),
            ("C_Decrypt",        CKR_ENCRYPTED_DATA_LEN_RANGE,  SoftHsm, Request),
            ("C_Decrypt",        CKR_AEAD_DECRYPT_FAILED,       Generic, Request),
            ("C_Encrypt",        CKR_DATA_LEN_RANGE,            Generic, Request),
            ("C_UnwrapKey",      CKR_GENERAL_ERROR,             SoftHsm, Ambiguous),
            // The same code where no caller's ciphertext is looked at.
            ("C_DecryptInit",    CKR_GENERAL_ERROR,             SoftHsm, Token),
            ("C_Encrypt",        CKR_GENERAL_ERROR,             SoftHsm, Token),
            ("C_GetTokenInfo",   CKR_GENERAL_ERROR,             SoftHsm, Token),
            ("C_Decrypt",        CKR_FUNCTION_FAILED,           SoftHsm, Token),
            ("C_Encrypt",        CKR_FUNCTION_FAILED,           Generic, Token),
            // Throttled, where a bad ciphertext has to be told from that.
            ("C_Encrypt",        CKR_FUNCTION_FAILED,           CloudHsm, Busy),
            ("C_EncryptInit",    CKR_FUNCTION_FAILED,           CloudHsm, Busy),
            ("C_DestroyObject",  CKR_FUNCTION_FAILED,           CloudHsm, Busy),
            ("C_CreateObject",   CKR_FUNCTION_FAILED,           CloudHsm, Busy),
            ("C_GetAttributeValue", CKR_DEVICE_ERROR,           CloudHsm, Busy),
            ("C_Decrypt",        CKR_FUNCTION_FAILED,           CloudHsm, AmbiguousOrBusy),
            ("C_UnwrapKey",      CKR_FUNCTION_FAILED,           CloudHsm, AmbiguousOrBusy),
            ("C_Decrypt",        CKR_DEVICE_ERROR,              CloudHsm, AmbiguousOrBusy),
            ("C_Decrypt",        CKR_GENERAL_ERROR,             CloudHsm, Ambiguous),
            ("C_Login",          CKR_FUNCTION_FAILED,           CloudHsm, Token),
            // A key that is gone, or a whole token: looked into before it is reported.
            ("C_EncryptInit",    CKR_OBJECT_HANDLE_INVALID,     SoftHsm, KeyAbsent),
            ("C_EncryptInit",    CKR_KEY_HANDLE_INVALID,        Generic, KeyAbsent),
            ("C_WrapKey",        CKR_WRAPPING_KEY_HANDLE_INVALID, Generic, KeyAbsent),
            ("C_EncryptInit",    CKR_KEY_FUNCTION_NOT_PERMITTED, SoftHsm, KeyAbsent),
            ("C_EncryptInit",    CKR_KEY_FUNCTION_NOT_PERMITTED, Generic, Refused),
            // The session.
            ("C_EncryptInit",    CKR_OPERATION_ACTIVE,          SoftHsm, Session),
            ("C_Encrypt",        CKR_BUFFER_TOO_SMALL,          SoftHsm, Session),
            ("C_EncryptInit",    CKR_SESSION_HANDLE_INVALID,    Generic, Session),
            ("C_OpenSession",    CKR_SESSION_COUNT,             Generic, Session),
            // The token.
            ("C_Encrypt",        CKR_DEVICE_ERROR,              SoftHsm, Token),
            ("C_EncryptInit",    CKR_USER_NOT_LOGGED_IN,        Generic, Token),
            ("C_Encrypt",        CKR_CRYPTOKI_NOT_INITIALIZED,  Generic, Token),
            ("C_GenerateRandom", CKR_VENDOR_DEFINED + 1,        Generic, Token),
            ("C_Login",          CKR_USER_PIN_NOT_INITIALIZED,  SoftHsm, Token),
            ("C_Login",          CKR_GENERAL_ERROR,             SoftHsm, Token),
            // The PIN.
            ("C_Login",          CKR_PIN_INCORRECT,             SoftHsm, Login),
            ("C_Login",          CKR_PIN_EXPIRED,               Generic, Login),
            ("C_Login",          CKR_PIN_LOCKED,                Generic, Locked),
            // What this token does not do.
            ("C_WrapKey",        CKR_MECHANISM_INVALID,         Generic, Refused),
            ("C_WrapKey",        CKR_KEY_UNEXTRACTABLE,         SoftHsm, Refused),
            ("C_SetPIN",         CKR_TOKEN_WRITE_PROTECTED,     Generic, Refused),
            ("C_UnwrapKey",      CKR_TEMPLATE_INCONSISTENT,     SoftHsm, Refused),
        ];
        for (function, code, profile, expected) in rows {
            let codes = match profile {
                SoftHsm => &softhsm,
                CloudHsm => &cloudhsm,
                _ => &generic,
            };
            assert_eq!(classify(function, *code, codes), *expected, "{function} 0x{code:x} {profile:?}");
        }
    }

    #[test]
    fn whoever_wants_more_room_needs_a_new_session_whatever_the_code_is_said_to_mean() {
        let functions = vec!["*".to_owned()];
        let codes = Codes { meaning: vec![Meaning { functions, code: CKR_BUFFER_TOO_SMALL, means: Means::Busy }] };
        assert_eq!(classify("C_Encrypt", CKR_BUFFER_TOO_SMALL, &codes), Class::Session);
    }

    /// People read the name, and the table of names cannot see these constants.
    #[test]
    fn what_is_judged_has_its_name() {
        macro_rules! named {
            ($($code:ident)*) => { [$(($code, stringify!($code))),*] };
        }
        #[rustfmt::skip]
        let codes = named![
            CKR_ACTION_PROHIBITED CKR_AEAD_DECRYPT_FAILED CKR_ARGUMENTS_BAD CKR_ATTRIBUTE_READ_ONLY
            CKR_ATTRIBUTE_SENSITIVE CKR_ATTRIBUTE_TYPE_INVALID CKR_ATTRIBUTE_VALUE_INVALID
            CKR_BUFFER_TOO_SMALL CKR_CANCEL CKR_CRYPTOKI_NOT_INITIALIZED CKR_DATA_INVALID
            CKR_DATA_LEN_RANGE CKR_DEVICE_ERROR CKR_DEVICE_MEMORY CKR_DEVICE_REMOVED
            CKR_ENCRYPTED_DATA_INVALID CKR_ENCRYPTED_DATA_LEN_RANGE CKR_FUNCTION_CANCELED
            CKR_FUNCTION_FAILED CKR_FUNCTION_NOT_SUPPORTED CKR_GENERAL_ERROR CKR_HOST_MEMORY
            CKR_KEY_FUNCTION_NOT_PERMITTED CKR_KEY_HANDLE_INVALID CKR_KEY_NOT_WRAPPABLE
            CKR_KEY_SIZE_RANGE CKR_KEY_TYPE_INCONSISTENT CKR_KEY_UNEXTRACTABLE CKR_MECHANISM_INVALID
            CKR_MECHANISM_PARAM_INVALID CKR_OBJECT_HANDLE_INVALID CKR_OPERATION_ACTIVE
            CKR_OPERATION_NOT_INITIALIZED CKR_PIN_EXPIRED CKR_PIN_INCORRECT CKR_PIN_INVALID
            CKR_PIN_LEN_RANGE CKR_PIN_LOCKED CKR_PIN_TOO_WEAK CKR_PUBLIC_KEY_INVALID
            CKR_SESSION_CLOSED CKR_SESSION_COUNT CKR_SESSION_HANDLE_INVALID CKR_SESSION_READ_ONLY
            CKR_TEMPLATE_INCOMPLETE CKR_TEMPLATE_INCONSISTENT CKR_TOKEN_NOT_PRESENT
            CKR_TOKEN_WRITE_PROTECTED CKR_UNWRAPPING_KEY_HANDLE_INVALID
            CKR_UNWRAPPING_KEY_SIZE_RANGE CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT
            CKR_USER_NOT_LOGGED_IN CKR_USER_PIN_NOT_INITIALIZED CKR_WRAPPED_KEY_INVALID
            CKR_WRAPPED_KEY_LEN_RANGE CKR_WRAPPING_KEY_HANDLE_INVALID CKR_WRAPPING_KEY_SIZE_RANGE
            CKR_WRAPPING_KEY_TYPE_INCONSISTENT
        ];
        for (code, name) in codes {
            let fault = Fault { code, ..Fault::own(Class::Token, "C_Login", "") };
            assert!(fault.to_string().contains(name), "0x{code:x} reads as {fault}");
        }
    }
}
