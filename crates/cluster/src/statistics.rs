//! What one member has done, in numbers: counted where a request to it ends, read by views and metrics.
//!
//! Counting is on every request's way, so it is a few relaxed additions: no lock, no allocation. The numbers are read
//! one after the other while others count, so a reading may be off by the requests of that moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Health;

/// Latency buckets with an upper bound; one without follows.
const BOUNDED: usize = 21;
/// The first bound, each of the others twice the one before: 25 µs to 26 s, as the durations of calls are measured.
const FIRST_NANOS: u64 = 25_000;

/// The counters. They go from a cluster to the one that takes its place.
#[derive(Default)]
pub(super) struct Statistics {
    items: AtomicU64,
    failures: AtomicU64,
    nanos: AtomicU64,
    latency: [AtomicU64; BOUNDED + 1],
    changes: [AtomicU64; Health::ALL.len()],
}

/// What was counted since the daemon began to use the member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatisticsSnapshot {
    /// Requests that it answered, whatever it said. Each carries one item or many.
    pub requests: u64,
    /// Items of those.
    pub items: u64,
    /// Requests that came to nothing by its own fault: its worker was lost, its token had trouble, or there was no
    /// answer in a time in which others answer. Those that were answered with trouble are among `requests` too.
    pub failures: u64,
    /// All time from asking to answering together.
    pub took: Duration,
    /// Answered requests by their time, each bucket for itself, in the order of [`bounds`].
    pub latency: [u64; BOUNDED + 1],
    /// How often its health became this one, in the order of [`Health::ALL`]; the first after a start is no change.
    pub changes: [u64; Health::ALL.len()],
}

impl Statistics {
    /// A request was answered.
    pub(super) fn answered(&self, items: usize, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.latency[bucket(nanos)].fetch_add(1, Ordering::Relaxed);
        self.items.fetch_add(items as u64, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// A request came to nothing, by the member's own fault.
    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Its health became another one.
    pub(super) fn changed(&self, from: Health, to: Health) {
        // A member is made anew with its cluster; that it locks out healthy then is no news.
        if from != Health::Starting {
            self.changes[to as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was counted so far.
    pub(super) fn read(&self) -> StatisticsSnapshot {
        let latency = self.latency.each_ref().map(|count| count.load(Ordering::Relaxed));
        StatisticsSnapshot {
            requests: latency.iter().sum(),
            items: self.items.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            took: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)),
            latency,
            changes: self.changes.each_ref().map(|count| count.load(Ordering::Relaxed)),
        }
    }
}

impl StatisticsSnapshot {
    /// The latency buckets: the upper bound of each in seconds, itself included, and what is in it. The last has no
    /// end.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        bounds().zip(self.latency)
    }
}

/// The upper bounds of the buckets, in seconds.
fn bounds() -> impl Iterator<Item = f64> {
    let bounded = (0..BOUNDED).map(|place| Duration::from_nanos(FIRST_NANOS << place).as_secs_f64());
    bounded.chain([f64::INFINITY])
}

/// The bucket for a time: how often the first bound is doubled until it is enough.
fn bucket(nanos: u64) -> usize {
    let firsts = nanos.div_ceil(FIRST_NANOS).max(1);
    // The binary logarithm, rounded up.
    let doublings = u64::BITS - (firsts - 1).leading_zeros();
    (doublings as usize).min(BOUNDED)
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Act, Bench, key, refuse_all};
    use super::*;
    use protocol::Class;
    use supervisor::CallError;

    async fn after_one_call(hedge_after: Duration, millis: u64, act: fn() -> Act) -> Vec<StatisticsSnapshot> {
        let bench = Bench::new(2, Some("zone-a"), hedge_after);
        bench.members[0].script(move |_| act());
        bench.encrypt(&[key(0b11)], millis).await;
        bench.dispatcher.members.iter().map(|member| member.status().statistics).collect()
    }

    #[tokio::test]
    async fn each_request_is_counted_where_it_was_asked() {
        let (patient, soon) = (Duration::from_secs(60), Duration::from_millis(10));
        // The first member's hedge and what it does; requests, items and failures of the first and of the second.
        type Case = (Duration, fn() -> Act, [u64; 3], [u64; 3]);
        let cases: [Case; 4] = [
            (patient, || Act::Well, [1, 1, 0], [0, 0, 0]),
            (patient, || Act::Fail(CallError::WorkerLost), [0, 0, 1], [1, 1, 0]),
            (patient, || Act::Fail(CallError::Busy), [0, 0, 0], [1, 1, 0]),
            // Slower than the hedge: another one answers, and this one is given up.
            (soon, || Act::Hang, [0, 0, 1], [1, 1, 0]),
        ];
        for (case, (hedge_after, act, first, second)) in cases.into_iter().enumerate() {
            let counts = |of: &StatisticsSnapshot| [of.requests, of.items, of.failures];
            let statistics = after_one_call(hedge_after, 1_000, act).await;
            assert_eq!((counts(&statistics[0]), counts(&statistics[1])), (first, second), "case {case}");
        }
    }

    #[tokio::test]
    async fn an_answer_with_trouble_is_an_answer_and_a_failure() {
        let bench = Bench::new(2, Some("zone-a"), Duration::from_secs(60));
        bench.members[0].script(|op| refuse_all(op, Class::Token));
        assert!(bench.encrypt(&[key(0b11)], 1_000).await[0].is_ok());
        let first = bench.dispatcher.members[0].status().statistics;
        // Asked once more after the first trouble: a session may have been the reason.
        assert!(first.failures >= 1 && first.failures == first.requests, "{first:?}");
    }

    #[tokio::test]
    async fn a_callers_short_deadline_is_nobodys_failure() {
        let statistics = after_one_call(Duration::from_secs(60), 5, || Act::Hang).await;
        assert_eq!(statistics[0], StatisticsSnapshot::default());
    }

    #[test]
    fn each_time_is_in_the_first_bucket_that_it_does_not_exceed() {
        let bounds: Vec<f64> = bounds().collect();
        assert_eq!((bounds[0], bounds[1], bounds.len()), (25e-6, 50e-6, 22));
        assert!((bounds[20] - 26.214_4).abs() < 1e-9, "{bounds:?}");
        let times = [0, 1, 25_000, 25_001, 50_000, 50_001, 99_999, 7_000_000, 26_214_400_000, 26_214_400_001, u64::MAX];
        for nanos in times {
            let seconds = Duration::from_nanos(nanos).as_secs_f64();
            let expected = bounds.iter().position(|bound| seconds <= *bound).unwrap();
            assert_eq!(bucket(nanos), expected, "{nanos} ns");
        }
    }

    #[test]
    fn what_was_counted_can_be_read() {
        let statistics = Statistics::default();
        statistics.answered(64, Duration::from_micros(40));
        statistics.answered(1, Duration::from_micros(60));
        statistics.answered(0, Duration::from_secs(60));
        statistics.failed();
        statistics.changed(Health::Starting, Health::Healthy);
        statistics.changed(Health::Healthy, Health::Suspect);
        let read = statistics.read();
        assert_eq!((read.requests, read.items, read.failures), (3, 65, 1));
        assert_eq!(read.took, Duration::from_micros(60_000_100));
        let filled: Vec<(f64, u64)> = read.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(50e-6, 1), (100e-6, 1), (f64::INFINITY, 1)]);
        assert_eq!(read.changes, [0, 0, 1, 0], "the first health is no change");
    }
}
