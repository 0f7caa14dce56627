//! How this interface has its calls counted.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};

use super::answer::{self, ERROR_TYPE, Whole};
use crate::entry::open_call::Kind;
use crate::metered::{BoxError, Metering, Unread};

/// AWS's.
#[derive(Clone, Copy, Debug)]
pub struct AwsMetering;

/// AWS's name where there is too much of something.
pub(super) const THROTTLING: &str = "ThrottlingException";
/// Where there is no room for what a call makes the daemon hold.
pub(super) const NO_ROOM: &str =
    "requests and answers of this caller, or of all, take as much memory as they may; send less at once and try again";
/// The same, whole: its own bytes must not take any.
const FULL: &[u8] =
    b"{\"__type\":\"ThrottlingException\",\"message\":\"requests and answers of this caller, or of all, take \
as much memory as they may; send less at once and try again\"}";

/// Why a body was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request could not be read: {0:?}")]
pub(super) struct NotRead(pub(super) Unread);

impl Metering for AwsMetering {
    type Body = Whole;

    fn kind(&self, _: &str) -> Kind {
        Kind::Unary
    }

    fn full(&self) -> Response<Whole> {
        let mut full = answer::of(StatusCode::BAD_REQUEST, answer::JSON, Bytes::from_static(FULL));
        full.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(THROTTLING));
        full
    }

    fn unknown(&self) -> Response<Whole> {
        let mut unknown = answer::of(StatusCode::INTERNAL_SERVER_ERROR, answer::JSON, Bytes::new());
        unknown.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static("KMSInternalException"));
        unknown
    }

    fn unread(&self, why: Unread) -> BoxError {
        Box::new(NotRead(why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_text_for_no_room() {
        let said: serde_json::Value = serde_json::from_slice(FULL).unwrap();
        assert_eq!(said, serde_json::json!({ "__type": THROTTLING, "message": NO_ROOM }));
    }
}
