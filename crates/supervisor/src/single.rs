//! One worker on its own: started once, used, told to leave.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::link::{Link, sleep_until};
use super::login_lock::LoginLock;
use super::worker_id::WorkerId;
use super::worker_process::{News, WorkerProcess};
use super::{CallError, KillLimits, Settings, StartError, process};
use model::clock::Clock;
use model::secret::Secret;
use protocol::{Class, Fault, LoggedIn, Op, Ready, Reply, Role, Token};
use telemetry::fault;
use telemetry::watchdog::Task;

/// How long the lock file is waited for: a worker that was just told to leave may still hold it.
const LOCK_WITHIN: Duration = Duration::from_secs(5);
const LOCK_EVERY: Duration = Duration::from_millis(20);

/// One worker on its own, not restarted: for the ceremony and for `keystored check`. Leaves when it is dropped.
pub struct Worker {
    lock_dir: PathBuf,
    clock: Clock,
    link: Arc<Link>,
    ready: Box<Ready>,
    minder: Minder,
}

/// The task that watches over the process until it is gone.
struct Minder {
    leave: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Worker {
    /// Starts a worker and waits until it has found its token; nobody is logged in. The HSM must not be in use by a
    /// daemon.
    pub async fn start(settings: &Settings, role: Role, clock: &Clock) -> Result<Self, StartError> {
        Self::begin(settings, role, Some(settings.token.clone()), clock).await
    }

    /// Starts a ceremony worker that looks for no token.
    pub async fn bare(settings: &Settings, clock: &Clock) -> Result<Self, StartError> {
        Self::begin(settings, Role::Ceremony, None, clock).await
    }

    async fn begin(settings: &Settings, role: Role, token: Option<Token>, clock: &Clock) -> Result<Self, StartError> {
        let lock = lock(settings, clock).await?;
        let id = WorkerId { role, index: 0 };
        // Before the process: without it nothing is begun.
        let certificate = settings.certificate_for(id.role, &Arc::default()).await?;
        let (mut running, link) =
            WorkerProcess::spawn(settings, &lock, id, 1, (token, certificate), Weak::new(), clock)?;
        drop(lock);
        let policy = settings.policy();
        let too_late = clock.now() + policy.find;
        let outcome = tokio::select! {
            biased;
            news = running.news() => match news {
                News::Ready(ready) => Ok(ready),
                News::Failed(fault) => Err(StartError::Refused(fault)),
                News::Garbled(error) => Err(StartError::Died(format!("the {id} of HSM {} sent {error}", settings.hsm))),
                News::Closed | News::Exited(_) => Err(StartError::Died(died(settings, id, &mut running).await)),
            },
            () = sleep_until(too_late) => {
                running.kill();
                Err(StartError::Died(format!(
                    "the {id} of HSM {} was not ready after {:?} and was killed: see to the HSM and its network",
                    settings.hsm, policy.find
                )))
            }
        };
        let link = Arc::new(link);
        let leave = Arc::new(Notify::new());
        let minding = mind(running, Arc::clone(&link), Arc::clone(&leave), settings.kill, policy.leave, clock.clone());
        // On panic: the link is closed, so that the worker leaves by itself; whoever waits for an answer learns that.
        let task = tokio::spawn(minding);
        let minder = Minder { leave, task };
        match outcome {
            Ok(ready) => {
                let lock_dir = settings.lock_dir.clone();
                Ok(Self { lock_dir, clock: clock.clone(), link, ready, minder })
            }
            Err(error) => {
                minder.leave.notify_one();
                Err(error)
            }
        }
    }

    /// What it found.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Logs in as kmsuser, once.
    pub async fn login(&self, pin: Secret) -> Result<LoggedIn, Fault> {
        let lock = LoginLock::take(&self.lock_dir, &self.ready, &self.clock, || ()).await;
        let _lock = lock.map_err(|error| Fault::own(Class::Token, "login lock", error.to_string()))?;
        match self.call(Op::Login(pin)).await {
            Ok(Reply::LoggedIn(found)) => Ok(*found),
            Ok(Reply::Failed(fault)) => Err(fault),
            Ok(_) => Err(Fault::own(Class::Token, "C_Login", "the worker answered something else")),
            Err(error) => Err(Fault::own(Class::Token, "C_Login", error.to_string())),
        }
    }

    /// Does one operation; the limit of its kind bounds it.
    pub async fn call(&self, op: Op) -> Result<Reply, CallError> {
        // The minder kills a worker that is busy past the limit.
        self.link.call(op).await
    }

    /// Has it log out and leave.
    pub async fn stop(mut self) {
        self.minder.leave.notify_one();
        let _ = (&mut self.minder.task).await;
    }
}

impl Drop for Minder {
    fn drop(&mut self) {
        self.leave.notify_one();
    }
}

/// Why a worker ended that closed its socket without a word.
async fn died(settings: &Settings, id: WorkerId, running: &mut WorkerProcess) -> String {
    let name = &settings.hsm;
    tokio::select! {
        news = running.news() => match news {
            News::Exited(how) => format!("the {id} of HSM {name} ended while it started ({how})"),
            _ => format!("the {id} of HSM {name} ended while it started"),
        },
        () = tokio::time::sleep(Duration::from_secs(1)) => format!("the {id} of HSM {name} closed its socket"),
    }
}

async fn lock(settings: &Settings, clock: &Clock) -> Result<std::fs::File, StartError> {
    let path = settings.lock_file.display();
    let until = clock.now() + LOCK_WITHIN;
    loop {
        match process::try_lock(&settings.lock_file) {
            Ok(Some(lock)) => return Ok(lock),
            Ok(None) if clock.now() < until => sleep_until(clock.now() + LOCK_EVERY).await,
            Ok(None) => {
                return Err(StartError::Died(format!(
                    "HSM {} is in use: a daemon or its workers hold the lock file {path}; stop the daemon and try again",
                    settings.hsm
                )));
            }
            Err(error) => return Err(StartError::Died(format!("cannot take the lock file {path}: {error}"))),
        }
    }
}

/// Closes a link when it is dropped: nobody watches over its worker any more.
struct Closing(Arc<Link>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Waits for the process's end, and brings it about when a limit is passed, or when it was told to leave and has not
/// done so for as long as `patience`.
async fn mind(
    mut running: WorkerProcess,
    link: Arc<Link>,
    leave: Arc<Notify>,
    limits: KillLimits,
    patience: Duration,
    clock: Clock,
) {
    let mut kill_at: Option<Instant> = None;
    let pid = running.pid();
    let link = Closing(link);
    loop {
        fault::point(Task::Minder, "").await;
        tokio::select! {
            biased;
            news = running.news() => match news {
                News::Exited(_) => return,
                News::Closed | News::Garbled(_) | News::Failed(_) | News::Ready(_) => link.0.close(),
            },
            held = link.0.overdue(&limits, process::at_work(pid)), if kill_at.is_none() => {
                tracing::warn!(kind = ?held.kind, "the worker was busy past its limit and is killed");
                running.kill();
                kill_at = Some(clock.now() + patience);
            }
            () = leave.notified(), if kill_at.is_none() => {
                // Whoever asked may have left in the middle of a login.
                let limit = link.0.limit(&limits);
                link.0.close();
                kill_at = Some((clock.now() + patience).max(limit.unwrap_or_else(|| clock.now())));
            }
            () = sleep_until(kill_at.unwrap_or_else(|| clock.now())), if kill_at.is_some() => {
                running.kill();
                kill_at = Some(clock.now() + patience);
            }
        }
    }
}
