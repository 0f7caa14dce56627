//! What the view tells, computed from two looks at the service's counters. Pure.

use std::time::Instant;

use serde::Serialize;

use crate::status::{self, connection_state};
use proto::v1 as wire;

/// The service's counters at one time.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// When they came, by the own clock.
    pub(super) at: Instant,
    pub(super) answer: wire::GetStatisticsResponse,
}

/// A cluster as the view shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Cluster {
    pub(super) cluster_id: String,
    /// Id, name and state of the key store over it; none where there is none.
    pub(super) key_store_id: Option<String>,
    pub(super) key_store_name: Option<String>,
    pub(super) connection_state: Option<&'static str>,
    pub(super) hsms: Vec<Hsm>,
}

/// An HSM as the view shows it. Figures of a time are those between the two looks, and none where there is nothing to
/// compare or nothing was answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Hsm {
    pub(super) hsm_id: String,
    pub(super) zone: String,
    pub(super) health: &'static str,
    /// Why it is not healthy, or has workers that are not started again; empty where all is well.
    pub(super) reason: String,
    pub(super) since: Option<String>,
    pub(super) seconds_since: Option<u64>,
    pub(super) operations_per_second: Option<f64>,
    pub(super) failures_per_second: Option<f64>,
    pub(super) p50_seconds: Option<f64>,
    pub(super) p99_seconds: Option<f64>,
    pub(super) queue_depth: u64,
    pub(super) capacity: u64,
    pub(super) ready_workers: u32,
    pub(super) workers: u32,
    /// In all, since the service counts.
    pub(super) operations: u64,
    pub(super) requests: u64,
    pub(super) failures: u64,
}

/// Compares a look with the one before.
pub(super) fn compare(before: Option<&Look>, now: &Look) -> Vec<Cluster> {
    let seconds = before.map_or(0.0, |before| now.at.saturating_duration_since(before.at).as_secs_f64());
    let hsm = |cluster: &str, statistics: &wire::HsmStatistics| {
        let known = before.and_then(|before| find(&before.answer, cluster, id(statistics)));
        Hsm::new(statistics, known, seconds, now.answer.at.as_ref())
    };
    let cluster = |cluster: &wire::ClusterStatistics| {
        let told = |text: &String| (!text.is_empty()).then(|| text.clone());
        let key_store_id = told(&cluster.key_store_id);
        Cluster {
            cluster_id: cluster.cluster_id.clone(),
            connection_state: key_store_id.is_some().then(|| connection_state(cluster.connection_state())),
            key_store_id,
            key_store_name: told(&cluster.key_store_name),
            hsms: cluster.hsms.iter().map(|statistics| hsm(&cluster.cluster_id, statistics)).collect(),
        }
    };
    now.answer.clusters.iter().map(cluster).collect()
}

impl Cluster {
    /// HSMs that are healthy.
    pub(super) fn healthy(&self) -> usize {
        self.hsms.iter().filter(|hsm| hsm.health == "Healthy").count()
    }

    /// Operations a second of all HSMs; none where none of them has a figure.
    pub(super) fn operations_per_second(&self) -> Option<f64> {
        self.hsms.iter().filter_map(|hsm| hsm.operations_per_second).reduce(|sum, rate| sum + rate)
    }

    /// Operations in all.
    pub(super) fn operations(&self) -> u64 {
        self.hsms.iter().map(|hsm| hsm.operations).sum()
    }

    /// Items that wait for its HSMs or are in them, and those that they can have in hand at once.
    pub(super) fn queue(&self) -> (u64, u64) {
        let depth = self.hsms.iter().map(|hsm| hsm.queue_depth).sum();
        (depth, self.hsms.iter().map(|hsm| hsm.capacity).sum())
    }
}

