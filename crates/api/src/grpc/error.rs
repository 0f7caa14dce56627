//! The one map of errors: what the service says, as a gRPC status with a `google.rpc.ErrorInfo`, or as an item's error.

use std::collections::HashMap;

use http::HeaderMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::entry::Refusal;
use model::exception::Exception;
use proto::v1::ItemError;
use service::Error;

/// `domain` of every ErrorInfo.
pub(super) const DOMAIN: &str = "keystored";
/// Metadata entry of every ErrorInfo: "true" when the same call may succeed in a moment.
pub(super) const RETRYABLE: &str = "retryable";
/// Metadata entry of the ErrorInfo of a call that others have to approve: the approval's id.
pub(super) const APPROVAL_ID: &str = "approval_id";

/// The status code of an error. Total: a new exception does not compile until it has one.
pub(super) const fn code(exception: Exception, retryable: bool) -> Code {
    match exception {
        Exception::Validation
        | Exception::IncorrectTrustAnchor
        | Exception::InvalidArn
        | Exception::InvalidMarker
        | Exception::InvalidAliasName
        | Exception::MalformedPolicyDocument
        | Exception::InvalidGrantToken
        | Exception::InvalidGrantId
        | Exception::Tag
        | Exception::InvalidCiphertext
        | Exception::IncorrectKey
        | Exception::InvalidKeyUsage => Code::InvalidArgument,
        Exception::NotFound | Exception::CustomKeyStoreNotFound | Exception::CloudHsmClusterNotFound => Code::NotFound,
        // AWS's name for this one sounds permanent, but no zone may have answered for a moment.
        Exception::KmsInvalidState if retryable => Code::Unavailable,
        Exception::KmsInvalidState
        | Exception::Disabled
        | Exception::DryRunOperation
        | Exception::CustomKeyStoreInvalidState
        | Exception::CustomKeyStoreHasCmks
        | Exception::CloudHsmClusterNotActive
        | Exception::CloudHsmClusterNotRelated
        | Exception::CloudHsmClusterInvalidConfiguration => Code::FailedPrecondition,
        Exception::Conflict
        | Exception::AlreadyExists
        | Exception::CustomKeyStoreNameInUse
        | Exception::CloudHsmClusterInUse => Code::AlreadyExists,
        Exception::LimitExceeded | Exception::Throttling => Code::ResourceExhausted,
        Exception::AccessDenied => Code::PermissionDenied,
        Exception::UnsupportedOperation => Code::Unimplemented,
        Exception::DependencyTimeout => Code::DeadlineExceeded,
        Exception::KeyUnavailable => Code::Unavailable,
        // AWS says of this one that the request can be retried; so do gRPC's clients by themselves with this code.
        Exception::KmsInternal if retryable => Code::Unavailable,
        Exception::KmsInternal => Code::Internal,
    }
}

/// A call's error.
pub(super) fn status(error: &Error) -> Status {
    with_info(code(error.exception, error.retryable), error)
}

/// An item's error: what a unary call would have answered as its status.
pub(super) fn item(error: Error) -> ItemError {
    ItemError {
        code: code(error.exception, error.retryable) as i32,
        reason: error.exception.name().to_owned(),
        message: error.message,
        retryable: error.retryable,
    }
}

/// A parameter is wrong in a way that only the wire can be wrong.
pub(super) fn validation(message: impl Into<String>) -> Error {
    Error::new(Exception::Validation, message, false)
}

/// Too much at once.
pub(super) fn throttling(message: impl Into<String>) -> Error {
    Error::new(Exception::Throttling, message, true)
}

/// The service broke its own contract.
pub(super) fn internal(message: impl Into<String>) -> Error {
    Error::new(Exception::KmsInternal, message, false)
}

/// The call panicked, perhaps after its work.
pub(super) fn broken_off() -> Error {
    internal(
        "a fault in the service broke the call off; what it asked for may have been done all the same, so look before it \
         is repeated. The daemon's log has the place",
    )
}

