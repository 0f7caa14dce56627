//! Builds the daemon bottom-up from the configuration, listens, reloads certificates, drains.
//!
//! Only the configuration, the files and directories that it names, the limit on open files, the database and the
//! listeners can end the daemon. HSMs cannot: it starts without them, says at /readyz which one is missing and why, and
//! serves as soon as one zone does.

mod accept;
mod administrators;
mod audit;
mod backup;
mod bare;
mod certificates;
mod check;
mod client_auth;
mod concerns;
mod disk;
mod encryption;
mod files;
mod handshake;
mod http1;
mod http2;
mod listeners;
mod observe;
mod ops;
mod parts;
mod pem;
mod pending;
mod pressure;
mod protocol;
mod readiness;
mod reload;
mod requests;
mod restore;
mod round_robin;
mod settings;
mod source;
mod source_slots;
mod systemd;
mod terms;
mod tls;
mod watch;
mod wire;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;

use self::readiness::{Status, Trouble};
use self::systemd::Systemd;
use self::terms::Terms;
use self::tls::Tls;
use api::aws;
use api::entry::budget::{Budget, HELD_BYTES};
use api::grpc::{self, HealthSwitch};
use config::Config;
use model::clock::Clock;
use model::outage::Outage;
use service::recorder::Recorder;
use supervisor::look_at_lock_dir;
use telemetry::log;
use telemetry::metrics::{Listener, Metrics};
use telemetry::sampled;
use telemetry::watchdog::{Heartbeat, Task, Watchdog};

pub use audit::new_audit_log;
pub use backup::backup;
pub use bare::{Version, serve_aws, serve_routes};
pub use check::check;
pub use restore::{Consent, Restored, UnknownAccessKeys, restore};

/// How often the answer to "does it serve?" is taken over into the gRPC health service.
const LOOK: Duration = Duration::from_millis(250);
/// Connections that the kernel keeps for us until they are accepted; it takes no more of them than its own bound
/// (net.core.somaxconn, 4,096 by default).
const BACKLOG: u32 = 4_096;
/// What the kernel keeps of answers that a client does not take (it reckons with twice as much): one that is read takes
/// no longer for it, and one that is not keeps megabytes otherwise.
const SENT_BYTES: u32 = 256 << 10;
/// How long the kernel keeps that, also of connections that were ended here.
const SENT_MILLIS: u32 = 30_000;
/// What workers get to finish, log out and leave; and what the metadata get, once to take up what is left and once to be closed.
const STOP: Duration = Duration::from_secs(10);
/// What a stop may take beyond its own limits, until systemd loses patience.
const STOP_MARGIN: Duration = Duration::from_secs(20);

/// Why the daemon did not start or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What an operator wrote, or a file that it names, is wrong: starting again does not mend it.
    #[error("{0}")]
    Wrong(String),
    /// The machine lets the daemon down for the moment: a full disk, a port or a database that somebody else has, too
    /// many open files. A later start succeeds when that has passed.
    #[error("{0}")]
    Passing(String),
}

impl Error {
    /// What the system said, in a sentence that says what to do.
    fn of(error: &std::io::Error, sentence: String) -> Self {
        match Outage::of(error) {
            Some(_) => Self::Passing(sentence),
            None => Self::Wrong(sentence),
        }
    }
}

/// Where the daemon listens, once it does.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The gRPC port.
    pub grpc: SocketAddr,
    /// AWS KMS, where that is configured.
    pub aws: Option<SocketAddr>,
    /// The ops port.
    pub ops: SocketAddr,
}

/// Runs until `shutdown` resolves, then drains and stops in order. `listening` is called once all ports are open.
///
/// Boxed, and without type parameters, so that the whole daemon is compiled here and not again in each program.
pub fn serve<'a>(
    config: Config,
    clock: Clock,
    shutdown: BoxFuture<'a, ()>,
    listening: Box<dyn FnOnce(Addresses) + Send + 'a>,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(run(config, clock, None, shutdown, listening))
}

