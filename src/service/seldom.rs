//! A log line that every call could write, written so often that it is seen and never so often that it is a flood.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines in one window.
const LINES: u64 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// Counts one kind of line.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    lines: u64,
    left_out: u64,
}

impl Seldom {
    /// Whether a line may be written now; if so, how many were left out since the last one.
    pub(super) fn line(&self, now: Instant) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.began.is_none_or(|began| now.saturating_duration_since(began) >= WINDOW) {
            (window.began, window.lines) = (Some(now), 0);
        }
        if window.lines >= LINES {
            window.left_out += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::Clock;

    #[test]
    fn a_flood_is_counted_and_not_written() {
        let (seldom, clock) = (Seldom::default(), Clock::manual());
        let written = (0..1_000).filter(|_| seldom.line(clock.now()).is_some()).count() as u64;
        assert_eq!(written, LINES);
        clock.advance(WINDOW);
        assert_eq!(seldom.line(clock.now()), Some(1_000 - LINES));
        assert_eq!(seldom.line(clock.now()), Some(0));
    }
}
