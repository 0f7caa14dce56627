//! Service `KeyStoresService`: key stores and the health of their HSMs.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tonic::{Request, Response, Status};

use super::entry::CallEntry;
use super::timestamp;
use cluster::Health;
use model::key_store::ConnectionState;
use model::operation::Operation;
use model::profile::judgement::{Finding, Verdict};
use model::secret::Secret;
use proto::v1;
use proto::v1::key_stores_service_server::KeyStoresService;
use service::{CreateKeyStoreInput, HsmView, KeyStoreView, UpdateKeyStoreInput};

/// The service's gRPC side.
pub(super) struct KeyStoresApi {
    pub(super) entry: Arc<CallEntry>,
}

#[tonic::async_trait]
impl KeyStoresService for KeyStoresApi {
    async fn describe_key_stores(
        &self,
        request: Request<v1::DescribeKeyStoresRequest>,
    ) -> Result<Response<v1::DescribeKeyStoresResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::DescribeKeyStores)?;
        let v1::DescribeKeyStoresRequest { key_store_id, key_store_name, limit, marker } = request.into_inner();
        let service = &self.entry.service;
        let result = service.describe_key_stores(&admitted.call, &key_store_id, &key_store_name, limit, &marker).await;
        admitted.answer(result.map(|page| v1::DescribeKeyStoresResponse {
            key_stores: page.items.into_iter().map(key_store).collect(),
            truncated: page.next_marker.is_some(),
            next_marker: page.next_marker.unwrap_or_default(),
        }))
    }

    async fn create_key_store(
        &self,
        request: Request<v1::CreateKeyStoreRequest>,
    ) -> Result<Response<v1::CreateKeyStoreResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::CreateKeyStore)?;
        let v1::CreateKeyStoreRequest { key_store_name, cluster_id, trust_anchor_certificate, key_store_password } =
            request.into_inner();
        let input = CreateKeyStoreInput {
            name: key_store_name,
            cluster_id,
            trust_anchor: trust_anchor_certificate,
            password: Secret::new(key_store_password.into_bytes()),
        };
        let result = self.entry.service.create_key_store(&admitted.call, input).await;
        admitted.answer(result.map(|id| v1::CreateKeyStoreResponse { key_store_id: id.to_string() }))
    }

    async fn update_key_store(
        &self,
        request: Request<v1::UpdateKeyStoreRequest>,
    ) -> Result<Response<v1::UpdateKeyStoreResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::UpdateKeyStore)?;
        let v1::UpdateKeyStoreRequest {
            key_store_id,
            new_key_store_name,
            key_store_password,
            hsm_ids,
            cluster_id,
            pin_was_reset,
        } = request.into_inner();
        let given = |text: String| (!text.is_empty()).then_some(text);
        let password = Secret::new(key_store_password.into_bytes());
        let input = UpdateKeyStoreInput {
            key_store_id,
            new_name: given(new_key_store_name),
            password: (!password.is_empty()).then_some(password),
            pin_was_reset,
            hsm_ids,
            cluster_id: given(cluster_id),
        };
        let result = self.entry.service.update_key_store(&admitted.call, input).await;
        admitted.answer(result.map(|()| v1::UpdateKeyStoreResponse {}))
    }

    async fn connect_key_store(
        &self,
        request: Request<v1::ConnectKeyStoreRequest>,
    ) -> Result<Response<v1::ConnectKeyStoreResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::ConnectKeyStore)?;
        let result = self.entry.service.connect_key_store(&admitted.call, &request.get_ref().key_store_id).await;
        admitted.answer(result.map(|()| v1::ConnectKeyStoreResponse {}))
    }

    async fn disconnect_key_store(
        &self,
        request: Request<v1::DisconnectKeyStoreRequest>,
    ) -> Result<Response<v1::DisconnectKeyStoreResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::DisconnectKeyStore)?;
        let result = self.entry.service.disconnect_key_store(&admitted.call, &request.get_ref().key_store_id).await;
        admitted.answer(result.map(|()| v1::DisconnectKeyStoreResponse {}))
    }

    async fn delete_key_store(
        &self,
        request: Request<v1::DeleteKeyStoreRequest>,
    ) -> Result<Response<v1::DeleteKeyStoreResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::DeleteKeyStore)?;
        let result = self.entry.service.delete_key_store(&admitted.call, &request.get_ref().key_store_id).await;
        admitted.answer(result.map(|()| v1::DeleteKeyStoreResponse {}))
    }
}

