//! Looks for the tests of this command.

use super::figures::Look;
use model::clock::Clock;
use proto::v1 as wire;

/// An HSM's counters; buckets end at 1, 2 and 4 ms and never.
#[derive(Clone, Copy)]
pub(super) struct Counts {
    pub(super) items: u64,
    pub(super) failures: u64,
    pub(super) latency: [u64; 4],
}

pub(super) fn hsm(id: &str, counts: Counts) -> wire::HsmStatistics {
    let status = wire::HsmStatus {
        hsm_id: id.to_owned(),
        zone: id.replace("hsm", "zone"),
        health: wire::HsmHealth::Healthy.into(),
        since: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
        ready_workers: 2,
        workers: 2,
        ..Default::default()
    };
    let bounds = [0.001, 0.002, 0.004, f64::INFINITY];
    let bucket = |(upper_bound, count)| wire::LatencyBucket { upper_bound, count };
    wire::HsmStatistics {
        status: Some(status),
        requests: counts.latency.iter().sum(),
        items: counts.items,
        failures: counts.failures,
        queue_depth: 3,
        capacity: 8,
        latency: bounds.into_iter().zip(counts.latency).map(bucket).collect(),
        latency_sum: 0.0,
    }
}

/// A look at one cluster, 90 seconds after its HSMs became as they are.
pub(super) fn look(hsms: Vec<wire::HsmStatistics>) -> Look {
    let cluster = wire::ClusterStatistics {
        cluster_id: "cluster-keystoredev".to_owned(),
        key_store_id: "cks-1".to_owned(),
        key_store_name: "lab".to_owned(),
        connection_state: wire::ConnectionState::Connected.into(),
        hsms,
    };
    let at = Some(prost_types::Timestamp { seconds: 1_700_000_090, nanos: 0 });
    Look { at: Clock::system().now(), answer: wire::GetStatisticsResponse { clusters: vec![cluster], at } }
}
