//! Whether the daemon serves, and why not: the one answer behind /readyz, the gRPC health service and the metrics.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use serde::Serialize;

use crate::cluster::{Cluster, Health, MemberStatus};
use crate::telemetry::metrics::{HsmLabels, HsmReading, Metrics};

/// What /readyz says.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) ready: bool,
    /// What is wrong, one sentence each; may hold something while `ready` is true: one zone is enough to serve.
    pub(super) reasons: Vec<String>,
    pub(super) hsms: Vec<HsmReport>,
}

/// One HSM in the report.
#[derive(Debug, Serialize)]
pub(super) struct HsmReport {
    cluster: String,
    hsm: String,
    zone: String,
    health: &'static str,
    reason: Option<String>,
    since_unix_ms: u64,
    data_workers: u16,
    control_worker: bool,
    restarts: u64,
    load_items: usize,
}

const HEALTHS: &[&str] = &["starting", "healthy", "suspect", "down"];

fn name(health: Health) -> &'static str {
    match health {
        Health::Starting => "starting",
        Health::Healthy => "healthy",
        Health::Suspect => "suspect",
        Health::Down => "down",
    }
}

/// Looks at every HSM. The daemon is ready when it is not draining and at least one HSM serves.
pub(super) fn report(clusters: &[Arc<Cluster>], draining: bool) -> Report {
    let mut report = Report { ready: false, reasons: Vec::new(), hsms: Vec::new() };
    for cluster in clusters {
        let mut serving = false;
        for (status, member) in cluster.status().iter().zip(cluster.members()) {
            serving |= matches!(status.health, Health::Healthy | Health::Suspect);
            if status.health != Health::Healthy {
                report.reasons.push(sentence(status));
            }
            report.hsms.push(hsm(cluster, status, member.load()));
        }
        if !serving {
            report.reasons.push(format!("no HSM of {} serves", cluster.id()));
        }
        report.ready |= serving;
    }
    if draining {
        report.ready = false;
        report.reasons.push("the daemon is shutting down".to_owned());
    }
    report
}

fn sentence(status: &MemberStatus) -> String {
    let why = status.reason.as_deref().or(status.status.reason.as_deref());
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    format!("HSM {} in zone {} is {}{why}", status.hsm, status.zone, name(status.health))
}

fn hsm(cluster: &Cluster, status: &MemberStatus, load_items: usize) -> HsmReport {
    let since = status.since.duration_since(UNIX_EPOCH).unwrap_or_default();
    HsmReport {
        cluster: cluster.id().to_string(),
        hsm: status.hsm.to_string(),
        zone: status.zone.to_string(),
        health: name(status.health),
        reason: status.reason.clone().or_else(|| status.status.reason.clone()),
        since_unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        data_workers: status.status.data_ready,
        control_worker: status.status.control_ready,
        restarts: status.status.restarts,
        load_items,
    }
}

impl Report {
    /// Takes the report over into the metrics.
    pub(super) fn measure(&self, metrics: &Metrics) {
        metrics.ready(self.ready);
        for hsm in &self.hsms {
            metrics.read(&HsmReading {
                labels: HsmLabels { cluster: hsm.cluster.clone(), hsm: hsm.hsm.clone(), zone: hsm.zone.clone() },
                health: hsm.health,
                healths: HEALTHS,
                restarts: hsm.restarts,
                load: hsm.load_items,
                data_workers: hsm.data_workers,
            });
        }
    }
}
