//! Lines on their way to a stream that may take its time, or nothing at all: a bounded queue, and the one thread that
//! ever waits for the stream.
//!
//! **Invariant:** whoever hands a line over waits for nothing but the queue's own lock, and is told of no failure. What
//! the queue has no room for, and what the stream refuses, is dropped, counted, and told in the stream itself, in the
//! place where it is missing, as soon as the stream takes something.
//!
//! tracing-appender's writer is not used: its bound counts lines and not bytes, nothing tells what it has dropped or
//! that it is stuck, and where it is stuck at the end it prints to standard output, which blocks or panics just then.

use std::collections::VecDeque;
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::hand::{Gap, Hand, Put};
use model::clock::Clock;
use model::lock::MutexExt as _;

/// How much waits for the stream at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) lines: usize,
    pub(super) bytes: usize,
    /// The longest line, in bytes; a longer one is dropped.
    pub(super) line: usize,
}

/// Strangers' garbage was seen to make 33,678 lines of some 350 bytes in four seconds: lines and bytes are about one
/// second of that, and hours of what a daemon has to say on a good day. Lines in the filter `trace` have up to some
/// thousand bytes.
pub(super) const BOUNDS: Bounds = Bounds { lines: 8_192, bytes: 4 << 20, line: 64 << 10 };

/// How often a stream that has refused a line is tried while there is nothing else to write.
const RETRY: Duration = Duration::from_secs(1);

/// A stream that takes lines in its own time.
pub(super) struct Queue(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Something came, or was done.
    changed: Condvar,
    bounds: Bounds,
    clock: Clock,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Entry>,
    /// Lines that wait or are in hand, and their bytes.
    lines: usize,
    bytes: usize,
    /// Since when the thread has been writing something.
    in_hand: Option<Instant>,
    /// There is no thread, or the queue was dropped.
    closed: bool,
    dropped: u64,
    lost_at: Option<Instant>,
    /// Lost lines of which the stream has not been told.
    untold: Option<Gap>,
    /// The stream's own words, of the last write that failed.
    error: Option<String>,
}

enum Entry {
    Line(Vec<u8>),
    /// Lines that there was no room for, after the line before.
    Gap(Gap),
}

impl Entry {
    fn line(&self) -> Option<&[u8]> {
        match self {
            Self::Line(line) => Some(line),
            Self::Gap(_) => None,
        }
    }

    fn gap(&self) -> Option<&Gap> {
        match self {
            Self::Line(_) => None,
            Self::Gap(gap) => Some(gap),
        }
    }
}

/// How the stream is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Lines that were dropped since the beginning.
    pub(super) dropped: u64,
    /// Lines that wait or are in hand.
    pub(super) waiting: usize,
    /// How long the write has lasted that is under way.
    pub(super) in_hand: Option<Duration>,
    /// Lost lines of which the stream has not been told.
    pub(super) untold: Option<Gap>,
    /// Why the last write failed, while not all was told.
    pub(super) error: Option<String>,
    /// How long ago a line was dropped.
    pub(super) lost: Option<Duration>,
}

impl Queue {
    /// Starts the thread. Without one, everything is dropped.
    pub(super) fn start(name: &str, hand: Hand<impl Write + Send + 'static>, bounds: Bounds, clock: Clock) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), bounds, clock });
        let run = {
            let shared = Arc::clone(&shared);
            move || shared.run_on(hand)
        };
        // It ends with the queue, or with the process: whoever has the queue decides how long to wait for its lines.
        // On panic: it goes on with the next line.
        // On panic: started again by itself; the line that was being written is lost and counted.
        if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(run) {
            let mut state = shared.lock();
            state.closed = true;
            state.error = Some(format!("no thread could be started: {error}"));
        }
        Self(shared)
    }

    /// Hands a line over, which has its newline.
    pub(super) fn push(&self, line: &[u8]) {
        let Shared { bounds, clock, .. } = &*self.0;
        let mut state = self.0.lock();
        let fits = line.len() <= bounds.line
            && state.lines < bounds.lines
            && state.bytes.saturating_add(line.len()) <= bounds.bytes;
        if fits && !state.closed {
            state.take(line);
            self.0.changed.notify_all();
        } else {
            state.drop_newest(clock.now());
        }
    }

    /// Hands over what the process says before it ends. There is always room for it, so it must come once.
    pub(super) fn push_last(&self, line: &[u8]) {
        self.0.lock().take(line.get(..self.0.bounds.line).unwrap_or(line));
        self.0.changed.notify_all();
    }

