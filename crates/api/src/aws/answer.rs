//! What answers look like.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::error::Failure;
use super::sts;
use super::target::Target;

/// By which a call is found again in the logs, as AWS calls it.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
/// An error's name, for who does not read bodies.
pub(super) const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// What JSON is called.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");
const XML: HeaderValue = HeaderValue::from_static("text/xml");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain");

/// A body that is there as a whole.
#[derive(Debug, Default)]
pub struct Whole(Option<Bytes>);

#[cfg(test)]
impl Whole {
    /// All of it.
    pub(super) fn bytes(self) -> Bytes {
        self.0.unwrap_or_default()
    }
}

impl From<Bytes> for Whole {
    fn from(bytes: Bytes) -> Self {
        Self(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// JSON, or nothing where AWS says nothing.
pub(super) fn json(body: Bytes, request_id: &str) -> Response<Whole> {
    with_id(of(StatusCode::OK, JSON, body), request_id)
}

/// What STS says.
pub(super) fn xml(body: String, request_id: &str) -> Response<Whole> {
    with_id(of(StatusCode::OK, XML, body.into()), request_id)
}

/// Somebody is here.
pub(super) fn healthy(request_id: &str) -> Response<Whole> {
    with_id(of(StatusCode::OK, TEXT, Bytes::from_static(b"healthy")), request_id)
}

/// Why there is none, in the words of what was asked; `ends`: the connection ends, since what is left of the request is
/// not read.
pub(super) fn failure(failure: &Failure, asked: Option<&Target>, ends: bool, request_id: &str) -> Response<Whole> {
    // Not all that refuses a call knows which protocol it is of: a certificate, the room for its bytes.
    let in_query = matches!(asked, Some(Target::Sts)).then(|| sts::in_query(failure.clone()));
    let failure = in_query.as_ref().unwrap_or(failure);
    let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match asked {
        Some(Target::Sts) => of(status, XML, sts::error(failure, request_id).into()),
        _ => of(status, JSON, failure.body().into()),
    };
    let headers = response.headers_mut();
    headers.insert(ERROR_TYPE, HeaderValue::from_static(failure.name));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    if ends {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    with_id(response, request_id)
}

/// An answer without an id.
pub(super) fn of(status: StatusCode, media: HeaderValue, body: Bytes) -> Response<Whole> {
    // HTTP's library does not ask the body: it is given out in pieces.
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(Whole::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, media);
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

fn with_id(mut response: Response<Whole>, request_id: &str) -> Response<Whole> {
    if let Ok(id) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// A request's id: always a new one, as AWS gives it.
pub(super) fn new_request_id() -> Arc<str> {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    (&*uuid::Uuid::new_v4().hyphenated().encode_lower(&mut text)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::model::exception::Exception;

    fn shown(response: Response<Whole>) -> (u16, Vec<String>, String) {
        let headers = response.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        let (status, headers) = (response.status().as_u16(), headers.collect());
        let body = response.into_body().0.unwrap_or_default();
        (status, headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn errors_are_named_in_body_and_header() {
        let unknown = Failure { status: 405, ..Failure::unknown_operation() };
        let (status, headers, body) = shown(failure(&unknown, None, true, "r-1"));
        assert_eq!((status, body.as_str()), (405, r#"{"__type":"UnknownOperationException"}"#));
        for header in [
            "content-type: application/x-amz-json-1.1",
            "content-length: 38",
            "x-amzn-errortype: UnknownOperationException",
            "x-amzn-requestid: r-1",
            "allow: POST",
            "connection: close",
        ] {
            assert!(headers.iter().any(|found| found == header), "{header}: {headers:?}");
        }
    }

    #[test]
    fn each_interface_has_its_own_form() {
        let refused = Failure { name: "SignatureDoesNotMatch", status: 403, message: "no".to_owned() };
        let (status, headers, body) = shown(failure(&refused, Some(&Target::Sts), false, "r-1"));
        assert!(status == 403 && headers.contains(&"content-type: text/xml".to_owned()), "{headers:?}");
        assert!(body.contains("<Code>SignatureDoesNotMatch</Code>") && body.contains("r-1"), "{body}");
        let denied = Failure::new(Exception::AccessDenied, "no");
        let (status, headers, body) = shown(failure(&denied, Some(&Target::Sts), false, "r-1"));
        assert!(status == 403 && headers.contains(&"x-amzn-errortype: AccessDenied".to_owned()), "{headers:?}");
        assert!(body.contains("<Code>AccessDenied</Code>"), "{body}");
        assert_eq!(shown(failure(&denied, None, false, "r-1")).0, 400);
        assert_eq!(shown(json(Bytes::new(), "r-1")).2, "", "AWS says nothing where there is nothing to say");
        assert_eq!(shown(healthy("r-1")).2, "healthy");
        let ids = [(); 2].map(|()| new_request_id());
        assert!(ids[0] != ids[1] && uuid::Uuid::parse_str(&ids[0]).is_ok(), "{ids:?}");
    }
}
