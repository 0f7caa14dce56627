//! Service `KeysService`: keys and their life.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::entry::CallEntry;
use super::{names, timestamp};
use model::key::{KeyState, Placement, RotationCause};
use model::operation::Operation;
use proto::v1;
use proto::v1::keys_service_server::KeysService;
use service::{CreateAliasInput, CreateKeyInput, KeyDestruction, KeyMetadata, KeyRotation};

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
        let v1::DescribeKeyRequest { key_id, grant_tokens } = request.into_inner();
        let result = self.entry.service.describe_key_with(&admitted.call, &key_id, grant_tokens.into()).await;
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

    async fn schedule_key_deletion(
        &self,
        request: Request<v1::ScheduleKeyDeletionRequest>,
    ) -> Result<Response<v1::ScheduleKeyDeletionResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::ScheduleKeyDeletion)?;
        let v1::ScheduleKeyDeletionRequest { key_id, pending_window_in_days } = request.into_inner();
        let result = self.entry.service.schedule_key_deletion(&admitted.call, &key_id, pending_window_in_days).await;
        admitted.answer(result.map(|scheduled| v1::ScheduleKeyDeletionResponse {
            key_id: scheduled.key_arn,
            deletion_date: Some(timestamp(scheduled.date)),
            key_state: v1::KeyState::PendingDeletion.into(),
            pending_window_in_days: scheduled.window_days,
        }))
    }

    async fn cancel_key_deletion(
        &self,
        request: Request<v1::CancelKeyDeletionRequest>,
    ) -> Result<Response<v1::CancelKeyDeletionResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::CancelKeyDeletion)?;
        let result = self.entry.service.cancel_key_deletion(&admitted.call, &request.get_ref().key_id).await;
        admitted.answer(result.map(|key_id| v1::CancelKeyDeletionResponse { key_id }))
    }

    async fn destroy_key_material(
        &self,
        request: Request<v1::DestroyKeyMaterialRequest>,
    ) -> Result<Response<v1::DestroyKeyMaterialResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::DestroyKeyMaterial)?;
        let v1::DestroyKeyMaterialRequest { key_id, confirm_key_arn } = request.into_inner();
        let result = self.entry.service.destroy_key_material(&admitted.call, &key_id, &confirm_key_arn).await;
        admitted.answer(result.map(|destroyed| v1::DestroyKeyMaterialResponse {
            key_id: destroyed.key_arn,
            deletion_date: Some(timestamp(destroyed.deletion_date)),
            destructions: destroyed.destructions.into_iter().map(destruction).collect(),
        }))
    }

    async fn get_key_last_usage(
        &self,
        request: Request<v1::GetKeyLastUsageRequest>,
    ) -> Result<Response<v1::GetKeyLastUsageResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::GetKeyLastUsage)?;
        let result = self.entry.service.get_key_last_usage(&admitted.call, &request.get_ref().key_id).await;
        admitted.answer(result.map(|usage| v1::GetKeyLastUsageResponse {
            key_id: usage.key.to_string(),
            key_last_usage: usage.last.map(|last| v1::KeyLastUsage {
                operation: last.operation,
                timestamp: Some(timestamp(last.at)),
                kms_request_id: last.request_id,
            }),
            key_creation_date: Some(timestamp(usage.created_at)),
        }))
    }

    async fn rotate_key_on_demand(
        &self,
        request: Request<v1::RotateKeyOnDemandRequest>,
    ) -> Result<Response<v1::RotateKeyOnDemandResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::RotateKeyOnDemand)?;
        let result = self.entry.service.rotate_key_on_demand(&admitted.call, &request.get_ref().key_id).await;
        admitted.answer(result.map(|key_id| v1::RotateKeyOnDemandResponse { key_id }))
    }

    async fn enable_key_rotation(
        &self,
        request: Request<v1::EnableKeyRotationRequest>,
    ) -> Result<Response<v1::EnableKeyRotationResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::EnableKeyRotation)?;
        let v1::EnableKeyRotationRequest { key_id, rotation_period_in_days } = request.into_inner();
        let result = self.entry.service.enable_key_rotation(&admitted.call, &key_id, rotation_period_in_days).await;
        admitted.answer(result.map(|()| v1::EnableKeyRotationResponse {}))
    }

    async fn disable_key_rotation(
        &self,
        request: Request<v1::DisableKeyRotationRequest>,
    ) -> Result<Response<v1::DisableKeyRotationResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::DisableKeyRotation)?;
        let result = self.entry.service.disable_key_rotation(&admitted.call, &request.get_ref().key_id).await;
        admitted.answer(result.map(|()| v1::DisableKeyRotationResponse {}))
    }

    async fn get_key_rotation_status(
        &self,
        request: Request<v1::GetKeyRotationStatusRequest>,
    ) -> Result<Response<v1::GetKeyRotationStatusResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::GetKeyRotationStatus)?;
        let result = self.entry.service.get_key_rotation_status(&admitted.call, &request.get_ref().key_id).await;
        admitted.answer(result.map(|status| v1::GetKeyRotationStatusResponse {
            key_id: status.key_arn,
            key_rotation_enabled: status.enabled,
            rotation_period_in_days: status.period_days.unwrap_or_default(),
            next_rotation_date: status.next.map(timestamp),
            on_demand_rotation_in_progress: status.on_demand_under_way,
        }))
    }

    async fn list_key_rotations(
        &self,
        request: Request<v1::ListKeyRotationsRequest>,
    ) -> Result<Response<v1::ListKeyRotationsResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::ListKeyRotations)?;
        let v1::ListKeyRotationsRequest { key_id, include_key_material, limit, marker } = request.into_inner();
        let all = include_key_material == i32::from(v1::IncludeKeyMaterial::AllKeyMaterial);
        let result = self.entry.service.list_key_rotations(&admitted.call, &key_id, all, limit, &marker).await;
        admitted.answer(result.map(|(arn, page)| v1::ListKeyRotationsResponse {
            truncated: page.next_marker.is_some(),
            next_marker: page.next_marker.unwrap_or_default(),
            rotations: page.items.into_iter().map(|one| rotation(&arn, one)).collect(),
        }))
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

