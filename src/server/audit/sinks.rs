//! The sinks of the configuration: each has a task that steps it for as long as the log is open.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;

use super::source::Files;
use super::{Audit, Opened};
use audit::sink::{Address, JsonLines, Outlet, Sink, Standing, Step, Syslog};
use config::SyslogAddress;
use model::lock::MutexExt as _;
use telemetry::watchdog::{Heartbeat, Task, Watchdog};

/// Between two looks whether there are more records.
const LOOK: Duration = Duration::from_millis(200);
/// After something was in the way.
const AGAIN: Duration = Duration::from_secs(1);

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
        let mut current: Option<(Arc<Opened>, Sink)> = None;
        loop {
            heartbeat.turn().await;
            let Some(opened) = self.opened() else {
                current = None;
                heartbeat.idle(tokio::time::sleep(LOOK)).await;
                continue;
            };
            let kept = current.take().filter(|(of, _)| Arc::ptr_eq(of, &opened)).map(|(_, sink)| sink);
            let Some(mut sink) = kept.or_else(|| self.sink(kind, &opened)) else { return };
            let end = opened.log.head().size;
            // On panic: the task's own.
            let stepped = tokio::task::spawn_blocking(move || {
                let step = sink.step(end);
                (sink, step)
            });
            let (sink, step) = match heartbeat.idle(stepped).await {
                Ok(stepped) => stepped,
                Err(error) => match error.try_into_panic() {
                    Ok(fault) => std::panic::resume_unwind(fault),
                    // Never begun, since the runtime ends.
                    Err(_) => return,
                },
            };
            self.0.standings.is(sink.name(), sink.standing());
            current = Some((opened, sink));
            match step {
                Step::More => {}
                Step::Idle => heartbeat.idle(tokio::time::sleep(LOOK)).await,
                Step::Failed => heartbeat.idle(tokio::time::sleep(AGAIN)).await,
            }
        }
    }

    fn sink(&self, kind: Kind, opened: &Opened) -> Option<Sink> {
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
        Some(Sink::new(directory, &opened.origin, Box::new(Files::new(directory)), outlet, clock))
    }
}