impl Hsm {
    fn new(
        now: &wire::HsmStatistics,
        before: Option<&wire::HsmStatistics>,
        seconds: f64,
        at: Option<&prost_types::Timestamp>,
    ) -> Self {
        let known = now.status.clone().unwrap_or_default();
        let age = |since: &prost_types::Timestamp| at.and_then(|at| u64::try_from(at.seconds - since.seconds).ok());
        let seconds_since = known.since.as_ref().and_then(age);
        let status = status::Hsm::from(known);
        let rate = |count: u64| (seconds > 0.0).then(|| count as f64 / seconds);
        let grown = before.map(|before| Grown::between(before, now));
        let percentile = |part| grown.as_ref().and_then(|grown| percentile(&grown.latency, part));
        Self {
            hsm_id: status.hsm_id,
            zone: status.zone,
            health: status.health,
            reason: status.reason,
            since: status.since,
            seconds_since,
            operations_per_second: grown.as_ref().and_then(|grown| rate(grown.items)),
            failures_per_second: grown.as_ref().and_then(|grown| rate(grown.failures)),
            p50_seconds: percentile(0.5),
            p99_seconds: percentile(0.99),
            queue_depth: now.queue_depth,
            capacity: now.capacity,
            ready_workers: status.ready_workers,
            workers: status.workers,
            operations: now.items,
            requests: now.requests,
            failures: now.failures,
        }
    }
}

fn id(statistics: &wire::HsmStatistics) -> &str {
    statistics.status.as_ref().map_or("", |status| &status.hsm_id)
}

fn find<'a>(answer: &'a wire::GetStatisticsResponse, cluster: &str, hsm: &str) -> Option<&'a wire::HsmStatistics> {
    let cluster = answer.clusters.iter().find(|known| known.cluster_id == cluster)?;
    cluster.hsms.iter().find(|known| id(known) == hsm)
}

/// By how much an HSM's counters grew.
struct Grown {
    items: u64,
    failures: u64,
    /// Upper bounds and counts.
    latency: Vec<(f64, u64)>,
}

impl Grown {
    fn between(before: &wire::HsmStatistics, now: &wire::HsmStatistics) -> Self {
        let count = |of: &wire::HsmStatistics, at: usize| of.latency.get(at).map_or(0, |bucket| bucket.count);
        // Counters never shrink; where one did, all of them began anew, and everything in them is new.
        let anew = now.items < before.items
            || now.requests < before.requests
            || now.failures < before.failures
            || (0..before.latency.len()).any(|at| count(now, at) < count(before, at));
        let zero = wire::HsmStatistics::default();
        let before = if anew { &zero } else { before };
        let grown =
            |(at, bucket): (usize, &wire::LatencyBucket)| (bucket.upper_bound, bucket.count - count(before, at));
        Self {
            items: now.items - before.items,
            failures: now.failures - before.failures,
            latency: now.latency.iter().enumerate().map(grown).collect(),
        }
    }
}

