//! How fast a log grows. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// As far back as is looked.
const WINDOW: Duration = Duration::from_secs(600);
/// Samples are so far apart at least.
const APART: Duration = Duration::from_secs(5);

/// Sizes at several moments.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    samples: VecDeque<(Instant, u64)>,
}

impl Growth {
    /// Takes note of the size now.
    pub(crate) fn add(&mut self, now: Instant, bytes: u64) {
        if self.samples.back().is_some_and(|(last, _)| now.saturating_duration_since(*last) < APART) {
            return;
        }
        self.samples.push_back((now, bytes));
        // One that is older than the window stays, so that the window is full.
        while self.samples.get(1).is_some_and(|(second, _)| now.saturating_duration_since(*second) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Bytes a second; nothing where it shrinks.
    pub(crate) fn rate(&self) -> f64 {
        let (Some((first, before)), Some((last, after))) = (self.samples.front(), self.samples.back()) else {
            return 0.0;
        };
        let seconds = last.saturating_duration_since(*first).as_secs_f64();
        if seconds > 0.0 { after.saturating_sub(*before) as f64 / seconds } else { 0.0 }
    }

    /// When so many bytes are used up; `None` where they never are.
    pub(crate) fn lasts(&self, free: u64) -> Option<Duration> {
        let rate = self.rate();
        (rate > 0.0).then(|| Duration::try_from_secs_f64(free as f64 / rate).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::clock::Clock;

    #[test]
    fn the_disk_lasts_as_long_as_the_last_minutes_say() {
        let (clock, mut growth) = (Clock::manual(), Growth::default());
        growth.add(clock.now(), 1_000);
        assert_eq!((growth.rate(), growth.lasts(1)), (0.0, None));
        let mut bytes = 1_000;
        for _ in 0..240 {
            clock.advance(Duration::from_secs(5));
            bytes += 500;
            growth.add(clock.now(), bytes);
        }
        assert_eq!((growth.rate(), growth.lasts(6_000)), (100.0, Some(Duration::from_secs(60))));
        assert!(growth.samples.len() <= 122);
        for _ in 0..121 {
            clock.advance(Duration::from_secs(5));
            bytes += 50;
            growth.add(clock.now(), bytes);
        }
        assert_eq!(growth.rate(), 10.0);
        // What comes too soon is not counted, and a log that shrinks lasts for ever.
        growth.add(clock.now(), u64::MAX);
        assert_eq!(growth.rate(), 10.0);
        clock.advance(WINDOW);
        growth.add(clock.now(), 0);
        assert_eq!(growth.lasts(1), None);
    }
}
