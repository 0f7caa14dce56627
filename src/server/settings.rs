//! From the configuration to each crate's own settings.

use super::files::Found;
use config::{self, Config};
use protocol::OPEN_FILES;
use service::cluster_registry::ClusterSpec;

/// `files` is the soft limit on open files that workers get back.
pub(super) fn clusters(config: &Config, files: Found) -> Vec<ClusterSpec> {
    config.clusters.iter().map(|cluster| spec(config, cluster, files)).collect()
}

fn spec(config: &Config, cluster: &config::Cluster, files: Found) -> ClusterSpec {
    let hsm = |hsm| {
        let mut settings = supervisor::Settings::of(config, hsm);
        settings.environment.extend(files.0.map(|limit| (OPEN_FILES.to_owned(), limit.to_string())));
        settings
    };
    ClusterSpec {
        settings: cluster::Settings {
            id: cluster.id.clone(),
            own_zone: config.zone.clone(),
            hedge_after: cluster.hedge_after,
            verify: cluster::Verify { wraps: cluster.verify_wraps, unwraps: cluster.verify_unwraps },
        },
        hsms: cluster.hsms.iter().map(hsm).collect(),
        pin_scope: cluster.pin_scope,
        rotation: cluster.rotation,
        login_tries: cluster.login_tries,
    }
}

pub(super) fn service(config: &Config) -> service::Settings {
    service::Settings {
        scope: config.scope.clone(),
        items_in_work: config.limits.items_in_work,
        items_in_work_per_principal: config.limits.items_in_work_per_principal,
        quotas: config.limits.quotas,
    }
}

/// Which calls others have to approve.
pub(super) fn approvals(config: &Config) -> service::Approvals {
    let config::Approvals { operations, required, expires_after } = config.approvals.clone();
    service::Approvals { operations, required, expires_after }
}

/// How many requests a second there may be.
pub(super) fn rate_limits(config: &Config) -> service::RateLimits {
    let config::RateLimits { per_principal, per_key_store, burst_s } = config.rate_limits;
    service::RateLimits { per_principal, per_key_store, burst_s }
}

/// Of the interface for clients of AWS KMS.
pub(super) fn aws(config: &Config, aws: &config::Aws) -> api::aws::Settings {
    api::aws::Settings {
        region: config.scope.region.clone(),
        hosts: aws.hosts.clone(),
        default_deadline: config.limits.default_deadline,
        default_control_deadline: config.limits.default_control_deadline,
    }
}

pub(super) fn grpc(config: &Config) -> api::grpc::Settings {
    api::grpc::Settings {
        default_deadline: config.limits.default_deadline,
        default_control_deadline: config.limits.default_control_deadline,
        streams: config.limits.streams,
    }
}
