//! Service `Keys`: keys and their life.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::entry::CallEntry;
use super::timestamp;
use model::key::{KeyState, Placement};
use model::operation::Operation;
use proto::v1;
use proto::v1::keys_server::Keys;
use service::{CreateKeyInput, KeyMetadata};

/// The service's gRPC side.
pub(super) struct KeysApi {
    pub(super) entry: Arc<CallEntry>,
}

#[tonic::async_trait]
impl Keys for KeysApi {
    async fn create_key(
        &self,
        request: Request<v1::CreateKeyRequest>,
    ) -> Result<Response<v1::CreateKeyResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::CreateKey)?;
        let v1::CreateKeyRequest { key_store_id, description, client_token } = request.into_inner();
        let input = CreateKeyInput { key_store_id, description, client_token };
        let result = self.entry.service.create_key(&admitted.call, input).await;
        admitted.answer(result.map(|key| v1::CreateKeyResponse { key_metadata: Some(metadata(key)) }))
    }

    async fn describe_key(
        &self,
        request: Request<v1::DescribeKeyRequest>,
    ) -> Result<Response<v1::DescribeKeyResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::DescribeKey)?;
        let result = self.entry.service.describe_key(&admitted.call, &request.get_ref().key_id).await;
        admitted.answer(result.map(|key| v1::DescribeKeyResponse { key_metadata: Some(metadata(key)) }))
    }

    async fn list_keys(&self, request: Request<v1::ListKeysRequest>) -> Result<Response<v1::ListKeysResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::ListKeys)?;
        let v1::ListKeysRequest { limit, marker } = request.into_inner();
        let result = self.entry.service.list_keys(&admitted.call, limit, &marker).await;
        admitted.answer(result.map(|page| {
            let entry = |(id, arn): (_, String)| v1::KeyListEntry { key_id: format!("{id}"), key_arn: arn };
            v1::ListKeysResponse {
                keys: page.items.into_iter().map(entry).collect(),
                truncated: page.next_marker.is_some(),
                next_marker: page.next_marker.unwrap_or_default(),
            }
        }))
    }

    async fn enable_key(
        &self,
        request: Request<v1::EnableKeyRequest>,
    ) -> Result<Response<v1::EnableKeyResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::EnableKey)?;
        let result = self.entry.service.enable_key(&admitted.call, &request.get_ref().key_id).await;
        admitted.answer(result.map(|()| v1::EnableKeyResponse {}))
    }

    async fn disable_key(
        &self,
        request: Request<v1::DisableKeyRequest>,
    ) -> Result<Response<v1::DisableKeyResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::DisableKey)?;
        let result = self.entry.service.disable_key(&admitted.call, &request.get_ref().key_id).await;
        admitted.answer(result.map(|()| v1::DisableKeyResponse {}))
    }
}

fn metadata(key: KeyMetadata) -> v1::KeyMetadata {
    let placement = |(hsm_id, zone, placement): (String, String, Placement)| {
        let state = match placement {
            Placement::Pending => v1::PlacementState::Pending,
            Placement::Present => v1::PlacementState::Present,
            Placement::Removed => v1::PlacementState::Removed,
        };
        v1::KeyPlacement { hsm_id, zone, state: state.into() }
    };
    v1::KeyMetadata {
        aws_account_id: key.account,
        key_id: key.id.to_string(),
        arn: key.arn,
        creation_date: Some(timestamp(key.created_at)),
        enabled: key.state == KeyState::Enabled,
        description: key.description,
        key_usage: "ENCRYPT_DECRYPT".to_owned(),
        key_state: state(key.state).into(),
        origin: "AWS_CLOUDHSM".to_owned(),
        key_manager: "CUSTOMER".to_owned(),
        key_spec: "SYMMETRIC_DEFAULT".to_owned(),
        encryption_algorithms: vec!["SYMMETRIC_DEFAULT".to_owned()],
        key_store_id: key.key_store.as_str().to_owned(),
        cluster_id: key.cluster,
        current_version: key.current_version,
        encryptions_left: key.encryptions_left,
        placements: key.placements.into_iter().map(placement).collect(),
    }
}

const fn state(state: KeyState) -> v1::KeyState {
    match state {
        KeyState::Creating => v1::KeyState::Creating,
        KeyState::Enabled => v1::KeyState::Enabled,
        KeyState::Disabled => v1::KeyState::Disabled,
        KeyState::PendingDeletion => v1::KeyState::PendingDeletion,
        KeyState::Unavailable => v1::KeyState::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::{KeyId, KeyStoreId};

    #[test]
    fn metadata_says_what_the_service_says() {
        let id = KeyId::random();
        let wire = metadata(KeyMetadata {
            id,
            arn: "arn:aws:kms:local:000000000000:key/x".to_owned(),
            account: "000000000000".to_owned(),
            state: KeyState::Unavailable,
            description: "for a test".to_owned(),
            created_at: 1_700_000_000_123,
            key_store: KeyStoreId::from("cks-0123456789abcdef0"),
            cluster: "cluster-2222222222b".to_owned(),
            current_version: 3,
            encryptions_left: 7,
            placements: vec![("hsm-a".to_owned(), "a".to_owned(), Placement::Removed)],
        });
        assert_eq!(wire.key_id, id.to_string());
        assert!(!wire.enabled);
        assert_eq!(wire.key_state(), v1::KeyState::Unavailable);
        assert_eq!(wire.creation_date, Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 123_000_000 }));
        assert_eq!(wire.placements[0].state(), v1::PlacementState::Removed);
        assert_eq!((wire.key_store_id.as_str(), wire.current_version), ("cks-0123456789abcdef0", 3));
        assert_eq!(wire.encryptions_left, 7);
    }

    #[test]
    fn enabled_is_derived_from_the_state() {
        for name in ["Creating", "Enabled", "Disabled", "PendingDeletion", "Unavailable"] {
            let wire = state(KeyState::from_name(name).unwrap());
            let expected = name.replace("PendingDeletion", "PENDING_DELETION").to_uppercase();
            assert_eq!(wire.as_str_name(), format!("KEY_STATE_{expected}"));
        }
    }
}