/// The same with a recorder in the place of the audit log, so that a benchmark can say what the log costs. What is given out
/// then stands in no log: no program may have this, which tests/architecture.rs sees to.
pub fn serve_recorded_by<'a>(
    config: Config,
    clock: Clock,
    recorder: Arc<dyn Recorder>,
    shutdown: BoxFuture<'a, ()>,
    listening: Box<dyn FnOnce(Addresses) + Send + 'a>,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(run(config, clock, Some(recorder), shutdown, listening))
}

async fn run(
    config: Config,
    clock: Clock,
    recorder: Option<Arc<dyn Recorder>>,
    shutdown: BoxFuture<'_, ()>,
    listening: Box<dyn FnOnce(Addresses) + Send + '_>,
) -> Result<(), Error> {
    // Everything that can be wrong with what the operator wrote comes first: no worker has logged in anywhere yet.
    let files = files::raise();
    let fit = files::Fit::now(&config);
    if let Some(refusal) = fit.refusal() {
        return Err(Error::Wrong(refusal));
    }
    let files = Arc::new(files::Files::new(files, fit));
    for sentence in files.troubles() {
        tracing::warn!("{sentence}");
    }
    let tls = Arc::new(Tls::load(Terms::grpc(&config.grpc))?);
    let aws_tls = config.aws.as_ref().map(|aws| Tls::load(Terms::aws(aws)).map(Arc::new)).transpose()?;
    let certificates: Vec<Arc<Tls>> = std::iter::once(&tls).chain(&aws_tls).cloned().collect();
    let mut told = certificates::Told::default();
    told.tell(&certificates, clock.calendar());
    let seals = parts::seals(&config.seal)?;
    parts::make_state_dir(&config)?;
    // After the state directory, which it may be, or be in.
    look_at_lock_dir(&config.lock_dir).map_err(|error| {
        let sentence = format!("{error}; {}", error.remedy());
        error.outage().map_or(Error::Wrong as fn(String) -> Error, |_| Error::Passing)(sentence)
    })?;
    let grpc_listener = listen(config.grpc.listen, "grpc.listen")?;
    let aws_listener = config.aws.as_ref().map(|aws| listen(aws.listen, "aws.listen")).transpose()?;
    let ops_listener = listen(config.ops, "ops.listen")?;
    let addresses = Addresses {
        grpc: address(&grpc_listener)?,
        aws: aws_listener.as_ref().map(address).transpose()?,
        ops: address(&ops_listener)?,
    };
    let watchdog = Watchdog::new(clock.clone());
    let systemd = Systemd::begin(&watchdog)?;
    let store = systemd.while_starting("starting: opening the metadata", parts::open_store(&config, &clock)).await?;

    let seals = Arc::new(ArcSwap::from_pointee(seals));
    let opening = audit::Audit::begin(&config, &seals, &store, &clock);
    let audit = systemd.while_starting("starting: opening the audit log", opening).await;

    let metrics = Arc::new(Metrics::new());
    certificates::measure(&certificates, &metrics);
    let recorder = recorder.unwrap_or_else(|| audit.recorder(&config));
    let building = parts::build(&config, seals, (&store, &audit, recorder), &metrics, files.found, &watchdog, &clock);
    let parts = systemd.while_starting("starting: taking key stores up", building).await;
    let (routes, health) = grpc::routes(parts.service.clone(), settings::grpc(&config), clock.clone());
    let mut concerns = concerns::Concerns::default();
    concerns.ask(Trouble::Log, || log::trouble().into_iter().collect());
    concerns.ask(Trouble::Tasks, {
        let watchdog = watchdog.clone();
        move || watchdog.troubles()
    });
    concerns.ask(Trouble::Certificate, {
        let (certificates, clock) = (certificates.clone(), clock.clone());
        move || certificates::troubles(&certificates, clock.calendar())
    });
    concerns.ask(Trouble::Limits, {
        let files = Arc::clone(&files);
        move || files.troubles()
    });
    let pressure = Arc::new(pressure::Pressure::new(clock.clone()));
    concerns.ask(Trouble::Connections, {
        let pressure = Arc::clone(&pressure);
        move || pressure.sentences()
    });
    disk::concern(&mut concerns, &store);
    audit.concern(&mut concerns);
    let ops = Arc::new(ops::Ops {
        service: parts.service.clone(),
        store: store.clone(),
        audit: audit.clone(),
        metrics: Arc::clone(&metrics),
        watchdog: watchdog.clone(),
        draining: AtomicBool::new(false),
        concerns,
        scrape: Mutex::default(),
        pressure: Arc::clone(&pressure),
        clock: clock.clone(),
    });

    // They end with this set. What follows when one breaks is the watchdog's business: nobody asks the set.
    let mut lookers = JoinSet::new();
    let ticks = watch::ticks(&watchdog)?;
    // On panic: the process ends (vital); nobody else knows whether the others turn.
    lookers.spawn(watchdog.clone().vital(Task::Watchdog, {
        let (watchdog, systemd, clock) = (watchdog.clone(), systemd.clone(), clock.clone());
        |heartbeat| watch::run(watchdog, ticks, systemd, clock, heartbeat)
    }));
    // On panic: the process ends (vital); whoever asks /livez would find nobody there.
    lookers.spawn(watchdog.clone().vital(Task::Ops, {
        let ops = Arc::clone(&ops);
        async move |heartbeat| heartbeat.idle(ops::run(ops_listener, ops)).await
    }));
    // On panic: started again; it looks at the disk anew.
    lookers.spawn(watchdog.clone().restarted(Task::Disk, "", || (), {
        let store = store.clone();
        move |heartbeat| disk::tend(store.clone(), heartbeat)
    }));
    // On panic: started again; the log itself goes on meanwhile.
    lookers.spawn(watchdog.clone().restarted(Task::Audit, "", || (), {
        let audit = audit.clone();
        move |heartbeat| audit.clone().tend(heartbeat)
    }));
    audit.begin_sinks(&mut lookers, &watchdog);
    // On panic: started again; what was left out until then is told by the next run.
    lookers.spawn(watchdog.clone().restarted(
        Task::Sampled,
        "",
        || (),
        async |heartbeat: Heartbeat| {
            heartbeat.idle(sampled::tell_for_ever()).await;
        },
    ));
    // On panic: started again; the log may be told again what it has been told.
    lookers.spawn(watchdog.clone().restarted(Task::CertificateEnds, "", || (), {
        let (metrics, clock) = (Arc::clone(&metrics), clock.clone());
        let mut told = Some(told);
        move |heartbeat| {
            let told = told.take().unwrap_or_default();
            certificates::watch(certificates.clone(), Arc::clone(&metrics), clock.clone(), told, heartbeat)
        }
    }));
    if let Some(file) = config.file.clone() {
        let (service, administrators) = (parts.service.clone(), Arc::clone(&parts.administrators));
        // On panic: started again; a signal that came meanwhile is to be sent again.
        lookers.spawn(watchdog.clone().restarted(
            Task::Reload,
            "",
            || (),
            move |heartbeat| {
                let (service, administrators) = (service.clone(), Arc::clone(&administrators));
                reload::on_sighup(file.clone(), service, administrators, Arc::clone(&files), heartbeat)
            },
        ));
    }
    let common = listeners::Common {
        budget: Budget::new(HELD_BYTES, clock.clone()),
        connections: fit.connections(),
        drain: config.limits.drain,
        metrics,
        clock: clock.clone(),
        pressure,
        counted_as: {
            let service = parts.service.clone();
            Arc::new(move |identity| service.counted_as(identity))
        },
        strangers: {
            let service = parts.service.clone();
            Arc::new(move |from, why| {
                let service = service.clone();
                Box::pin(async move { service.handshake_failed(Some(from), &why).await })
            })
        },
        watchdog: watchdog.clone(),
    };
    let protocol = http2::Http2 { routes };
    let mut accepting = vec![common.begin(Listener::Grpc, (grpc_listener, tls), protocol, &mut lookers)];
    if let (Some(aws), Some(listener), Some(tls)) = (&config.aws, aws_listener, aws_tls) {
        let routes = aws::routes(parts.service.clone(), settings::aws(&config, aws), clock.clone());
        let protocol = http1::Http1 { routes };
        accepting.push(common.begin(Listener::Aws, (listener, tls), protocol, &mut lookers));
    }
    let aws = addresses.aws.map(tracing::field::display);
    tracing::info!(grpc = %addresses.grpc, aws, ops = %addresses.ops, "listening");
    listening(addresses);
    systemd.ready();
    let health = Arc::new(health);
    let (unfollowed, not_told) = (Arc::clone(&health), systemd.clone());
    let lapse = move || {
        unfollowed.set_unknown();
        not_told.status("unknown: the task that follows the state broke off by a fault in this program");
    };
    // On panic: started again; it takes everything over anew. Until then nothing is told as if it were so now.
    let following_health = lookers.spawn(watchdog.clone().restarted(Task::Health, "", lapse, {
        let (ops, health, systemd, clock) = (Arc::clone(&ops), Arc::clone(&health), systemd.clone(), clock);
        move |heartbeat| {
            let status = systemd::Status::new(systemd.clone(), clock.clone());
            follow_health(Arc::clone(&ops), Arc::clone(&health), status, heartbeat)
        }
    }));

    shutdown.await;
    tracing::info!("shutting down: not ready any more, calls are let finish");
    watchdog.stopping();
    systemd.stopping(config.limits.drain * 2 + STOP * 3 + audit::END + STOP_MARGIN);
    ops.draining.store(true, Ordering::Release);
    following_health.abort();
    health.set_serving(false).await;
    health.close_streams().await;
    listeners::drain(accepting).await;
    parts.service.drained(config.limits.drain).await;
    // A disk that does not answer takes no longer than its share of the end.
    let _ = tokio::time::timeout(STOP, parts.service.return_budgets()).await;
    let service = parts.end_tasks().await;
    // After the last call and before the HSMs, which sign the last head.
    audit.close().await;
    service.stop(STOP).await;
    lookers.shutdown().await;
    sampled::tell_the_rest();
    if tokio::time::timeout(STOP, store.close()).await.is_err() {
        tracing::warn!("the disk does not answer; the metadata are left as they are, and the next start recovers them");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Takes every change of readiness over into the gRPC health service, systemd's status and the log.
async fn follow_health(
    ops: Arc<ops::Ops>,
    health: Arc<HealthSwitch>,
    mut systemd: systemd::Status,
    heartbeat: Heartbeat,
) {
    let mut was = None;
    loop {
        heartbeat.turn().await;
        let report = ops.report().await;
        systemd.is(&report.line());
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

fn listen(address: SocketAddr, field: &str) -> Result<TcpListener, Error> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A daemon that is started again must not wait until the kernel has forgotten the connections of the one
        // before.
        socket.set_reuseaddr(true)?;
        // Its connections have the same. The kernel may take less.
        socket.set_send_buffer_size(SENT_BYTES)?;
        rustix::net::sockopt::set_tcp_user_timeout(&socket, SENT_MILLIS)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|error: std::io::Error| {
        Error::of(&error, format!("cannot listen on {address} ({error}); stop what does, or change {field}"))
    })
}

fn address(listener: &TcpListener) -> Result<SocketAddr, Error> {
    listener.local_addr().map_err(|error| Error::of(&error, format!("a listener without an address: {error}")))
}
