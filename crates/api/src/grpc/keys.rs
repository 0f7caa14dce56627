//! Service `KeysService`: keys and their life.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::entry::CallEntry;
use super::{names, timestamp};
use model::key::{KeyState, Placement};
use model::operation::Operation;
use proto::v1;
use proto::v1::keys_service_server::KeysService;
use service::{CreateAliasInput, CreateKeyInput, KeyMetadata};

/// The service's gRPC side.
pub(super) struct KeysApi {
    pub(super) entry: Arc<CallEntry>,
}

#[tonic::async_trait]
impl KeysService for KeysApi {
    async fn create_key(
        &self,
        request: Request<v1::CreateKeyRequest>,
    ) -> Result<Response<v1::CreateKeyResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::CreateKey)?;
        let v1::CreateKeyRequest { key_store_id, description, client_token, tags } = request.into_inner();
        let input = CreateKeyInput { key_store_id, description, client_token, tags: names::pairs(tags) };
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
        let result = match names::list_keys(request.into_inner()) {
            Ok(input) => self.entry.service.list_keys(&admitted.call, input).await,
            Err(error) => Err(error),
        };
        admitted.answer(result.map(|page| v1::ListKeysResponse {
            keys: page.items.into_iter().map(names::key).collect(),
            truncated: page.next_marker.is_some(),
            next_marker: page.next_marker.unwrap_or_default(),
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

    async fn update_key_description(
        &self,
        request: Request<v1::UpdateKeyDescriptionRequest>,
    ) -> Result<Response<v1::UpdateKeyDescriptionResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::UpdateKeyDescription)?;
        let v1::UpdateKeyDescriptionRequest { key_id, description } = request.into_inner();
        let result = self.entry.service.update_key_description(&admitted.call, &key_id, description).await;
        admitted.answer(result.map(|()| v1::UpdateKeyDescriptionResponse {}))
    }

    async fn tag_resource(
        &self,
        request: Request<v1::TagResourceRequest>,
    ) -> Result<Response<v1::TagResourceResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::TagResource)?;
        let v1::TagResourceRequest { key_id, tags } = request.into_inner();
        let result = self.entry.service.tag_resource(&admitted.call, &key_id, names::pairs(tags)).await;
        admitted.answer(result.map(|()| v1::TagResourceResponse {}))
    }

    async fn untag_resource(
        &self,
        request: Request<v1::UntagResourceRequest>,
    ) -> Result<Response<v1::UntagResourceResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::UntagResource)?;
        let v1::UntagResourceRequest { key_id, tag_keys } = request.into_inner();
        let result = self.entry.service.untag_resource(&admitted.call, &key_id, tag_keys).await;
        admitted.answer(result.map(|()| v1::UntagResourceResponse {}))
    }

    async fn list_resource_tags(
        &self,
        request: Request<v1::ListResourceTagsRequest>,
    ) -> Result<Response<v1::ListResourceTagsResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::ListResourceTags)?;
        let v1::ListResourceTagsRequest { key_id, limit, marker } = request.into_inner();
        let result = self.entry.service.list_resource_tags(&admitted.call, &key_id, limit, &marker).await;
        admitted.answer(result.map(|page| v1::ListResourceTagsResponse {
            tags: names::tags(page.items),
            truncated: page.next_marker.is_some(),
            next_marker: page.next_marker.unwrap_or_default(),
        }))
    }

    async fn create_alias(
        &self,
        request: Request<v1::CreateAliasRequest>,
    ) -> Result<Response<v1::CreateAliasResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::CreateAlias)?;
        let v1::CreateAliasRequest { alias_name, target_key_id, client_token } = request.into_inner();
        let input = CreateAliasInput { alias_name, target_key_id, client_token };
        let result = self.entry.service.create_alias(&admitted.call, input).await;
        admitted.answer(result.map(|()| v1::CreateAliasResponse {}))
    }

    async fn update_alias(
        &self,
        request: Request<v1::UpdateAliasRequest>,
    ) -> Result<Response<v1::UpdateAliasResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::UpdateAlias)?;
        let v1::UpdateAliasRequest { alias_name, target_key_id } = request.get_ref();
        let result = self.entry.service.update_alias(&admitted.call, alias_name, target_key_id).await;
        admitted.answer(result.map(|()| v1::UpdateAliasResponse {}))
    }

    async fn delete_alias(
        &self,
        request: Request<v1::DeleteAliasRequest>,
    ) -> Result<Response<v1::DeleteAliasResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::DeleteAlias)?;
        let result = self.entry.service.delete_alias(&admitted.call, &request.get_ref().alias_name).await;
        admitted.answer(result.map(|()| v1::DeleteAliasResponse {}))
    }

    async fn list_aliases(
        &self,
        request: Request<v1::ListAliasesRequest>,
    ) -> Result<Response<v1::ListAliasesResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::ListAliases)?;
        let v1::ListAliasesRequest { key_id, limit, marker } = request.into_inner();
        let result = self.entry.service.list_aliases(&admitted.call, &key_id, limit, &marker).await;
        admitted.answer(result.map(|page| v1::ListAliasesResponse {
            aliases: page.items.into_iter().map(names::alias).collect(),
            truncated: page.next_marker.is_some(),
            next_marker: page.next_marker.unwrap_or_default(),
        }))
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

pub(super) const fn state(state: KeyState) -> v1::KeyState {
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
