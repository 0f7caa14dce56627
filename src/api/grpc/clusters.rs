//! Service `Clusters`: what the configuration describes, and what operators do with the HSMs in it.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::door::Door;
use super::key_stores::{connection_state, hsm};
use crate::model::operation::Operation;
use crate::model::secret::Secret;
use crate::proto::v1;
use crate::proto::v1::clusters_server::Clusters;
use crate::service::{AddHsmInput, ClusterView, HsmKeys, HsmView, ResyncInput};

/// Missing keys that are named one by one.
const NAMED: usize = 100;

/// The service's gRPC side.
pub(super) struct ClustersApi {
    pub(super) door: Arc<Door>,
}

#[tonic::async_trait]
impl Clusters for ClustersApi {
    async fn describe_clusters(
        &self,
        request: Request<v1::DescribeClustersRequest>,
    ) -> Result<Response<v1::DescribeClustersResponse>, Status> {
        let visit = self.door.admit(&request, Operation::DescribeClusters)?;
        let result = self.door.service.describe_clusters(&visit.call, &request.get_ref().cluster_id).await;
        visit.answer(
            result
                .map(|clusters| v1::DescribeClustersResponse { clusters: clusters.into_iter().map(cluster).collect() }),
        )
    }

    async fn add_hsm(&self, request: Request<v1::AddHsmRequest>) -> Result<Response<v1::AddHsmResponse>, Status> {
        let visit = self.door.admit(&request, Operation::AddHsm)?;
        let request = request.into_inner();
        let input = AddHsmInput {
            cluster_id: request.cluster_id,
            hsm_id: request.hsm_id,
            identity_certificate: request.identity_certificate,
            transport_certificate: request.transport_certificate,
            member_hsm_id: request.member_hsm_id,
            member_wrapped_key: request.member_wrapped_key.into(),
            password: Secret::new(request.key_store_password.into_bytes()),
        };
        let result = self.door.service.add_hsm(&visit.call, input).await;
        visit.answer(result.map(|added| v1::AddHsmResponse {
            wrapped_key: added.wrapped_key.to_vec(),
            keys_to_place: added.keys_to_place,
        }))
    }

    async fn reseal_pins(
        &self,
        request: Request<v1::ResealPinsRequest>,
    ) -> Result<Response<v1::ResealPinsResponse>, Status> {
        let visit = self.door.admit(&request, Operation::ResealPins)?;
        let result = self.door.service.reseal_pins(&visit.call).await;
        visit.answer(result.map(|resealed| v1::ResealPinsResponse { resealed }))
    }

    async fn resync_keys(
        &self,
        request: Request<v1::ResyncKeysRequest>,
    ) -> Result<Response<v1::ResyncKeysResponse>, Status> {
        let visit = self.door.admit(&request, Operation::ResyncKeys)?;
        let v1::ResyncKeysRequest { cluster_id, key_id, hsm_id, all_removed } = request.into_inner();
        let input = ResyncInput { cluster_id, key_id, hsm_id, all_removed };
        let result = self.door.service.resync_keys(&visit.call, input).await;
        visit.answer(result.map(|resynced| v1::ResyncKeysResponse {
            keys_wanted_again: resynced.wanted_again as u64,
            keys_to_place: resynced.to_place as u64,
        }))
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
        keys_missing: keys.missing.len() as u64,
        missing: keys.missing.iter().take(NAMED).map(ToString::to_string).collect(),
        keys_removed: keys.removed as u64,
        keys_orphaned: keys.orphans.len() as u64,
        orphans: keys.orphans.iter().take(NAMED).map(ToString::to_string).collect(),
        status: Some(hsm(view)),
    }
}