    /// Counts lines that were dropped elsewhere, of which the stream is told otherwise.
    pub(super) fn count(&self, lines: u64) {
        let now = self.0.clock.now();
        let mut state = self.0.lock();
        state.dropped = state.dropped.saturating_add(lines);
        state.lost_at = Some(now);
    }

    /// Waits until everything was written or refused, but not for longer than `within`. Whether it was.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let until = self.0.clock.now() + within;
        let mut state = self.0.lock();
        while state.lines > 0 || state.in_hand.is_some() {
            let left = until.saturating_duration_since(self.0.clock.now());
            if left.is_zero() {
                return false;
            }
            state = self.0.wait(state, Some(left));
        }
        true
    }

    /// How it is doing now.
    pub(super) fn look(&self) -> Look {
        let now = self.0.clock.now();
        let state = self.0.lock();
        let ago = |at: Instant| now.saturating_duration_since(at);
        Look {
            dropped: state.dropped,
            waiting: state.lines,
            in_hand: state.in_hand.map(ago),
            untold: state.untold.clone(),
            error: state.error.clone(),
            lost: state.lost_at.map(ago),
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }
}

impl State {
    fn take(&mut self, line: &[u8]) {
        self.waiting.push_back(Entry::Line(line.to_vec()));
        self.lines += 1;
        self.bytes += line.len();
    }

    fn drop_newest(&mut self, now: Instant) {
        match self.waiting.back_mut() {
            Some(Entry::Gap(gap)) => gap.lines = gap.lines.saturating_add(1),
            _ => self.waiting.push_back(Entry::Gap(Gap::begin())),
        }
        self.lost(now);
    }

    fn lost(&mut self, now: Instant) {
        self.dropped = self.dropped.saturating_add(1);
        self.lost_at = Some(now);
        match &mut self.untold {
            Some(gap) => gap.lines = gap.lines.saturating_add(1),
            none => *none = Some(Gap::begin()),
        }
    }

    /// Whatever was in hand is gone with the write that panicked.
    fn lost_in_hand(&mut self, now: Instant) {
        self.in_hand = None;
        let waiting = self.waiting.iter().filter_map(Entry::line);
        (self.lines, self.bytes) = waiting.fold((0, 0), |(lines, bytes), line| (lines + 1, bytes + line.len()));
        self.error = Some("a fault in this program".to_owned());
        self.lost(now);
    }

    /// What became of a write.
    fn done(&mut self, put: Put, line: Option<usize>, now: Instant) {
        self.in_hand = None;
        if let Some(gap) = self.untold.as_mut().filter(|_| put.told > 0) {
            gap.lines = gap.lines.saturating_sub(put.told);
            // The rest was lost later: the first of it stands among what waits.
            let next = self.waiting.iter().find_map(Entry::gap);
            match next {
                Some(next) if gap.lines > 0 => gap.since.clone_from(&next.since),
                _ => {
                    self.untold = None;
                    self.error = None;
                }
            }
        }
        if let Some(bytes) = line {
            self.lines = self.lines.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        if let Some(error) = put.failed {
            self.error = Some(error.to_string());
            if line.is_some() {
                self.lost(now);
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock_anyway()
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, at_most: Option<Duration>) -> MutexGuard<'a, State> {
        match at_most {
            Some(time) => self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0,
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// The thread.
    fn run_on(&self, mut hand: Hand<impl Write>) {
        while panic::catch_unwind(AssertUnwindSafe(|| self.run(&mut hand))).is_err() {
            hand.misses(Gap::begin());
            self.lock().lost_in_hand(self.clock.now());
            self.changed.notify_all();
        }
    }

    fn run(&self, hand: &mut Hand<impl Write>) {
        loop {
            let mut state = self.lock();
            while state.waiting.is_empty() {
                if state.closed {
                    return;
                }
                state = self.wait(state, hand.owes().then_some(RETRY));
                if state.waiting.is_empty() && hand.owes() {
                    break;
                }
            }
            let entry = state.waiting.pop_front();
            state.in_hand = Some(self.clock.now());
            drop(state);
            let (put, line) = match entry {
                Some(Entry::Line(line)) => (hand.put(&line), Some(line.len())),
                Some(Entry::Gap(gap)) => {
                    hand.misses(gap);
                    (hand.pay(), None)
                }
                None => (hand.pay(), None),
            };
            self.lock().done(put, line, self.clock.now());
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests;
