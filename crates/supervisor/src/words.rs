//! What comes out of a worker's standard error: its own log lines, and whatever its module prints.
//!
//! The worker's lines go into the log with a mark in front that no line of the daemon's own has: the module is in the
//! same process and can write what it likes in the worker's name, but not in the daemon's. A module's words become an
//! event that names the HSM; what is in them is shown and never obeyed. Who talks without end gets a share.

use std::fmt;
use std::io::{ErrorKind, PipeReader};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinHandle;

use super::worker_id::WorkerId;
use model::clock::Clock;
use model::id::HsmId;
use telemetry::log;
use telemetry::log::worker::{MISSING, OWN, Said};

/// The longest line, in bytes; the rest of a longer one is left out. Four times what a pipe takes whole.
const LINE: usize = 16 << 10;
/// Words that are not followed by a newline are a line after so long.
const QUIET: Duration = Duration::from_secs(1);
/// A module's lines that are logged in each [`WINDOW`], for each worker: more than a person reads, and a hundred
/// workers that all talk without end make no more lines than the log's own queue holds.
const SHARE: u32 = 80;
/// The same of the worker's own lines, of which a log that tells everything has many.
const OWN_SHARE: u32 = 5_000;
/// More missing lines are not believed in at once.
const MOST_MISSING: u64 = 1_000_000;
/// Begins each line that comes from a worker: in JSON a field of this name, that nothing of the daemon's own has.
const FROM: &str = "from_worker";
const WINDOW: Duration = Duration::from_secs(10);

/// Listens until everybody has closed the pipe.
pub(super) fn listen(pipe: PipeReader, hsm: HsmId, id: WorkerId, clock: Clock) -> JoinHandle<()> {
    let (share, own) = (Share::new(SHARE, clock.now()), Share::new(OWN_SHARE, clock.now()));
    let mut listener = Listener { hsm, id, share, own, clock };
    // On panic: the pipe is closed. The worker goes on, and is heard again when it is replaced.
    tokio::spawn(async move {
        match Receiver::from_owned_fd(OwnedFd::from(pipe)) {
            Ok(pipe) => listener.run(pipe).await,
            // The pipe is closed: the worker writes to nobody, and goes on.
            Err(error) => tracing::error!(hsm = %listener.hsm, worker = %id, %error, "a worker is not heard"),
        }
    })
}

struct Listener {
    hsm: HsmId,
    id: WorkerId,
    share: Share,
    own: Share,
    clock: Clock,
}

