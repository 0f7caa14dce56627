//! How fast an HSM works, and what follows for those who wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A worker is given as much ahead as its sessions do in this time: enough that none of them waits for the daemon, and
/// little enough that a request which has waited here still makes its deadline there.
const AHEAD: Duration = Duration::from_millis(2);
/// Requests that each session may have in hand or next, however slow it is.
const LEAST_REQUESTS: usize = 2;
/// Items that a worker is given for each session before anything is known, and at most.
const UNKNOWN: usize = 64;
const MOST: usize = 4_096;
/// A reading of one item weighs one part in so many, and one of many items accordingly more.
const WEIGHT: u64 = 16;
/// A reading counts for at most so many times the average: a worker that stood still for a moment, because the machine
/// was busy or a key was looked for, is not slow. One that has become slow shows it in reading after reading.
const OUTLIER: u64 = 4;

/// The time that one item takes in a session, as a moving average. Zero: nothing was read.
#[derive(Default)]
pub(super) struct ServiceTime {
    nanos: AtomicU64,
}

impl ServiceTime {
    /// A session was busy with so many items for so long.
    pub(super) fn read(&self, items: usize, took: Duration) {
        let items = items.max(1) as u64;
        let before = self.nanos.load(Ordering::Relaxed);
        let reading = (nanos(took) / items).min(if before == 0 { u64::MAX } else { before.saturating_mul(OUTLIER) });
        let weighed = before.saturating_mul(WEIGHT - 1).saturating_add(reading.saturating_mul(items));
        // Two readings at once: one of them is lost, which changes nothing about an average.
        let after = if before == 0 { reading } else { weighed / (WEIGHT - 1 + items) };
        self.nanos.store(after.max(1), Ordering::Relaxed);
    }

    /// How long so many items take when they are shared among so many sessions.
    pub(super) fn of(&self, items: usize, sessions: usize) -> Duration {
        let all = self.nanos.load(Ordering::Relaxed).saturating_mul(items as u64);
        Duration::from_nanos(all / sessions.max(1) as u64)
    }

    /// Items that one session does in a time; as many as can be where nothing is known.
    pub(super) fn items_in(&self, time: Duration) -> usize {
        match self.nanos.load(Ordering::Relaxed) {
            0 => usize::MAX,
            item => usize::try_from(nanos(time) / item).unwrap_or(usize::MAX),
        }
    }

    /// Items that a worker with so many sessions may have at a time.
    pub(super) fn window(&self, sessions: usize) -> usize {
        let each = match self.items_in(AHEAD) {
            usize::MAX => UNKNOWN,
            items => items.min(MOST),
        };
        each.max(LEAST_REQUESTS).saturating_mul(sessions.max(1)).min(MOST.max(LEAST_REQUESTS * sessions))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_follows_and_one_reading_does_not_turn_it() {
        let service_time = ServiceTime::default();
        assert_eq!((service_time.of(100, 1), service_time.window(1)), (Duration::ZERO, 64));
        service_time.read(2, Duration::from_millis(10));
        assert_eq!(service_time.of(8, 4), Duration::from_millis(10));
        service_time.read(1, Duration::from_secs(10));
        assert!(service_time.of(1, 1) < Duration::from_millis(6), "{:?}", service_time.of(1, 1));
        for _ in 0..200 {
            service_time.read(1, Duration::from_secs(1));
        }
        assert!(service_time.of(1, 1) > Duration::from_millis(990), "{:?}", service_time.of(1, 1));
        for _ in 0..200 {
            service_time.read(1, Duration::from_millis(5));
        }
        assert!(service_time.of(1, 1) < Duration::from_micros(5_100), "{:?}", service_time.of(1, 1));
    }

    #[test]
    fn many_items_say_more_than_one() {
        let service_time = ServiceTime::default();
        service_time.read(1, Duration::from_micros(100));
        service_time.read(64, Duration::from_micros(640));
        assert!(service_time.of(1, 1) < Duration::from_micros(30), "{:?}", service_time.of(1, 1));
    }

    #[test]
    fn a_slow_session_has_one_request_in_hand_and_one_next() {
        let service_time = ServiceTime::default();
        service_time.read(1, Duration::from_millis(10));
        assert_eq!(service_time.window(16), 32);
        let service_time = ServiceTime::default();
        service_time.read(64, Duration::from_micros(320));
        assert_eq!(service_time.window(1), 400);
        let service_time = ServiceTime::default();
        service_time.read(1_000_000, Duration::from_nanos(1));
        assert_eq!(service_time.window(2), MOST);
    }
}
