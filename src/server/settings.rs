//! From the configuration to each room's own settings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Config, Hsm};
use crate::hsm::protocol::Token;
use crate::hsm::supervisor::{self, KillLimits};
use crate::model::id::HsmId;
use crate::telemetry;
use crate::{api, cluster, service};

/// How long a worker itself tries again when its start meets a passing error. Short: what lasts longer is said, and the
/// supervisor starts another one. A worker inside C_Login has the kill limit of logins on top of this.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// First and longest pause before a worker is started again.
const RESTART: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// The running program, also when its file has been replaced since: parent and worker must be the same build.
const OWN_PROGRAM: &str = "/proc/self/exe";

pub(super) fn hsm(config: &Config, hsm: &Hsm) -> supervisor::Settings {
    let [crypto, place, generate, login] = hsm.kill;
    let (queue_items, queue_bytes) = hsm.queue;
    supervisor::Settings {
        hsm: hsm.id.clone(),
        zone: hsm.zone.clone(),
        worker: PathBuf::from(OWN_PROGRAM),
        module: hsm.module.clone(),
        token: Token { label: hsm.token_label.clone(), serial: hsm.token_serial.clone() },
        profile: hsm.profile,
        environment: environment(config, hsm),
        data_workers: hsm.workers,
        sessions: hsm.sessions,
        hot_copies: hsm.hot_copies,
        require_mlock: hsm.require_mlock,
        sandbox: hsm.sandbox,
        queue_items,
        queue_bytes,
        kill: KillLimits { crypto, place, generate, login },
        restart: RESTART,
        start_timeout: START_TIMEOUT,
        probe_every: PROBE_EVERY,
        lock_file: lock_file(config, &hsm.id, "lock"),
    }
}

/// A file in the state directory that belongs to one HSM.
pub(super) fn lock_file(config: &Config, hsm: &HsmId, extension: &str) -> PathBuf {
    config.state_dir.join(format!("hsm-{hsm}.{extension}"))
}

/// The module's variables as configured, and how to log.
fn environment(config: &Config, hsm: &Hsm) -> BTreeMap<String, String> {
    let mut environment = hsm.environment.clone();
    let log = [if config.log.json { "json" } else { "text" }, &config.log.filter];
    environment
        .extend(telemetry::WORKER_LOG.into_iter().zip(log).map(|(name, value)| (name.to_owned(), value.to_owned())));
    environment
}

pub(super) fn cluster(config: &Config, cluster: &crate::config::Cluster) -> cluster::Settings {
    cluster::Settings { id: cluster.id.clone(), own_zone: config.zone.clone(), hedge_after: cluster.hedge_after }
}

pub(super) fn service(config: &Config) -> service::Settings {
    service::Settings {
        scope: config.scope.clone(),
        items_in_work: config.limits.items_in_work,
        items_in_work_per_principal: config.limits.items_in_work_per_principal,
    }
}

pub(super) fn grpc(config: &Config) -> api::grpc::Settings {
    api::grpc::Settings {
        default_deadline: config.limits.default_deadline,
        default_control_deadline: config.limits.default_control_deadline,
        streams: config.limits.streams,
    }
}