impl Listener {
    async fn run(&mut self, mut pipe: Receiver) {
        let mut lines = Lines::default();
        let mut chunk = vec![0; LINE];
        loop {
            let waits = lines.has_begun() || self.share.left_out > 0 || self.own.left_out > 0;
            let read = match waits {
                true => tokio::time::timeout(QUIET, pipe.read(&mut chunk)).await.ok(),
                false => Some(pipe.read(&mut chunk).await),
            };
            match read {
                None => lines.end(|line, cut| self.take(line, cut)),
                Some(Ok(0)) => break,
                Some(Ok(length)) => {
                    lines.feed(chunk.get(..length).unwrap_or_default(), |line, cut| self.take(line, cut));
                }
                Some(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Some(Err(_)) => break,
            }
            let now = self.clock.now();
            let (told, own) = (self.share.turn(now), self.own.turn(now));
            self.tell(told);
            self.tell_own(own);
        }
        lines.end(|line, cut| self.take(line, cut));
        let (told, own) = (self.share.end(), self.own.end());
        self.tell(told);
        self.tell_own(own);
    }

    fn take(&mut self, line: &[u8], cut: bool) {
        match Said::read(line) {
            Said::Own(line) => {
                let (let_through, told) = self.own.ask(self.clock.now());
                self.tell_own(told);
                if let_through {
                    self.relay(line, cut);
                }
            }
            Said::Missing(lines) => {
                let lines = lines.min(MOST_MISSING);
                log::count_dropped(lines);
                let (let_through, told) = self.share.ask(self.clock.now());
                self.tell(told);
                let (hsm, worker) = (&self.hsm, self.id);
                if let_through {
                    tracing::warn!(%hsm, %worker, lines, "log lines of a worker are missing: it was not listened to in time");
                }
            }
            Said::Module(line) => {
                let (let_through, told) = self.share.ask(self.clock.now());
                self.tell(told);
                let said = shown(line, cut);
                if let_through && !said.is_empty() {
                    let (hsm, worker) = (&self.hsm, self.id);
                    tracing::warn!(%hsm, %worker, %said, "the module wrote to standard error");
                }
            }
        }
    }

    /// A line in the worker's name.
    fn relay(&self, line: &[u8], cut: bool) {
        let (hsm, worker) = (&self.hsm, self.id);
        match own(line, cut, log::is_json(), &format!("{hsm} {worker}")) {
            Some(line) => log::relay(&line),
            None => {
                let said = shown(line, cut);
                tracing::warn!(%hsm, %worker, %said, "a line of a worker's log cannot be logged as it is");
            }
        }
    }

    /// Says how much was left out of the worker's own lines.
    fn tell_own(&self, lines_left_out: u64) {
        if lines_left_out > 0 {
            log::count_dropped(lines_left_out);
            let (hsm, worker) = (&self.hsm, self.id);
            tracing::warn!(%hsm, %worker, lines_left_out, "the worker, or its module, wrote more log lines than are kept");
        }
    }

    /// Says how much was left out.
    fn tell(&self, lines_left_out: u64) {
        if lines_left_out > 0 {
            log::count_dropped(lines_left_out);
            let (hsm, worker) = (&self.hsm, self.id);
            tracing::warn!(%hsm, %worker, lines_left_out, "the module wrote more to standard error than is logged");
        }
    }
}

/// A line in the worker's name, with that name in front, if nothing is wrong with it: the module is in the same process
/// and can write what it likes.
fn own(line: &[u8], cut: bool, json: bool, from: &str) -> Option<String> {
    let line = std::str::from_utf8(line).ok().filter(|line| !cut && !line.is_empty())?;
    if line.chars().any(is_unprintable) {
        return None;
    }
    if !json {
        return Some(format!("[{FROM} {from}] {line}"));
    }
    let fields = line.strip_prefix('{').filter(|_| serde_json::from_str::<Fields>(line).is_ok())?;
    Some(format!("{{\"{FROM}\":{},{fields}", serde_json::Value::from(from)))
}

/// An object with at least one field, and without one by which it would say itself where it comes from.
struct Fields;

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for Fields {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self, A::Error> {
        let mut any = false;
        while let Some(name) = fields.next_key::<String>()? {
            if name == FROM {
                return Err(A::Error::custom(FROM));
            }
            any = true;
            fields.next_value::<IgnoredAny>()?;
        }
        if any { Ok(self) } else { Err(A::Error::custom("no field")) }
    }
}

/// Words as they can be shown anywhere.
fn shown(line: &[u8], cut: bool) -> String {
    let text = String::from_utf8_lossy(line);
    let mut shown = String::with_capacity(text.len());
    for character in text.trim_end().chars() {
        match is_unprintable(character) {
            true => shown.extend(character.escape_debug()),
            false => shown.push(character),
        }
    }
    if cut {
        shown.push('…');
    }
    shown
}

/// Control characters, and those that turn the direction of what follows.
fn is_unprintable(character: char) -> bool {
    // Of ASCII, quotes and backslashes have an escaped form too, and need none here.
    !matches!(character, ' '..='~') && character.escape_debug().len() > 1
}

/// Cuts what comes into lines. A mark begins one too: a module may have left the end of its own away.
#[derive(Default)]
struct Lines {
    begun: Vec<u8>,
    cut: bool,
}

impl Lines {
    fn has_begun(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Hands on each line that has come to its end, without its newline, and whether it was longer.
    fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8], bool)) {
        while let Some(at) = bytes.iter().position(|byte| matches!(*byte, b'\n' | OWN | MISSING)) {
            let (before, rest) = bytes.split_at(at);
            self.add(before);
            let (mark, rest) = rest.split_at(1);
            bytes = rest;
            if mark == b"\n" || self.has_begun() {
                self.end(&mut each);
            }
            if mark != b"\n" {
                self.begun.extend_from_slice(mark);
            }
        }
        self.add(bytes);
    }

    /// What has come is a line.
    fn end(&mut self, mut each: impl FnMut(&[u8], bool)) {
        if self.has_begun() {
            each(&self.begun, self.cut);
        }
        self.begun.clear();
        self.cut = false;
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = LINE.saturating_sub(self.begun.len());
        self.cut |= bytes.len() > room;
        self.begun.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }
}

/// How much of what is said is logged.
struct Share {
    most: u32,
    left: u32,
    until: Instant,
    left_out: u64,
}

impl Share {
    fn new(most: u32, now: Instant) -> Self {
        Self { most, left: most, until: now + WINDOW, left_out: 0 }
    }

