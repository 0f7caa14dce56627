//! The load: `keystorectl bench`, one process for each measurement.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::daemon::Environment;
use super::{Outcome, PLAINTEXT_BYTES, said};

const PROGRAM: &str = env!("CARGO_BIN_EXE_keystorectl");
/// Items of a batch call.
const BATCH: &str = "256";
/// Batch calls in flight: enough that the daemon always has work while the client reads and writes.
const BATCHES: &str = "8";
/// Before each measurement, for connections and copies of keys that are made on first use.
pub(super) const WARM_UP: Duration = Duration::from_millis(300);

/// What is called.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Batch calls with one key.
    Batch,
    /// Batch calls with all keys, picked uniformly.
    BatchManyKeys,
    /// Unary, 64 calls in flight.
    Unary64,
    /// The same with all keys, picked uniformly.
    Unary64ManyKeys,
    /// Unary, one call in flight.
    Unary1,
}

/// What came of it.
pub(super) struct Figures {
    /// Items per second.
    pub(super) rate: f64,
    /// Median of a call, in microseconds.
    pub(super) p50: f64,
}

/// The load generator with what it needs.
#[derive(Clone)]
pub(super) struct Load {
    /// The key of the figures with one key.
    pub(super) key: String,
    /// Keys of the figures with many: as many of the first ones that the daemon lists.
    pub(super) keys: usize,
    /// How long each measurement takes.
    pub(super) length: Duration,
    /// As keystorectl calls it.
    pub(super) operation: &'static str,
    /// Each item has one of so many encryption contexts.
    pub(super) contexts: Option<u32>,
}

impl Load {
    /// Measures once. Any failed call spoils the figure and is an error.
    pub(super) fn run(&self, environment: &Environment, kind: Kind) -> Outcome<Figures> {
        let mut command = Command::new(PROGRAM);
        command.args(["--json", "bench"]);
        match kind {
            Kind::Batch => {
                command.args(["batch", "--batch-size", BATCH, "--in-flight", BATCHES, "--key", &self.key]);
            }
            Kind::BatchManyKeys => {
                let keys = self.keys.to_string();
                command.args(["batch", "--batch-size", BATCH, "--in-flight", BATCHES, "--keys", &keys]);
            }
            Kind::Unary64 => {
                command.args(["unary", "--in-flight", "64", "--key", &self.key]);
            }
            Kind::Unary64ManyKeys => {
                command.args(["unary", "--in-flight", "64", "--keys", &self.keys.to_string()]);
            }
            Kind::Unary1 => {
                command.args(["unary", "--in-flight", "1", "--key", &self.key]);
            }
        }
        if let Some(contexts) = self.contexts {
            command.args(["--contexts", &contexts.to_string()]);
        }
        let output = command
            .args(["--operation", self.operation, "--payload", &PLAINTEXT_BYTES.to_string()])
            .args(["--warm-up", &format!("{}ms", WARM_UP.as_millis())])
            .args(["--duration", &format!("{}ms", self.length.as_millis())])
            .envs(environment)
            .stdin(Stdio::null())
            .output()
            .map_err(said("starting keystorectl bench"))?;
        let words = || format!("{kind:?}: {}", String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            return Err(format!("keystorectl bench failed: {}", words()));
        }
        let figures: Value = serde_json::from_slice(&output.stdout).map_err(said("reading the load's figures"))?;
        if figures["errors"].as_object().is_none_or(|errors| !errors.is_empty()) {
            return Err(format!("calls failed: {} {}", figures["errors"], words()));
        }
        let figure = |name: &str| figures[name].as_f64().ok_or(format!("keystorectl bench says nothing of {name}"));
        Ok(Figures { rate: figure("items_per_second")?, p50: figure("p50_us")? })
    }
}
