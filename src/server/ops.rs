//! The ops listener: /livez, /readyz and /metrics on plain HTTP.
//!
//! Tells states and figures, nothing that a caller sent; still it belongs on loopback or a management network.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::concerns::Concerns;
use super::disk;
use super::readiness::{self, Report};
use crate::service::Service;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;

/// Probes and scrapers are few; whoever opens more connections waits.
const CONNECTIONS: usize = 32;
/// A client that has not sent its request by then is left.
const HEADERS: Duration = Duration::from_secs(5);
/// The longest life of a connection; scrapers open another.
const LIFE: Duration = Duration::from_secs(300);

/// What the ops listener tells about.
pub(super) struct Ops {
    pub(super) service: Service,
    pub(super) store: Store,
    pub(super) metrics: Arc<Metrics>,
    pub(super) draining: AtomicBool,
    /// What else can be wrong.
    pub(super) concerns: Concerns,
    /// One scrape at a time: a scrape first takes over how things are.
    pub(super) scrape: Mutex<()>,
}

impl Ops {
    pub(super) fn report(&self) -> Report {
        readiness::report(&self.service, self.draining.load(Ordering::Acquire), self.concerns.now())
    }
}

/// Answers until the task is aborted.
pub(super) async fn run(listener: TcpListener, ops: Arc<Ops>) {
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(ops);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(%error, "an ops connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        open.spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS)
                .max_buf_size(16 << 10)
                .serve_connection(TokioIo::new(stream), service);
            // How a scraper's connection ends is its own affair.
            let _ = tokio::time::timeout(LIFE, connection).await;
            drop(slot);
        });
    }
}

async fn readyz(State(ops): State<Arc<Ops>>) -> impl IntoResponse {
    let report = ops.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = serde_json::to_string_pretty(&report).unwrap_or_default();
    body.push('\n');
    (status, [(header::CONTENT_TYPE, "application/json")], body)
}

async fn metrics(State(ops): State<Arc<Ops>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let _scrape = ops.scrape.lock().unwrap_or_else(PoisonError::into_inner);
    ops.report().measure(&ops.metrics);
    disk::measure(&ops.store, &ops.metrics);
    ([(header::CONTENT_TYPE, kind)], ops.metrics.text())
}
