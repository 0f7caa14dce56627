//! The workers of one HSM together: which one gets a request, what all of them share, how they begin and end.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::{Mutex as AsyncMutex, oneshot, watch};
use tokio_util::task::TaskTracker;

use super::admission::{AdmissionError, WorkerAdmission};
use super::codes_seen::CodesSeen;
use super::link::{Answer, Link, sleep_until};
use super::load::Gauge;
use super::status_tracker::{StatusTracker, View};
use super::work_queue::{Fate, Taken, WorkQueue};
use super::worker_driver::keep;
use super::worker_id::WorkerId;
use super::{CallError, Settings, State, Status, WrappedKeys, process};
use model::call_options::CallOptions;
use model::clock::Clock;
use model::key_store::ConnectionErrorCode;
use model::lock::MutexExt as _;
use model::profile::judgement::Judgement;
use protocol::{Class, Fault, Op, Reply, Role};
use telemetry::watchdog::{Heartbeat, Task, Watchdog};

/// How often the lock file is asked for.
const LOCK_EVERY: Duration = Duration::from_millis(50);

/// All workers of one HSM. Slot 0 is the control worker's, the others are the data workers'.
pub(super) struct WorkerPool {
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) admission: Arc<dyn WorkerAdmission>,
    watchdog: Watchdog,
    /// Held by the one worker that is starting.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    /// Held for as long as the certificate's file is read.
    pub(super) reading: Arc<tokio::sync::Mutex<()>>,
    /// Why the HSM was refused for good, once it was.
    pub(super) refused: OnceLock<AdmissionError>,
    /// When what is left is killed, once the HSM is to stop.
    pub(super) stop: watch::Sender<Option<Instant>>,
    slots: Vec<WorkerId>,
    /// Apart, so that a flood of encryptions does not keep keys from being placed or destroyed.
    data: Arc<WorkQueue>,
    control: Arc<Gauge>,
    control_worker: ArcSwapOption<Link>,
    open: AtomicBool,
    incarnations: AtomicU64,
    /// Held as well by each worker that there is, whether it serves or not.
    alive: Arc<()>,
    /// Tasks that are not done: the beginning and the drivers.
    tasks: TaskTracker,
    tracker: Mutex<StatusTracker>,
    /// What the token has said.
    pub(super) codes: CodesSeen,
    status: watch::Sender<Arc<Status>>,
}

impl WorkerPool {
    /// Nothing is started yet.
    pub(super) fn new(
        settings: Settings,
        admission: Arc<dyn WorkerAdmission>,
        wrapped_keys: Arc<dyn WrappedKeys>,
        clock: Clock,
        watchdog: Watchdog,
    ) -> Arc<Self> {
        let control = std::iter::once(WorkerId { role: Role::Control, index: 0 });
        let ids = control.chain((0..settings.data_workers).map(|index| WorkerId { role: Role::Data, index }));
        let mut tracker = StatusTracker::new(ids.clone(), clock.calendar());
        let status = Arc::new(tracker.status(clock.calendar()));
        Arc::new(Self {
            turn: Arc::default(),
            reading: Arc::default(),
            refused: OnceLock::new(),
            stop: watch::channel(None).0,
            slots: ids.collect(),
            data: Arc::new(WorkQueue::new(&settings, wrapped_keys, clock.clone())),
            control: Arc::new(Gauge::new(settings.queue_items, settings.queue_bytes)),
            control_worker: ArcSwapOption::empty(),
            open: AtomicBool::new(true),
            incarnations: AtomicU64::new(0),
            alive: Arc::new(()),
            tasks: TaskTracker::new(),
            tracker: Mutex::new(tracker),
            codes: CodesSeen::default(),
            status: watch::channel(status).0,
            settings,
            clock,
            admission,
            watchdog,
        })
    }

    /// Starts everything, one worker after the other. Returns at once.
    pub(super) fn begin(self: &Arc<Self>) {
        let (pool, launch) = (Arc::clone(self), Arc::new(AsyncMutex::new(Launch::default())));
        // On panic: started again; it goes on with the first worker that was not begun. It ends when all are.
        self.task(self.watchdog.clone().restarted(
            Task::Launch,
            self.settings.hsm.to_string(),
            || (),
            move |heartbeat| Arc::clone(&pool).launch(Arc::clone(&launch), heartbeat),
        ));
    }

