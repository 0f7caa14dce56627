//! Whether more connections are wanted, or more bytes, than there is room for, now or a moment ago: what /readyz says of it.

use std::fmt::Display;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use model::clock::Clock;
use model::lock::MutexExt as _;
use telemetry::busiest::Busiest;

/// How long trouble is shown after it was last met: longer than a look takes, so that trouble that comes and goes
/// shows.
const SHOWN: Duration = Duration::from_secs(5);
/// So many connections of strangers within [`SHOWN`] are shown. Fewer are what port scanners and the health checks of
/// load balancers make anywhere.
const STRANGERS: u64 = 250;

/// What is met when connections are many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// A connection never came to a call: it sent nothing, no TLS, or no certificate that is good.
    Stranger,
    /// One whose handshake is not over made room for another one, or waits outside for room.
    Handshake,
    /// An open connection made room for another principal's, or a new one was refused.
    Open,
    /// A connection to the ops port made room for another one.
    Ops,
    /// A call was refused because calls hold as many bytes as they may.
    Bytes,
}

/// What was met lately.
pub(super) struct Pressure {
    clock: Clock,
    lately: [Mutex<Lately>; 5],
}

/// One kind.
#[derive(Debug, Default)]
struct Lately {
    /// Second of the last time, and how often in it and in each second before it.
    last: Option<Instant>,
    begun: Option<Instant>,
    seconds: [u64; SHOWN.as_secs() as usize],
    busiest: Busiest,
}

impl Pressure {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, lately: Default::default() }
    }

    /// This was met, because of somebody.
    pub(super) fn met(&self, what: Met, by: &dyn Display) {
        self.with(what, |lately, now| lately.note(now, by));
    }

    /// One sentence for each kind that was met within the last seconds.
    pub(super) fn sentences(&self) -> Vec<String> {
        let of = |what: Met| {
            let (count, by) = self.with(what, |lately, now| {
                let count = lately.count(now);
                (count, lately.busiest.majority().map(str::to_owned))
            });
            sentence(what, count, by.as_deref())
        };
        [Met::Stranger, Met::Handshake, Met::Open, Met::Ops, Met::Bytes].into_iter().filter_map(of).collect()
    }

    fn with<T>(&self, what: Met, act: impl FnOnce(&mut Lately, Instant) -> T) -> T {
        let [stranger, handshake, open, ops, bytes] = &self.lately;
        let lately = match what {
            Met::Stranger => stranger,
            Met::Handshake => handshake,
            Met::Open => open,
            Met::Ops => ops,
            Met::Bytes => bytes,
        };
        act(&mut lately.lock_anyway(), self.clock.now())
    }
}

fn sentence(what: Met, count: u64, by: Option<&str>) -> Option<String> {
    let seconds = SHOWN.as_secs();
    let most = |word: &str, many: &str| by.map_or_else(|| many.to_owned(), |by| format!("most of them {word} {by}"));
    match what {
        Met::Stranger if count < STRANGERS => None,
        _ if count == 0 => None,
        Met::Stranger => Some(format!(
            "{count} connections of the last {seconds} s came to no call, {}: they sent nothing, no TLS, or no certificate \
             that is good; callers are served all the same, but find out who that is",
            most("from", "from many addresses")
        )),
        Met::Handshake => Some(format!(
            "all places for connections that have not finished their handshakes were taken: {count} times in the last \
             {seconds} s one made room or had to wait, {}; each address has its share, find out who that is",
            most("from", "from many addresses")
        )),
        Met::Open => Some(format!(
            "as many connections are open as limits.connections allows: {count} times in the last {seconds} s one made room \
             or was refused, {}; have clients share connections, or raise the limit",
            most("of", "of many principals")
        )),
        Met::Ops => Some(format!(
            "the ops port has more connections than it takes: {count} times in the last {seconds} s one made room, {}; keep \
             the port on loopback or a management network",
            most("from", "from many addresses")
        )),
        Met::Bytes => Some(format!(
            "requests and answers took as much memory as they may, or one principal's share of it, within the last {seconds} \
             s, {}; have clients fetch what they ask for, and ask for less at once",
            most("of", "of many principals")
        )),
    }
}

impl Lately {
    fn note(&mut self, now: Instant, by: &dyn Display) {
        self.turn(now);
        if let Some(second) = self.seconds.first_mut() {
            *second += 1;
        }
        self.last = Some(now);
        self.busiest.note(by);
    }

    /// How often within the last seconds.
    fn count(&mut self, now: Instant) -> u64 {
        self.turn(now);
        self.seconds.iter().sum()
    }

    /// Moves on to the second of `now`.
    fn turn(&mut self, now: Instant) {
        if self.last.is_none_or(|last| now.saturating_duration_since(last) >= SHOWN) {
            *self = Self { begun: Some(now), ..Self::default() };
            return;
        }
        let Some(mut begun) = self.begun else { return };
        while now.saturating_duration_since(begun) >= Duration::from_secs(1) {
            begun += Duration::from_secs(1);
            self.seconds.rotate_right(1);
            if let Some(second) = self.seconds.first_mut() {
                *second = 0;
            }
        }
        self.begun = Some(begun);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_met_is_shown_for_a_few_seconds() {
        let clock = Clock::manual();
        let pressure = Pressure::new(clock.clone());
        assert!(pressure.sentences().is_empty());
        for _ in 0..3 {
            pressure.met(Met::Open, &"cn:a");
        }
        pressure.met(Met::Open, &"cn:b");
        clock.advance(SHOWN - Duration::from_millis(1));
        let sentences = pressure.sentences();
        let [sentence] = &sentences[..] else { panic!("{sentences:?}") };
        assert!(sentence.contains("4 times") && sentence.contains("most of them of cn:a"), "{sentence}");
        pressure.met(Met::Open, &"cn:b");
        clock.advance(Duration::from_secs(1));
        assert!(pressure.sentences()[0].contains(" 1 times"), "{:?}", pressure.sentences());
        clock.advance(SHOWN);
        assert!(pressure.sentences().is_empty());
    }

    #[test]
    fn a_few_strangers_are_no_trouble() {
        let clock = Clock::manual();
        let pressure = Pressure::new(clock.clone());
        for _ in 0..600 {
            pressure.met(Met::Stranger, &"192.0.2.7");
            assert!(pressure.sentences().is_empty(), "thirty a second");
            clock.advance(Duration::from_millis(33));
        }
        for _ in 0..STRANGERS {
            pressure.met(Met::Stranger, &"192.0.2.7");
        }
        assert!(pressure.sentences()[0].contains("most of them from 192.0.2.7"), "{:?}", pressure.sentences());
        for other in 0..20 * STRANGERS {
            pressure.met(Met::Stranger, &other);
        }
        assert!(pressure.sentences()[0].contains("from many addresses"), "{:?}", pressure.sentences());
    }
}
