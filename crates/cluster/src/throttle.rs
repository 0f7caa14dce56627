//! How long a member that says that it has too much to do is asked after the others: a pure function over what it said.
//!
//! It is no failure: health does not change by it. Each time that it says so again soon, it is left alone for longer.

use std::time::{Duration, Instant};

/// The first pause, and the longest.
pub(super) const PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));

/// What one member said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Throttle {
    until: Instant,
    pause: Duration,
}

impl Throttle {
    /// It says so for the first time.
    pub(super) fn first(now: Instant) -> Self {
        Self { until: now + PAUSES.0, pause: PAUSES.0 }
    }

    /// It says so again. What was under way when it said so before tells nothing new.
    pub(super) fn again(self, now: Instant) -> Self {
        if self.holds(now) {
            return self;
        }
        if now.saturating_duration_since(self.until) > PAUSES.1 {
            return Self::first(now);
        }
        let pause = (2 * self.pause).min(PAUSES.1);
        Self { until: now + pause, pause }
    }

    /// It is still left alone.
    pub(super) fn holds(&self, now: Instant) -> bool {
        now < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::clock::Clock;

    #[test]
    fn pauses_grow_while_it_goes_on_and_begin_anew_after_it_was_well() {
        let clock = Clock::manual();
        let mut throttle = Throttle::first(clock.now());
        let mut pauses = Vec::new();
        for _ in 0..8 {
            // What many calls meet at once counts once.
            assert_eq!(throttle.again(clock.now()), throttle);
            let began = clock.now();
            while throttle.holds(clock.now()) {
                clock.advance(Duration::from_millis(1));
            }
            pauses.push((clock.now() - began).as_millis());
            throttle = throttle.again(clock.now());
        }
        assert_eq!(pauses, [25, 50, 100, 200, 400, 800, 1_000, 1_000]);
        clock.advance(3 * PAUSES.1);
        assert_eq!(throttle.again(clock.now()), Throttle::first(clock.now()));
    }
}