    async fn launch(self: Arc<Self>, launch: Arc<AsyncMutex<Launch>>, heartbeat: Heartbeat) {
        // Nobody else has it but a run before this one, which has let it go.
        let Launch { lock, begun } = &mut *launch.lock().await;
        let lock = match lock {
            Some(lock) => lock,
            None => match heartbeat.idle(self.lock()).await {
                Some(taken) => lock.insert(taken),
                None => return,
            },
        };
        while *begun < self.slots.len() {
            let Ok(lock) = lock.try_clone() else {
                let why = "out of file descriptors: raise the limit (LimitNOFILE) and start again".to_owned();
                let start_blocker = (ConnectionErrorCode::InternalError, why);
                self.tracker(|tracker| tracker.start_blocker = Some(start_blocker));
                return;
            };
            let slot = *begun;
            *begun += 1;
            let _ = heartbeat.idle(self.keep(slot, lock)).await;
        }
    }

    /// Keeps the worker of a slot alive from now on. Tells when the first start has succeeded or failed.
    fn keep(self: &Arc<Self>, slot: usize, lock: File) -> oneshot::Receiver<()> {
        let (tried, was_tried) = oneshot::channel();
        let (pool, lapsing) = (Arc::clone(self), Arc::downgrade(self));
        let (lock, mut tried, mut runs) = (Arc::new(lock), Some(tried), 0_u64);
        let who = self.id(slot).map(|id| format!("{} {id}", self.settings.hsm)).unwrap_or_default();
        // On panic: started again, with another worker; the one that it had is closed with it and leaves by itself.
        self.task(self.watchdog.clone().restarted(
            Task::WorkerDriver,
            who,
            move || {
                if let Some(pool) = lapsing.upgrade() {
                    pool.lapse(slot);
                }
            },
            move |heartbeat| {
                let run = runs;
                runs += 1;
                keep(Arc::clone(&pool), slot, Arc::clone(&lock), run, tried.take(), heartbeat)
            },
        ));
        was_tried
    }

    /// Nobody keeps the worker of this slot at the moment: it is given nothing and not shown as serving.
    fn lapse(&self, slot: usize) {
        self.serve(slot, None);
        let trouble = "the task that keeps it broke off by a fault in this program and is started again; the log has the \
                       place, which is worth a report";
        let code = Some(ConnectionErrorCode::InternalError);
        let view = View { serving: false, trouble: Some(trouble.to_owned()), of_hsm: false, code, refused: false };
        self.tracker(|tracker| tracker.put(slot, view));
    }

    /// Takes the lock; `None` when the HSM is stopped before.
    async fn lock(&self) -> Option<File> {
        let path = &self.settings.lock_file;
        let mut stop = self.stop.subscribe();
        loop {
            let start_blocker = match process::try_lock(path) {
                Ok(Some(lock)) => {
                    self.tracker(|tracker| tracker.start_blocker = None);
                    return Some(lock);
                }
                Ok(None) => {
                    let why = format!(
                        "waits until earlier workers or another daemon, which hold the lock file {}, are gone",
                        path.display()
                    );
                    (ConnectionErrorCode::NetworkErrors, why)
                }
                Err(error) => {
                    let why = format!("cannot take the lock file {}: {error}", path.display());
                    (ConnectionErrorCode::InternalError, why)
                }
            };
            self.tracker(|tracker| {
                if tracker.start_blocker.as_ref() != Some(&start_blocker) {
                    tracing::warn!(hsm = %self.settings.hsm, zone = %self.settings.zone, reason = start_blocker.1, "not started yet");
                    tracker.start_blocker = Some(start_blocker);
                }
            });
            tokio::select! {
                _ = stop.wait_for(Option::is_some) => return None,
                () = sleep_until(self.clock.now() + LOCK_EVERY) => {}
            }
        }
    }

    pub(super) fn task(&self, work: impl Future<Output = ()> + Send + 'static) {
        // On panic: what follows is written where the work is given; it counts as done here.
        self.tasks.spawn(work);
    }

