//! Log lines that strangers or callers could repeat without end: the first ones of a kind that somebody causes are
//! written whole; how many more there were, and who caused most of them, is said in one line.
//!
//! Kinds are fixed, so that memory is bounded whatever is sent. What is left out here is part of the process's log, and
//! as global as that.

use std::fmt::Display;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::busiest::Busiest;
use model::clock::Clock;
use model::lock::MutexExt as _;

/// From the first line of a kind to the one that counts the others.
const PERIOD: Duration = Duration::from_secs(10);
/// Whoever causes lines under ever new names gets no more whole than so many names.
const NAMES: u64 = 4;
/// How often is looked whether a period is over.
const LOOK: Duration = Duration::from_secs(1);
/// Modules whose lines say by themselves of which kind they are.
const OURS: &str = "keystored";

/// A kind of line that can repeat without bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A handshake failed.
    HandshakeFailed,
    /// A client did not send what it owes in time.
    Late,
    /// A connection that is not in use made room for another one.
    MadeRoom,
    /// A connection was refused because too many are open.
    NoPlace,
    /// A client certificate names nobody, or is no longer good.
    Certificate,
    /// A connection could not be accepted.
    NotAccepted,
    /// Answers were not fetched, and were cut off.
    NotFetched,
    /// A call came to nothing by the service's own fault.
    OwnFault,
    /// A key could not be made, or not in one of the HSMs.
    KeyNotMade,
    /// A key could not be rotated by itself.
    KeyNotRotated,
    /// An HSM, or a worker's operation in it, failed.
    Hsm,
    /// A worker's session failed.
    Session,
    /// A library has something to say.
    Library,
}

impl Line {
    const ALL: [Self; 13] = [
        Self::HandshakeFailed,
        Self::Late,
        Self::MadeRoom,
        Self::NoPlace,
        Self::Certificate,
        Self::NotAccepted,
        Self::NotFetched,
        Self::OwnFault,
        Self::KeyNotMade,
        Self::KeyNotRotated,
        Self::Hsm,
        Self::Session,
        Self::Library,
    ];

    /// How many that one source, principal or HSM causes are written whole in each period. Callers are known, and what
    /// they ask for is what an operator looks for.
    const fn whole(self) -> u64 {
        match self {
            Self::OwnFault | Self::KeyNotMade | Self::KeyNotRotated => 100,
            _ => 10,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::HandshakeFailed => "handshake failed",
            Self::Late => "sent nothing in time",
            Self::MadeRoom => "made room",
            Self::NoPlace => "no place for a connection",
            Self::Certificate => "client certificate",
            Self::NotAccepted => "not accepted",
            Self::NotFetched => "answers not fetched",
            Self::OwnFault => "call failed in the service itself",
            Self::KeyNotMade => "key not made",
            Self::KeyNotRotated => "key not rotated",
            Self::Hsm => "an HSM failed",
            Self::Session => "a session failed",
            Self::Library => "a library's warning",
        }
    }
}

/// What was left out of one kind in one period.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LeftOut {
    line: Line,
    lines: u64,
    busiest: String,
    by_busiest: u64,
}

/// What each kind has had in its period.
struct Sampler {
    kinds: [Mutex<Kind>; Line::ALL.len()],
}

/// One kind.
struct Kind {
    since: Option<Instant>,
    whole: u64,
    left_out: u64,
    busiest: Busiest,
}

static LOG: Sampler = Sampler::new();

/// Whether a line of this kind is to be written whole. `from` is who caused it.
#[must_use]
pub fn whole(line: Line, from: &dyn Display) -> bool {
    let now = now();
    // In a process without [`tell_for_ever`], whoever comes after the period says what was left out in it.
    LOG.over(line, now).iter().for_each(tell);
    LOG.admit(line, now, from)
}

/// Says of every kind whose period is over what was left out; for ever.
pub async fn tell_for_ever() {
    loop {
        tokio::time::sleep(LOOK).await;
        tell_until(now());
    }
}

/// Says of every kind what was left out, whether its period is over or not: nobody will say it later.
pub fn tell_the_rest() {
    tell_until(now() + PERIOD);
}

fn tell_until(now: Instant) {
    Line::ALL.iter().filter_map(|line| LOG.over(*line, now)).for_each(|left_out| tell(&left_out));
}

/// The log's lines have the system's time, whatever clock those have who write them.
fn now() -> Instant {
    Clock::system().now()
}

fn tell(LeftOut { line, lines, busiest, by_busiest }: &LeftOut) {
    tracing::warn!(
        lines,
        of = line.name(),
        within_s = PERIOD.as_secs(),
        most_by = busiest,
        about = by_busiest,
        "lines were left out of this log"
    );
}

impl Sampler {
    const fn new() -> Self {
        Self { kinds: [const { Mutex::new(Kind::new()) }; Line::ALL.len()] }
    }