    /// Whether one more line is logged; and how many were not, where it is time to say so.
    fn ask(&mut self, now: Instant) -> (bool, u64) {
        let told = self.turn(now);
        if self.left == 0 {
            self.left_out = self.left_out.saturating_add(1);
            return (false, told);
        }
        self.left -= 1;
        (true, told)
    }

    /// Begins a new window when it is time to; how many lines were left out in the one before.
    fn turn(&mut self, now: Instant) -> u64 {
        if now < self.until {
            return 0;
        }
        std::mem::replace(self, Self::new(self.most, now)).left_out
    }

    fn end(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<(String, bool)> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        let mut each = |line: &[u8], cut: bool| found.push((String::from_utf8_lossy(line).into_owned(), cut));
        for chunk in chunks {
            lines.feed(chunk, &mut each);
        }
        lines.end(&mut each);
        found
    }

    #[test]
    fn lines_are_found_however_they_come() {
        let whole = lines(&[b"one\n\ntwo words\x1e{own}\n\x1d7\nrest"]);
        let texts: Vec<&str> = whole.iter().map(|(line, _)| line.as_str()).collect();
        assert_eq!(texts, ["one", "two words", "\x1e{own}", "\x1d7", "rest"]);
        let bytes: Vec<&[u8]> = b"one\n\ntwo words\x1e{own}\n\x1d7\nrest".chunks(1).collect();
        assert_eq!(lines(&bytes), whole);
        assert_eq!(lines(&[]), []);
    }

    #[test]
    fn a_line_without_end_is_cut_and_ends_with_its_newline() {
        let long = vec![b'x'; LINE + 9];
        let found = lines(&[&long, &long, b"\nnext\n"]);
        assert_eq!(found, [("x".repeat(LINE), true), ("next".to_owned(), false)]);
        assert_eq!(lines(&[&long[..LINE], b"\n"]), [("x".repeat(LINE), false)]);
    }

    #[test]
    fn what_is_no_sound_line_of_ours_is_not_passed_on_as_one() {
        let json = br#"{"level":"INFO"}"#;
        let relayed = own(json, false, true, "hsm-a data 0");
        assert_eq!(relayed.as_deref(), Some(r#"{"from_worker":"hsm-a data 0","level":"INFO"}"#));
        let relayed = own(b"2026 INFO \xc3\xa4", false, false, "hsm-a data 0");
        assert_eq!(relayed.as_deref(), Some("[from_worker hsm-a data 0] 2026 INFO ä"));
        assert_eq!(own(json, true, true, "a"), None);
        for line in [&b"{\"level\":\"IN"[..], b"INFO", b"7", b"", b"\xff{}", "{\"a\":\"\u{202e}\"}".as_bytes()] {
            assert_eq!(own(line, false, true, "a"), None, "{line:?}");
        }
        for line in [&b"\x1b[31m"[..], b"a\rb", b"", "\u{9b}".as_bytes()] {
            assert_eq!(own(line, false, false, "a"), None, "{line:?}");
        }
    }

    #[test]
    fn nobody_but_this_process_says_where_a_line_comes_from() {
        for line in [
            r#"{"level":"ERROR","from_worker":"hsm-b data 0"}"#,
            r#"{"from\u005fworker":"hsm-b data 0"}"#,
            r#"{"from_worker":null}"#,
            "{}",
            "{ }",
            r#"[{"level":"ERROR"}]"#,
        ] {
            assert_eq!(own(line.as_bytes(), false, true, "hsm-a data 0"), None, "{line}");
        }
    }

    #[test]
    fn words_are_shown_and_not_obeyed() {
        assert_eq!(shown(b"say \"yes\" \\ 'no' \xc3\xa4 \r", false), "say \"yes\" \\ 'no' ä");
        assert_eq!(shown("\x1b[31m\t\u{202e}\u{9b}\0".as_bytes(), true), r"\u{1b}[31m\t\u{202e}\u{9b}\0…");
        assert_eq!(shown(b"\xff", false), "\u{fffd}");
    }

    #[test]
    fn who_talks_without_end_gets_a_share_and_it_is_said_what_was_left_out() {
        let clock = Clock::manual();
        let mut share = Share::new(SHARE, clock.now());
        let passed = (0..1_000).filter(|_| share.ask(clock.now()).0).count();
        assert_eq!(passed, SHARE as usize);
        assert_eq!(share.turn(clock.now()), 0, "not yet");
        clock.advance(WINDOW);
        assert_eq!(share.ask(clock.now()), (true, 1_000 - u64::from(SHARE)));
        assert_eq!(share.ask(clock.now()), (true, 0));
        assert_eq!(share.end(), 0);
    }
}
