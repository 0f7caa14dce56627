//! Service `KeysService`: keys and their life.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::entry::CallEntry;
use super::key_metadata::{destruction, metadata, rotation};
use super::{grants, names, timestamp};
use model::operation::Operation;
use proto::v1;
use proto::v1::keys_service_server::KeysService;
use service::{CreateAliasInput, CreateKeyInput, PutKeyPolicyInput, RetireGrantInput};

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
        let v1::CreateKeyRequest {
            key_store_id,
            description,
            client_token,
            tags,
            policy,
            bypass_policy_lockout_safety_check: bypass_lockout_check,
        } = request.into_inner();
        let tags = names::pairs(tags);
        let input = CreateKeyInput { key_store_id, description, client_token, tags, policy, bypass_lockout_check };
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

    async fn put_key_policy(
        &self,
        request: Request<v1::PutKeyPolicyRequest>,
    ) -> Result<Response<v1::PutKeyPolicyResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::PutKeyPolicy)?;
        let v1::PutKeyPolicyRequest { key_id, policy_name, policy, bypass_policy_lockout_safety_check, default_policy } =
            request.into_inner();
        let bypass_lockout_check = bypass_policy_lockout_safety_check;
        let input = PutKeyPolicyInput { key_id, policy_name, policy, default_policy, bypass_lockout_check };
        let result = self.entry.service.put_key_policy(&admitted.call, input).await;
        admitted.answer(result.map(|warnings| v1::PutKeyPolicyResponse { warnings }))
    }

    async fn get_key_policy(
        &self,
        request: Request<v1::GetKeyPolicyRequest>,
    ) -> Result<Response<v1::GetKeyPolicyResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::GetKeyPolicy)?;
        let v1::GetKeyPolicyRequest { key_id, policy_name } = request.get_ref();
        let result = self.entry.service.get_key_policy(&admitted.call, key_id, policy_name).await;
        let policy_name = "default".to_owned();
        admitted.answer(result.map(|policy| v1::GetKeyPolicyResponse { policy, policy_name }))
    }

    async fn list_key_policies(
        &self,
        request: Request<v1::ListKeyPoliciesRequest>,
    ) -> Result<Response<v1::ListKeyPoliciesResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::ListKeyPolicies)?;
        let v1::ListKeyPoliciesRequest { key_id, limit, marker } = request.get_ref();
        let result = self.entry.service.list_key_policies(&admitted.call, key_id, *limit, marker).await;
        admitted.answer(result.map(|policy_names| v1::ListKeyPoliciesResponse {
            policy_names,
            truncated: false,
            next_marker: String::new(),
        }))
    }

    async fn create_grant(
        &self,
        request: Request<v1::CreateGrantRequest>,
    ) -> Result<Response<v1::CreateGrantResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::CreateGrant)?;
        let result = match grants::input(request.into_inner()) {
            Ok(input) => self.entry.service.create_grant(&admitted.call, input).await,
            Err(error) => Err(error),
        };
        admitted.answer(
            result.map(|made| v1::CreateGrantResponse { grant_id: made.id.to_string(), grant_token: made.token }),
        )
    }

    async fn list_grants(
        &self,
        request: Request<v1::ListGrantsRequest>,
    ) -> Result<Response<v1::ListGrantsResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::ListGrants)?;
        let v1::ListGrantsRequest { key_id, grant_id, grantee_principal, limit, marker } = request.get_ref();
        let listed =
            self.entry.service.list_grants(&admitted.call, key_id, grant_id, grantee_principal, *limit, marker).await;
        admitted.answer(listed.map(|page| v1::ListGrantsResponse {
            grants: page.items.into_iter().map(grants::shown).collect(),
            truncated: page.next_marker.is_some(),
            next_marker: page.next_marker.unwrap_or_default(),
        }))
    }

    async fn list_retirable_grants(
        &self,
        request: Request<v1::ListRetirableGrantsRequest>,
    ) -> Result<Response<v1::ListRetirableGrantsResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::ListRetirableGrants)?;
        let v1::ListRetirableGrantsRequest { retiring_principal, limit, marker } = request.get_ref();
        let listed = self.entry.service.list_retirable_grants(&admitted.call, retiring_principal, *limit, marker).await;
        admitted.answer(listed.map(|page| v1::ListRetirableGrantsResponse {
            grants: page.items.into_iter().map(grants::shown).collect(),
            truncated: page.next_marker.is_some(),
            next_marker: page.next_marker.unwrap_or_default(),
        }))
    }

    async fn retire_grant(
        &self,
        request: Request<v1::RetireGrantRequest>,
    ) -> Result<Response<v1::RetireGrantResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::RetireGrant)?;
        let v1::RetireGrantRequest { grant_token, key_id, grant_id, dry_run } = request.into_inner();
        let input = RetireGrantInput { token: grant_token, key_arn: key_id, grant_id, dry_run };
        let result = self.entry.service.retire_grant(&admitted.call, input).await;
        admitted.answer(result.map(|()| v1::RetireGrantResponse {}))
    }

    async fn revoke_grant(
        &self,
        request: Request<v1::RevokeGrantRequest>,
    ) -> Result<Response<v1::RevokeGrantResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::RevokeGrant)?;
        let v1::RevokeGrantRequest { key_id, grant_id, dry_run } = request.get_ref();
        let result = self.entry.service.revoke_grant(&admitted.call, key_id, grant_id, *dry_run).await;
        admitted.answer(result.map(|()| v1::RevokeGrantResponse {}))
    }
}
