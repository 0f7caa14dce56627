//! Service `KeyStores`: key stores and the health of their HSMs.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use tonic::{Request, Response, Status};

use super::door::Door;
use super::timestamp;
use crate::cluster::{Health, MemberStatus};
use crate::model::key_store::ConnectionState;
use crate::model::operation::Operation;
use crate::proto::v1;
use crate::proto::v1::key_stores_server::KeyStores;
use crate::store::KeyStore;

/// The service's gRPC side.
pub(super) struct KeyStoresApi {
    pub(super) door: Arc<Door>,
}

#[tonic::async_trait]
impl KeyStores for KeyStoresApi {
    async fn describe_key_stores(
        &self,
        request: Request<v1::DescribeKeyStoresRequest>,
    ) -> Result<Response<v1::DescribeKeyStoresResponse>, Status> {
        let visit = self.door.admit(&request, Operation::DescribeKeyStores)?;
        let v1::DescribeKeyStoresRequest { key_store_id, key_store_name, limit, marker } = request.into_inner();
        let service = &self.door.service;
        let result = service.describe_key_stores(&visit.call, &key_store_id, &key_store_name, limit, &marker).await;
        visit.answer(result.map(|page| v1::DescribeKeyStoresResponse {
            key_stores: page.items.into_iter().map(|(store, hsms)| key_store(&store, hsms)).collect(),
            truncated: page.next_marker.is_some(),
            next_marker: page.next_marker.unwrap_or_default(),
        }))
    }

    async fn create_key_store(
        &self,
        _request: Request<v1::CreateKeyStoreRequest>,
    ) -> Result<Response<v1::CreateKeyStoreResponse>, Status> {
        Err(Status::unimplemented("in work"))
    }

    async fn update_key_store(
        &self,
        _request: Request<v1::UpdateKeyStoreRequest>,
    ) -> Result<Response<v1::UpdateKeyStoreResponse>, Status> {
        Err(Status::unimplemented("in work"))
    }

    async fn connect_key_store(
        &self,
        _request: Request<v1::ConnectKeyStoreRequest>,
    ) -> Result<Response<v1::ConnectKeyStoreResponse>, Status> {
        Err(Status::unimplemented("in work"))
    }

    async fn disconnect_key_store(
        &self,
        _request: Request<v1::DisconnectKeyStoreRequest>,
    ) -> Result<Response<v1::DisconnectKeyStoreResponse>, Status> {
        Err(Status::unimplemented("in work"))
    }

    async fn delete_key_store(
        &self,
        _request: Request<v1::DeleteKeyStoreRequest>,
    ) -> Result<Response<v1::DeleteKeyStoreResponse>, Status> {
        Err(Status::unimplemented("in work"))
    }
}

fn key_store(store: &KeyStore, hsms: Vec<MemberStatus>) -> v1::KeyStore {
    let state = match store.state {
        ConnectionState::Disconnected => v1::ConnectionState::Disconnected,
        ConnectionState::Connecting => v1::ConnectionState::Connecting,
        ConnectionState::Connected => v1::ConnectionState::Connected,
        ConnectionState::Disconnecting => v1::ConnectionState::Disconnecting,
        ConnectionState::Failed => v1::ConnectionState::Failed,
    };
    v1::KeyStore {
        key_store_id: store.id.as_str().to_owned(),
        key_store_name: store.name.clone(),
        cluster_id: store.cluster.as_str().to_owned(),
        connection_state: state.into(),
        creation_date: Some(timestamp(store.created_at)),
        hsms: hsms.into_iter().map(hsm).collect(),
        ..Default::default()
    }
}

fn hsm(member: MemberStatus) -> v1::HsmStatus {
    let health = match member.health {
        Health::Starting => v1::HsmHealth::Starting,
        Health::Healthy => v1::HsmHealth::Healthy,
        Health::Suspect => v1::HsmHealth::Suspect,
        Health::Down => v1::HsmHealth::Down,
    };
    let since = member.since.duration_since(UNIX_EPOCH).unwrap_or_default();
    let ready = member.status.ready.as_deref();
    v1::HsmStatus {
        hsm_id: member.hsm.as_str().to_owned(),
        zone: member.zone.as_str().to_owned(),
        health: health.into(),
        reason: member.reason.unwrap_or_default(),
        since: Some(timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))),
        token_label: ready.map(|ready| ready.label.clone()).unwrap_or_default(),
        token_serial: ready.map(|ready| ready.serial.clone()).unwrap_or_default(),
        ready_workers: member.status.data_ready.into(),
        workers: member.data_workers.into(),
        ..Default::default()
    }
}
