//! Tasks that live for long, and who notices when one of them breaks.
//!
//! A task that panics is lost without a word where nobody waits for it, and what it last said of the world stays as if
//! it were so. So each [`Task`] has a [`Rule`], which is written beside its spawn: one that nothing works without ends
//! the process ([`Watchdog::vital`]), and any other is started again ([`Watchdog::restarted`]). Each shows a heartbeat
//! with every turn of its loop; the watchdog, itself a task, looks at all of them. One that is silent is dropped and
//! started again, and if it does not even let go of its thread, or is vital, /livez fails and systemd is told nothing
//! more.
//!
//! Whatever shows figures that a task keeps says with the spawn what becomes of them when it lapses.

mod pulse;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::{Notify, watch};

use self::pulse::{Pulse, SILENT, Sign};
pub use super::task::{Rule, Task};
use super::{fault, panics};
use model::clock::Clock;
use model::lock::MutexExt as _;

/// A task that waits shows that it lives once in so many turns of the watchdog.
const BEAT: u32 = 5;

/// Looks at the tasks of one process. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Watchdog(Arc<Inner>);

struct Inner {
    clock: Clock,
    watched: Mutex<BTreeMap<u64, Arc<Watched>>>,
    numbers: AtomicU64,
    stopping: AtomicBool,
    restarts: Box<[AtomicU64]>,
    turned: watch::Sender<Instant>,
}

struct Watched {
    task: Task,
    who: String,
    /// Shows no heartbeat: what it does is noticed where it is missed.
    is_thread: bool,
    beats: AtomicU64,
    pulse: Mutex<Pulse>,
    give_up: Notify,
    lapse: Box<dyn Fn() + Send + Sync>,
}

/// By this a task shows that it turns.
#[derive(Clone)]
pub struct Heartbeat(Arc<Watched>);

/// What can be counted of one kind of task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Its kind.
    pub task: Task,
    /// How many there are.
    pub running: usize,
    /// How many of those do not turn.
    pub silent: usize,
    /// How often one was started again since the process was started.
    pub restarts: u64,
}