fn rotation(arn: &str, one: KeyRotation) -> v1::KeyRotation {
    let kind = match one.cause {
        None => v1::RotationType::Unspecified,
        Some(RotationCause::Request) => v1::RotationType::OnDemand,
        Some(RotationCause::Period | RotationCause::Wear) => v1::RotationType::Automatic,
    };
    v1::KeyRotation {
        key_id: arn.to_owned(),
        key_material_id: one.material_id.to_string(),
        key_material_state: if one.current { "CURRENT" } else { "NON_CURRENT" }.to_owned(),
        rotation_date: Some(timestamp(one.date)),
        rotation_type: kind.into(),
        rotation_cause: cause(one.cause).into(),
        version: one.version,
    }
}

const fn cause(cause: Option<RotationCause>) -> v1::RotationCause {
    match cause {
        None => v1::RotationCause::Unspecified,
        Some(RotationCause::Request) => v1::RotationCause::Request,
        Some(RotationCause::Period) => v1::RotationCause::Period,
        Some(RotationCause::Wear) => v1::RotationCause::Wear,
    }
}

fn destruction(one: KeyDestruction) -> v1::KeyDestruction {
    v1::KeyDestruction {
        hsm_id: one.hsm.to_string(),
        destruction_date: one.destroyed_at.map(timestamp),
        failure: one.failure.unwrap_or_default(),
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
        current_key_material_id: key.current_material_id,
        current_version_date: key.current_since.map(timestamp),
        current_version_cause: cause(key.current_cause).into(),
        deletion_date: key.deletion.map(|deletion| timestamp(deletion.date)),
        material_destroyed: key.deletion.is_some_and(|deletion| deletion.material_destroyed),
        destructions: key.destructions.into_iter().map(destruction).collect(),
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
            current_material_id: "ab".to_owned(),
            current_since: None,
            current_cause: Some(RotationCause::Wear),
            deletion: None,
            destructions: vec![KeyDestruction {
                hsm: "hsm-a".into(),
                destroyed_at: None,
                failure: Some("away".into()),
            }],
        });
        assert_eq!(
            (wire.current_key_material_id.as_str(), wire.current_version_cause()),
            ("ab", v1::RotationCause::Wear)
        );
        assert_eq!((wire.destructions[0].destruction_date, wire.destructions[0].failure.as_str()), (None, "away"));
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
