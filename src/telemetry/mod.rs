//! Metric and span names, and where log lines go.

pub mod abort;
pub mod busiest;
pub mod metrics;
pub mod sampled;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Sets the process's log up: JSON lines or text, to standard error. Call once; a later call changes nothing.
pub fn init_log(json: bool, filter: &str) {
    // The configuration's filter was checked when it was read; one from elsewhere gives way to `info`.
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An error says that a log is set up already: the first one stays.
    let _ = if json {
        let json = log.json().flatten_event(true).with_current_span(true).with_span_list(false);
        json.finish().with(sampled::Libraries).try_init()
    } else {
        let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
        log.with_ansi(colours).finish().with(sampled::Libraries).try_init()
    };
}

/// Environment variables that tell a worker how its parent logs; a worker inherits no other environment.
pub const WORKER_LOG: [&str; 2] = ["KEYSTORED_LOG_FORMAT", "KEYSTORED_LOG_FILTER"];

/// Sets a worker's log up as its parent told it in [`WORKER_LOG`].
pub fn init_worker_log() {
    let [format, filter] = WORKER_LOG.map(|name| std::env::var(name).unwrap_or_default());
    init_log(format == "json", if filter.is_empty() { "info" } else { &filter });
}
