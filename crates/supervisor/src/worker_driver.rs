//! Keeps one worker of an HSM alive: carries out what [`super::state_machine`] decides.

use std::fs::File;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedMutexGuard, oneshot, watch};

use super::admission::{AdmissionError, AdmissionSession};
use super::certificate_file::CertificateFileError;
use super::link::{AT_WORK, Answer, GRACE, Link, sleep_until};
use super::process::at_work;
use super::state_machine::{Action, Event, State, StateMachine};
use super::status_tracker::View;
use super::worker_id::WorkerId;
use super::worker_pool::WorkerPool;
use super::worker_process::{News, WorkerProcess};
use model::clock::Clock;
use model::key_store::ConnectionErrorCode;
use protocol::{Class, Fault, Op, Ready, Reply, Role};
use telemetry::fault;
use telemetry::watchdog::{Heartbeat, Task};

/// After a failed or a suspected one, the next probe comes this many times sooner.
const HURRY: u32 = 10;

/// Runs one slot of the pool until it is stopped for good. `tried` is told when the first start has succeeded or
/// failed. `run`: how many runs of the same slot broke off before.
pub(super) async fn keep(
    pool: Arc<WorkerPool>,
    slot: usize,
    lock: Arc<File>,
    run: u64,
    tried: Option<oneshot::Sender<()>>,
    heartbeat: Heartbeat,
) {
    let Some(id) = pool.id(slot) else { return };
    let mut driver = WorkerDriver {
        machine: StateMachine::new(pool.settings.policy()),
        stop: pool.stop.subscribe(),
        pool,
        slot,
        id,
        lock,
        tried,
        turn: None,
        certificate: Ok(None),
        worker: None,
        deaths: run,
        shown: View::default(),
    };
    while driver.machine.state() != State::Stopped {
        let event = heartbeat.idle(driver.wait()).await;
        driver.step(event);
    }
}

struct WorkerDriver {
    pool: Arc<WorkerPool>,
    slot: usize,
    id: WorkerId,
    lock: Arc<File>,
    machine: StateMachine,
    stop: watch::Receiver<Option<Instant>>,
    tried: Option<oneshot::Sender<()>>,
    /// Held from before a start until the worker is ready or gone: one login at a time.
    turn: Option<OwnedMutexGuard<()>>,
    /// What is in the HSM's certificate file, read when it was this worker's turn.
    certificate: Result<Option<Bytes>, CertificateFileError>,
    worker: Option<Worker>,
    deaths: u64,
    shown: View,
}

struct Worker {
    running: WorkerProcess,
    link: Arc<Link>,
    incarnation: u64,
    probe: Probe,
    found: Option<Arc<Ready>>,
    /// What comes of it in admission, once it is there.
    entry: Option<oneshot::Receiver<Result<(), AdmissionError>>>,
    /// That there is its process.
    _alive: Arc<()>,
}

impl WorkerDriver {
    /// The next thing that happens.
    async fn wait(&mut self) -> Event {
        let (state, until) = (self.machine.state(), self.machine.until());
        let at_work = at_work(self.worker.as_ref().and_then(|worker| worker.running.pid()));
        let (find, clock) = (self.pool.settings.policy().find, self.pool.clock.clone());
        let event = tokio::select! {
            biased;
            kill_at = stopped(&mut self.stop), if !self.machine.is_stopping() => Event::Stop { kill_at },
            (turn, certificate) = its_turn(&self.pool, self.id), if state == State::Queued => {
                (self.turn, self.certificate) = (Some(turn), certificate);
                // Another worker may have been refused for good meanwhile.
                self.pool.refused.get().map_or(Event::Turn, |refusal| Event::Refused(refusal.clone()))
            }
            refusal = self.pool.contradicted(), if matches!(state, State::Ready { .. }) => Event::Refused(refusal),
            event = happens(&mut self.worker, &self.pool, state) => event,
            () = due(state, until.unwrap_or_else(|| clock.now()), find, &clock, at_work), if until.is_some() => Event::Due,
        };
        match &event {
            Event::Exited(_) => {
                self.worker = None;
                self.deaths += 1;
            }
            Event::Refused(refusal) if refusal.permanent => {
                let _ = self.pool.refused.set(refusal.clone());
            }
            _ => {}
        }
        event
    }

