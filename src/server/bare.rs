//! The listener alone, with whatever routes behind it: what a call costs before a service does anything for it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::watch;
use tonic::service::Routes;
use tower::Service;

use super::http1::Http1;
use super::http2::Http2;
use super::pressure::Pressure;
use super::protocol::Protocol;
use super::terms::{HTTP1, HTTP2, Terms};
use super::{Error, accept, address, listen, tls};
use api::entry::budget::{Budget, HELD_BYTES};
use api::metered::Counted;
use api::{aws, grpc};
use auth::peer::Principal;
use config::{Aws, Grpc};
use model::clock::Clock;
use telemetry::metrics::{Listener, Metrics};

/// What calls get to finish.
const DRAIN: Duration = Duration::from_secs(5);
/// Open connections.
const CONNECTIONS: usize = 1_000;

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Serves `routes` behind the daemon's own listener until `shutdown` resolves: same TLS, same HTTP, same count of
/// bytes, same check of the peer. The certificates are read once. `listening` is called once the port is open.
pub async fn serve_routes(
    files: Grpc,
    (version, routes): (Version, Routes),
    clock: Clock,
    shutdown: impl Future<Output = ()> + Send,
    listening: impl FnOnce(SocketAddr) + Send,
) -> Result<(), Error> {
    let routes = grpc::counted(routes);
    match version {
        Version::Http1 => {
            let at = At { listener: Listener::Grpc, address: files.listen, terms: Terms::with(&files, HTTP1) };
            serve(at, Http1 { routes }, clock, shutdown, listening).await
        }
        Version::Http2 => {
            let at = At { listener: Listener::Grpc, address: files.listen, terms: Terms::with(&files, HTTP2) };
            serve(at, Http2 { routes }, clock, shutdown, listening).await
        }
    }
}

/// The same for the listener for AWS's clients.
pub async fn serve_aws<S>(
    files: Aws,
    calls: S,
    clock: Clock,
    shutdown: impl Future<Output = ()> + Send,
    listening: impl FnOnce(SocketAddr) + Send,
) -> Result<(), Error>
where
    S: Service<
            Request<Counted<Incoming, aws::AwsMetering>>,
            Response = Response<aws::Whole>,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    let at = At { listener: Listener::Aws, address: files.listen, terms: Terms::aws(&files) };
    serve(at, Http1 { routes: aws::counted(calls) }, clock, shutdown, listening).await
}

/// Which listener, where, and with what.
struct At {
    listener: Listener,
    address: SocketAddr,
    terms: Terms,
}

async fn serve<P: Protocol>(
    at: At,
    protocol: P,
    clock: Clock,
    shutdown: impl Future<Output = ()> + Send,
    listening: impl FnOnce(SocketAddr) + Send,
) -> Result<(), Error> {
    let setting = match at.listener {
        Listener::Grpc => "grpc.listen",
        Listener::Aws => "aws.listen",
    };
    let tls = Arc::new(tls::Tls::load(at.terms)?);
    let listener = listen(at.address, setting)?;
    listening(address(&listener)?);
    let (tell, signals) = watch::channel(accept::Signal { draining: false, generation: tls.current().generation });
    let accept = accept::Accept {
        listener: at.listener,
        tls,
        protocol,
        budget: Budget::new(HELD_BYTES, clock.clone()),
        connections: CONNECTIONS,
        drain: DRAIN,
        metrics: Arc::new(Metrics::new()),
        pressure: Arc::new(Pressure::new(clock.clone())),
        clock,
        strangers: Arc::new(|_, _| Box::pin(async {})),
        counted_as: Arc::new(Principal::clone),
    };
    // On panic: told to the caller when it is waited for; there is no daemon around it.
    let accepting = tokio::spawn(accept.run(listener, signals));
    shutdown.await;
    tell.send_modify(|signal| signal.draining = true);
    accepting.await.map_err(|error| Error::Wrong(format!("the listener broke: {error}")))
}
