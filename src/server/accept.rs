//! The gRPC listener: accepts, shakes hands, serves HTTP/2, ends connections whose certificate is no longer good,
//! drains.
//!
//! Everything is bounded: handshakes in progress and their time, connections, streams and windows of each, header
//! lists, the time that a refused or draining connection may still take.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::client_auth;
use super::tls::Tls;
use crate::auth::peer::{Peer, Trust};
use crate::model::clock::Clock;
use crate::pki;
use crate::telemetry::metrics::{Metrics, Refused};

/// A client that has not finished its handshake by then is left.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes in progress at once; they cost a signature each and come from anybody.
pub(super) const HANDSHAKES: usize = 128;
/// Calls open at once on one connection.
const STREAMS: u32 = 256;
/// Windows: one stream can bring the largest message without waiting for the round trip of a window update.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const FRAME_BYTES: u32 = 64 << 10;
const SEND_BUFFER: usize = 1 << 20;
const HEADER_LIST_BYTES: u32 = 16 << 10;
/// A silent connection is asked whether it lives, and left when it does not answer.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// How long a connection whose certificate is not good, or no longer, stays open, so that its client is told why (each
/// call is refused with the reason) before it is cut off.
const FAREWELL: Duration = Duration::from_secs(5);
/// The longest that a connection waits before it looks at its certificate's end again: calendars are set.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// What all connections are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Signal {
    /// Finish what is open and leave.
    pub(super) draining: bool,
    /// The newest reading of the certificate files.
    pub(super) generation: u64,
}

/// What the listener needs; cheap to clone for each connection.
pub(super) struct Accept<R> {
    pub(super) tls: Arc<Tls>,
    pub(super) routes: R,
    pub(super) connections: usize,
    pub(super) drain: Duration,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
}

/// tonic's routes, as hyper calls them. The body of a response is boxed by tonic already.
pub(super) trait Routes:
    tower::Service<
        http::Request<hyper::body::Incoming>,
        Response = http::Response<Self::Body>,
        Error = std::convert::Infallible,
        Future: Send + 'static,
    > + Clone
    + Send
    + Sync
    + 'static
{
    type Body: hyper::body::Body<Data = bytes::Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + 'static;
}

impl<R, B> Routes for R
where
    R: tower::Service<
            http::Request<hyper::body::Incoming>,
            Response = http::Response<B>,
            Error = std::convert::Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + Sync
        + 'static,
    B: hyper::body::Body<Data = bytes::Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    type Body = B;
}

