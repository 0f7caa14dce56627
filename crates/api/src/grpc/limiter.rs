//! What stands before a generated service: that a request is gRPC's, which bound a method's messages have, and the shape
//! of its errors.
//!
//! The generated services take whatever a body says that it is. A page in the browser of somebody who has installed a
//! client certificate may send a body to any address without asking there first, but only under the few media types that
//! forms have: a request that is not called gRPC's is not this caller's wish.
//!
//! One message is bounded by [`limits::MESSAGE_BYTES`](model::limits::MESSAGE_BYTES), one of BatchDecrypt or BatchReEncrypt
//! by [`limits::BATCH_DECRYPT_MESSAGE_BYTES`](model::limits::BATCH_DECRYPT_MESSAGE_BYTES). What all of them take
//! together is counted before a call comes here ([`crate::metered`]).

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::{CatchUnwind, Either, Map, Ready, ready};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response, StatusCode};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

use super::error;

/// What gRPC's messages are called. Behind it may stand their coding (`+proto`), or parameters.
const MEDIA_TYPE: &[u8] = b"application/grpc";

/// A generated service with its limits.
#[derive(Clone)]
pub(super) struct RequestLimiter<S> {
    inner: S,
    /// The same service with another bound on each message, and the paths of the methods that go to it.
    apart: [Option<(&'static [&'static str], S)>; 2],
}

impl<S> RequestLimiter<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, apart: [None, None] }
    }

    /// Sends these methods to services of their own.
    pub(super) fn with_apart(self, apart: [(&'static [&'static str], S); 2]) -> Self {
        Self { apart: apart.map(Some), ..self }
    }
}

impl<S: NamedService> NamedService for RequestLimiter<S> {
    const NAME: &'static str = S::NAME;
}

type Answer = Result<Response<Body>, Infallible>;
/// An answer, or that the call panicked.
type Caught = Result<Answer, Box<dyn Any + Send>>;

impl<S> Service<Request<Body>> for RequestLimiter<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Answer>, Map<CatchUnwind<AssertUnwindSafe<S::Future>>, fn(Caught) -> Answer>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Generated services are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !is_grpc(request.headers()) {
            return Either::Left(ready(Ok(not_grpc())));
        }
        let path = request.uri().path();
        let apart = self.apart.iter_mut().flatten().find(|(paths, _)| paths.contains(&path));
        let future = apart.map_or(&mut self.inner, |(_, service)| service).call(request);
        // What a call leaves when it panics is given back by what it held; whoever called is told, not cut off.
        let reshape: fn(Caught) -> Answer = reshape;
        Either::Right(AssertUnwindSafe(future).catch_unwind().map(reshape))
    }
}

/// Whether a request says that it is gRPC's, and once. gRPC-Web, which is read differently, has a name that goes on.
fn is_grpc(headers: &HeaderMap) -> bool {
    let mut named = headers.get_all(CONTENT_TYPE).iter();
    let (Some(named), None) = (named.next(), named.next()) else { return false };
    let Some((name, rest)) = named.as_bytes().split_at_checked(MEDIA_TYPE.len()) else { return false };
    name.eq_ignore_ascii_case(MEDIA_TYPE) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// gRPC's answer to that.
fn not_grpc() -> Response<Body> {
    let message = "the request's content-type is not application/grpc; ask by a gRPC client, or by keystorectl";
    let mut refusal: Response<Body> = error::status(&error::validation(message)).into_http();
    *refusal.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    refusal
}

fn reshape(caught: Caught) -> Answer {
    let answer = caught.unwrap_or_else(|_| Ok(error::status(&error::broken_off()).into_http()));
    answer.map(|response| match error::of_reading_headers(response.headers()) {
        Some(status) => status.into_http(),
        None => response,
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_is_called_grpc_is_grpc() {
        let of = |types: &[&'static str]| {
            is_grpc(&types.iter().map(|one| (CONTENT_TYPE, HeaderValue::from_static(one))).collect())
        };
        for named in
            ["application/grpc", "application/grpc+proto", "Application/gRPC", "application/grpc;charset=utf-8"]
        {
            assert!(of(&[named]), "{named}");
        }
        for other in
            ["", "text/plain", "application/json", "application/grp", "application/grpc-web+proto", " application/grpc"]
        {
            assert!(!of(&[other]), "{other}");
        }
        assert!(!of(&[]) && !of(&["application/grpc", "text/plain"]));
    }
}
