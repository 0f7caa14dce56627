//! What stands before a generated service: which bound a method's messages have, and the shape of its errors.
//!
//! One message is bounded by [`limits::MESSAGE_BYTES`](model::limits::MESSAGE_BYTES), one of BatchDecrypt or BatchReEncrypt
//! by [`limits::BATCH_DECRYPT_MESSAGE_BYTES`](model::limits::BATCH_DECRYPT_MESSAGE_BYTES). What all of them take
//! together is counted before a call comes here ([`crate::metered`]).

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::{CatchUnwind, Map};
use http::{Request, Response};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

use super::error;

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
    type Future = Map<CatchUnwind<AssertUnwindSafe<S::Future>>, fn(Caught) -> Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Generated services are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let apart = self.apart.iter_mut().flatten().find(|(paths, _)| paths.contains(&path));
        let future = apart.map_or(&mut self.inner, |(_, service)| service).call(request);
        // What a call leaves when it panics is given back by what it held; whoever called is told, not cut off.
        AssertUnwindSafe(future).catch_unwind().map(reshape)
    }
}

fn reshape(caught: Caught) -> Answer {
    let answer = caught.unwrap_or_else(|_| Ok(error::status(&error::broken_off()).into_http()));
    answer.map(|response| match error::of_reading_headers(response.headers()) {
        Some(status) => status.into_http(),
        None => response,
    })
}
