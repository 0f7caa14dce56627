//! The way of a worker that has found its token to where it may serve: log in, prove, rotate. What has to be done there
//! is decided above this crate; here is what it is done with.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::link::Link;
use super::login_lock::{LockError, LoginLock};
use super::worker_pool::WorkerPool;
use super::{CallError, Settings};
use model::id::HsmId;
use model::key_store::ConnectionErrorCode;
use model::profile::judgement::Judgement;
use protocol::{LoggedIn, Op, Ready, Reply, Role};

/// Lets workers in.
pub trait WorkerAdmission: Send + Sync + 'static {
    /// Takes a worker to where it may serve, or says why not. Runs to its end in a task of its own, even when the HSM
    /// is stopped meanwhile: what it has begun with a PIN must not be forgotten half-way. One worker of an HSM at a
    /// time.
    fn enter(&self, session: AdmissionSession) -> BoxFuture<'static, Result<(), AdmissionError>>;
}

/// Why a worker may not serve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct AdmissionError {
    /// In AWS's terms.
    pub code: ConnectionErrorCode,
    /// Starting another worker would not help; nothing is tried before the HSM is started anew.
    pub permanent: bool,
    /// What happened and what to do.
    pub reason: String,
    /// No other worker is started in the place of this one before so long.
    pub after: Option<Duration>,
}

impl AdmissionError {
    /// One that may pass.
    pub fn transient(code: ConnectionErrorCode, reason: impl Into<String>) -> Self {
        Self { code, permanent: false, reason: reason.into(), after: None }
    }

    /// One for as long as the token contradicts its HSM's capabilities.
    #[must_use]
    pub fn contradicts(hsm: &HsmId, why: &str) -> Self {
        let reason = format!("HSM {hsm} is not used, since its token contradicts its profile: {why}");
        Self::transient(ConnectionErrorCode::InsufficientCloudHsmHsms, reason)
    }

    /// The same, which is not tried again before so long.
    #[must_use]
    pub fn not_before(self, after: Duration) -> Self {
        Self { after: Some(after), ..self }
    }

    /// One that lasts until somebody has done something.
    pub fn permanent(code: ConnectionErrorCode, reason: impl Into<String>) -> Self {
        Self { code, permanent: true, reason: reason.into(), after: None }
    }
}

/// One worker in admission.
pub struct AdmissionSession {
    pub(super) pool: Arc<WorkerPool>,
    pub(super) link: Arc<Link>,
    pub(super) found: Arc<Ready>,
    pub(super) role: Role,
    pub(super) incarnation: u64,
}

impl AdmissionSession {
    /// How the HSM is run.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.pool.settings
    }

    /// What the worker found before anybody logged in.
    #[must_use]
    pub fn found(&self) -> &Ready {
        &self.found
    }

    /// What the worker is for.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Which worker of the HSM it is; part of what it signs.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Has the worker do something; the limit of its kind bounds it. `WorkerLost` when the worker dies before it
    /// answers.
    pub async fn call(&self, op: Op) -> Result<Reply, CallError> {
        let answer = self.link.call(op).await;
        if let Ok(reply) = &answer {
            self.pool.codes.note(reply);
        }
        answer
    }

    /// Whether the token has taken a PIN in a login of this worker's: also where the worker has died since, before it answered.
    #[must_use]
    pub fn has_taken_pin(&self) -> bool {
        self.link.has_taken_pin()
    }

    /// Waits until no other process of this host logs in to the token; tells `waits` when one does.
    pub async fn lock(&self, waits: impl FnOnce()) -> Result<LoginLock, LockError> {
        LoginLock::take(&self.pool.settings.lock_dir, &self.found, &self.pool.clock, waits).await
    }

    /// Says what is being done, for people.
    pub fn step(&self, step: &str) {
        self.pool.step(step);
    }

    /// Tells what the login found.
    pub fn logged_in(&self, found: LoggedIn) {
        self.pool.tracker(|tracker| tracker.logs_in(found));
    }

    /// Whether the token was examined since the HSM was started, and was found as its capabilities have it.
    #[must_use]
    pub fn is_examined(&self) -> bool {
        self.pool.status().examined.as_ref().is_some_and(|judgement| judgement.contradiction().is_none())
    }

    /// Whether no other worker of the HSM has sessions: where a token has a limit for all processes together, it has them at
    /// the cost of this one.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.pool.alive() <= 1
    }

    /// Tells what an examination of the token found. Where that keeps the HSM out, workers leave that were let in by an earlier
    /// one.
    pub fn examined(&self, judgement: Judgement) {
        self.pool.examined(judgement);
    }

    /// Tells that the token has proven its identity.
    pub fn proven(&self) {
        self.pool.tracker(|tracker| tracker.proven = true);
    }
}