fn key_store(view: KeyStoreView) -> v1::KeyStore {
    let KeyStoreView { store, hsms } = view;
    let (code, message) = match &store.error {
        Some((code, message)) => (code.name().to_owned(), message.clone()),
        None => Default::default(),
    };
    v1::KeyStore {
        key_store_id: store.id.as_str().to_owned(),
        key_store_name: store.name.clone(),
        cluster_id: store.cluster.as_str().to_owned(),
        connection_state: connection_state(store.state).into(),
        creation_date: Some(timestamp(store.created_at)),
        hsms: hsms.into_iter().map(hsm).collect(),
        connection_error_code: code,
        connection_error_message: message,
        trust_anchor_certificate: store.trust_anchor.clone(),
    }
}

/// A connection state as it stands on the wire.
pub(super) const fn connection_state(state: ConnectionState) -> v1::ConnectionState {
    match state {
        ConnectionState::Disconnected => v1::ConnectionState::Disconnected,
        ConnectionState::Connecting => v1::ConnectionState::Connecting,
        ConnectionState::Connected => v1::ConnectionState::Connected,
        ConnectionState::Disconnecting => v1::ConnectionState::Disconnecting,
        ConnectionState::Failed => v1::ConnectionState::Failed,
    }
}

/// One HSM as it stands on the wire.
pub(super) fn hsm(view: HsmView) -> v1::HsmStatus {
    let pin = view.pin;
    let known = v1::HsmStatus {
        hsm_id: view.hsm.to_string(),
        zone: view.zone.to_string(),
        health: v1::HsmHealth::Unused.into(),
        workers: view.data_workers.into(),
        last_rotation: pin.and_then(|pin| pin.rotated_at).map(timestamp),
        pin_tries_left: pin.map_or(0, |pin| pin.tries_left),
        notes: view.notes,
        ..v1::HsmStatus::default()
    };
    let Some(member) = view.status else { return known };
    let health = match member.health {
        Health::Starting => v1::HsmHealth::Starting,
        Health::Healthy => v1::HsmHealth::Healthy,
        Health::Suspect => v1::HsmHealth::Suspect,
        Health::Down => v1::HsmHealth::Down,
    };
    let (status, ready) = (&member.status, member.status.ready.as_deref());
    let reason = match member.health {
        // Others serve, and it will be down when they have gone; or no key is made or placed meanwhile.
        Health::Healthy if !status.refused && !status.control_failed => member.reason,
        _ => member.reason.or_else(|| status.reason.clone()),
    };
    let step = |(at, step): &(SystemTime, Arc<str>)| v1::HsmStep { at: Some(time(*at)), step: step.to_string() };
    v1::HsmStatus {
        health: health.into(),
        reason: reason.unwrap_or_default(),
        since: Some(time(member.since)),
        token_label: ready.map(|ready| ready.label.clone()).unwrap_or_default(),
        token_serial: ready.map(|ready| ready.serial.clone()).unwrap_or_default(),
        ready_workers: status.data_ready.into(),
        proven: status.proven,
        steps: status.steps.iter().map(step).collect(),
        confinement_gaps: ready.map(|ready| ready.degraded.clone()).unwrap_or_default(),
        findings: status.examined.iter().flat_map(|judgement| &judgement.findings).map(finding).collect(),
        ..known
    }
}

/// Something that was found in a token, as it stands on the wire.
pub(super) fn finding(finding: &Finding) -> v1::HsmFinding {
    let verdict = match finding.verdict {
        Verdict::Holds => v1::HsmVerdict::Holds,
        Verdict::Better => v1::HsmVerdict::Better,
        Verdict::Untried => v1::HsmVerdict::Untried,
        Verdict::NotJudged => v1::HsmVerdict::NotJudged,
        Verdict::Contradicts => v1::HsmVerdict::Contradicts,
    };
    v1::HsmFinding {
        name: finding.name.to_owned(),
        expected: finding.expected.clone(),
        found: finding.found.clone(),
        verdict: verdict.into(),
        sentence: finding.sentence.clone().unwrap_or_default(),
    }
}

pub(super) fn time(at: SystemTime) -> prost_types::Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
