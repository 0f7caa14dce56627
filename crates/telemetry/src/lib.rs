//! Metric and span names, where log lines go, and who notices that a task has broken.

#![forbid(unsafe_code)]

pub mod abort;
pub mod busiest;
pub mod fault;
pub mod log;
pub mod metrics;
pub mod panics;
pub mod sampled;
mod task;
pub mod watchdog;

/// Sets the process's log up: JSON lines or text, to standard error. Call once; a later call changes nothing.
pub fn init_log(json: bool, filter: &str) {
    log::init(json, filter);
}

/// Environment variables that tell a worker how its parent logs; a worker inherits no other environment.
pub const WORKER_LOG: [&str; 2] = ["KEYSTORED_LOG_FORMAT", "KEYSTORED_LOG_FILTER"];

/// Sets a worker's log up as its parent told it in [`WORKER_LOG`].
pub fn init_worker_log() {
    let [format, filter] = WORKER_LOG.map(|name| std::env::var(name).unwrap_or_default());
    log::worker::init(format == "json", if filter.is_empty() { "info" } else { &filter });
}
