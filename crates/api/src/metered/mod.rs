//! HTTP as all interfaces have it: a service behind which every byte of a call is counted for its principal, from the
//! first byte of the request to the last of the answer.
//!
//! It knows neither gRPC nor which version of HTTP it is. What a connection is known by comes in each request's
//! extensions: the [`Ledger`] that [`crate::entry`] keeps.

mod answer;
mod request;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body;
use tonic::codegen::Service;

pub use self::answer::{Answer, Piece};
pub use self::request::{Counted, Unread};

use crate::entry::ledger::Ledger;
use crate::entry::open_call::{Kind, OpenCall};
use crate::entry::sizes;
use auth::request::Trace;

/// What a body may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How an interface has its calls counted.
pub trait Metering: Clone + Send + Sync + Unpin + 'static {
    /// The bodies of its answers.
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + Default + Send + Unpin + 'static;

    /// How the messages of this path's calls come.
    fn kind(&self, path: &str) -> Kind;
    /// There is no room for the call, or for its answer.
    fn full(&self) -> Response<Self::Body>;
    /// The connection is nobody's.
    fn unknown(&self) -> Response<Self::Body>;
    /// Why a request cannot be read on, as whoever reads it takes it.
    fn unread(&self, why: Unread) -> BoxError;
}

/// A service whose calls are counted.
#[derive(Clone)]
pub struct Metered<S, M> {
    inner: S,
    metering: M,
}

impl<S, M> Metered<S, M> {
    /// Counts the calls of `inner`.
    pub fn new(inner: S, metering: M) -> Self {
        Self { inner, metering }
    }
}

impl<S, M, B> Service<Request<B>> for Metered<S, M>
where
    M: Metering,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
    S: Service<Request<Counted<B, M>>, Response = Response<M::Body>, Error = Infallible, Future: Send + 'static>,
{
    type Response = Response<Answer<M::Body>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Routes are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let given = |response: Response<M::Body>| std::future::ready(Ok(response.map(Answer::uncounted))).boxed();
        let Some(ledger) = request.extensions().get::<Arc<Ledger>>() else { return given(self.metering.unknown()) };
        // Whatever answers with success would make a tunnel of it, whose bytes nobody counts.
        if request.method() == Method::CONNECT {
            let mut refusal = Response::<M::Body>::default();
            *refusal.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            ledger.refused();
            return given(refusal);
        }
        let kind = self.metering.kind(request.uri().path());
        let fixed = if kind == Kind::Stream { sizes::CALL + sizes::STREAM } else { sizes::CALL };
        let Some(open) = ledger.begin(kind, fixed + header_bytes(request.headers())) else {
            ledger.refused();
            return given(self.metering.full());
        };
        let receipt = request.extensions().get::<Arc<Trace>>().is_some_and(|trace| trace.wants_receipt());
        request.extensions_mut().insert(Arc::clone(&open));
        let metering = self.metering.clone();
        let request = request.map(|body| Counted::new(body, Arc::clone(&open), metering.clone()));
        let answer = self.inner.call(request);
        async move {
            let Ok(response) = answer.await;
            Ok(counted(response, &open, if receipt { sizes::RECEIPT } else { 0 }, &metering).await)
        }
        .boxed()
    }
}

/// What a header list takes. HTTP's library bounds it.
fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| sizes::HEADER + name.as_str().len() + value.len()).sum()
}

async fn counted<M: Metering>(
    response: Response<M::Body>,
    open: &Arc<OpenCall>,
    further: usize,
    metering: &M,
) -> Response<Answer<M::Body>> {
    let (head, body) = response.into_parts();
    // `further`: what comes to the headers when all else is known.
    open.answers_with(header_bytes(&head.headers) + further);
    let answer = match open.kind() {
        // Written out at once: what it was made from is gone before anybody waits for it to be fetched.
        Kind::Unary => Answer::whole(body, open).await,
        Kind::Watch | Kind::Stream => Some(Answer::endless(body, open)),
    };
    match answer {
        Some(answer) => Response::from_parts(head, answer),
        None => metering.full().map(Answer::uncounted),
    }
}