    /// Has the state machine take its step, and carries out what it says.
    fn step(&mut self, event: Event) {
        let before = self.machine.state();
        let mut event = Some(event);
        while let Some(now_happened) = event.take() {
            let jitter = uuid::Uuid::new_v4().into_bytes()[0];
            for action in self.machine.next(now_happened, self.pool.clock.now(), jitter) {
                match (action, &mut self.worker) {
                    (Action::Spawn, _) => event = self.spawn().err(),
                    (Action::Enter, Some(worker)) => worker.enter(&self.pool, self.id),
                    (Action::Serve, Some(worker)) => self.pool.serve(self.slot, Some(Arc::clone(&worker.link))),
                    (Action::Withdraw, _) => self.pool.serve(self.slot, None),
                    (Action::Close, Some(worker)) => worker.link.close(),
                    (Action::Kill, Some(worker)) => worker.running.kill(),
                    (Action::Enter | Action::Serve | Action::Close | Action::Kill, None) => {}
                }
            }
        }
        let state = self.machine.state();
        if matches!(state, State::Ready { .. }) || self.worker.is_none() {
            self.turn = None;
        }
        if !matches!(state, State::Queued | State::Starting { .. } | State::Entering { .. }) {
            self.tried.take().map(|tried| tried.send(()));
        }
        self.show(before, state);
    }

    fn spawn(&mut self) -> Result<(), Event> {
        let pool = &self.pool;
        let certificate = std::mem::replace(&mut self.certificate, Ok(None));
        let certificate = certificate.map_err(|error| Event::NoCertificate(error.to_string()))?;
        let incarnation = pool.incarnation();
        let token = Some(pool.settings.token.clone());
        let work = pool.work_queue_of(self.id);
        let token = (token, certificate);
        let started = WorkerProcess::spawn(&pool.settings, &self.lock, self.id, incarnation, token, work, &pool.clock);
        let (running, link) = started.map_err(|error| Event::Unspawned(error.to_string()))?;
        tracing::info!(
            hsm = %pool.settings.hsm, zone = %pool.settings.zone, worker = %self.id, pid = running.pid(), incarnation,
            "the worker starts"
        );
        if matches!(self.id.role, Role::Control) {
            pool.step("starting its worker");
        }
        let probe = Probe::new(pool.settings.probe_every, &pool.clock);
        let (link, _alive) = (Arc::new(link), pool.live());
        self.worker = Some(Worker { running, link, incarnation, probe, found: None, entry: None, _alive });
        if self.deaths > 0 {
            pool.tracker(|tracker| tracker.restarts += 1);
        }
        Ok(())
    }

