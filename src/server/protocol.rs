//! What the accept loop does not know of a connection: which version of HTTP is spoken on it, and what answers.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tower::Service;

use super::wire::{Answered, Told, Watched, Wire};
use api::entry::ledger::Ledger;
use api::metered::{BoxError, Piece};
use auth::peer::Peer;

/// A connection's bytes, as they are watched.
pub(super) type Stream = Watched<TlsStream<TcpStream>>;

/// Serves connections of one listener.
pub(super) trait Protocol: Send + Sync + 'static {
    /// A connection, which is served as it is polled.
    fn serve(&self, stream: Stream, caller: Caller) -> Pin<Box<dyn Connection>>;
}

/// A connection that is served.
pub(super) trait Connection: Future<Output = Result<(), hyper::Error>> + Send {
    /// What is open is finished, nothing new begins.
    fn graceful_shutdown(self: Pin<&mut Self>);
}

/// Who is at the other end of a connection, and what is kept of it.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) peer: Arc<Peer>,
    pub(super) wire: Arc<Wire>,
    pub(super) ledger: Arc<Ledger>,
}

/// What answers requests: an interface behind its count of bytes. It is always ready.
pub(super) trait Routes:
    Service<
        Request<Incoming>,
        Response = Response<Self::Body>,
        Error = std::convert::Infallible,
        Future = BoxFuture<'static, Result<Response<Self::Body>, std::convert::Infallible>>,
    > + Clone
    + Send
    + Sync
    + 'static
{
    type Body: http_body::Body<Data = Piece, Error = BoxError> + Send + Unpin + 'static;
}

impl<R, B> Routes for R
where
    R: Service<
            Request<Incoming>,
            Response = Response<B>,
            Error = std::convert::Infallible,
            Future = BoxFuture<'static, Result<Response<B>, std::convert::Infallible>>,
        > + Clone
        + Send
        + Sync
        + 'static,
    B: http_body::Body<Data = Piece, Error = BoxError> + Send + Unpin + 'static,
{
    type Body = B;
}

impl Caller {
    /// Has a request of this caller answered.
    pub(super) fn ask<R: Routes>(
        &self,
        routes: &R,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Answered<R::Body>>, std::convert::Infallible>> + Send + use<R> {
        let in_use = self.wire.call();
        request.extensions_mut().insert(Arc::clone(&self.peer));
        request.extensions_mut().insert(Arc::clone(&self.ledger));
        let answer = routes.clone().call(request);
        if self.ledger.is_over() {
            self.wire.tell(Told::End);
        }
        async move { Ok(answer.await?.map(|body| Answered::new(body, in_use))) }
    }
}
