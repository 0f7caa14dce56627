//! Records on their way elsewhere: to a file of JSON lines for shippers, and to a receiver of syslog.
//!
//! A sink follows the log by the numbers of its records. Up to which one everything has arrived stands in a small file of its
//! own beside the log, so what a receiver missed while it was away, or the daemon was stopped, is read from the log again and
//! sent. Nobody waits for a sink: it reads what is on the disk already. Each record arrives at least once; after a break, some
//! arrive twice, with the same number.
//!
//! [`Sink::step`] does a little and returns soon, whatever the receiver does; whoever has the sink calls it again and again.

mod json;
mod position;
mod syslog;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

pub use self::json::JsonLines;
pub use self::position::Beside;
use self::position::Position;
pub use self::syslog::{Address, Syslog};
use model::clock::Clock;

/// Most bytes of records that are read at once, and so about the memory that a sink needs.
pub const CHUNK_BYTES: usize = 1 << 20;
/// How often the position is written at most.
const KEEP: Duration = Duration::from_secs(1);

/// Some records, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// The number of the first: a higher one than was asked for where those before were moved away.
    pub first: u64,
    /// The records.
    pub records: Vec<Vec<u8>>,
}

/// Reads the log.
pub trait Source: Send {
    /// Records from this number on and below `end`, and no more than [`CHUNK_BYTES`] but for the first. None where it is to be
    /// asked again because it goes on looking for them.
    fn read(&mut self, from: u64, end: u64) -> Result<Chunk, String>;
}

/// Where records go. Takes one chunk after the other, and has room for one.
pub trait Outlet: Send {
    /// What it is called: in metrics, and in the name of the file with its position.
    fn name(&self) -> &'static str;
    /// Everything it was given is out of its hands.
    fn is_empty(&self) -> bool;
    /// Takes a chunk. Only when it is empty.
    fn take(&mut self, chunk: &Chunk);
    /// Goes on with what it has. Returns soon; `Ok` also where nothing moves because the receiver is slow. After an error it
    /// has nothing any more.
    fn push(&mut self) -> Result<(), String>;
    /// Everything below this number has arrived, as far as can be told; `None`: nothing new is known.
    fn arrived(&mut self) -> Option<u64>;
    /// Has what has arrived survive a loss of power, before that is noted. Of what came since the last time that it could, nothing is
    /// believed after an error: it is passed on again.
    fn settle(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more to do now.
    More,
    /// Nothing to do before there are more records, or some time has passed.
    Idle,
    /// Something is in the way; to be tried again after a pause.
    Failed,
}

/// How a sink is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Everything below this number has arrived.
    pub arrived: u64,
    /// Everything below this number was sent.
    pub sent: u64,
    /// Records that were moved away before they could be sent.
    pub missed: u64,
    /// What is in the way.
    pub trouble: Option<String>,
}

/// Passes a log's records on.
pub struct Sink {
    source: Box<dyn Source>,
    outlet: Box<dyn Outlet>,
    clock: Clock,
    file: Position,
    /// Absent until the position was read.
    at: Option<At>,
    missed: u64,
    trouble: Option<String>,
}

/// How far it is.
struct At {
    /// The next record to be read.
    next: u64,
    /// Everything below is out of our hands.
    sent: u64,
    /// Everything below has arrived.
    arrived: u64,
    /// What stands in the file, and since when.
    kept: (u64, Instant),
    /// What came since then is not believed to be on a disk: that failed, and is told once.
    distrusted: bool,
    /// Records below this number that were moved away have been counted.
    missed_to: u64,
}

impl Sink {
    /// One for the log of this origin, in this directory.
    #[must_use]
    pub fn new(
        directory: Beside,
        origin: &str,
        source: Box<dyn Source>,
        outlet: Box<dyn Outlet>,
        clock: Clock,
    ) -> Self {
        let file = Position::new(directory, outlet.name(), origin);
        Self { source, outlet, clock, file, at: None, missed: 0, trouble: None }
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.outlet.name()
    }

    /// How it is.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let (arrived, sent) = self.at.as_ref().map_or((0, 0), |at| (at.arrived, at.sent));
        Standing { arrived, sent, missed: self.missed, trouble: self.trouble.clone() }
    }

    /// Goes on for a moment; the log has `end` records that may be passed on. Blocks for a few seconds at most.
    pub fn step(&mut self, end: u64) -> Step {
        match self.go_on(end) {
            Ok(step) => {
                self.trouble = None;
                step
            }
            Err(why) => {
                self.trouble = Some(why);
                Step::Failed
            }
        }
    }

    fn go_on(&mut self, end: u64) -> Result<Step, String> {
        let now = self.clock.now();
        let at = match &mut self.at {
            Some(at) => at,
            none => {
                let arrived = match self.file.read()?.unwrap_or(0) {
                    // Nobody can have sent that: the file is as good as damaged, and going on there would leave records out.
                    ahead if ahead > end => {
                        tracing::warn!(
                            sink = self.outlet.name(),
                            position = ahead,
                            end,
                            "more records of the audit log are said to have been passed on than it has: all of them are passed on again"
                        );
                        0
                    }
                    arrived => arrived,
                };
                let kept = (arrived, now);
                none.insert(At { next: arrived, sent: arrived, arrived, kept, distrusted: false, missed_to: 0 })
            }
        };
        if self.outlet.is_empty() && at.next < end {
            let chunk = self.source.read(at.next, end)?;
            if !chunk.records.is_empty() {
                // After an error they are missed once more. What is no gap was passed on, and may be missed later.
                if chunk.first > at.next {
                    self.missed += chunk.first.saturating_sub(at.next.max(at.missed_to));
                    at.missed_to = at.missed_to.max(chunk.first);
                }
                at.next = chunk.first + chunk.records.len() as u64;
                self.outlet.take(&chunk);
            }
        }
        if let Err(why) = self.outlet.push() {
            // It may have come to something before it failed.
            at.arrived = self.outlet.arrived().map_or(at.arrived, |arrived| arrived.max(at.arrived));
            (at.next, at.sent) = (at.arrived, at.arrived);
            return Err(why);
        }
        if self.outlet.is_empty() {
            at.sent = at.next;
        }
        if let Some(arrived) = self.outlet.arrived() {
            at.arrived = arrived.max(at.arrived);
        }
        let due = now.saturating_duration_since(at.kept.1) >= KEEP;
        if at.arrived != at.kept.0 && due {
            if let Err(why) = self.outlet.settle() {
                at.distrusted = true;
                return Err(why);
            }
            if std::mem::take(&mut at.distrusted) {
                (at.next, at.sent, at.arrived) = (at.kept.0, at.kept.0, at.kept.0);
                return Ok(Step::More);
            }
            self.file.write(at.arrived)?;
            at.kept = (at.arrived, now);
        }
        Ok(if self.outlet.is_empty() && at.next >= end { Step::Idle } else { Step::More })
    }

    /// Notes how far it is, at the end: what has arrived is not sent again after the next start.
    pub fn close(&mut self) -> Result<(), String> {
        let Some(at) = &mut self.at else { return Ok(()) };
        if let Some(arrived) = self.outlet.arrived() {
            at.arrived = arrived.max(at.arrived);
        }
        if at.arrived != at.kept.0 && !at.distrusted {
            self.outlet.settle()?;
            self.file.write(at.arrived)?;
            at.kept.0 = at.arrived;
        }
        Ok(())
    }
}
