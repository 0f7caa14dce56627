//! The process's log: lines on standard error, which may be a pipe that nobody reads, a disk that is full, or gone.
//!
//! The daemon's own lines, its workers' and their modules' words all go through one queue ([`queue`]); one thread
//! writes, and nobody else ever waits for standard error. A worker writes for itself ([`worker`]), into a pipe that
//! never blocks and that its parent empties.

mod hand;
mod queue;
mod stream;
mod trouble;
pub mod worker;

use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::hand::{Gap, Hand};
use self::queue::{BOUNDS, Queue};
use self::stream::Stream;
use model::clock::Clock;

/// What the end of a process waits for its last lines: long for a disk, short for somebody who waits for the end.
pub const LAST_LINES: Duration = Duration::from_secs(2);

/// Whose lines are not written whatever is asked for.
const SILENT: &str = "aws_sigv4";

/// Whether lines are JSON.
static JSON: AtomicBool = AtomicBool::new(false);

/// Begins with the first line. It has a clock of its own, because it belongs to the process and is made by whoever
/// comes first.
static QUEUE: LazyLock<Queue> = LazyLock::new(|| over("keystored-log", io::stderr()));

fn over(name: &str, stream: impl std::os::fd::AsFd + Send + 'static) -> Queue {
    Queue::start(name, Hand::new(Stream::patient(stream), missing), BOUNDS, Clock::system())
}

/// Sets the process's log up, through the queue to standard error.
pub(super) fn init(json: bool, filter: &str) {
    if install(json, !json && io::stderr().is_terminal(), filter, || Line) {
        JSON.store(json, Ordering::Relaxed);
    }
}

/// What is written, by what an operator asks for. Never a line of the signer of requests: at the level trace it shows the
/// hash of each body, and a short plaintext can be guessed from that.
fn filter(asked: &str) -> EnvFilter {
    // What is asked for of one of its modules would go before what is said of all.
    let others: Vec<&str> = asked.split(',').filter(|one| !one.trim_start().starts_with(SILENT)).collect();
    // The configuration's filter was checked when it was read; one from elsewhere gives way to `info`.
    let filter = EnvFilter::try_new(others.join(",")).unwrap_or_else(|_| EnvFilter::new("info"));
    format!("{SILENT}=off").parse().map_or_else(|_| EnvFilter::new("info"), |silent| filter.add_directive(silent))
}

/// Has what is traced written by `lines`, each line in one call; whether it is so. A log that is set up already stays.
fn install<W>(json: bool, colours: bool, filter: &str, lines: W) -> bool
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let filter = self::filter(filter);
    // What cannot be written is no reason to print elsewhere: that would block, or panic, for the same reason.
    let log = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false).with_writer(lines);
    let installed = if json {
        let json = log.json().flatten_event(true).with_current_span(true).with_span_list(false);
        json.finish().with(super::sampled::Libraries).try_init()
    } else {
        log.with_ansi(colours).finish().with(super::sampled::Libraries).try_init()
    };
    installed.is_ok()
}

/// Hands a line to the queue.
struct Line;

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        QUEUE.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether lines are JSON.
#[must_use]
pub fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Puts a line, without its newline, into the log as it is.
pub fn relay(line: &str) {
    QUEUE.push(format!("{line}\n").as_bytes());
}

/// Counts lines that were dropped before they came here; whoever dropped them says so in the log.
pub fn count_dropped(lines: u64) {
    QUEUE.count(lines);
}

/// Lines that were dropped since the process began.
#[must_use]
pub fn dropped() -> u64 {
    QUEUE.look().dropped
}

/// What is wrong with the log, if anything is, and what to do.
#[must_use]
pub fn trouble() -> Option<String> {
    trouble::sentence(&QUEUE.look())
}

/// Waits until all lines were written or refused, but not for longer than `within`.
pub fn flush(within: Duration) {
    QUEUE.flush(within);
}

/// Why the process ends, as a line for people, whatever form the log has: comes after everything else, and once. A
/// [`flush`] has to follow.
pub fn last_words(words: &str) {
    QUEUE.push_last(format!("{words}\n").as_bytes());
}

/// Standard output, for words to a person who may have gone, or may not look. Taken like the log.
pub struct Terminal(Queue);

impl Terminal {
    /// Once in a process.
    #[must_use]
    pub fn open() -> Self {
        Self(over("keystored-out", io::stdout()))
    }

    /// Says something in whole lines, the last without its newline.
    pub fn say(&self, words: &str) {
        self.0.push(format!("{words}\n").as_bytes());
    }

    /// Waits until all was said, for [`LAST_LINES`] at most.
    pub fn flush(&self) {
        self.0.flush(LAST_LINES);
    }
}

/// The line that stands for lines that are missing, in the form of the others.
fn missing(gap: &Gap) -> Vec<u8> {
    render(gap, is_json())
}

fn render(gap: &Gap, json: bool) -> Vec<u8> {
    #[derive(Serialize)]
    struct Missing<'a> {
        timestamp: &'a str,
        level: &'a str,
        message: &'a str,
        lines: u64,
        since: &'a str,
        target: &'a str,
    }

    let (now, target, message) = (now(), module_path!(), "log lines are missing here: they could not be written");
    let Gap { lines, since } = gap;
    let text = || format!("{now}  WARN {target}: {message} lines={lines} since={since}");
    let missing = Missing { timestamp: &now, level: "WARN", message, lines: *lines, since, target };
    let line = if json { serde_json::to_string(&missing).unwrap_or_else(|_| text()) } else { text() };
    format!("{line}\n").into_bytes()
}

/// The time, as log lines have it.
fn now() -> String {
    let mut now = String::new();
    // A String takes everything.
    let _ = SystemTime.format_time(&mut Writer::new(&mut now));
    now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signer_of_requests_is_silent_whatever_is_asked_for() {
        for asked in ["info", "trace", "aws_sigv4=trace", "info, aws_sigv4::http_request=trace", "no filter=="] {
            let filter = filter(asked).to_string();
            let of_signer: Vec<&str> = filter.split(',').filter(|part| part.starts_with(SILENT)).collect();
            assert_eq!(of_signer, ["aws_sigv4=off"], "{asked}: {filter}");
        }
        assert!(filter("keystored=debug").to_string().contains("keystored=debug"));
    }

    #[test]
    fn a_gap_is_told_in_the_form_of_other_lines() {
        let gap = Gap { lines: 7, since: "2026-01-02T03:04:05.000006Z".to_owned() };
        let json: serde_json::Value = serde_json::from_slice(&render(&gap, true)).unwrap();
        assert_eq!((&json["level"], &json["lines"]), (&"WARN".into(), &7.into()));
        assert_eq!(json["since"], "2026-01-02T03:04:05.000006Z");
        assert_eq!(json["timestamp"].as_str().map(str::len), json["since"].as_str().map(str::len));
        let text = String::from_utf8(render(&gap, false)).unwrap();
        assert!(text.contains("Z  WARN keystored_telemetry::log: log lines are missing here"), "{text}");
        assert!(text.ends_with(" lines=7 since=2026-01-02T03:04:05.000006Z\n"), "{text}");
    }
}