    /// Tells people: one log line for each change, and the status.
    fn show(&mut self, before: State, now: State) {
        let view = View {
            serving: matches!(now, State::Ready { .. }),
            trouble: self.machine.trouble().map(str::to_owned),
            of_hsm: self.machine.is_trouble_of_hsm(),
            code: self.machine.code(),
            refused: now == State::Refused,
        };
        let moved = std::mem::discriminant(&before) != std::mem::discriminant(&now);
        if !moved && view == self.shown {
            return;
        }
        let settings = &self.pool.settings;
        let (hsm, zone, worker) = (&settings.hsm, &settings.zone, self.id);
        let reason = view.trouble.as_deref().unwrap_or("none");
        match now {
            State::Ready { .. } if view.trouble.is_none() => {
                tracing::info!(%hsm, %zone, %worker, "the worker is ready")
            }
            State::Ready { .. } => tracing::warn!(%hsm, %zone, %worker, reason, "the worker is in trouble"),
            State::Dying { .. } if self.machine.is_stopping() => {
                tracing::info!(%hsm, %zone, %worker, "the worker is told to leave");
            }
            State::Dying { .. } => tracing::warn!(%hsm, %zone, %worker, reason, "the worker is taken out of service"),
            State::Backoff { until } => {
                let pause = until.saturating_duration_since(self.pool.clock.now());
                tracing::warn!(%hsm, %zone, %worker, reason, ?pause, "the worker is gone and will be started again");
            }
            State::Refused => tracing::error!(%hsm, %zone, %worker, reason, "the worker is not started again"),
            State::Stopped => tracing::info!(%hsm, %zone, %worker, "the worker is gone"),
            State::Queued | State::Starting { .. } | State::Entering { .. } => {}
        }
        if moved && matches!(now, State::Ready { .. }) {
            self.pool.step(&format!("{worker} is ready"));
        }
        self.pool.tracker(|tracker| tracker.put(self.slot, view.clone()));
        self.shown = view;
    }
}

/// Waits until no other worker of the HSM is starting, and reads the certificate that this one is to have.
async fn its_turn(
    pool: &WorkerPool,
    id: WorkerId,
) -> (OwnedMutexGuard<()>, Result<Option<Bytes>, CertificateFileError>) {
    let turn = Arc::clone(&pool.turn).lock_owned().await;
    (turn, pool.settings.certificate_for(id.role, &pool.reading).await)
}

async fn stopped(stop: &mut watch::Receiver<Option<Instant>>) -> Instant {
    match stop.wait_for(Option::is_some).await.map(|kill_at| *kill_at) {
        Ok(Some(kill_at)) => kill_at,
        // The sender lives in the pool, which the driver holds.
        _ => pending().await,
    }
}

impl Worker {
    /// Has admission decide about it, in a task that runs to its end whatever happens here.
    fn enter(&mut self, pool: &Arc<WorkerPool>, id: WorkerId) {
        let Some(found) = self.found.clone() else { return };
        let session = AdmissionSession {
            pool: Arc::clone(pool),
            link: Arc::clone(&self.link),
            found,
            role: id.role,
            incarnation: self.incarnation,
        };
        let (tell, entry) = oneshot::channel();
        self.entry = Some(entry);
        let (admission, hsm) = (Arc::clone(&pool.admission), pool.settings.hsm.clone());
        // On panic: the worker is not let in and another one is started. Where a login was tried, the attempt is on
        // record and has no outcome, as after a crash.
        pool.task(async move {
            fault::point(Task::Admission, hsm.as_str()).await;
            let _ = tell.send(admission.enter(session).await);
        });
    }
}

/// Waits until the time of a state is up. A worker that looks for its token and is `at_work`, and so does not hang, has
/// [`AT_WORK`] times as long: some modules read each object of a token before they show it.
async fn due(state: State, until: Instant, find: Duration, clock: &Clock, at_work: impl Fn() -> bool) {
    sleep_until(until).await;
    if matches!(state, State::Starting { .. }) {
        let last = until + find * (AT_WORK - 1);
        while at_work() && clock.now() < last {
            sleep_until(clock.now() + GRACE).await;
        }
    }
}

