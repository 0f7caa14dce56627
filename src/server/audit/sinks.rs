//! The sinks of the configuration: each has a task that steps it for as long as the log is open.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use super::source::Files;
use super::{Audit, Opened};
use audit::sink::{Address, Beside, JsonLines, Outlet, Sink, Standing, Step, Syslog};
use config::SyslogAddress;
use model::clock::Clock;
use model::lock::MutexExt as _;
use telemetry::watchdog::{Heartbeat, Task, Watchdog};

/// Between two looks whether there are more records.
const LOOK: Duration = Duration::from_millis(200);
/// After something was in the way.
const AGAIN: Duration = Duration::from_secs(1);
/// What passing on the last records may take at the end; what is left is passed on after the next start.
const LAST: Duration = Duration::from_secs(2);
/// What the end waits for that, and for the positions to be written.
pub(super) const END: Duration = Duration::from_secs(5);

/// How each sink was when it was looked at last.
#[derive(Default)]
pub(super) struct Standings(Mutex<BTreeMap<&'static str, Standing>>);

impl Standings {
    pub(super) fn all(&self) -> Vec<(&'static str, Standing)> {
        self.0.lock_anyway().iter().map(|(name, standing)| (*name, standing.clone())).collect()
    }

    pub(super) fn troubles(&self) -> Vec<String> {
        let troubled = self.all().into_iter().filter_map(|(name, standing)| Some((name, standing.trouble?)));
        let sentence = |(name, why)| format!("records of the audit log wait to be passed on ({name}): {why}");
        troubled.map(sentence).collect()
    }

    /// Takes over how one is, and tells the log where that is news.
    fn is(&self, name: &'static str, now: Standing) {
        let before = self.0.lock_anyway().insert(name, now.clone()).unwrap_or_default();
        match (&before.trouble, &now.trouble) {
            (None, Some(why)) => {
                tracing::warn!(sink = name, why, "records of the audit log cannot be passed on; they wait in the log");
            }
            (Some(_), None) => tracing::info!(sink = name, "records of the audit log are passed on again"),
            _ => {}
        }
        if now.missed > before.missed {
            let missed = now.missed - before.missed;
            tracing::warn!(
                sink = name,
                missed,
                "records were moved away from the audit log before they were passed on"
            );
        }
    }
}

/// Sinks that work, and their end.
pub(super) struct Works {
    /// The last head is signed, and nothing comes any more.
    ended: watch::Sender<bool>,
    /// How many sinks have a log.
    count: Arc<watch::Sender<usize>>,
}

impl Default for Works {
    fn default() -> Self {
        Self { ended: watch::Sender::new(false), count: Arc::new(watch::Sender::new(0)) }
    }
}

impl Works {
    /// Has all of them note how far they are, and waits for that.
    pub(super) async fn end(&self) {
        self.ended.send_replace(true);
        let mut count = self.count.subscribe();
        if tokio::time::timeout(END, count.wait_for(|count| *count == 0)).await.is_err() {
            tracing::warn!("records of the audit log are still being passed on; some will be passed on twice");
        }
    }
}

/// A sink of a log that is open, or was.
struct Working {
    of: Arc<Opened>,
    sink: Sink,
    /// Behind the sink: it counts until that has gone.
    _counted: Counted,
}

struct Counted(Arc<watch::Sender<usize>>);

impl Counted {
    fn new(count: &Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

impl Working {
    /// Passes on what the log has, at the end for as long as that may take, and notes how far that is. Then it is gone.
    fn finish(mut self, clock: &Clock, last: Duration) {
        let (until, end) = (clock.now() + last, self.of.log.head().size);
        while clock.now() < until && self.sink.step(end) == Step::More {}
        if let Err(why) = self.sink.close() {
            tracing::warn!(
                sink = self.sink.name(),
                why,
                "how far records of the audit log are passed on cannot be noted; some will be passed on twice"
            );
        }
    }
}

/// Which sinks there are.
#[derive(Clone, Copy)]
enum Kind {
    Json,
    Syslog,
}

impl Audit {
    /// Begins the tasks of all sinks that are configured.
    pub(in crate::server) fn begin_sinks(&self, tasks: &mut JoinSet<()>, watchdog: &Watchdog) {
        let kinds = [
            (Kind::Json, "json", self.0.config.json.is_some()),
            (Kind::Syslog, "syslog", self.0.config.syslog.is_some()),
        ];
        for (kind, name, _) in kinds.into_iter().filter(|(.., configured)| *configured) {
            let audit = self.clone();
            // On panic: started again, from the position that is kept; some records are passed on twice.
            tasks.spawn(watchdog.clone().restarted(
                Task::AuditSink,
                name,
                || (),
                move |heartbeat| audit.clone().pass_on(kind, heartbeat),
            ));
        }
    }

    async fn pass_on(self, kind: Kind, heartbeat: Heartbeat) {
        let mut ended = self.0.works.ended.subscribe();
        let mut current: Option<Working> = None;
        loop {
            heartbeat.turn().await;
            let opened = self.opened();
            let is_current = |working: &Working| opened.as_ref().is_some_and(|opened| Arc::ptr_eq(opened, &working.of));
            if let Some(former) = current.take_if(|working| !is_current(working)) {
                heartbeat.idle(self.finished(former, &mut ended)).await;
            }
            if *ended.borrow() {
                return;
            }
            let Some(opened) = opened else {
                heartbeat.idle(pause(&mut ended, LOOK)).await;
                continue;
            };
            let Some(mut working) = current.take().or_else(|| self.working(kind, &opened)) else { return };
            let end = opened.log.head().size;
            drop(opened);
            // On panic: the task's own.
            let stepped = tokio::task::spawn_blocking(move || {
                let step = working.sink.step(end);
                (working, step)
            });
            let Some((working, step)) = ran(heartbeat.idle(stepped).await) else { return };
            self.0.standings.is(working.sink.name(), working.sink.standing());
            current = Some(working);
            match step {
                Step::More => {}
                Step::Idle => heartbeat.idle(pause(&mut ended, LOOK)).await,
                Step::Failed => heartbeat.idle(pause(&mut ended, AGAIN)).await,
            }
        }
    }

    /// Ends with a log that is not open any more.
    async fn finished(&self, working: Working, ended: &mut watch::Receiver<bool>) {
        let is_ending = self.0.closed.lock_anyway().ending;
        if is_ending {
            // Until its last head is signed. Whoever closes it says so, however that ends.
            let _closed = ended.wait_for(|ended| *ended).await;
        }
        let (clock, last) = (self.0.clock.clone(), if is_ending { LAST } else { Duration::ZERO });
        // On panic: the task's own; some records are passed on twice.
        ran(tokio::task::spawn_blocking(move || working.finish(&clock, last)).await);
    }

    fn working(&self, kind: Kind, opened: &Arc<Opened>) -> Option<Working> {
        let sink = self.sink(kind, opened)?;
        Some(Working { of: Arc::clone(opened), sink, _counted: Counted::new(&self.0.works.count) })
    }

    fn sink(&self, kind: Kind, opened: &Arc<Opened>) -> Option<Sink> {
        let (directory, clock) = (self.directory(), self.0.clock.clone());
        let outlet: Box<dyn Outlet> = match kind {
            Kind::Json => Box::new(JsonLines::new(self.0.config.json.clone()?)),
            Kind::Syslog => {
                let address = match self.0.config.syslog.clone()? {
                    SyslogAddress::Tcp(address) => Address::Tcp(address),
                    SyslogAddress::Unix(path) => Address::Unix(path),
                };
                Box::new(Syslog::new(address, clock.clone()))
            }
        };
        let of = Arc::clone(opened);
        // Wherever it is: a directory that was put in its place gets nothing.
        let beside: Beside = Box::new(move || Ok(of.log.directory()));
        Some(Sink::new(beside, &opened.origin, Box::new(Files::of(directory, opened)), outlet, clock))
    }
}

/// Some time, or until there is nothing to wait for any more.
async fn pause(ended: &mut watch::Receiver<bool>, time: Duration) {
    let _in_time = tokio::time::timeout(time, ended.wait_for(|ended| *ended)).await;
}

/// What a thread came to; nothing where it was never begun, since the runtime ends.
fn ran<T>(joined: Result<T, JoinError>) -> Option<T> {
    match joined {
        Ok(done) => Some(done),
        Err(error) => match error.try_into_panic() {
            Ok(fault) => std::panic::resume_unwind(fault),
            Err(_) => None,
        },
    }
}
