//! The one map of errors: what the service says, as AWS's JSON services say it.
//!
//! AWS KMS answers every fault of a caller with 400 and its own with 500; the finer codes in AWS's models are of another
//! protocol. SDKs repeat a call by themselves where the status is 500 or the name is ThrottlingException. So what is the
//! same when it is asked for again has 400, and what a moment may change has AWS's name for it: a key store without an
//! answering HSM is KMSInvalidStateException in AWS too, which says in its text that it may pass.

use serde::Serialize;

use super::model::Wrong;
use model::exception::Exception;
use service::Error;

/// What a call is answered with that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// AWS's name.
    pub(super) name: &'static str,
    /// HTTP's status.
    pub(super) status: u16,
    /// For humans; empty where AWS says nothing.
    pub(super) message: String,
}

impl Failure {
    /// A failure with one of the service's names.
    pub(super) fn new(exception: Exception, message: impl Into<String>) -> Self {
        Self { name: exception.name(), status: status(exception), message: message.into() }
    }

    /// A parameter is not what it must be.
    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::new(Exception::Validation, message)
    }

    /// AWS may do that; this service does not, or not with such a key.
    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Exception::UnsupportedOperation, message)
    }

    /// No operation of AWS KMS has this name.
    pub(super) fn unknown_operation() -> Self {
        Self { name: "UnknownOperationException", status: 400, message: String::new() }
    }

    /// The service broke its own contract, perhaps after its work: nobody is to repeat it blindly.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self { status: NOT_TO_BE_REPEATED, ..Self::new(Exception::KmsInternal, message) }
    }

    /// The JSON of it: `__type`, and `message` in lower case.
    pub(super) fn body(&self) -> Vec<u8> {
        // AWS's front end says nothing at all about what never came to KMS, and KMS an empty text.
        let silent = matches!(self.name, "SerializationException" | "UnknownOperationException");
        let message = (!(silent && self.message.is_empty())).then_some(self.message.as_str());
        let body = Body { name: self.name, message };
        // Two texts can always be written.
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "__type")]
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

/// What AWS says of a key in a key store that is not connected. Why that is so stands behind it over gRPC, and in the record.
const UNAVAILABLE: &str = " is unavailable.";

impl From<Error> for Failure {
    fn from(mut error: Error) -> Self {
        match error.exception {
            Exception::KmsInternal if !error.retryable => Self::internal(error.message),
            Exception::KmsInvalidState => {
                if let Some(at) = error.message.find(UNAVAILABLE) {
                    error.message.truncate(at + UNAVAILABLE.len());
                }
                Self::new(error.exception, error.message)
            }
            exception => Self::new(exception, error.message),
        }
    }
}

impl From<Wrong> for Failure {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Serialization(message) => Self { name: "SerializationException", status: 400, message },
            Wrong::Validation(message) => Self::validation(message),
        }
    }
}

/// SDKs repeat by themselves whatever has 500, a change too that was made and could not be put on record.
const NOT_TO_BE_REPEATED: u16 = 400;

/// The status of an error. Total: a new exception does not compile until it has one.
const fn status(exception: Exception) -> u16 {
    match exception {
        Exception::DependencyTimeout | Exception::KmsInternal | Exception::KeyUnavailable => 500,
        Exception::Validation
        | Exception::NotFound
        | Exception::InvalidArn
        | Exception::Disabled
        | Exception::KmsInvalidState
        | Exception::InvalidCiphertext
        | Exception::IncorrectKey
        | Exception::InvalidKeyUsage
        | Exception::UnsupportedOperation
        | Exception::Conflict
        | Exception::AlreadyExists
        | Exception::InvalidAliasName
        | Exception::MalformedPolicyDocument
        | Exception::InvalidGrantToken
        | Exception::InvalidGrantId
        | Exception::Tag
        | Exception::DryRunOperation
        | Exception::InvalidMarker
        | Exception::LimitExceeded
        | Exception::AccessDenied
        | Exception::Throttling
        | Exception::CustomKeyStoreNotFound
        | Exception::CustomKeyStoreInvalidState
        | Exception::CustomKeyStoreNameInUse
        | Exception::CustomKeyStoreHasCmks
        | Exception::CloudHsmClusterNotFound
        | Exception::CloudHsmClusterInUse
        | Exception::CloudHsmClusterNotActive
        | Exception::CloudHsmClusterNotRelated
        | Exception::IncorrectTrustAnchor
        | Exception::CloudHsmClusterInvalidConfiguration => 400,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exception_has_aws_s_name_and_status() {
        for &exception in Exception::ALL {
            let failure = Failure::from(Error::new(exception, format!("about {exception}"), true));
            let ours = ["DependencyTimeoutException", "KMSInternalException", "KeyUnavailableException"];
            let expected = if ours.contains(&failure.name) { 500 } else { 400 };
            assert_eq!((failure.name, failure.status), (exception.name(), expected));
            let body: serde_json::Value = serde_json::from_slice(&failure.body()).unwrap();
            let expected = serde_json::json!({ "__type": exception.name(), "message": format!("about {exception}") });
            assert_eq!(body, expected);
        }
    }

    #[test]
    fn what_may_have_been_done_is_repeated_by_no_sdk() {
        let of = |retryable| Failure::from(Error::new(Exception::KmsInternal, "a fault", retryable)).status;
        assert_eq!((of(true), of(false), Failure::internal("a fault").status), (500, 400, 400));
    }

    #[test]
    fn a_key_that_is_unavailable_is_so_in_aws_s_words() {
        let of = |message: &str| Failure::from(Error::new(Exception::KmsInvalidState, message, false)).message;
        assert_eq!(of("arn:k is unavailable. Its key store a is DISCONNECTED."), "arn:k is unavailable.");
        assert_eq!(of("arn:k is unavailable."), "arn:k is unavailable.");
        assert_eq!(of("arn:k is pending deletion."), "arn:k is pending deletion.");
    }

    #[test]
    fn what_has_no_text_says_so() {
        let failure = Failure::new(Exception::InvalidCiphertext, "");
        assert_eq!(failure.body(), br#"{"__type":"InvalidCiphertextException","message":""}"#);
        assert_eq!(Failure::unknown_operation().body(), br#"{"__type":"UnknownOperationException"}"#);
        let unread = Failure::from(Wrong::Serialization("no JSON".to_owned()));
        assert_eq!(unread.body(), br#"{"__type":"SerializationException","message":"no JSON"}"#);
    }

    #[test]
    fn what_cannot_be_read_is_the_caller_s() {
        let of = |wrong| (Failure::from(wrong).name, 400);
        assert_eq!(of(Wrong::Serialization("no JSON".to_owned())), ("SerializationException", 400));
        assert_eq!(of(Wrong::Validation("1 validation error".to_owned())), ("ValidationException", 400));
    }
}
