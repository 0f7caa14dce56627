//! The load of the second part: `keystorectl bench` beside something that is done to the daemon meanwhile.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::{Child, Command};

use super::daemon::Environment;
use super::table::thousands;
use super::{Outcome, PLAINTEXT_BYTES, said};

const PROGRAM: &str = env!("CARGO_BIN_EXE_keystorectl");

/// Unary calls that are to be made.
pub(super) struct Calls<'a> {
    pub(super) environment: &'a Environment,
    pub(super) key: &'a str,
    /// As keystorectl calls it.
    pub(super) operation: &'static str,
    pub(super) in_flight: u32,
    pub(super) connections: u32,
    /// Calls a second, whether or not those before were answered; without one, each answer is followed by a call.
    pub(super) rate: Option<u32>,
    /// Before the measurement.
    pub(super) warm_up: Duration,
    pub(super) length: Duration,
    /// How long each call may take; keystorectl's own default where none is given.
    pub(super) deadline: Option<Duration>,
}

/// Calls that are being made.
pub(super) struct Running(Child);

/// What came of them. Times are milliseconds.
pub(super) struct Came {
    /// Calls a second that succeeded.
    pub(super) rate: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
    /// Failures by name, and the calls that were due and not even begun.
    pub(super) errors: BTreeMap<String, u64>,
}

impl Calls<'_> {
    pub(super) fn start(&self) -> Outcome<Running> {
        let milliseconds = |time: Duration| format!("{}ms", time.as_millis());
        let mut command = Command::new(PROGRAM);
        command.args(["--json", "bench", "unary", "--key", self.key, "--operation", self.operation]);
        command.args(["--in-flight", &self.in_flight.to_string(), "--payload", &PLAINTEXT_BYTES.to_string()]);
        command.args(["--warm-up", &milliseconds(self.warm_up), "--duration", &milliseconds(self.length)]);
        command.args(["--connections", &self.connections.to_string()]);
        if let Some(rate) = self.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        if let Some(deadline) = self.deadline {
            command.args(["--timeout", &milliseconds(deadline)]);
        }
        command.envs(self.environment).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Running(command.spawn().map_err(said("starting keystorectl bench"))?))
    }

    /// Starts them and waits for their end.
    pub(super) async fn run(&self) -> Outcome<Came> {
        self.start()?.ended().await
    }
}

impl Running {
    /// Has the run end early.
    pub(super) fn interrupt(&self) {
        let pid = self.0.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::INT);
        }
    }

    /// Waits for the end.
    pub(super) async fn ended(self) -> Outcome<Came> {
        let output = self.0.wait_with_output().await.map_err(said("waiting for keystorectl bench"))?;
        let figures: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("keystorectl bench: {error}: {}", String::from_utf8_lossy(&output.stderr)))?;
        let figure = |name: &str| figures[name].as_f64().ok_or(format!("keystorectl bench says nothing of {name}"));
        let errors = figures["errors"].as_object().into_iter().flatten();
        let mut errors: BTreeMap<String, u64> =
            errors.map(|(name, count)| (name.clone(), count.as_u64().unwrap_or(0))).collect();
        match figures["unstarted"].as_u64() {
            None | Some(0) => {}
            Some(calls) => {
                errors.insert("not begun".to_owned(), calls);
            }
        }
        Ok(Came {
            rate: figure("items_per_second")?,
            p50: figure("p50_us")? / 1e3,
            p99: figure("p99_us")? / 1e3,
            p999: figure("p999_us")? / 1e3,
            max: figure("max_us")? / 1e3,
            errors,
        })
    }
}

impl Came {
    /// Calls that did not succeed.
    pub(super) fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Them by name.
    pub(super) fn by_name(&self) -> String {
        named(&self.errors)
    }
}

/// How many of each error.
pub(super) fn named(errors: &BTreeMap<String, u64>) -> String {
    if errors.is_empty() {
        return "no errors".to_owned();
    }
    let each: Vec<String> = errors.iter().map(|(name, count)| format!("{} {name}", thousands(*count as f64))).collect();
    each.join(", ")
}
