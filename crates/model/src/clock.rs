//! The clock, as a value that is built once per process and handed down.
//!
//! `Instant::now` and `SystemTime::now` are banned everywhere else (clippy.toml), so that whatever depends on time can
//! be driven by a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the time comes from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual { start: Instant, elapsed_nanos: Arc<AtomicU64>, behind_nanos: Arc<AtomicU64> },
}

impl Clock {
    /// The clock of the operating system.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until [`Clock::advance`] moves it; its calendar begins at the Unix epoch.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "an Instant cannot be made from nothing")]
    pub fn manual() -> Self {
        Self(Source::Manual { start: Instant::now(), elapsed_nanos: Arc::default(), behind_nanos: Arc::default() })
    }

    /// Monotonic time, for deadlines and ages.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn now(&self) -> Instant {
        match &self.0 {
            Source::System => Instant::now(),
            Source::Manual { start, elapsed_nanos, .. } => {
                *start + Duration::from_nanos(elapsed_nanos.load(Ordering::Relaxed))
            }
        }
    }

    /// Calendar time, for records and certificates.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn calendar(&self) -> SystemTime {
        match &self.0 {
            Source::System => SystemTime::now(),
            Source::Manual { elapsed_nanos, behind_nanos, .. } => {
                let behind = behind_nanos.load(Ordering::Relaxed);
                UNIX_EPOCH + Duration::from_nanos(elapsed_nanos.load(Ordering::Relaxed).saturating_sub(behind))
            }
        }
    }

    /// Calendar time in whole milliseconds since the Unix epoch, the form in which the metadata keeps it.
    #[must_use]
    pub fn unix_millis(&self) -> i64 {
        let since_epoch = self.calendar().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }

    /// Moves a manual clock forward. Does nothing to the system's clock.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { elapsed_nanos, .. } = &self.0 {
            let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
            elapsed_nanos.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    /// Sets the calendar of a manual clock back, and not its monotonic time. Does nothing to the system's clock.
    pub fn set_back(&self, by: Duration) {
        if let Source::Manual { behind_nanos, .. } = &self.0 {
            let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
            behind_nanos.fetch_add(nanos, Ordering::Relaxed);
        }
    }
}

/// A time as people and programs read it, such as `2026-11-28T14:03:05.123Z`, from milliseconds since the Unix epoch.
#[must_use]
pub fn utc(unix_millis: i64) -> String {
    let nanos = i32::try_from(unix_millis.rem_euclid(1_000) * 1_000_000).unwrap_or(0);
    prost_types::Timestamp { seconds: unix_millis.div_euclid(1_000), nanos }.to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Clock, utc};

    #[test]
    fn a_calendar_can_be_set_back_and_monotonic_time_cannot() {
        let clock = Clock::manual();
        let began = clock.now();
        clock.advance(Duration::from_secs(10));
        clock.set_back(Duration::from_secs(4));
        assert_eq!((clock.now() - began, clock.unix_millis()), (Duration::from_secs(10), 6_000));
        clock.set_back(Duration::from_secs(60));
        assert_eq!(clock.unix_millis(), 0);
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(utc(1_764_338_585_123), "2025-11-28T14:03:05.123Z");
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
    }
}