/// The time that this part of all requests did not exceed, as if they were spread evenly inside each bucket. What took
/// longer than the last bound is shown as the last bound: nobody knows by how much it did.
fn percentile(buckets: &[(f64, u64)], part: f64) -> Option<f64> {
    let total: u64 = buckets.iter().map(|(_, count)| count).sum();
    let rank = total as f64 * part;
    let (mut lower, mut below) = (0.0, 0.0);
    for &(upper, count) in buckets {
        let count = count as f64;
        if count > 0.0 && below + count >= rank {
            return Some(if upper.is_finite() { lower + (upper - lower) * (rank - below) / count } else { lower });
        }
        (lower, below) = (upper, below + count);
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::fixture::{Counts, hsm, look};
    use super::*;

    fn figures(before: Option<Counts>, now: Counts, seconds: f64) -> Hsm {
        let now = look(vec![hsm("hsm-a", now)]);
        let before = before.map(|counts| {
            let at = now.at.checked_sub(Duration::from_secs_f64(seconds)).unwrap();
            Look { at, ..look(vec![hsm("hsm-a", counts)]) }
        });
        compare(before.as_ref(), &now).remove(0).hsms.remove(0)
    }

    #[test]
    fn rates_are_differences_over_the_time_between() {
        let before = Counts { items: 100, failures: 2, latency: [10, 0, 0, 0] };
        let now = Counts { items: 500, failures: 3, latency: [10, 100, 0, 0] };
        let hsm = figures(Some(before), now, 2.0);
        assert_eq!(hsm.operations_per_second, Some(200.0));
        assert_eq!(hsm.failures_per_second, Some(0.5));
        assert_eq!((hsm.operations, hsm.requests, hsm.failures), (500, 110, 3));
        // All of the new ones are in the second bucket, from 1 to 2 ms.
        assert_eq!(hsm.p50_seconds, Some(0.001_5));
        assert!((hsm.p99_seconds.unwrap() - 0.001_99).abs() < 1e-12, "{hsm:?}");
        assert_eq!(hsm.seconds_since, Some(90));
    }

    #[test]
    fn without_a_look_before_or_an_answer_between_there_is_nothing_to_say() {
        let counts = Counts { items: 9, failures: 0, latency: [9, 0, 0, 0] };
        let alone = figures(None, counts, 0.0);
        assert_eq!((alone.operations_per_second, alone.p50_seconds, alone.operations), (None, None, 9));
        let idle = figures(Some(counts), counts, 1.0);
        assert_eq!((idle.operations_per_second, idle.p50_seconds), (Some(0.0), None));
        assert_eq!(figures(Some(counts), counts, 0.0).operations_per_second, None, "no time has passed");
    }

    #[test]
    fn counters_that_begin_anew_are_counted_from_nothing() {
        let before = Counts { items: 1_000, failures: 0, latency: [0, 1_000, 0, 0] };
        let now = Counts { items: 30, failures: 1, latency: [30, 0, 0, 0] };
        let hsm = figures(Some(before), now, 1.0);
        assert_eq!((hsm.operations_per_second, hsm.failures_per_second), (Some(30.0), Some(1.0)));
        assert_eq!(hsm.p50_seconds, Some(0.000_5));
        // More items than before, but a bucket tells.
        let more = Counts { items: 2_000, failures: 0, latency: [500, 0, 0, 0] };
        assert_eq!(figures(Some(before), more, 1.0).operations_per_second, Some(2_000.0));
    }

    #[test]
    fn an_hsm_that_was_not_there_before_has_no_rate_yet() {
        let counts = Counts { items: 9, failures: 0, latency: [9, 0, 0, 0] };
        let before = look(vec![hsm("hsm-a", counts)]);
        let now =
            Look { at: before.at + Duration::from_secs(1), ..look(vec![hsm("hsm-a", counts), hsm("hsm-b", counts)]) };
        let cluster = compare(Some(&before), &now).remove(0);
        assert_eq!(cluster.hsms[1].operations_per_second, None);
        assert_eq!((cluster.operations_per_second(), cluster.operations(), cluster.healthy()), (Some(0.0), 18, 2));
        assert_eq!(cluster.queue(), (6, 16));
    }

    #[test]
    fn percentiles_lie_inside_their_bucket() {
        let inf = f64::INFINITY;
        assert_eq!(percentile(&[], 0.5), None);
        assert_eq!(percentile(&[(1.0, 0), (inf, 0)], 0.5), None);
        assert_eq!(percentile(&[(1.0, 4), (2.0, 4), (inf, 0)], 0.5), Some(1.0));
        assert_eq!(percentile(&[(1.0, 4), (2.0, 4), (inf, 0)], 0.75), Some(1.5));
        assert_eq!(percentile(&[(1.0, 0), (2.0, 1), (inf, 0)], 0.5), Some(1.5));
        assert_eq!(percentile(&[(1.0, 1), (2.0, 0), (inf, 99)], 0.99), Some(2.0), "past the last bound");
    }
}
