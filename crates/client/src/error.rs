//! What a call can fail with, read from the gRPC status and its `google.rpc.ErrorInfo`.

use std::fmt;

use tonic_types::StatusExt;

use super::chain::chain;
use super::handshake::{self, Trouble};
use proto::v1::ItemError;

macro_rules! codes {
    ($($variant:ident = $number:literal $name:literal),+ $(,)?) => {
        /// A gRPC status code other than OK.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "gRPC's own names; their meaning is gRPC's")]
        pub enum Code { $($variant = $number),+ }

        impl Code {
            /// gRPC's spelling.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Code::$variant => $name),+ }
            }

            /// The code with this number; any other number is `Unknown`, as gRPC wants it.
            #[must_use]
            pub const fn from_number(number: i32) -> Self {
                match number { $($number => Code::$variant,)+ _ => Code::Unknown }
            }
        }
    };
}

codes! {
    Cancelled = 1 "CANCELLED",
    Unknown = 2 "UNKNOWN",
    InvalidArgument = 3 "INVALID_ARGUMENT",
    DeadlineExceeded = 4 "DEADLINE_EXCEEDED",
    NotFound = 5 "NOT_FOUND",
    AlreadyExists = 6 "ALREADY_EXISTS",
    PermissionDenied = 7 "PERMISSION_DENIED",
    ResourceExhausted = 8 "RESOURCE_EXHAUSTED",
    FailedPrecondition = 9 "FAILED_PRECONDITION",
    Aborted = 10 "ABORTED",
    OutOfRange = 11 "OUT_OF_RANGE",
    Unimplemented = 12 "UNIMPLEMENTED",
    Internal = 13 "INTERNAL",
    Unavailable = 14 "UNAVAILABLE",
    DataLoss = 15 "DATA_LOSS",
    Unauthenticated = 16 "UNAUTHENTICATED",
}

/// Whose turn it is to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The service understood and refused: the call has to change, or something it names.
    Caller,
    /// No connection, or none under this certificate.
    Connection,
    /// The service could not do it now. The same call may succeed in a moment.
    Service,
    /// A fault in the service broke the call off, which may have been done all the same. Whoever repeats it looks first.
    Unclear,
}

/// Why a call, or one item of a batch, failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// AWS KMS's exception name, where the service gave one.
    pub exception: Option<String>,
    /// For humans. Empty for InvalidCiphertextException.
    pub message: String,
    /// The same call may succeed in a moment.
    pub retryable: bool,
    /// gRPC's code.
    pub code: Code,
    /// By which the call is found in the service's log, where the service told.
    pub request_id: Option<String>,
    /// What has to be mended, where there is no connection.
    pub trouble: Option<Trouble>,
    /// The approval that the call waits for, where others have to approve it.
    pub approval_id: Option<String>,
}

