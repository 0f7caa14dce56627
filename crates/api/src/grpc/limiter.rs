//! What stands before a generated service: bounds on what is being read, and the shape of its errors.
//!
//! One message is bounded by [`limits::MESSAGE_BYTES`], BatchDecrypt's by [`limits::BATCH_DECRYPT_MESSAGE_BYTES`]. How
//! many of them are being read at once is not, by HTTP/2 alone: each stream of each connection may have one half-read.
//! [`ByteQuota`] bounds their sum.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{CatchUnwind, Map};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

use super::error;

/// How long the rest of a request may take once it does not come at once. A request that is half read holds memory, and
/// the deadline of its call begins only when it has been read.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a request that are not counted: an ordinary call touches nothing that others touch.
const FREE_BYTES: usize = 64 << 10;

/// A generated service with its limits.
#[derive(Clone)]
pub(super) struct RequestLimiter<S> {
    inner: S,
    /// The same service with another bound on each message, and the path of the method that goes to it.
    apart: Option<(&'static str, S)>,
    /// Likewise; its requests have no end, so the bytes of all its messages together mean nothing.
    endless: Option<(&'static str, S)>,
    quota: Arc<ByteQuota>,
}

/// Bytes of large requests that are being read, over all connections.
pub(super) struct ByteQuota {
    held: AtomicUsize,
    most: usize,
}

impl ByteQuota {
    /// At most `most` bytes.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), most })
    }
}

impl<S> RequestLimiter<S> {
    pub(super) fn new(inner: S, quota: &Arc<ByteQuota>) -> Self {
        Self { inner, apart: None, endless: None, quota: Arc::clone(quota) }
    }

    /// Sends one method to `service`.
    pub(super) fn with_apart(self, path: &'static str, service: S) -> Self {
        Self { apart: Some((path, service)), ..self }
    }

    /// Sends one method to `service`, without counting its bytes.
    pub(super) fn with_endless(self, path: &'static str, service: S) -> Self {
        Self { endless: Some((path, service)), ..self }
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
        let future = match &mut self.endless {
            Some((path, service)) if request.uri().path() == *path => service.call(request),
            _ => {
                let quota = Arc::clone(&self.quota);
                let service = match &mut self.apart {
                    Some((path, service)) if request.uri().path() == *path => service,
                    _ => &mut self.inner,
                };
                service.call(request.map(|inner| Body::new(Counted { inner, quota, seen: 0, held: 0, patience: None })))
            }
        };
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

/// A request's body that counts what large requests bring.
struct Counted {
    inner: Body,
    quota: Arc<ByteQuota>,
    seen: usize,
    held: usize,
    /// Armed when something is awaited for the first time: most requests are there as a whole.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Counted {
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
        patience.as_mut().poll(cx).map(|()| error::status(&error::late()))
    }

    fn count(&mut self, bytes: usize) -> Result<(), Status> {
        self.seen += bytes;
        if self.seen <= FREE_BYTES {
            return Ok(());
        }
        let more = self.seen - self.held;
        self.held = self.seen;
        if self.quota.held.fetch_add(more, Ordering::Relaxed) + more > self.quota.most {
            let message = "too many large requests are being read; wait and try again";
            return Err(error::status(&error::throttling(message)));
        }
        Ok(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.held > 0 {
            self.quota.held.fetch_sub(self.held, Ordering::Relaxed);
        }
    }
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            return self.poll_patience(cx).map(|status| Some(Err(status)));
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(status) = self.count(data.len())
        {
            return Poll::Ready(Some(Err(status)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(quota: &Arc<ByteQuota>) -> Counted {
        Counted { inner: Body::empty(), quota: Arc::clone(quota), seen: 0, held: 0, patience: None }
    }

    #[test]
    fn large_requests_are_counted_while_they_are_read() {
        let quota = ByteQuota::new(3 * FREE_BYTES);
        let held = || quota.held.load(Ordering::Relaxed);
        let (mut small, mut first, mut second) = (body(&quota), body(&quota), body(&quota));
        small.count(FREE_BYTES).unwrap();
        assert_eq!(held(), 0);
        first.count(FREE_BYTES).unwrap();
        first.count(FREE_BYTES).unwrap();
        assert_eq!(held(), 2 * FREE_BYTES);
        assert_eq!(second.count(2 * FREE_BYTES).unwrap_err().code(), tonic::Code::ResourceExhausted);
        drop(first);
        drop(second);
        assert_eq!(held(), 0);
        body(&quota).count(3 * FREE_BYTES).unwrap();
    }
}
