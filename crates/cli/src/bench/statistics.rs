//! What a run came to: a histogram, and errors by name.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use client::{Error, Fault};

/// Nanoseconds; three digits are kept.
const SHORTEST: u64 = 100;
const LONGEST: u64 = 120_000_000_000;

/// Counts of one task or, added up, of a run.
pub(super) struct Statistics {
    /// Calls that were answered or failed.
    pub(super) calls: u64,
    /// Items that succeeded.
    pub(super) items: u64,
    /// Failures by exception or code.
    pub(super) errors: BTreeMap<String, u64>,
    /// The first failure, in full.
    pub(super) first_failure: Option<Error>,
    /// See [`super::pace::Pace::unstarted`].
    pub(super) unstarted: u64,
    /// None if the bounds above were impossible.
    latencies: Option<Histogram<u64>>,
}

/// Quantiles in microseconds.
#[derive(Serialize)]
#[allow(clippy::struct_field_names, reason = "the unit belongs to the name in JSON")]
pub(super) struct Latency {
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
}

impl Statistics {
    pub(super) fn new() -> Self {
        Self {
            calls: 0,
            items: 0,
            errors: BTreeMap::new(),
            first_failure: None,
            unstarted: 0,
            latencies: Histogram::new_with_bounds(SHORTEST, LONGEST, 3).ok(),
        }
    }

    /// A call was answered, with whatever.
    pub(super) fn answered(&mut self, after: Duration) {
        self.calls += 1;
        if let Some(latencies) = &mut self.latencies {
            latencies.saturating_record(u64::try_from(after.as_nanos()).unwrap_or(LONGEST));
        }
    }

    /// A call failed as a whole. Its time counts, unless there was nobody to answer.
    pub(super) fn failed(&mut self, after: Duration, error: Error) {
        if error.fault() == Fault::Connection {
            self.calls += 1;
        } else {
            self.answered(after);
        }
        self.error(error);
    }

    /// An item, or a call, came to this.
    pub(super) fn error(&mut self, error: Error) {
        match self.errors.get_mut(error.name()) {
            Some(count) => *count += 1,
            None => {
                self.errors.insert(error.name().to_owned(), 1);
            }
        }
        if self.first_failure.is_none() {
            self.first_failure = Some(error);
        }
    }

    /// Adds another task's counts.
    pub(super) fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.items += other.items;
        for (name, count) in other.errors {
            *self.errors.entry(name).or_default() += count;
        }
        self.first_failure = self.first_failure.take().or(other.first_failure);
        if let (Some(ours), Some(theirs)) = (&mut self.latencies, &other.latencies) {
            // Both have the same bounds.
            let _ = ours.add(theirs);
        }
    }

    pub(super) fn latency(&self) -> Latency {
        let at = |quantile: f64| {
            let nanos = self.latencies.as_ref().map_or(0, |latencies| latencies.value_at_quantile(quantile));
            (nanos as f64 / 100.0).round() / 10.0
        };
        Latency { p50_us: at(0.5), p90_us: at(0.9), p99_us: at(0.99), p999_us: at(0.999), max_us: at(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::Code;

    fn error(exception: Option<&str>, code: Code) -> Error {
        Error {
            exception: exception.map(str::to_owned),
            message: String::new(),
            retryable: true,
            code,
            request_id: None,
            trouble: None,
            approval_id: None,
        }
    }

    #[test]
    fn quantiles_are_microseconds_of_all_tasks() {
        let (mut one, mut other) = (Statistics::new(), Statistics::new());
        for micros in 1..=1_000 {
            let statistics = if micros % 2 == 0 { &mut one } else { &mut other };
            statistics.answered(Duration::from_micros(micros));
            statistics.items += 1;
        }
        one.add(other);
        let latency = one.latency();
        assert!((latency.p50_us - 500.0).abs() < 2.0, "{}", latency.p50_us);
        assert!((latency.p999_us - 999.0).abs() < 2.0, "{}", latency.p999_us);
        assert!((latency.max_us - 1_000.0).abs() < 2.0, "{}", latency.max_us);
        assert_eq!((one.calls, one.items), (1_000, 1_000));
    }

    #[test]
    fn errors_are_counted_by_name() {
        let mut statistics = Statistics::new();
        statistics.failed(Duration::from_millis(1), error(Some("ThrottlingException"), Code::ResourceExhausted));
        statistics.failed(Duration::from_millis(1), error(None, Code::Unavailable));
        statistics.error(error(Some("ThrottlingException"), Code::ResourceExhausted));
        assert_eq!(statistics.errors["ThrottlingException"], 2);
        assert_eq!(statistics.errors["UNAVAILABLE"], 1);
        assert_eq!(statistics.calls, 2);
        assert_eq!(statistics.first_failure.unwrap().name(), "ThrottlingException");
    }
}
