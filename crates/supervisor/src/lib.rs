//! The parent's side of one HSM: starts its workers, hands them requests, kills and replaces them.
//!
//! Knows no PKCS#11. A worker that crashes, hangs or is killed is the loss of one HSM for a moment, never of the
//! daemon.
//!
//! Decisions are made without I/O: [`fair_queue`] says who is next, [`service_time`] how much a worker is given at a
//! time, [`in_flight`] which request is past its limit, [`state_machine`] what to do about a worker, [`status_tracker`]
//! what that makes of the HSM. [`work_queue`] is where requests wait. Around them, [`link`] moves frames,
//! [`worker_process`] and [`process`] hold the child, [`words`] listens to its standard error, [`worker_driver`]
//! carries out what one worker's state machine decides, [`worker_pool`] is the HSM as a whole, and [`single`] a worker
//! on its own.
//!
//! A worker that has found its token goes through [`admission`] before it serves. What it makes hot copies of, it is given
//! when it asks for it ([`wrapped_keys`]).
//!
//! Invariants: every process that is started is waited for; none is killed while it may be inside a login; an HSM that
//! was refused for good is not tried again; one worker of an HSM is in admission at a time; a request's share of the
//! queue is given back when the worker is done with it, not when its caller has lost patience.
//!
//! A fault in this program may break a task that keeps a worker. Then the worker is not shown as serving any more, its
//! socket is closed, so that it leaves by itself, and the task starts again with another one. Only in this case two
//! processes of one slot may be there for a moment; the login lock keeps their logins apart.

#![forbid(unsafe_code)]

mod admission;
mod bounded;
mod certificate_file;
mod codes_seen;
mod configured;
mod fair_queue;
mod in_flight;
mod inbox;
mod keys_in_use;
mod link;
mod load;
mod lock_dir;
mod login_lock;
mod process;
mod service_time;
mod single;
mod socket;
mod state_machine;
mod status_tracker;
mod wire;
mod words;
mod work_queue;
mod worker_driver;
mod worker_id;
mod worker_pool;
mod worker_process;
mod wrapped_keys;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

pub use self::admission::{AdmissionError, AdmissionSession, WorkerAdmission};
pub use self::certificate_file::{CertificateFileError, remedy as certificate_remedy};
pub use self::codes_seen::CodeSeen;
pub use self::configured::lock_file;
pub use self::keys_in_use::KeysInUse;
pub use self::lock_dir::{LockDirError, look_at_lock_dir};
pub use self::login_lock::{LockError, LoginLock};
pub use self::single::Worker;
pub use self::wrapped_keys::WrappedKeys;
use model::call_options::CallOptions;
use model::clock::Clock;
use model::id::{HsmId, Zone};
use model::key_store::ConnectionErrorCode;
use model::profile::judgement::Judgement;
use model::profile::{Capabilities, Profile};
use model::sandbox::Sandbox;
use protocol::{Fault, LoggedIn, Op, Ready, Reply, Token};
use telemetry::watchdog::Watchdog;

/// The decisions of this crate, which know no process and no clock: a simulation of whole clusters drives them together
/// with the cluster's own.
pub mod decisions {
    pub use super::fair_queue::FairQueue;
    pub use super::in_flight::InFlight;
    pub use super::state_machine::{Action, Event, Policy, State, StateMachine};
}

/// How one HSM is run. `server` maps the configuration to this.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name.
    pub hsm: HsmId,
    /// Its zone.
    pub zone: Zone,
    /// The program to start with the argument `hsm-worker`: this very binary.
    pub worker: PathBuf,
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// How to find the token.
    pub token: Token,
    /// The file with its identity certificate, where its token holds none.
    pub certificate: Option<PathBuf>,
    /// Whose habits it is said to have.
    pub profile: Profile,
    /// What it can do and how.
    pub capabilities: Capabilities,
    /// The whole environment of the workers (nothing is inherited).
    pub environment: BTreeMap<String, String>,
    /// Data worker processes.
    pub data_workers: u16,
    /// Session threads in each data worker.
    pub sessions: u16,
    /// Keep copies of keys in use as session objects.
    pub hot_copies: bool,
    /// Refuse to start a worker whose memory cannot be locked.
    pub require_mlock: bool,
    /// What workers are confined to; absent where they are not confined.
    pub sandbox: Option<Sandbox>,
    /// Most items that wait for or are in this HSM; past it a call is refused as busy.
    pub queue_items: usize,
    /// Most bytes that those items hold.
    pub queue_bytes: usize,
    /// When a worker is killed.
    pub kill: KillLimits,
    /// First and longest pause before a worker is started again.
    pub restart: (Duration, Duration),
    /// A worker gives up looking for its token after this; one that does not even do that is killed. It has as long,
    /// and the limit of a login, to be let in.
    pub start_timeout: Duration,
    /// How often each worker is probed.
    pub probe_every: Duration,
    /// Held by this daemon and its workers together; a new daemon waits for it.
    pub lock_file: PathBuf,
    /// Where [`LoginLock`]s are.
    pub lock_dir: PathBuf,
}