/// The deadline of the caller passed.
pub(super) fn late() -> Error {
    let message = "no answer within the deadline of the call".to_owned();
    Error::new(Exception::DependencyTimeout, message, true)
}

/// The daemon is being stopped.
pub(super) fn closing() -> Error {
    let message = "the daemon is being stopped; reconnect".to_owned();
    Error::new(Exception::KeyUnavailable, message, true)
}

/// A stream was ended because others want to open one.
pub(super) fn made_room() -> Error {
    throttling(
        "as many streams are open as may be (limits.streams), and this one made room for another principal's; open it again",
    )
}

/// There is no room for what a call makes the daemon hold.
pub(super) fn full() -> Error {
    throttling(
        "requests and answers of this principal, or of all, take as much memory as they may; fetch answers, send less at \
         once, wait and try again",
    )
}

/// A call is not let in: its connection's certificate is no longer good, or was never asked for.
pub(super) fn refused(refusal: &Refusal) -> Status {
    unauthenticated(refusal.to_string())
}

/// Gives an error that tonic or the codec made while reading a request the shape that all others have: it is the
/// caller's fault, whose message is too large, or none. Any other status stays as it is.
pub(super) fn of_reading(status: Status) -> Status {
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange | Code::Internal if status.details().is_empty() => {
            with_info(Code::InvalidArgument, &validation(status.message()))
        }
        _ => status,
    }
}

/// The same for an answer that is nothing but a status. Absent when the answer is to stay as it is.
pub(super) fn of_reading_headers(headers: &HeaderMap) -> Option<Status> {
    // The common answer has no status in its headers: it comes in the trailers.
    if !headers.contains_key("grpc-status") || headers.contains_key("grpc-status-details-bin") {
        return None;
    }
    Status::from_header_map(headers).map(of_reading)
}

fn unauthenticated(message: String) -> Status {
    let error = Error::new(Exception::AccessDenied, message, false);
    with_info(Code::Unauthenticated, &error)
}

fn with_info(code: Code, error: &Error) -> Status {
    let mut metadata = HashMap::from([(RETRYABLE.to_owned(), error.retryable.to_string())]);
    metadata.extend(error.approval.iter().map(|id| (APPROVAL_ID.to_owned(), id.to_string())));
    let details = ErrorDetails::with_error_info(error.exception.name(), DOMAIN, metadata);
    Status::with_error_details(code, error.message.clone(), details)
}

#[cfg(test)]
mod tests {
    use super::*;
    use auth::peer::CertificateRefusal;

    fn error(exception: Exception, retryable: bool) -> Error {
        Error::new(exception, format!("about {exception}"), retryable)
    }

    #[test]
    fn every_exception_round_trips_through_a_status() {
        for &exception in Exception::ALL {
            for retryable in [false, true] {
                let status = status(&error(exception, retryable));
                assert_ne!(status.code(), Code::Ok, "{exception}");
                assert_ne!(status.code(), Code::Unknown, "{exception}");
                assert_eq!(status.message(), format!("about {exception}"));
                // As a client reads it: from the headers.
                let read = Status::from_header_map(&status.into_http::<()>().into_parts().0.headers).unwrap();
                let info = read.get_details_error_info().unwrap();
                assert_eq!(info.reason, exception.name());
                assert_eq!(info.domain, DOMAIN);
                assert_eq!(info.metadata, HashMap::from([("retryable".to_owned(), retryable.to_string())]));
            }
        }
    }

    #[test]
    fn what_waits_for_others_says_for_which_approval() {
        let waits = Error { approval: Some("apr-1".into()), ..error(Exception::AccessDenied, false) };
        let info = status(&waits).get_details_error_info().unwrap();
        assert_eq!(info.metadata.get("approval_id").map(String::as_str), Some("apr-1"));
    }

