//! The ops listener: /livez, /readyz and /metrics on plain HTTP.
//!
//! Tells states and figures, nothing that a caller sent; still it belongs on loopback or a management network.
//!
//! Whoever comes is let in: where all places are taken, the connection that has asked for nothing for longest makes
//! room, of the address that has most. So a probe gets its answer whatever others do.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tower::Service as _;

use super::audit::Audit;
use super::concerns::Concerns;
use super::disk;
use super::http1;
use super::pressure::{Met, Pressure};
use super::readiness::{self, Report};
use super::source::Source;
use super::source_slots::{Entered, Id, SourceSlots};
use model::clock::Clock;
use model::lock::MutexExt as _;
use service::Service;
use store::Store;
use telemetry::metrics::{Metrics, Places};
use telemetry::sampled::{self, Line};
use telemetry::watchdog::Watchdog;

/// Probes and scrapers are few.
pub(super) const CONNECTIONS: usize = 64;
/// A client that has not sent its request by then, or its next one, is left.
const HEADERS: Duration = Duration::from_secs(2);
/// How long after its request a client makes room only if there is nobody else: an answer takes milliseconds.
const ANSWER: Duration = Duration::from_secs(1);
/// The longest life of a connection; scrapers open another.
const LIFE: Duration = Duration::from_secs(300);
/// How long nothing is accepted after a connection could not be.
const NOT_ACCEPTED: Duration = Duration::from_millis(20);

/// What the ops listener tells about.
pub(super) struct Ops {
    pub(super) service: Service,
    pub(super) store: Store,
    pub(super) metrics: Arc<Metrics>,
    pub(super) audit: Audit,
    pub(super) watchdog: Watchdog,
    pub(super) draining: AtomicBool,
    /// What else can be wrong.
    pub(super) concerns: Concerns,
    /// One scrape at a time: a scrape first takes over how things are.
    pub(super) scrape: Mutex<()>,
    pub(super) pressure: Arc<Pressure>,
    pub(super) clock: Clock,
}

/// The places for connections; what is dropped with a place ends its connection.
type Slots = Mutex<SourceSlots<oneshot::Sender<Infallible>>>;

/// A place; dropping it gives it back.
struct Slot {
    slots: Arc<Slots>,
    id: Id,
    ops: Arc<Ops>,
}

impl Slot {
    /// A request has come.
    fn asked(&self) {
        let overdue_at = self.ops.clock.now() + ANSWER;
        lock(&self.slots).set_overdue(self.id, Some(overdue_at));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut slots = lock(&self.slots);
        slots.leave(self.id);
        self.ops.metrics.ops_connections(slots.taken());
    }
}

fn lock(slots: &Slots) -> MutexGuard<'_, SourceSlots<oneshot::Sender<Infallible>>> {
    slots.lock_anyway()
}

impl Ops {
    pub(super) async fn report(&self) -> Report {
        self.watchdog.caught_up().await;
        let (draining, refuses) = (self.draining.load(Ordering::Acquire), self.audit.refuses());
        let mut report = readiness::report(&self.service, draining, refuses, self.concerns.now());
        if let Some(late) = self.watchdog.late() {
            report.is_not_known(late);
        }
        report
    }
}

/// Answers until the task is aborted.
pub(super) async fn run(listener: TcpListener, ops: Arc<Ops>) {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(&ops));
    let slots = Arc::new(Mutex::new(SourceSlots::new(CONNECTIONS)));
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = open.join_next() => continue,
        };
        match accepted {
            Ok((stream, from)) => {
                if let Some((slot, gone)) = enter(&slots, from, &ops) {
                    // On panic: this connection ends; whoever asked asks again.
                    open.spawn(serve(stream, router.clone(), slot, gone));
                }
            }
            Err(error) => {
                if sampled::whole(Line::NotAccepted, &error) {
                    tracing::error!(%error, "an ops connection cannot be accepted");
                }
                // As on the gRPC port: a connection that asks for nothing has a descriptor that can be used.
                lock(&slots).clear_one(ops.clock.now());
                tokio::time::sleep(NOT_ACCEPTED).await;
            }
        }
    }
}

/// A place, and what resolves when it is taken away.
fn enter(slots: &Arc<Slots>, from: SocketAddr, ops: &Arc<Ops>) -> Option<(Slot, oneshot::Receiver<Infallible>)> {
    let (hold, gone) = oneshot::channel();
    let (source, now) = (Source::of(from), ops.clock.now());
    // Somebody always makes room.
    let Entered::In(id, out) = lock(slots).enter(source, hold, now, true) else { return None };
    ops.metrics.ops_connections(lock(slots).taken());
    if let Some((from, _)) = out {
        ops.metrics.made_room(Places::Ops);
        ops.pressure.met(Met::Ops, &from);
        if sampled::whole(Line::MadeRoom, &from) {
            tracing::info!(%from, "a connection to the ops port made room for another one");
        }
    }
    Some((Slot { slots: Arc::clone(slots), id, ops: Arc::clone(ops) }, gone))
}

async fn serve(stream: TcpStream, router: Router, slot: Slot, gone: oneshot::Receiver<Infallible>) {
    let service = service_fn(|request: http::Request<Incoming>| {
        slot.asked();
        // axum's routes are always ready.
        router.clone().call(request)
    });
    let connection = http1::settings(HEADERS).serve_connection(TokioIo::new(stream), service);
    // How a scraper's connection ends is its own affair.
    tokio::select! {
        biased;
        _ = gone => {}
        _ = tokio::time::timeout(LIFE, connection) => {}
    }
}

/// Fails for what a restart mends and for nothing else: a task that stands still, and that could not be started again.
async fn livez(State(ops): State<Arc<Ops>>) -> impl IntoResponse {
    ops.watchdog.caught_up().await;
    match ops.watchdog.stuck() {
        stuck if stuck.is_empty() => (StatusCode::OK, "ok\n".to_owned()),
        stuck => (StatusCode::SERVICE_UNAVAILABLE, format!("{}; restart the daemon\n", stuck.join("; "))),
    }
}

async fn readyz(State(ops): State<Arc<Ops>>) -> impl IntoResponse {
    let report = ops.report().await;
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = serde_json::to_string_pretty(&report).unwrap_or_default();
    body.push('\n');
    (status, [(header::CONTENT_TYPE, "application/json")], body)
}

async fn metrics(State(ops): State<Arc<Ops>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let report = ops.report().await;
    let _scrape = ops.scrape.lock_anyway();
    report.measure(&ops.metrics);
    ops.metrics.tasks(&ops.watchdog.readings());
    disk::measure(&ops.store, &ops.metrics);
    ops.audit.measure(&ops.metrics);
    ([(header::CONTENT_TYPE, kind)], ops.metrics.text())
}