#[cfg(any(test, feature = "test-support"))]
impl Settings {
    /// For tests without processes: one worker with one session, and nothing on disk.
    #[must_use]
    pub fn of_a_test(hsm: &str, zone: &str) -> Self {
        Self {
            hsm: hsm.into(),
            zone: zone.into(),
            worker: "worker".into(),
            module: "module".into(),
            token: Token { label: hsm.to_owned(), serials: Vec::new() },
            certificate: None,
            profile: Profile::Generic,
            capabilities: Capabilities::standard(),
            environment: BTreeMap::new(),
            data_workers: 1,
            sessions: 1,
            hot_copies: false,
            require_mlock: false,
            sandbox: None,
            queue_items: 1_000,
            queue_bytes: 1 << 20,
            kill: KillLimits::default(),
            restart: (Duration::from_millis(1), Duration::from_millis(2)),
            start_timeout: Duration::from_secs(1),
            probe_every: Duration::from_secs(1),
            lock_file: "lock".into(),
            lock_dir: "locks".into(),
        }
    }
}

/// How long a session thread may be busy with one request before its worker is killed, by kind of operation.
#[derive(Clone, Copy, Debug)]
pub struct KillLimits {
    /// Encrypt, decrypt, random, probe.
    pub crypto: Duration,
    /// Unwrap, destroy, list.
    pub place: Duration,
    /// Key generation.
    pub generate: Duration,
    /// Login and PIN change.
    pub login: Duration,
}

impl Default for KillLimits {
    fn default() -> Self {
        Self {
            crypto: Duration::from_millis(250),
            place: Duration::from_secs(5),
            generate: Duration::from_secs(30),
            login: Duration::from_secs(60),
        }
    }
}

/// One HSM. Cheap to clone; all clones are the same HSM.
#[derive(Clone)]
pub struct Hsm(Arc<Handle>);

/// Has the workers leave when nobody can use them any more.
struct Handle(Arc<worker_pool::WorkerPool>);

impl Drop for Handle {
    fn drop(&mut self) {
        let settings = &self.0.settings;
        self.0.end(self.0.clock.now() + settings.kill.place);
    }
}

/// What one HSM is doing.
#[derive(Clone, Debug)]
pub struct Status {
    /// Whether it serves.
    pub state: State,
    /// Why it does not, or the last trouble; what happened and what to do.
    pub reason: Option<String>,
    /// The reason names the HSM itself.
    pub names_hsm: bool,
    /// The same in AWS's terms, while something is wrong.
    pub code: Option<ConnectionErrorCode>,
    /// It was refused for good: nothing is tried before it is started anew.
    pub refused: bool,
    /// Since when it is in this state.
    pub since: SystemTime,
    /// What the newest worker found when it started.
    pub ready: Option<Arc<Ready>>,
    /// What the newest login found.
    pub logged_in: Option<Arc<LoggedIn>>,
    /// The token has proven its identity since the HSM was started.
    pub proven: bool,
    /// What was found when the token was examined against its capabilities, since the HSM was started.
    pub examined: Option<Arc<Judgement>>,
    /// What was done since the HSM was started, oldest first; the newest few dozen steps.
    pub steps: Vec<(SystemTime, Arc<str>)>,
    /// Data workers that take requests now.
    pub data_ready: u16,
    /// The control worker takes requests now.
    pub control_ready: bool,
    /// It does not, and reason and code are its own.
    pub control_failed: bool,
    /// Workers started again after a death, since the daemon started.
    pub restarts: u64,
}