/// What happens to the worker, if there is one.
async fn happens(worker: &mut Option<Worker>, pool: &WorkerPool, state: State) -> Event {
    let Some(Worker { running, link, probe, found, entry, .. }) = worker else { return pending().await };
    let (limits, at_work) = (&pool.settings.kill, at_work(running.pid()));
    let ready = matches!(state, State::Ready { .. });
    let entering = matches!(state, State::Entering { .. });
    tokio::select! {
        biased;
        let_in = outcome(entry) => match let_in {
            // It may have relied on an examination that another one has overtaken.
            Ok(()) if entering => pool.contradiction().map_or(Event::Ready, Event::Refused),
            Ok(()) => Event::Ready,
            Err(refusal) => Event::Refused(refusal),
        },
        news = running.news() => match news {
            News::Ready(ready) => {
                let ready: Arc<Ready> = Arc::from(ready);
                *found = Some(Arc::clone(&ready));
                pool.tracker(|tracker| tracker.ready = Some(ready));
                Event::Found
            }
            News::Failed(fault) => Event::Failed(fault),
            News::Garbled(error) => Event::Garbled(error.to_string()),
            News::Closed => Event::Closed,
            News::Exited(how) => Event::Exited(how),
        },
        held = link.overdue(limits, at_work), if ready || entering => Event::Overdue { kind: held.kind, limit: limits.of(held.kind) },
        probed = probe.next(link), if ready => {
            // What callers got meanwhile tells of a worker that has much to do, and of none that says so only.
            let served = link.has_served();
            match probed {
                Err(fault) if fault.class.may_be_busy() => Event::Busy { fault, served },
                probed => Event::Probed(probed),
            }
        }
    }
}

/// What admission decided; once.
async fn outcome(entry: &mut Option<oneshot::Receiver<Result<(), AdmissionError>>>) -> Result<(), AdmissionError> {
    let Some(waiting) = entry else { return pending().await };
    let decided = waiting.await;
    *entry = None;
    decided.unwrap_or_else(|_| {
        let why = "a fault in this program broke off what lets it in; the log has the place, which is worth a report";
        Err(AdmissionError::transient(ConnectionErrorCode::InternalError, why))
    })
}

/// Asks a ready worker now and then whether its token is there.
///
/// A probe has no deadline of its own: one that is not answered is cut off by the kill limit, which counts from when a
/// session took it and not from when it was sent.
struct Probe {
    every: Duration,
    clock: Clock,
    at: Instant,
    last: Instant,
    waiting: Option<oneshot::Receiver<Answer>>,
}

impl Probe {
    fn new(every: Duration, clock: &Clock) -> Self {
        let now = clock.now();
        Self { every, clock: clock.clone(), at: now + every, last: now, waiting: None }
    }

    /// The next probe's outcome. Nothing is lost when the future is dropped.
    async fn next(&mut self, link: &Link) -> Result<(), Fault> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                let reply = waiting.await;
                self.waiting = None;
                let now = self.clock.now();
                self.at = now + self.every;
                let fault = match reply {
                    Ok(Ok(Reply::Done)) => return Ok(()),
                    Ok(Ok(Reply::Failed(fault))) => fault,
                    Ok(Ok(_)) => Fault::own(Class::Session, "probe", "answered with something else"),
                    // It died; that comes as news of its own.
                    Ok(Err(_)) | Err(_) => return pending().await,
                };
                self.at = now + self.every / HURRY;
                return Err(fault);
            }
            tokio::select! {
                () = link.suspicion() => {
                    self.at = self.at.min(self.last + self.every / HURRY);
                }
                () = sleep_until(self.at) => {
                    self.last = self.clock.now();
                    self.waiting = link.send(Arc::new(Op::Probe), None);
                    if self.waiting.is_none() {
                        return pending().await;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_worker_that_reads_its_token_has_longer_and_one_that_hangs_has_not() {
        let (clock, find) = (Clock::system(), Duration::from_millis(20));
        let wait = async |work: bool, starting: bool| {
            let (until, looks) = (clock.now() + find, Cell::new(0));
            let state = if starting { State::Starting { until } } else { State::Entering { until } };
            let at_work = || {
                looks.set(looks.get() + 1);
                work
            };
            due(state, until, find, &clock, at_work).await;
            (looks.get(), clock.now() - until)
        };
        assert!(wait(true, true).await.1 >= find * (AT_WORK - 1), "and not for ever");
        assert_eq!(wait(false, true).await.0, 1);
        assert_eq!(wait(true, false).await.0, 0, "what is let in has limits of its own");
    }
}