    fn admit(&self, line: Line, now: Instant, from: &dyn Display) -> bool {
        let Some(kind) = self.kinds.get(line as usize) else { return true };
        let mut kind = kind.lock_anyway();
        kind.since.get_or_insert(now);
        let by_this_one = kind.busiest.note(from);
        if by_this_one <= line.whole() && kind.whole < line.whole() * NAMES {
            kind.whole += 1;
            return true;
        }
        kind.left_out += 1;
        false
    }

    /// Ends a kind's period, where it is over; what was left out in it.
    fn over(&self, line: Line, now: Instant) -> Option<LeftOut> {
        let mut kind = self.kinds.get(line as usize)?.lock_anyway();
        if now.saturating_duration_since(kind.since?) < PERIOD {
            return None;
        }
        let (lines, first) = (kind.left_out, kind.busiest.first().map(|(name, count)| (name.to_owned(), count)));
        (kind.since, kind.whole, kind.left_out) = (None, 0, 0);
        kind.busiest.clear();
        let (busiest, by_busiest) = first.filter(|_| lines > 0)?;
        Some(LeftOut { line, lines, busiest, by_busiest })
    }
}

impl Kind {
    const fn new() -> Self {
        Self { since: None, whole: 0, left_out: 0, busiest: Busiest::new() }
    }
}

/// Samples what libraries say, whose lines are not known one by one: by module.
pub(super) struct Libraries;

impl<S: Subscriber> Layer<S> for Libraries {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let (level, module) = (*event.metadata().level(), event.metadata().target());
        // Whoever asks for more than INFO wants all of it. Nothing is said from here: this is the middle of a line.
        level > Level::INFO || module.starts_with(OURS) || LOG.admit(Line::Library, now(), &module)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_indexed_in_the_order_of_the_list() {
        for (place, line) in Line::ALL.iter().enumerate() {
            assert_eq!(*line as usize, place);
        }
    }

    #[test]
    fn the_first_ones_are_whole_and_the_others_are_counted() {
        let (sampler, clock) = (Sampler::new(), Clock::manual());
        let flood = |lines: u64, from: &str| {
            (0..lines).filter(|_| sampler.admit(Line::HandshakeFailed, clock.now(), &from)).count()
        };
        assert_eq!(flood(33_000, "192.0.2.7"), 10);
        // Another one's lines, and other kinds, are not hidden by it.
        assert_eq!(flood(15, "10.0.0.1"), 10);
        assert!(sampler.admit(Line::Late, clock.now(), &"192.0.2.7"));
        clock.advance(PERIOD - Duration::from_millis(1));
        assert_eq!(sampler.over(Line::HandshakeFailed, clock.now()), None);
        clock.advance(Duration::from_millis(1));
        let (line, lines) = (Line::HandshakeFailed, 32_990 + 5);
        let left_out = LeftOut { line, lines, busiest: "192.0.2.7".to_owned(), by_busiest: 33_000 };
        assert_eq!(sampler.over(Line::HandshakeFailed, clock.now()), Some(left_out));
        assert_eq!(sampler.over(Line::HandshakeFailed, clock.now()), None, "said once");
        assert_eq!(sampler.over(Line::Late, clock.now()), None, "nothing was left out");
        assert_eq!(flood(3, "10.0.0.1"), 3, "a new period");
    }

    #[test]
    fn ever_new_names_write_no_more_than_a_few() {
        let (sampler, clock) = (Sampler::new(), Clock::manual());
        let whole = (0..10_000).filter(|name| sampler.admit(Line::HandshakeFailed, clock.now(), name)).count();
        assert!((10..=40).contains(&whole), "{whole}");
        clock.advance(PERIOD);
        assert_eq!(sampler.over(Line::HandshakeFailed, clock.now()).unwrap().lines, 10_000 - whole as u64);
    }

    /// Counts the events that come through.
    struct Counting(std::sync::Arc<std::sync::atomic::AtomicUsize>);

    impl<S: Subscriber> Layer<S> for Counting {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[test]
    fn libraries_are_sampled_and_our_own_lines_are_not() {
        use tracing_subscriber::layer::SubscriberExt as _;
        let counted = std::sync::Arc::default();
        let log = tracing_subscriber::registry().with(Counting(std::sync::Arc::clone(&counted))).with(Libraries);
        tracing::subscriber::with_default(log, || {
            for _ in 0..1_000 {
                tracing::warn!(target: "h2::proto::ping_pong", "received an answer to a ping that was never sent");
                tracing::debug!(target: "h2::proto::ping_pong", "what somebody asked for");
                tracing::warn!("ours");
            }
        });
        assert_eq!(counted.load(std::sync::atomic::Ordering::Relaxed), 10 + 1_000 + 1_000);
    }

    #[test]
    fn a_slow_trickle_is_written_whole() {
        let (sampler, clock) = (Sampler::new(), Clock::manual());
        for _ in 0..1_000 {
            sampler.over(Line::HandshakeFailed, clock.now());
            assert!(sampler.admit(Line::HandshakeFailed, clock.now(), &"192.0.2.7"));
            clock.advance(PERIOD / 10);
        }
    }
}