    #[test]
    fn codes() {
        let expected = |exception| match exception {
            "ValidationException" | "InvalidArnException" | "InvalidMarkerException" => Code::InvalidArgument,
            "InvalidCiphertextException" | "IncorrectKeyException" | "InvalidKeyUsageException" => {
                Code::InvalidArgument
            }
            "IncorrectTrustAnchorException" => Code::InvalidArgument,
            "NotFoundException" | "CustomKeyStoreNotFoundException" => Code::NotFound,
            "CloudHsmClusterNotFoundException" => Code::NotFound,
            "CustomKeyStoreHasCMKsException" | "CloudHsmClusterNotActiveException" => Code::FailedPrecondition,
            "CloudHsmClusterNotRelatedException" => Code::FailedPrecondition,
            "CustomKeyStoreNameInUseException" | "CloudHsmClusterInUseException" => Code::AlreadyExists,
            "DisabledException" | "KMSInvalidStateException" => Code::FailedPrecondition,
            "CustomKeyStoreInvalidStateException" => Code::FailedPrecondition,
            "CloudHsmClusterInvalidConfigurationException" => Code::FailedPrecondition,
            "ConflictException" | "AlreadyExistsException" => Code::AlreadyExists,
            "InvalidAliasNameException" | "TagException" => Code::InvalidArgument,
            "MalformedPolicyDocumentException" | "InvalidGrantTokenException" => Code::InvalidArgument,
            "InvalidGrantIdException" => Code::InvalidArgument,
            "DryRunOperationException" => Code::FailedPrecondition,
            "LimitExceededException" | "ThrottlingException" => Code::ResourceExhausted,
            "AccessDeniedException" => Code::PermissionDenied,
            "UnsupportedOperationException" => Code::Unimplemented,
            "DependencyTimeoutException" => Code::DeadlineExceeded,
            "KeyUnavailableException" => Code::Unavailable,
            "KMSInternalException" => Code::Internal,
            other => panic!("{other} has no expectation in this table"),
        };
        for &exception in Exception::ALL {
            assert_eq!(code(exception, false), expected(exception.name()), "{exception}");
        }
        assert_eq!(code(Exception::KmsInvalidState, true), Code::Unavailable);
        assert_eq!(code(Exception::KmsInternal, true), Code::Unavailable);
    }

    #[test]
    fn an_item_says_what_a_status_would() {
        for &exception in Exception::ALL {
            let item = item(error(exception, true));
            assert_eq!(Code::from(item.code), status(&error(exception, true)).code());
            assert_eq!(item.reason, exception.name());
            assert_eq!(item.message, format!("about {exception}"));
            assert!(item.retryable);
        }
    }

    #[test]
    fn what_tonic_says_of_a_bad_message_gets_a_reason() {
        let headers = |status: Status| status.into_http::<()>().into_parts().0.headers;
        for reshaped in [
            of_reading(Status::out_of_range("too large")),
            of_reading_headers(&headers(Status::out_of_range("too large"))).unwrap(),
        ] {
            assert_eq!(reshaped.code(), Code::InvalidArgument);
            assert_eq!(reshaped.message(), "too large");
            assert_eq!(reshaped.get_details_error_info().unwrap().reason, "ValidationException");
        }
        // Our own errors, other codes and good answers stay as they are.
        assert!(of_reading_headers(&headers(status(&internal("broken")))).is_none());
        assert_eq!(of_reading(Status::unimplemented("no such method")).code(), Code::Unimplemented);
        assert!(of_reading_headers(&HeaderMap::new()).is_none());
    }

    #[test]
    fn a_refused_peer_is_unauthenticated() {
        let status = refused(&CertificateRefusal::Expired.into());
        assert_eq!(status.code(), Code::Unauthenticated);
        assert_eq!(status.get_details_error_info().unwrap().reason, "AccessDeniedException");
    }
}
