//! The parts of the daemon below its listeners: store, HSMs, clusters, service, and the tasks that join them.

use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Error, observe, settings};
use crate::cluster::{Cluster, Removal};
use crate::config::{self, Config};
use crate::hsm::supervisor::Hsm;
use crate::model::clock::Clock;
use crate::model::secret::Secret;
use crate::service::Service;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;

/// Removals that wait for their record. A cluster reports each once; past this it reports it again later.
const REMOVALS: usize = 1_024;
/// How long what a crash interrupted waits for the rest of the HSMs once the first one serves.
const REST_OF_THEM: Duration = Duration::from_secs(10);

/// What was built.
pub(super) struct Parts {
    pub(super) service: Service,
    pub(super) clusters: Vec<Arc<Cluster>>,
    tasks: JoinSet<()>,
}

/// Reads every HSM's PIN, in the order of the configuration.
pub(super) fn pins(config: &Config) -> Result<Vec<Vec<Secret>>, Error> {
    let of_cluster = |cluster: &config::Cluster| cluster.hsms.iter().map(config::read_pin).collect();
    let pins: Result<Vec<Vec<Secret>>, config::Error> = config.clusters.iter().map(of_cluster).collect();
    pins.map_err(|error| Error(error.to_string()))
}

/// Makes the state directory where it is not there.
pub(super) fn make_state_dir(config: &Config) -> Result<(), Error> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.state_dir);
    made.map_err(|error| {
        Error(format!("state_dir {} cannot be made ({error}); correct it or its owner", config.state_dir.display()))
    })
}

/// Opens the database in the state directory.
pub(super) async fn open_store(config: &Config, clock: &Clock) -> Result<Store, Error> {
    make_state_dir(config)?;
    let file = config.state_dir.join("keystored.db");
    Store::open(&file, clock.clone()).await.map_err(|error| Error(format!("{}: {error}", file.display())))
}

/// Builds everything over the store and starts the HSMs, without waiting for them.
pub(super) async fn build(
    config: &Config,
    pins: Vec<Vec<Secret>>,
    store: &Store,
    metrics: &Arc<Metrics>,
    clock: &Clock,
) -> Result<Parts, Error> {
    let (report, removals) = mpsc::channel(REMOVALS);
    let mut clusters = Vec::with_capacity(config.clusters.len());
    for (cluster, pins) in config.clusters.iter().zip(pins) {
        let start = |(hsm, pin)| Hsm::start(settings::hsm(config, hsm), Some(pin), clock.clone());
        let members: Vec<Hsm> = cluster.hsms.iter().zip(pins).map(start).collect();
        clusters.push(Cluster::new(settings::cluster(config, cluster), members, clock.clone(), report.clone()));
    }
    let observer = Arc::new(observe::Counting(Arc::clone(metrics)));
    let service = Service::new(settings::service(config), store.clone(), clusters.clone(), clock.clone(), observer);
    let mut tasks = JoinSet::new();
    tasks.spawn(note_removals(service.clone(), removals));
    tasks.spawn(resume(service.clone(), clusters.clone()));
    Ok(Parts { service, clusters, tasks })
}

impl Parts {
    /// Stops the HSMs of all clusters beside each other, and the tasks.
    pub(super) async fn stop(mut self, within: Duration) {
        self.tasks.shutdown().await;
        let mut stopping = JoinSet::new();
        for cluster in self.clusters {
            stopping.spawn(async move { cluster.stop(within).await });
        }
        stopping.join_all().await;
    }
}

async fn note_removals(service: Service, mut removals: mpsc::Receiver<Removal>) {
    while let Some(removal) = removals.recv().await {
        service.note_removal(removal).await;
    }
}

/// Has the service finish what a crash interrupted, once HSMs can be reached: all of them if they come soon.
async fn resume(service: Service, clusters: Vec<Arc<Cluster>>) {
    let mut waiting = JoinSet::new();
    for member in clusters.iter().flat_map(|cluster| cluster.members()) {
        let mut status = member.watch();
        waiting.spawn(async move {
            // An error says that the HSM was stopped.
            let _ = status.wait_for(|status| status.control_ready).await;
        });
    }
    waiting.join_next().await;
    let all = tokio::time::timeout(REST_OF_THEM, async { while waiting.join_next().await.is_some() {} });
    if all.await.is_err() {
        tracing::warn!("not every HSM is ready; what an earlier run left unfinished is taken up without it");
    }
    waiting.abort_all();
    service.resume().await;
}