impl Watchdog {
    /// Nothing is watched yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let turned = watch::channel(clock.now()).0;
        Self(Arc::new(Inner {
            clock,
            watched: Mutex::default(),
            numbers: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            restarts: Task::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            turned,
        }))
    }

    /// Runs work without which nothing works, to be spawned. It ends the process if it panics, or if it ends before
    /// [`Watchdog::stopping`].
    pub async fn vital<W>(self, task: Task, work: impl FnOnce(Heartbeat) -> W + Send) -> ()
    where
        W: Future<Output = ()> + Send,
    {
        let watched = self.enrol(task, "", false, || ());
        let heartbeat = watched.heartbeat();
        let broke = match AssertUnwindSafe(async { work(heartbeat).await }).catch_unwind().await {
            Ok(()) if self.0.stopping.load(Ordering::Acquire) => return,
            Ok(()) => "it has ended".to_owned(),
            Err(_) => panics::place(),
        };
        self.without(task, &broke);
    }

    /// The same on the calling thread, without a heartbeat: whoever waits for what it does notices that it does not.
    pub fn vital_thread(self, task: Task, work: impl FnOnce()) {
        let _running = self.enrol(task, "", true, || ());
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            self.without(task, &panics::place());
        }
    }

    fn without(&self, task: Task, broke: &str) {
        if !self.0.stopping.load(Ordering::Acquire) {
            panics::end(&format!(
                "the task {} broke off ({broke}), and nothing works without it: the process ends, to be started again",
                task.name()
            ));
        }
        tracing::error!(task = task.name(), broke, "a task broke off while the daemon was being stopped");
    }

    /// Runs work that is started again when it panics or is silent, to be spawned. Its end is an end by design. `lapse`
    /// is called whenever it breaks, and before it is started again: what it kept is not known to be so any more.
    pub async fn restarted<W>(
        self,
        task: Task,
        who: impl Into<String>,
        lapse: impl Fn() + Send + Sync + 'static,
        mut work: impl FnMut(Heartbeat) -> W + Send,
    ) where
        W: Future<Output = ()> + Send,
    {
        let watched = self.enrol(task, who, false, lapse);
        loop {
            // Told perhaps of the run before this one.
            let _ = watched.give_up.notified().now_or_never();
            watched.pulse().started();
            let heartbeat = watched.heartbeat();
            let mut running = Box::pin(AssertUnwindSafe(async { work(heartbeat).await }).catch_unwind());
            let ended = tokio::select! {
                biased;
                ended = &mut running => Some(ended),
                () = watched.give_up.notified() => None,
            };
            // What it held may panic as well when it is let go.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(running)));
            let broke = match ended {
                Some(Ok(())) => return,
                Some(Err(_)) => panics::place(),
                None => "it did not turn any more".to_owned(),
            };
            watched.lapsed();
            self.count(task).fetch_add(1, Ordering::Relaxed);
            let pause = watched.pulse().broke(broke.clone());
            tracing::error!(
                task = task.name(),
                of = watched.who,
                broke,
                ?pause,
                "a task broke off and is started again"
            );
            tokio::time::sleep(pause).await;
        }
    }

    /// From now on vital tasks may end.
    pub fn stopping(&self) {
        self.0.stopping.store(true, Ordering::Release);
    }

    /// How long a turn is.
    #[must_use]
    pub fn every() -> Duration {
        fault::turn()
    }

    /// One turn: looks at every task. To be called once in [`Watchdog::every`].
    pub fn turn(&self) {
        for watched in self.all().into_iter().filter(|watched| !watched.is_thread) {
            let sign = watched.pulse().turn(watched.beats.load(Ordering::Relaxed));
            let (task, of) = (watched.task.name(), &watched.who);
            match sign {
                Sign::None => {}
                Sign::Back => tracing::warn!(task, of, "a task turns again"),
                Sign::Silent => {
                    let silence = Self::every() * SILENT;
                    tracing::error!(task, of, ?silence, "a task does not turn any more");
                    watched.give_up.notify_one();
                    watched.lapsed();
                }
            }
        }
        self.0.turned.send_replace(self.0.clock.now());
    }

    /// Waits for a turn where the watchdog is late, two turns at most: a process that was stopped for a while, as a
    /// machine is that sleeps, finds it so when it goes on, and has its next turn in a moment.
    pub async fn caught_up(&self) {
        let mut turned = self.0.turned.subscribe();
        if self.late().is_some() {
            let _ = tokio::time::timeout(Self::every() * 2, turned.changed()).await;
        }
    }

    /// For how long the watchdog itself has not turned, where that is too long: nobody knows what is so now.
    #[must_use]
    pub fn late(&self) -> Option<Duration> {
        let silence = self.0.clock.now().saturating_duration_since(*self.0.turned.borrow());
        (silence > Self::every() * SILENT).then_some(silence)
    }

    /// Tasks that stand still, so that only the end of the process helps; one sentence for each.
    #[must_use]
    pub fn stuck(&self) -> Vec<String> {
        if let Some(late) = self.late() {
            return vec![format!("the watchdog has not turned for {} s", late.as_secs())];
        }
        let all = self.all().into_iter();
        let stuck = all.filter(|watched| {
            let pulse = watched.pulse();
            pulse.is_stuck() || (watched.task.rule() == Rule::Vital && pulse.is_silent())
        });
        stuck.map(|watched| watched.silence()).collect()
    }

    /// What is wrong with tasks, one sentence for each.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let all = self.all().into_iter();
        all.filter_map(|watched| {
            let pulse = watched.pulse().clone();
            match pulse.trouble() {
                _ if pulse.is_silent() => {
                    Some(format!("{}; if it is not started again by itself, restart the daemon", watched.silence()))
                }
                Some((why, times)) => {
                    Some(format!("{} broke off ({why}) and was started again, {times} times in a row", watched.name()))
                }
                None => None,
            }
        })
        .collect()
    }

    /// What can be counted.
    #[must_use]
    pub fn readings(&self) -> Vec<Reading> {
        let all = self.all();
        let reading = |task: &Task| {
            let own = || all.iter().filter(|watched| watched.task == *task);
            let silent = own().filter(|watched| watched.pulse().is_silent()).count();
            Reading { task: *task, running: own().count(), silent, restarts: self.count(*task).load(Ordering::Relaxed) }
        };
        let watched = Task::ALL.iter().filter(|task| matches!(task.rule(), Rule::Vital | Rule::Restarted));
        watched.map(reading).collect()
    }

    fn enrol(
        &self,
        task: Task,
        who: impl Into<String>,
        is_thread: bool,
        lapse: impl Fn() + Send + Sync + 'static,
    ) -> Enrolled {
        let watched = Arc::new(Watched {
            task,
            who: who.into(),
            is_thread,
            beats: AtomicU64::new(0),
            pulse: Mutex::default(),
            give_up: Notify::new(),
            lapse: Box::new(lapse),
        });
        let number = self.0.numbers.fetch_add(1, Ordering::Relaxed);
        self.watched().insert(number, Arc::clone(&watched));
        Enrolled { watchdog: self.clone(), number, watched }
    }

    fn all(&self) -> Vec<Arc<Watched>> {
        self.watched().values().cloned().collect()
    }

    fn watched(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Watched>>> {
        self.0.watched.lock_anyway()
    }

    fn count(&self, task: Task) -> &AtomicU64 {
        &self.0.restarts[task as usize]
    }
}

/// Watched until it is dropped.
struct Enrolled {
    watchdog: Watchdog,
    number: u64,
    watched: Arc<Watched>,
}

impl Enrolled {
    fn heartbeat(&self) -> Heartbeat {
        Heartbeat(Arc::clone(&self.watched))
    }
}

impl std::ops::Deref for Enrolled {
    type Target = Watched;

    fn deref(&self) -> &Watched {
        &self.watched
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        self.watchdog.watched().remove(&self.number);
    }
}

impl Watched {
    fn pulse(&self) -> MutexGuard<'_, Pulse> {
        self.pulse.lock_anyway()
    }

    fn lapsed(&self) {
        if catch_unwind(AssertUnwindSafe(&self.lapse)).is_err() {
            tracing::error!(task = self.task.name(), of = self.who, "what a task had shown could not be taken back");
        }
    }

    fn name(&self) -> String {
        match self.who.as_str() {
            "" => format!("the task {}", self.task.name()),
            who => format!("the task {} of {who}", self.task.name()),
        }
    }

    fn silence(&self) -> String {
        let seconds = (Watchdog::every() * self.pulse().silence()).as_secs();
        format!("{} has not turned for {seconds} s", self.name())
    }
}

impl Heartbeat {
    /// The task turns. Awaited at the top of its loop, and where one turn has many steps before each.
    pub async fn turn(&self) {
        self.0.beats.fetch_add(1, Ordering::Relaxed);
        fault::point(self.0.task, &self.0.who).await;
    }

    /// Waits for something that may come late or never; meanwhile the task shows that it lives. What is waited for must
    /// have its own bound, where it needs one.
    pub async fn idle<T>(&self, waiting: impl Future<Output = T>) -> T {
        let mut waiting = std::pin::pin!(waiting);
        loop {
            self.turn().await;
            tokio::select! {
                biased;
                done = &mut waiting => return done,
                () = tokio::time::sleep(Watchdog::every() * BEAT) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