impl<R: Routes> Accept<R> {
    /// Accepts until `signals` says that the daemon drains, then lets open connections finish, and returns when they
    /// have or their time is over.
    pub(super) async fn run(self, listener: TcpListener, signals: watch::Receiver<Signal>) {
        let this = Arc::new(self);
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        let connections = Arc::new(Semaphore::new(this.connections));
        let mut open = JoinSet::new();
        let mut told = signals.clone();
        let mut draining = pin!(async move {
            // Without a sender there is nothing to stay open for either.
            let _ = told.wait_for(|signal| signal.draining).await;
        });
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => match Arc::clone(&handshakes).try_acquire_owned() {
                        Ok(permit) => {
                            let signals = signals.clone();
                            // On panic: this connection ends; its client opens another.
                            open.spawn(Arc::clone(&this).connection(stream, from, permit, Arc::clone(&connections), signals));
                        }
                        Err(_) => this.metrics.refused(Refused::Full),
                    },
                    Err(error) => {
                        tracing::error!(%error, "a connection cannot be accepted");
                        // Out of descriptors, most likely: asking again at once would only burn time.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = open.join_next() => {}
                () = &mut draining => break,
            }
        }
        drop(listener);
        let left = timeout(this.drain, async { while open.join_next().await.is_some() {} }).await;
        if left.is_err() {
            tracing::warn!(connections = open.len(), "calls did not finish in the time for draining; they are cut off");
            open.shutdown().await;
        }
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        from: SocketAddr,
        handshake: OwnedSemaphorePermit,
        connections: Arc<Semaphore>,
        signals: watch::Receiver<Signal>,
    ) {
        // Answers are small and complete: waiting for more to send only adds to their latency.
        let _ = stream.set_nodelay(true);
        let material = self.tls.current();
        let acceptor = TlsAcceptor::from(Arc::clone(&material.config));
        let stream = match timeout(HANDSHAKE, acceptor.accept(stream).into_fallible()).await {
            Ok(Ok(stream)) => stream,
            Ok(Err((error, stream))) => {
                let (refused, why) = client_auth::judge(&error);
                self.metrics.refused(refused);
                tracing::info!(%from, why, "handshake failed");
                if client_auth::has_shown_itself(refused) {
                    client_auth::part(stream).await;
                }
                return;
            }
            Err(_) => {
                self.metrics.refused(Refused::Late);
                tracing::info!(%from, "handshake took too long");
                return;
            }
        };
        drop(handshake);
        let Ok(_connection) = connections.try_acquire_owned() else {
            self.metrics.refused(Refused::Full);
            tracing::warn!(%from, limit = self.connections, "refused: as many connections are open as may be (limits.connections, or what the limit on open files leaves)");
            return;
        };
        let peer = match self.peer(&stream) {
            Ok(peer) => Arc::new(peer),
            Err(error) => {
                self.metrics.refused(Refused::Certificate);
                tracing::info!(%from, %error, "refused");
                return;
            }
        };
        let _connected = self.metrics.connected();
        self.serve(stream, from, peer, signals).await;
    }

    fn peer(&self, stream: &TlsStream<TcpStream>) -> Result<Peer, pki::Error> {
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let trust: Arc<dyn Trust> = Arc::clone(&self.tls) as _;
        Peer::new(chain.iter().map(|certificate| certificate.to_vec()).collect(), trust)
    }

    async fn serve(
        &self,
        stream: TlsStream<TcpStream>,
        from: SocketAddr,
        peer: Arc<Peer>,
        mut signals: watch::Receiver<Signal>,
    ) {
        let service = service_fn({
            let (peer, routes) = (Arc::clone(&peer), self.routes.clone());
            move |mut request: http::Request<hyper::body::Incoming>| {
                request.extensions_mut().insert(Arc::clone(&peer));
                // tonic's routes are always ready.
                routes.clone().call(request)
            }
        });
        let mut connection = Box::pin(http().serve_connection(TokioIo::new(stream), service));
        let (mut stage, mut good) = (Stage::Open, false);
        loop {
            let calendar = self.clock.calendar();
            if stage == Stage::Open {
                match peer.admit(calendar) {
                    Ok(_) => good = true,
                    Err(refusal) => {
                        // One that never was good has passed the handshake only to be told why.
                        if good {
                            self.metrics.ended()
                        } else {
                            self.metrics.refused(Refused::Certificate)
                        }
                        tracing::info!(%from, reason = %refusal, "connection will be ended");
                        stage = Stage::Refused;
                    }
                }
            }
            if stage != Stage::Leaving && signals.borrow_and_update().draining {
                stage = Stage::Leaving;
                connection.as_mut().graceful_shutdown();
            }
            let until_expiry = peer.until().duration_since(calendar).unwrap_or_default() + Duration::from_millis(1);
            let look_again = match stage {
                Stage::Open => until_expiry.min(LOOK_AGAIN),
                Stage::Refused | Stage::Leaving => FAREWELL,
            };
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%from, %error, "connection broke");
                    }
                    return;
                }
                told = signals.changed() => if told.is_err() {
                    return;
                },
                // A draining connection has the time that the listener gives all of them.
                () = tokio::time::sleep(look_again), if stage != Stage::Leaving => {
                    if stage == Stage::Refused {
                        return;
                    }
                }
            }
        }
    }
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Serves.
    Open,
    /// Its certificate is not good, or no longer: each call is refused with the reason, for a moment.
    Refused,
    /// The daemon drains: what is open is finished, nothing new begins.
    Leaving,
}

fn http() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        // Calls whose deadlines pass are reset by their clients, many at once where an HSM hangs: no reason to end the
        // connection, on which others wait. What a client can make of it is bounded by its streams.
        .max_pending_accept_reset_streams(STREAMS as usize)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST_BYTES)
        .keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        // gRPC has no use for it.
        .auto_date_header(false);
    builder
}