    /// Which worker has a slot.
    pub(super) fn id(&self, slot: usize) -> Option<WorkerId> {
        self.slots.get(slot).copied()
    }

    /// Where a worker's requests wait.
    pub(super) fn work_queue_of(&self, id: WorkerId) -> Weak<WorkQueue> {
        if matches!(id.role, Role::Data) { Arc::downgrade(&self.data) } else { Weak::new() }
    }

    /// A number that no worker of this HSM has had.
    pub(super) fn incarnation(&self) -> u64 {
        self.incarnations.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// To be kept by a worker for as long as there is its process.
    pub(super) fn live(&self) -> Arc<()> {
        Arc::clone(&self.alive)
    }

    /// Workers that there are.
    pub(super) fn alive(&self) -> usize {
        Arc::strong_count(&self.alive).saturating_sub(1)
    }

    /// Hands the worker of a slot requests from now on, or none.
    pub(super) fn serve(&self, slot: usize, link: Option<Arc<Link>>) {
        match slot.checked_sub(1) {
            None => self.control_worker.store(link),
            Some(place) => self.data.serve(place, link),
        }
    }

    /// See [`super::Hsm::examined`]. Where that keeps the HSM out, each worker that serves leaves, and so does one that is let in
    /// the next moment: see [`Self::contradicted`]. The control worker examines the token as it is let in anew.
    pub(super) fn examined(&self, judgement: Judgement) {
        self.tracker(|tracker| tracker.examined(judgement));
    }

    /// Why no worker may serve, where the newest examination contradicts the token's capabilities.
    pub(super) fn contradiction(&self) -> Option<AdmissionError> {
        let why = self.status.borrow().examined.as_ref()?.contradiction()?;
        Some(AdmissionError::contradicts(&self.settings.hsm, &why))
    }

    /// Waits until there is such a reason.
    pub(super) async fn contradicted(&self) -> AdmissionError {
        let mut status = self.status.subscribe();
        loop {
            status.borrow_and_update();
            if let Some(refusal) = self.contradiction() {
                return refusal;
            }
            // The sender lives as long as the pool does.
            let _ = status.changed().await;
        }
    }

    /// Changes the tracker and publishes the status that follows.
    pub(super) fn tracker(&self, change: impl FnOnce(&mut StatusTracker)) {
        // Each field says something by itself, and is set as a whole: a panic in between leaves nothing half said.
        let mut tracker = self.tracker.lock_anyway();
        change(&mut tracker);
        let status = Arc::new(tracker.status(self.clock.calendar()));
        let before = self.status.send_replace(Arc::clone(&status)).state;
        if before != status.state {
            let (hsm, zone) = (&self.settings.hsm, &self.settings.zone);
            let reason = status.reason.as_deref().unwrap_or("none");
            match status.state {
                State::Serving => tracing::info!(%hsm, %zone, "the HSM serves"),
                State::Down => tracing::warn!(%hsm, %zone, reason, "the HSM is down"),
                State::Starting | State::Stopped => {
                    tracing::info!(%hsm, %zone, state = ?status.state, "the HSM's state")
                }
            }
        }
    }

    /// Says what is being done, for people.
    pub(super) fn step(&self, step: &str) {
        let now = self.clock.calendar();
        tracing::debug!(hsm = %self.settings.hsm, step, "step");
        self.tracker(|tracker| tracker.step(step, now));
    }

    /// What it is doing now.
    pub(super) fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status.borrow())
    }

    /// Its changes.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<Status>> {
        self.status.subscribe()
    }

    /// Items taken on.
    pub(super) fn load(&self) -> usize {
        self.data.gauge().items() + self.control.items()
    }

    /// How long a request that came now would wait for its turn.
    pub(super) fn wait(&self) -> Duration {
        self.data.wait()
    }

    /// Items that one session does in a time.
    pub(super) fn items_in(&self, time: Duration) -> usize {
        self.data.items_in(time)
    }

    /// See [`super::Hsm::call`].
    pub(super) async fn call(&self, op: Arc<Op>, options: CallOptions) -> Answer {
        let answer = self.hand_on(op, options).await;
        if let Ok(reply) = &answer {
            self.codes.note(reply);
        }
        answer
    }

    async fn hand_on(&self, op: Arc<Op>, options: CallOptions) -> Answer {
        let deadline = options.deadline;
        if !self.open.load(Ordering::Relaxed) {
            return Err(CallError::NotReady);
        }
        if self.clock.now() >= deadline {
            return Err(CallError::DeadlineExceeded { sent: false });
        }
        if matches!(*op, Op::Forget(_)) {
            return self.call_all(&op, deadline).await;
        }
        // An examination takes long: callers keep their sessions, and the control worker looks.
        let examines = matches!(*op, Op::Examine { .. });
        if op.allowed_for(Role::Data) && !examines {
            let Taken { reply, fate } = self.data.push(op, options)?;
            return answer(reply, fate.as_deref(), deadline).await;
        }
        if !op.allowed_for(Role::Control) {
            let why = "a step of the ceremony, asked of a cluster's worker";
            return Ok(Reply::Failed(Fault::own(Class::Refused, "call", why)));
        }
        let link = self.control_worker.load_full().ok_or(CallError::NotReady)?;
        let reservation = self.control.reserve(op.items(), op.weight()).map_err(|_| CallError::Busy)?;
        let places_wrapping_key = matches!(*op, Op::PlaceWrappingKey { .. });
        let reply = link.send(op, Some(reservation)).ok_or(CallError::NotReady)?;
        drop(link);
        let answer = answer(reply, None, deadline).await;
        if places_wrapping_key && matches!(answer, Ok(Reply::Done)) {
            // What the logins of before have found is out of date.
            self.tracker(StatusTracker::wraps);
        }
        answer
    }

    /// Tells every worker, and waits for all of them. A worker that is not there has nothing to forget.
    async fn call_all(&self, op: &Arc<Op>, deadline: Instant) -> Answer {
        // Counted once, and as work of the control worker: a full queue of data must not keep a key from being
        // forgotten.
        let mut reservation = Some(self.control.reserve(op.items(), op.weight()).map_err(|_| CallError::Busy)?);
        let mut replies = Vec::with_capacity(self.slots.len());
        for link in self.control_worker.load_full().into_iter().chain(self.data.links()) {
            replies.extend(link.send(Arc::clone(op), reservation.take()));
        }
        let mut all = Reply::Done;
        for reply in replies {
            match answer(reply, None, deadline).await {
                Ok(Reply::Failed(fault)) => all = Reply::Failed(fault),
                Ok(_) | Err(CallError::WorkerLost) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Tells everything to end, without waiting.
    pub(super) fn end(&self, kill_at: Instant) {
        self.open.store(false, Ordering::Relaxed);
        self.tracker(|tracker| tracker.stopping = true);
        self.stop.send_if_modified(|stop| {
            let first = stop.is_none();
            stop.get_or_insert(kill_at);
            first
        });
    }

    /// See [`super::Hsm::stop`].
    pub(super) async fn stop(&self, within: Duration) {
        self.open.store(false, Ordering::Relaxed);
        let now = self.clock.now();
        // Half of the time for requests in hand, the other half for the workers to log out and leave.
        let emptied = async { tokio::join!(self.data.gauge().emptied(), self.control.emptied()) };
        tokio::select! {
            _ = emptied => {}
            () = sleep_until(now + within / 2) => {}
        }
        let kill_at = now + within;
        self.end(kill_at);
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => {}
            // A killed process is gone in no time. One that may be inside a login is left to leave by itself; its
            // driver goes on waiting for it.
            () = sleep_until(kill_at + Duration::from_secs(1)) => {
                tracing::warn!(
                    hsm = %self.settings.hsm, zone = %self.settings.zone,
                    "a worker is still starting and is left to leave by itself"
                );
            }
        }
    }
}

/// How far the beginning is.
#[derive(Default)]
struct Launch {
    lock: Option<File>,
    /// Slots whose drivers were started.
    begun: usize,
}

/// Waits for a reply.
async fn answer(reply: oneshot::Receiver<Answer>, fate: Option<&Fate>, deadline: Instant) -> Answer {
    match tokio::time::timeout_at(tokio::time::Instant::from_std(deadline), reply).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(CallError::WorkerLost),
        Err(_) => Err(CallError::DeadlineExceeded { sent: !fate.is_some_and(Fate::decide) }),
    }
}
