//! Service `ClustersService`: what the configuration describes, and what operators do with the HSMs in it.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::diagnosis;
use super::entry::CallEntry;
use super::key_stores::{connection_state, hsm, time};
use model::operation::Operation;
use model::secret::Secret;
use proto::v1;
use proto::v1::clusters_service_server::ClustersService;
use service::{AddHsmInput, ClusterStatistics, ClusterView, HsmKeys, HsmView, Resealed, ResyncInput};

/// Missing keys that are named one by one.
const NAMED: usize = 100;

/// The service's gRPC side.
pub(super) struct ClustersApi {
    pub(super) entry: Arc<CallEntry>,
}

#[tonic::async_trait]
impl ClustersService for ClustersApi {
    async fn describe_clusters(
        &self,
        request: Request<v1::DescribeClustersRequest>,
    ) -> Result<Response<v1::DescribeClustersResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::DescribeClusters)?;
        let result = self.entry.service.describe_clusters(&admitted.call, &request.get_ref().cluster_id).await;
        admitted.answer(
            result
                .map(|clusters| v1::DescribeClustersResponse { clusters: clusters.into_iter().map(cluster).collect() }),
        )
    }

    async fn add_hsm(&self, request: Request<v1::AddHsmRequest>) -> Result<Response<v1::AddHsmResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::AddHsm)?;
        let request = request.into_inner();
        let input = AddHsmInput {
            cluster_id: request.cluster_id,
            hsm_id: request.hsm_id,
            identity_certificate: request.identity_certificate,
            transport_certificate: request.transport_certificate,
            member_hsm_id: request.member_hsm_id,
            member_wrapped_key: request.member_wrapped_key.into(),
            password: Secret::new(request.key_store_password.into_bytes()),
            wrapped_key: request.wrapped_key.into(),
            wrap_only: request.wrap_only,
        };
        let result = self.entry.service.add_hsm(&admitted.call, input).await;
        admitted.answer(result.map(|added| v1::AddHsmResponse {
            wrapped_key: added.wrapped_key.to_vec(),
            keys_to_place: added.keys_to_place,
        }))
    }

    async fn reseal_pins(
        &self,
        request: Request<v1::ResealPinsRequest>,
    ) -> Result<Response<v1::ResealPinsResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::ResealPins)?;
        let result = self.entry.service.reseal_pins(&admitted.call).await;
        admitted.answer(result.map(|Resealed { pins, access_keys }| v1::ResealPinsResponse {
            resealed: pins,
            resealed_access_keys: access_keys,
        }))
    }

    async fn resync_keys(
        &self,
        request: Request<v1::ResyncKeysRequest>,
    ) -> Result<Response<v1::ResyncKeysResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::ResyncKeys)?;
        let v1::ResyncKeysRequest { cluster_id, key_id, hsm_id, all_removed } = request.into_inner();
        let input = ResyncInput { cluster_id, key_id, hsm_id, all_removed };
        let result = self.entry.service.resync_keys(&admitted.call, input).await;
        admitted.answer(result.map(|resynced| v1::ResyncKeysResponse {
            keys_wanted_again: resynced.wanted_again as u64,
            keys_to_place: resynced.to_place as u64,
        }))
    }

    async fn get_statistics(
        &self,
        request: Request<v1::GetStatisticsRequest>,
    ) -> Result<Response<v1::GetStatisticsResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::GetStatistics)?;
        let result = self.entry.service.get_statistics(&admitted.call, &request.get_ref().cluster_id).await;
        admitted.answer(result.map(|statistics| v1::GetStatisticsResponse {
            at: Some(time(statistics.at)),
            clusters: statistics.clusters.into_iter().map(cluster_statistics).collect(),
        }))
    }

    async fn diagnose_hsm(
        &self,
        request: Request<v1::DiagnoseHsmRequest>,
    ) -> Result<Response<v1::DiagnoseHsmResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::DiagnoseHsm)?;
        let v1::DiagnoseHsmRequest { cluster_id, hsm_id } = request.into_inner();
        let result = self.entry.service.diagnose_hsm(&admitted.call, &cluster_id, &hsm_id).await;
        admitted.answer(result.map(diagnosis::shown))
    }
}

fn cluster(view: ClusterView) -> v1::Cluster {
    let store = view.store.as_deref();
    let state = store.map_or(v1::ConnectionState::Unspecified, |store| connection_state(store.state));
    v1::Cluster {
        cluster_id: view.cluster.to_string(),
        key_store_id: store.map(|store| store.id.to_string()).unwrap_or_default(),
        connection_state: state.into(),
        hsms: view.hsms.into_iter().map(cluster_hsm).collect(),
        keys: view.keys as u64,
    }
}

fn cluster_hsm((view, keys): (HsmView, HsmKeys)) -> v1::ClusterHsm {
    v1::ClusterHsm {
        joined: view.pin.is_some(),
        member: view.is_member(),
        keys_missing: keys.missing.len() as u64,
        missing: keys.missing.iter().take(NAMED).map(ToString::to_string).collect(),
        keys_removed: keys.removed as u64,
        keys_orphaned: keys.orphans.len() as u64,
        orphans: keys.orphans.iter().take(NAMED).map(ToString::to_string).collect(),
        status: Some(hsm(view)),
    }
}

fn cluster_statistics(view: ClusterStatistics) -> v1::ClusterStatistics {
    let store = view.store.as_deref();
    let state = store.map_or(v1::ConnectionState::Unspecified, |store| connection_state(store.state));
    v1::ClusterStatistics {
        cluster_id: view.cluster.to_string(),
        key_store_id: store.map(|store| store.id.to_string()).unwrap_or_default(),
        key_store_name: store.map(|store| store.name.clone()).unwrap_or_default(),
        connection_state: state.into(),
        hsms: view.hsms.into_iter().map(hsm_statistics).collect(),
    }
}

fn hsm_statistics(view: HsmView) -> v1::HsmStatistics {
    let known = view.status.as_ref().map(|status| {
        let bucket = |(upper_bound, count)| v1::LatencyBucket { upper_bound, count };
        v1::HsmStatistics {
            status: None,
            requests: status.statistics.requests,
            items: status.statistics.items,
            failures: status.statistics.failures,
            queue_depth: status.load as u64,
            capacity: status.capacity as u64,
            latency: status.statistics.buckets().map(bucket).collect(),
            latency_sum: status.statistics.took.as_secs_f64(),
        }
    });
    v1::HsmStatistics { status: Some(hsm(view)), ..known.unwrap_or_default() }
}