impl Error {
    /// Whose turn it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match (self.code, &self.exception) {
            (Code::Unauthenticated, _)
            | (Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled, None) => Fault::Connection,
            (Code::Internal, _) if !self.retryable => Fault::Unclear,
            (Code::DeadlineExceeded | Code::Internal | Code::Unavailable, _) => Fault::Service,
            _ if self.retryable => Fault::Service,
            _ => Fault::Caller,
        }
    }

    /// The exception's name, or the code's where there is none: what statistics count by.
    #[must_use]
    pub fn name(&self) -> &str {
        self.exception.as_deref().unwrap_or(self.code.name())
    }

    pub(super) fn unreachable(trouble: Trouble, message: String) -> Self {
        let trouble = Some(trouble);
        Self {
            exception: None,
            message,
            retryable: false,
            code: Code::Unavailable,
            request_id: None,
            trouble,
            approval_id: None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<ItemError> for Error {
    fn from(item: ItemError) -> Self {
        Self {
            exception: (!item.reason.is_empty()).then_some(item.reason),
            message: item.message,
            retryable: item.retryable,
            code: Code::from_number(item.code),
            request_id: None,
            trouble: None,
            approval_id: None,
        }
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        let request_id = status.metadata().get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        if let Some(info) = status.get_details_error_info() {
            return Self {
                retryable: info.metadata.get("retryable").is_some_and(|value| value == "true"),
                exception: Some(info.reason),
                message: status.message().to_owned(),
                code: Code::from_number(status.code() as i32),
                request_id,
                trouble: None,
                approval_id: info.metadata.get("approval_id").cloned(),
            };
        }
        // tonic answers a passed deadline on this side with CANCELLED and a source that is lost on the way.
        if status.code() == tonic::Code::Cancelled && status.message() == "Timeout expired" {
            return Self {
                exception: None,
                message: "no answer within the deadline".to_owned(),
                retryable: true,
                code: Code::DeadlineExceeded,
                request_id,
                trouble: None,
                approval_id: None,
            };
        }
        let (message, trouble) = explain(&status);
        let code = Code::from_number(status.code() as i32);
        Self { exception: None, message, retryable: false, code, request_id, trouble, approval_id: None }
    }
}

/// What is known about a status that does not come from the service itself: why no connection came about, or its causes
/// in one line.
fn explain(status: &tonic::Status) -> (String, Option<Trouble>) {
    match std::error::Error::source(status) {
        Some(cause) if handshake::is_of_handshake(cause) => {
            let handshake::Reason { trouble, sentence } = handshake::reason(cause, None);
            (sentence, Some(trouble))
        }
        cause => (chain(status.message(), cause), None),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn status(code: tonic::Code, reason: &str, retryable: &str) -> tonic::Status {
        let metadata = HashMap::from([("retryable".to_owned(), retryable.to_owned())]);
        let details = ErrorDetails::with_error_info(reason, "keystored", metadata);
        tonic::Status::with_error_details(code, "text", details)
    }

    #[test]
    fn error_info_is_read() {
        let error = Error::from(status(tonic::Code::NotFound, "NotFoundException", "false"));
        assert_eq!(error.exception.as_deref(), Some("NotFoundException"));
        assert_eq!((error.code, error.retryable, error.fault()), (Code::NotFound, false, Fault::Caller));
        assert_eq!(error.to_string(), "NotFoundException: text");
    }

    #[test]
    fn an_approval_is_read_as_data() {
        let metadata = HashMap::from([("approval_id".to_owned(), "apr-1".to_owned())]);
        let details = ErrorDetails::with_error_info("AccessDeniedException", "keystored", metadata);
        let status = tonic::Status::with_error_details(tonic::Code::PermissionDenied, "text", details);
        assert_eq!(Error::from(status).approval_id.as_deref(), Some("apr-1"));
    }

    #[test]
    fn what_may_succeed_in_a_moment_is_the_services_fault() {
        for (code, reason) in [
            (tonic::Code::ResourceExhausted, "ThrottlingException"),
            (tonic::Code::Unavailable, "KMSInvalidStateException"),
            (tonic::Code::DeadlineExceeded, "DependencyTimeoutException"),
        ] {
            assert_eq!(Error::from(status(code, reason, "true")).fault(), Fault::Service, "{reason}");
        }
    }

    #[test]
    fn what_a_fault_broke_off_is_not_said_to_succeed_in_a_moment() {
        let of = |retryable| Error::from(status(tonic::Code::Internal, "KMSInternalException", retryable)).fault();
        assert_eq!((of("false"), of("true")), (Fault::Unclear, Fault::Service));
    }

    #[test]
    fn a_status_without_error_info_is_the_connections() {
        assert_eq!(Error::from(tonic::Status::unavailable("tcp connect error")).fault(), Fault::Connection);
        assert_eq!(Error::from(tonic::Status::unauthenticated("expired")).fault(), Fault::Connection);
        let unimplemented = Error::from(tonic::Status::unimplemented("no such method"));
        assert_eq!(unimplemented.fault(), Fault::Caller);
    }

    #[test]
    fn our_own_timeout_is_a_deadline() {
        let error = Error::from(tonic::Status::cancelled("Timeout expired"));
        assert_eq!((error.code, error.retryable), (Code::DeadlineExceeded, true));
    }

    #[test]
    fn codes_keep_grpcs_numbers() {
        for number in 1..=16 {
            assert_eq!(Code::from_number(number) as i32, number);
        }
        assert_eq!(Code::from_number(99), Code::Unknown);
    }
}