impl Status {
    /// The token holds its cluster's wrapping key, as far as the newest login has found.
    #[must_use]
    pub fn holds_wrapping_key(&self) -> bool {
        self.logged_in.as_ref().is_some_and(|found| found.ceremony.wrapping)
    }
}

/// Whether one HSM serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No worker has been ready yet.
    Starting,
    /// At least one data worker takes requests.
    Serving,
    /// None does; they are being started again.
    Down,
    /// Stopped on purpose.
    Stopped,
}

/// Why a call has no reply.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// Its queue is full. Nothing was sent.
    #[error("the queue is full")]
    Busy,
    /// Its turn would come so late that the deadline would have passed before it was done. Nothing was sent.
    #[error("its turn would have come too late, in {} ms", .0.as_millis())]
    WouldMissDeadline(Duration),
    /// No worker takes requests. Nothing was sent.
    #[error("no worker is ready")]
    NotReady,
    /// The deadline passed.
    #[error("no answer in time")]
    DeadlineExceeded {
        /// A worker had it by then, and may still carry it out.
        sent: bool,
    },
    /// The worker died or was killed. The operation may or may not have been carried out.
    #[error("the worker died")]
    WorkerLost,
}

impl CallError {
    /// Whether a worker had the request, so that it may have been carried out.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        match self {
            Self::Busy | Self::WouldMissDeadline(_) | Self::NotReady => false,
            Self::DeadlineExceeded { sent } => *sent,
            Self::WorkerLost => true,
        }
    }
}

/// Why a worker could not be started.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StartError {
    /// The process could not be made.
    #[error("cannot start {program}: {error}")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The system's words.
        error: String,
    },
    /// The file with the HSM's certificate cannot be used. No process was made.
    #[error(transparent)]
    Certificate(#[from] CertificateFileError),
    /// The worker said why.
    #[error("{0}")]
    Refused(Fault),
    /// It died or was too slow.
    #[error("{0}")]
    Died(String),
}

impl Hsm {
    /// Starts the HSM's workers and keeps them running until [`Hsm::stop`], or until the last clone is dropped. Returns
    /// at once; must be called inside a tokio runtime. One worker in admission at a time; the control worker first.
    #[must_use]
    pub fn start(
        settings: Settings,
        admission: Arc<dyn WorkerAdmission>,
        wrapped_keys: Arc<dyn WrappedKeys>,
        clock: Clock,
        watchdog: Watchdog,
    ) -> Self {
        let pool = worker_pool::WorkerPool::new(settings, admission, wrapped_keys, clock, watchdog);
        pool.begin();
        Self(Arc::new(Handle(pool)))
    }

    /// How it is run.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.0.settings
    }

    /// Hands an operation to a data worker or to the control worker, as the operation wants, and waits for the reply
    /// until its deadline. `Op::Forget` goes to all of them. Dropping the future abandons the reply, not the operation,
    /// unless the operation has no effect but its reply and was not sent yet.
    pub async fn call(&self, op: Arc<Op>, options: impl Into<CallOptions>) -> Result<Reply, CallError> {
        self.0.0.call(op, options.into()).await
    }

    /// How long a request that came now would wait for its turn, as far as can be told.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.0.0.wait()
    }

    /// Items that one session does in a time, as far as is known.
    #[must_use]
    pub fn items_in(&self, time: Duration) -> usize {
        self.0.0.items_in(time)
    }

    /// Items that wait for or are in this HSM.
    #[must_use]
    pub fn load(&self) -> usize {
        self.0.0.load()
    }

    /// Return values that calls of the token have given since the HSM was started, up to 64 of them.
    #[must_use]
    pub fn codes(&self) -> Vec<CodeSeen> {
        self.0.0.codes.read()
    }

    /// What it is doing now.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        self.0.0.status()
    }

    /// Sees every change of the status.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Status>> {
        self.0.0.watch()
    }

    /// Takes over what another look at the token has found than that of a worker's admission. Where that keeps the HSM out, its
    /// workers leave, and each has to be let in anew.
    pub fn examined(&self, judgement: Judgement) {
        self.0.0.examined(judgement);
    }

    /// Stops taking requests, lets those in hand finish, has the workers log out and leave, and kills (outside login)
    /// what is left after `within`.
    pub async fn stop(&self, within: Duration) {
        self.0.0.stop(within).await;
    }
}
