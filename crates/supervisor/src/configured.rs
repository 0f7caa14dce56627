//! From the configuration to how one HSM is run. Here, because the daemon and the operators' ceremony both need it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{KillLimits, Settings};
use config::{Config, Hsm};
use model::id::HsmId;
use protocol::Token;

/// How long a worker itself tries again when its start meets a transient error. Short: what lasts longer is said, and
/// the supervisor starts another one.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// First and longest pause before a worker is started again.
const RESTART: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// The running program, also when its file has been replaced since: parent and worker must be the same build.
const OWN_PROGRAM: &str = "/proc/self/exe";

impl Settings {
    /// How an HSM of the configuration is run.
    #[must_use]
    pub fn of(config: &Config, hsm: &Hsm) -> Self {
        let [crypto, place, generate, login] = hsm.kill;
        let (queue_items, queue_bytes) = hsm.queue;
        Self {
            hsm: hsm.id.clone(),
            zone: hsm.zone.clone(),
            worker: PathBuf::from(OWN_PROGRAM),
            module: hsm.module.clone(),
            token: Token { label: hsm.token_label.clone(), serials: hsm.token_serials.clone() },
            certificate: hsm.certificate.clone(),
            profile: hsm.profile,
            capabilities: hsm.capabilities.clone(),
            environment: environment(config, hsm),
            data_workers: hsm.workers,
            sessions: hsm.sessions,
            hot_copies: hsm.hot_copies,
            require_mlock: hsm.require_mlock,
            sandbox: hsm.sandbox.clone(),
            queue_items,
            queue_bytes,
            kill: KillLimits { crypto, place, generate, login },
            restart: RESTART,
            start_timeout: START_TIMEOUT,
            probe_every: PROBE_EVERY,
            lock_file: lock_file(config, &hsm.id, "lock"),
            lock_dir: config.lock_dir.clone(),
        }
    }
}

impl Settings {
    /// What the HSM's capabilities say otherwise than its profile.
    #[must_use]
    pub fn overrides(&self) -> Vec<String> {
        config::overrides(self.profile, &self.capabilities)
    }
}

/// A file in the state directory that belongs to one HSM.
#[must_use]
pub fn lock_file(config: &Config, hsm: &HsmId, extension: &str) -> PathBuf {
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
