//! The parts of the daemon below its listeners: store, seal keys, service, and the tasks that join them.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::administrators::Administrators;
use super::audit::Audit;
use super::files::Found;
use super::{Error, observe, requests, settings};
use cluster::{Cluster, Removal};
use config::{self, Config};
use model::clock::Clock;
use pki::seal::{self, SealKey, SealKeys};
use service::Service;
use service::cluster_registry::ClusterRegistry;
use service::recorder::Recorder;
use store::Store;
use telemetry::metrics::Metrics;
use telemetry::watchdog::{Heartbeat, Task, Watchdog};

/// Removals that wait for their record. A cluster reports each once; past this it reports it again later.
const REMOVALS: usize = 1_024;
/// How long what a crash interrupted waits for the rest of the HSMs once the first one serves.
const REST_OF_THEM: Duration = Duration::from_secs(10);

/// What was built.
pub(super) struct Parts {
    pub(super) service: Service,
    pub(super) administrators: Arc<Administrators>,
    tasks: JoinSet<()>,
}

/// Reads the keys that seal PINs.
pub(super) fn seals(seal: &config::Seal) -> Result<SealKeys, Error> {
    let read = |path| {
        SealKey::read(path).map_err(|error| match &error {
            seal::Error::Unread { .. } => Error::Passing(error.to_string()),
            _ => Error::Wrong(error.to_string()),
        })
    };
    let newest = read(&seal.key)?;
    let former: Result<Vec<SealKey>, Error> = seal.former.iter().map(|path| read(path)).collect();
    Ok(SealKeys::new(newest, former?))
}

/// Makes the state directory where it is not there.
pub(super) fn make_state_dir(config: &Config) -> Result<(), Error> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.state_dir);
    made.map_err(|error| {
        let sentence =
            format!("state_dir {} cannot be made ({error}); correct it or its owner", config.state_dir.display());
        Error::of(&error, sentence)
    })
}

/// Where the database is. Behind a symbolic link, because that is where SQLite keeps what belongs to it.
pub(super) fn database(config: &Config) -> PathBuf {
    let file = config.state_dir.join("keystored.db");
    file.canonicalize().unwrap_or(file)
}

/// Opens the database in the state directory.
pub(super) async fn open_store(config: &Config, clock: &Clock) -> Result<Store, Error> {
    make_state_dir(config)?;
    let file = database(config);
    Store::open(&file, clock.clone()).await.map_err(|error| {
        let sentence = format!("{}: {error}", file.display());
        if error.passes() { Error::Passing(sentence) } else { Error::Wrong(sentence) }
    })
}

/// Builds everything over the store, and takes every key store up in the state that it had, without waiting for HSMs.
pub(super) async fn build(
    config: &Config,
    seals: Arc<ArcSwap<SealKeys>>,
    (store, audit, recorder): (&Store, &Audit, Arc<dyn Recorder>),
    metrics: &Arc<Metrics>,
    files: Found,
    watchdog: &Watchdog,
    clock: &Clock,
) -> Parts {
    let (report, removals) = mpsc::channel(REMOVALS);
    let registry = ClusterRegistry::new(settings::clusters(config, files), seals, report, watchdog.clone());
    let observer = Arc::new(observe::Counting::new(metrics));
    let service = Service::new(settings::service(config), store.clone(), registry, clock.clone(), observer, recorder);
    audit.signed_by(&service);
    let administrators = Arc::new(Administrators::begin(&service, store, config.administrators.clone()));
    requests::take_approvals(&service, settings::approvals(config));
    requests::take_rate_limits(&service, settings::rate_limits(config));
    requests::look_for_approvers(&service);
    service.start().await;
    let mut tasks = JoinSet::new();
    let (noting, removals) = (service.clone(), Arc::new(Mutex::new(removals)));
    // On panic: started again; the one removal in hand is found again when its token is looked at.
    tasks.spawn(watchdog.clone().restarted(
        Task::Removals,
        "",
        || (),
        move |heartbeat| note_removals(noting.clone(), Arc::clone(&removals), heartbeat),
    ));
    let resuming = service.clone();
    // On panic: started again; every step of it can be taken again. It ends when it has been done once.
    tasks.spawn(watchdog.clone().restarted(
        Task::Resume,
        "",
        || (),
        move |heartbeat| resume(resuming.clone(), heartbeat),
    ));
    let tending = service.clone();
    // On panic: started again; what is due is due still, and a deletion waits for some minutes more.
    tasks.spawn(watchdog.clone().restarted(
        Task::Keys,
        "",
        || (),
        move |heartbeat| tending.clone().tend_keys(heartbeat),
    ));
    Parts { service, administrators, tasks }
}

impl Parts {
    /// Ends the tasks. What is left is the service, whose HSMs are still there.
    pub(super) async fn end_tasks(mut self) -> Service {
        self.tasks.shutdown().await;
        self.service
    }
}

async fn note_removals(service: Service, removals: Arc<Mutex<mpsc::Receiver<Removal>>>, heartbeat: Heartbeat) {
    // Nobody else has it but a run before this one, which has let it go.
    let mut removals = removals.lock().await;
    while let Some(removal) = heartbeat.idle(removals.recv()).await {
        // Where it cannot be recorded at the moment, that is the disk's trouble and not this task's.
        heartbeat.idle(service.note_removal(removal)).await;
    }
}

/// Has the service finish what a crash interrupted, once HSMs can be reached: all of them if they come soon.
async fn resume(service: Service, heartbeat: Heartbeat) {
    let clusters: Vec<Arc<Cluster>> = service.clusters().into_iter().map(|(_, cluster)| cluster).collect();
    let mut waiting = JoinSet::new();
    for member in clusters.iter().flat_map(|cluster| cluster.members()) {
        let mut status = member.watch();
        // On panic: it counts as waited for.
        waiting.spawn(async move {
            // An error says that the HSM was stopped.
            let _ = status.wait_for(|status| status.control_ready).await;
        });
    }
    heartbeat.idle(waiting.join_next()).await;
    let all = tokio::time::timeout(REST_OF_THEM, async { while waiting.join_next().await.is_some() {} });
    if heartbeat.idle(all).await.is_err() {
        tracing::warn!("not every HSM is ready; what an earlier run left unfinished is taken up without it");
    }
    waiting.abort_all();
    heartbeat.idle(service.resume()).await;
}
