//! What systemd is told (sd_notify): ready, in which state, stopping, and that the watchdog turns. Nothing where nobody
//! asks for it: `NOTIFY_SOCKET` is systemd's, or that of whoever plays its part.
//!
//! Sent from a thread of its own, because a datagram to a manager that does not read waits for it.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::Error;
use model::clock::Clock;
use telemetry::fault;
use telemetry::watchdog::{Task, Watchdog};

/// Words that wait to be sent. What is said again and again is left out when there are more.
const WAITING: usize = 16;
/// Longest status, in bytes: it is shown in one line.
const STATUS_BYTES: usize = 400;
/// A status that goes on changing is sent no more often.
const STATUS_EVERY: Duration = Duration::from_secs(2);
/// How often a long start asks for more time, how much it asks for, and how often at most.
const PATIENCE: (Duration, Duration, u32) = (Duration::from_secs(10), Duration::from_secs(30), 60);
/// An interval that is shorter than this would end the daemon for a busy moment.
const SHORTEST_WATCHDOG: Duration = Duration::from_secs(60);

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct Systemd(Option<Told>);

#[derive(Clone)]
struct Told {
    words: SyncSender<Word>,
    /// How often systemd wants to hear that all is well.
    every: Option<Duration>,
}

#[derive(Debug)]
enum Word {
    /// Both ports are open.
    Ready,
    /// How things are.
    Status(String),
    /// The start or the stop may take so much longer.
    Extend(Duration),
    /// On the way out.
    Stopping,
    /// All is well.
    Alive,
}

impl Systemd {
    /// Asks the environment whether somebody wants to be told.
    pub(super) fn begin(watchdog: &Watchdog) -> Result<Self, Error> {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Ok(Self(None));
        }
        let every = sd_notify::watchdog_enabled();
        if let Some(every) = every.filter(|every| *every < SHORTEST_WATCHDOG) {
            let wanted = SHORTEST_WATCHDOG.as_secs();
            tracing::warn!(?every, "WatchdogSec is short: a busy moment may end the daemon; set {wanted} s or more");
        }
        let (words, told) = sync_channel(WAITING);
        let watchdog = watchdog.clone();
        // On panic: the process ends (vital).
        let sending = thread::Builder::new()
            .name("systemd".to_owned())
            .spawn(move || watchdog.vital_thread(Task::Systemd, || send_all(&told)));
        sending.map_err(|error| {
            Error::Passing(format!("no thread can be started ({error}); raise the limit (TasksMax)"))
        })?;
        Ok(Self(Some(Told { words, every })))
    }

    /// Both ports are open.
    pub(super) fn ready(&self) {
        self.say(Word::Ready);
    }

    /// How things are, for `systemctl status`.
    pub(super) fn status(&self, text: &str) {
        self.say(Word::Status(one_line(text)));
    }

    /// Waits for a part of the start, for which systemd is to have patience.
    pub(super) async fn while_starting<T>(&self, what: &str, part: impl Future<Output = T>) -> T {
        let mut part = std::pin::pin!(part);
        let (every, more, most) = PATIENCE;
        self.status(what);
        for _ in 0..most {
            self.say(Word::Extend(more));
            tokio::select! {
                done = &mut part => return done,
                () = tokio::time::sleep(every) => {}
            }
        }
        part.await
    }

    /// On the way out, which takes no longer than this.
    pub(super) fn stopping(&self, within: Duration) {
        self.say(Word::Stopping);
        self.say(Word::Extend(within));
        self.status("stopping: calls are let finish");
    }

    /// How often it wants to hear that all is well, if at all.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.0.as_ref().and_then(|told| told.every)
    }

    /// All is well.
    pub(super) fn alive(&self) {
        self.say(Word::Alive);
    }

    fn say(&self, word: Word) {
        if let Some(told) = &self.0 {
            // Full where systemd does not read.
            let _ = told.words.try_send(word);
        }
    }
}

fn send_all(told: &Receiver<Word>) {
    while let Ok(word) = told.recv() {
        fault::hit(Task::Systemd, "");
        let sent = match &word {
            Word::Ready => sd_notify::notify(&[NotifyState::Ready]),
            Word::Status(text) => sd_notify::notify(&[NotifyState::Status(text)]),
            Word::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
            Word::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
            Word::Extend(more) => {
                let micros = u32::try_from(more.as_micros()).unwrap_or(u32::MAX);
                sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(micros)])
            }
        };
        if let Err(error) = sent {
            tracing::warn!(%error, ?word, "systemd could not be told");
        }
    }
}

/// Without line breaks, which would begin another word to systemd, and no longer than is shown.
fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match text.floor_char_boundary(STATUS_BYTES) {
        end if end < text.len() => format!("{} …", text[..end].trim_end()),
        _ => text,
    }
}

/// A status that is told when it changes, and not too often.
pub(super) struct Status {
    systemd: Systemd,
    clock: Clock,
    told: Option<(Instant, String)>,
}

impl Status {
    /// Nothing was told.
    pub(super) fn new(systemd: Systemd, clock: Clock) -> Self {
        Self { systemd, clock, told: None }
    }

    /// How things are now.
    pub(super) fn is(&mut self, text: &str) {
        let now = self.clock.now();
        let due = match &self.told {
            None => true,
            Some((at, told)) => told != text && now.saturating_duration_since(*at) >= STATUS_EVERY,
        };
        if due {
            self.systemd.status(text);
            self.told = Some((now, text.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line_of_bounded_length() {
        assert_eq!(one_line("degraded: HSM a\nREADY=1\r\tx"), "degraded: HSM a READY=1  x");
        let long = one_line(&"ä".repeat(1_000));
        assert!(long.len() <= STATUS_BYTES + 4 && long.ends_with(" …"), "{long}");
        assert_eq!(one_line("ready"), "ready");
    }

    #[test]
    fn a_status_is_told_when_it_changes_and_not_too_often() {
        let (words, told) = sync_channel(WAITING);
        let clock = Clock::manual();
        let mut status = Status::new(Systemd(Some(Told { words, every: None })), clock.clone());
        let mut tell = |text: &str, after: Duration| {
            clock.advance(after);
            status.is(text);
            told.try_recv().ok().map(|word| match word {
                Word::Status(text) => text,
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(tell("ready", Duration::ZERO).as_deref(), Some("ready"));
        assert_eq!(tell("ready", STATUS_EVERY), None);
        assert_eq!(tell("degraded", Duration::ZERO).as_deref(), Some("degraded"));
        assert_eq!(tell("ready", Duration::ZERO), None);
        assert_eq!(tell("ready", STATUS_EVERY).as_deref(), Some("ready"));
    }

    #[test]
    fn words_that_nobody_reads_are_left_out() {
        let (words, told) = sync_channel(WAITING);
        let systemd = Systemd(Some(Told { words, every: None }));
        (0..100).for_each(|_| systemd.say(Word::Alive));
        assert_eq!(told.try_iter().count(), WAITING);
    }
}
