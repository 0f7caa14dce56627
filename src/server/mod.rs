//! Builds the daemon bottom-up from the configuration, listens, reloads certificates, drains.
//!
//! Only the configuration, the files that it names, the database and the listeners can end the daemon. HSMs cannot:
//! it starts without them, says at /readyz which one is missing and why, and serves as soon as one zone does.

mod accept;
mod backup;
mod bare;
mod check;
mod concerns;
mod observe;
mod ops;
mod parts;
mod readiness;
mod reload;
mod restore;
mod settings;
mod tls;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::readiness::Status;
use crate::api::grpc::{self, HealthSwitch};
use crate::config::Config;
use crate::model::clock::Clock;
use crate::telemetry::metrics::Metrics;

pub use backup::backup;
pub use bare::serve_routes;
pub use check::check;
pub use restore::{Consent, Restored, restore};

/// How often the answer to "does it serve?" is taken over into the gRPC health service.
const LOOK: Duration = Duration::from_millis(250);
/// What workers get to finish, log out and leave.
const STOP: Duration = Duration::from_secs(10);

/// Why the daemon did not start or stopped.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

/// Where the daemon listens, once it does.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// gRPC.
    pub grpc: SocketAddr,
    /// Ops.
    pub ops: SocketAddr,
}

/// Runs until `shutdown` resolves, then drains and stops in order. `listening` is called once both ports are open.
///
/// Boxed, and without type parameters, so that the whole daemon is compiled here and not again in each program.
pub fn serve<'a>(
    config: Config,
    clock: Clock,
    shutdown: BoxFuture<'a, ()>,
    listening: Box<dyn FnOnce(Addresses) + Send + 'a>,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(run(config, clock, shutdown, listening))
}

async fn run(
    config: Config,
    clock: Clock,
    shutdown: BoxFuture<'_, ()>,
    listening: Box<dyn FnOnce(Addresses) + Send + '_>,
) -> Result<(), Error> {
    // Everything that can be wrong with what the operator wrote comes first: no worker has logged in anywhere yet.
    let tls = Arc::new(tls::Tls::load(&config.grpc)?);
    let seals = parts::seals(&config.seal)?;
    let grpc_listener = listen(config.grpc.listen, "grpc.listen").await?;
    let ops_listener = listen(config.ops, "ops.listen").await?;
    let addresses = Addresses { grpc: address(&grpc_listener)?, ops: address(&ops_listener)? };
    let store = parts::open_store(&config, &clock).await?;

    let metrics = Arc::new(Metrics::new());
    let parts = parts::build(&config, seals, &store, &metrics, &clock).await;
    let (routes, health) = grpc::routes(parts.service.clone(), settings::grpc(&config), clock.clone());
    let concerns = concerns::Concerns::default();
    let ops = Arc::new(ops::Ops {
        service: parts.service.clone(),
        metrics: Arc::clone(&metrics),
        draining: AtomicBool::new(false),
        concerns,
        scrape: Mutex::default(),
    });
    let (tell, signals) = watch::channel(accept::Signal { draining: false, generation: tls.current().generation });
    let tell = Arc::new(tell);

    // Tasks that only look on; they end with this set.
    let mut lookers = JoinSet::new();
    lookers.spawn(ops::run(ops_listener, Arc::clone(&ops)));
    lookers.spawn({
        let (tls, metrics, tell) = (Arc::clone(&tls), Arc::clone(&metrics), Arc::clone(&tell));
        async move {
            tls.follow(&metrics, |generation| tell.send_modify(|signal| signal.generation = generation)).await;
        }
    });
    let health = Arc::new(health);
    if let Some(file) = config.file.clone() {
        lookers.spawn(reload::on_sighup(file, parts.service.clone()));
    }
    let following_health = lookers.spawn(follow_health(Arc::clone(&ops), Arc::clone(&health)));

    let accept = accept::Accept {
        tls,
        routes: routes.prepare(),
        connections: config.limits.connections,
        drain: config.limits.drain,
        metrics,
        clock,
    };
    let accepting = tokio::spawn(accept.run(grpc_listener, signals));
    tracing::info!(grpc = %addresses.grpc, ops = %addresses.ops, "listening");
    listening(addresses);

    shutdown.await;
    tracing::info!("shutting down: not ready any more, calls are let finish");
    ops.draining.store(true, Ordering::Release);
    following_health.abort();
    health.set_serving(false).await;
    health.close_streams().await;
    tell.send_modify(|signal| signal.draining = true);
    if let Err(error) = accepting.await {
        tracing::error!(%error, "the gRPC listener broke");
    }
    parts.service.drained(config.limits.drain).await;
    parts.stop(STOP).await;
    store.close().await;
    lookers.shutdown().await;
    tracing::info!("stopped");
    Ok(())
}

/// Takes every change of readiness over into the gRPC health service and the log.
async fn follow_health(ops: Arc<ops::Ops>, health: Arc<HealthSwitch>) {
    let mut was = None;
    loop {
        let report = ops.report();
        let now = report.status();
        if was != Some(now) {
            was = Some(now);
            health.set_serving(report.ready).await;
            match now {
                Status::Ready => tracing::info!("ready"),
                Status::Degraded => tracing::warn!(reasons = report.reasons.join("; "), "ready, but degraded"),
                Status::Unready => tracing::warn!(reasons = report.reasons.join("; "), "not ready"),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn listen(address: SocketAddr, field: &str) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Error(format!("cannot listen on {address} ({error}); stop what does, or change {field}")))
}

fn address(listener: &TcpListener) -> Result<SocketAddr, Error> {
    listener.local_addr().map_err(|error| Error(format!("a listener without an address: {error}")))
}
