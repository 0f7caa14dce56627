//! Service `AccessService`: who may do what.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::entry::CallEntry;
use super::{access_keys, error, grants, timestamp};
use model::operation::Operation;
use proto::v1;
use proto::v1::access_service_server::AccessService;
use service::{
    Attached, CallParameters, CheckedPolicy, CreatePrincipalInput, Error, ExplainInput, Explained, GroupView,
    NearStatement, PolicyFinding, PolicyView, PrincipalView, PutPolicyInput,
};

/// The service's gRPC side.
pub(super) struct AccessApi {
    pub(super) entry: Arc<CallEntry>,
}

#[tonic::async_trait]
impl AccessService for AccessApi {
    async fn who_am_i(&self, request: Request<v1::WhoAmIRequest>) -> Result<Response<v1::WhoAmIResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::WhoAmI)?;

        let result = self.entry.service.who_am_i(&admitted.call).await;
        admitted.answer(result.map(|who| v1::WhoAmIResponse {
            identity: who.identity,
            principal: who.principal.map(principal),
            administrator: who.administrator,
        }))
    }

    async fn create_principal(
        &self,
        request: Request<v1::CreatePrincipalRequest>,
    ) -> Result<Response<v1::CreatePrincipalResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::CreatePrincipal)?;
        let v1::CreatePrincipalRequest { arn, description, identities, tags } = request.into_inner();
        let result = self
            .entry
            .service
            .create_principal(
                &admitted.call,
                CreatePrincipalInput { arn, description, identities, tags: tags.into_iter().collect() },
            )
            .await;
        admitted.answer(result.map(|made| v1::CreatePrincipalResponse { principal: Some(principal(made)) }))
    }

    async fn delete_principal(
        &self,
        request: Request<v1::DeletePrincipalRequest>,
    ) -> Result<Response<v1::DeletePrincipalResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::DeletePrincipal)?;
        let v1::DeletePrincipalRequest { arn } = request.get_ref();
        let result = self.entry.service.delete_principal(&admitted.call, arn).await;
        admitted.answer(result.map(|()| v1::DeletePrincipalResponse {}))
    }

    async fn describe_principal(
        &self,
        request: Request<v1::DescribePrincipalRequest>,
    ) -> Result<Response<v1::DescribePrincipalResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::DescribePrincipal)?;
        let v1::DescribePrincipalRequest { arn } = request.get_ref();
        let result = self.entry.service.describe_principal(&admitted.call, arn).await;
        admitted.answer(result.map(|shown| v1::DescribePrincipalResponse { principal: Some(principal(shown)) }))
    }

    async fn list_principals(
        &self,
        request: Request<v1::ListPrincipalsRequest>,
    ) -> Result<Response<v1::ListPrincipalsResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::ListPrincipals)?;
        let v1::ListPrincipalsRequest { limit, marker } = request.get_ref();
        let result = self.entry.service.list_principals(&admitted.call, *limit, marker).await;
        admitted.answer(result.map(|page| v1::ListPrincipalsResponse {
            truncated: page.next_marker.is_some(),
            next_marker: page.next_marker.unwrap_or_default(),
            principals: page.items.into_iter().map(principal).collect(),
        }))
    }

    async fn add_principal_identity(
        &self,
        request: Request<v1::AddPrincipalIdentityRequest>,
    ) -> Result<Response<v1::AddPrincipalIdentityResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::AddPrincipalIdentity)?;
        let v1::AddPrincipalIdentityRequest { arn, identity } = request.get_ref();
        let result = self.entry.service.add_principal_identity(&admitted.call, arn, identity).await;
        admitted.answer(result.map(|()| v1::AddPrincipalIdentityResponse {}))
    }

    async fn remove_principal_identity(
        &self,
        request: Request<v1::RemovePrincipalIdentityRequest>,
    ) -> Result<Response<v1::RemovePrincipalIdentityResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::RemovePrincipalIdentity)?;
        let v1::RemovePrincipalIdentityRequest { arn, identity } = request.get_ref();
        let result = self.entry.service.remove_principal_identity(&admitted.call, arn, identity).await;
        admitted.answer(result.map(|()| v1::RemovePrincipalIdentityResponse {}))
    }

    async fn tag_principal(
        &self,
        request: Request<v1::TagPrincipalRequest>,
    ) -> Result<Response<v1::TagPrincipalResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::TagPrincipal)?;
        let v1::TagPrincipalRequest { arn, tags } = request.into_inner();
        let result = self.entry.service.tag_principal(&admitted.call, &arn, tags.into_iter().collect()).await;
        admitted.answer(result.map(|()| v1::TagPrincipalResponse {}))
    }

    async fn untag_principal(
        &self,
        request: Request<v1::UntagPrincipalRequest>,
    ) -> Result<Response<v1::UntagPrincipalResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::UntagPrincipal)?;
        let v1::UntagPrincipalRequest { arn, tag_keys } = request.into_inner();
        let result = self.entry.service.untag_principal(&admitted.call, &arn, tag_keys).await;
        admitted.answer(result.map(|()| v1::UntagPrincipalResponse {}))
    }

    async fn create_access_key(
        &self,
        request: Request<v1::CreateAccessKeyRequest>,
    ) -> Result<Response<v1::CreateAccessKeyResponse>, Status> {
        access_keys::create(&self.entry, &request).await
    }

    async fn list_access_keys(
        &self,
        request: Request<v1::ListAccessKeysRequest>,
    ) -> Result<Response<v1::ListAccessKeysResponse>, Status> {
        access_keys::list(&self.entry, &request).await
    }

    async fn enable_access_key(
        &self,
        request: Request<v1::EnableAccessKeyRequest>,
    ) -> Result<Response<v1::EnableAccessKeyResponse>, Status> {
        access_keys::enable(&self.entry, &request).await
    }

    async fn disable_access_key(
        &self,
        request: Request<v1::DisableAccessKeyRequest>,
    ) -> Result<Response<v1::DisableAccessKeyResponse>, Status> {
        access_keys::disable(&self.entry, &request).await
    }

    async fn delete_access_key(
        &self,
        request: Request<v1::DeleteAccessKeyRequest>,
    ) -> Result<Response<v1::DeleteAccessKeyResponse>, Status> {
        access_keys::delete(&self.entry, &request).await
    }

    async fn create_group(
        &self,
        request: Request<v1::CreateGroupRequest>,
    ) -> Result<Response<v1::CreateGroupResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::CreateGroup)?;
        let v1::CreateGroupRequest { name } = request.get_ref();
        let result = self.entry.service.create_group(&admitted.call, name).await;
        admitted.answer(result.map(|()| v1::CreateGroupResponse {}))
    }

    async fn delete_group(
        &self,
        request: Request<v1::DeleteGroupRequest>,
    ) -> Result<Response<v1::DeleteGroupResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::DeleteGroup)?;
        let v1::DeleteGroupRequest { name } = request.get_ref();
        let result = self.entry.service.delete_group(&admitted.call, name).await;
        admitted.answer(result.map(|()| v1::DeleteGroupResponse {}))
    }

    async fn list_groups(
        &self,
        request: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::ListGroups)?;
        let v1::ListGroupsRequest { limit, marker } = request.get_ref();
        let result = self.entry.service.list_groups(&admitted.call, *limit, marker).await;
        admitted.answer(result.map(|page| v1::ListGroupsResponse {
            truncated: page.next_marker.is_some(),
            next_marker: page.next_marker.unwrap_or_default(),
            groups: page.items.into_iter().map(group).collect(),
        }))
    }

    async fn list_group_members(
        &self,
        request: Request<v1::ListGroupMembersRequest>,
    ) -> Result<Response<v1::ListGroupMembersResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::ListGroupMembers)?;
        let v1::ListGroupMembersRequest { group, limit, marker } = request.get_ref();
        let result = self.entry.service.list_group_members(&admitted.call, group, *limit, marker).await;
        admitted.answer(result.map(|page| v1::ListGroupMembersResponse {
            truncated: page.next_marker.is_some(),
            next_marker: page.next_marker.unwrap_or_default(),
            principals: page.items,
        }))
    }

    async fn add_group_member(
        &self,
        request: Request<v1::AddGroupMemberRequest>,
    ) -> Result<Response<v1::AddGroupMemberResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::AddGroupMember)?;
        let v1::AddGroupMemberRequest { group, principal } = request.get_ref();
        let result = self.entry.service.add_group_member(&admitted.call, group, principal).await;
        admitted.answer(result.map(|()| v1::AddGroupMemberResponse {}))
    }

    async fn remove_group_member(
        &self,
        request: Request<v1::RemoveGroupMemberRequest>,
    ) -> Result<Response<v1::RemoveGroupMemberResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::RemoveGroupMember)?;
        let v1::RemoveGroupMemberRequest { group, principal } = request.get_ref();
        let result = self.entry.service.remove_group_member(&admitted.call, group, principal).await;
        admitted.answer(result.map(|()| v1::RemoveGroupMemberResponse {}))
    }

    async fn put_policy(
        &self,
        request: Request<v1::PutPolicyRequest>,
    ) -> Result<Response<v1::PutPolicyResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::PutPolicy)?;
        let v1::PutPolicyRequest { name, description, document } = request.into_inner();
        let result =
            self.entry.service.put_policy(&admitted.call, PutPolicyInput { name, description, document }).await;
        admitted.answer(result.map(|warnings| v1::PutPolicyResponse { warnings }))
    }

    async fn delete_policy(
        &self,
        request: Request<v1::DeletePolicyRequest>,
    ) -> Result<Response<v1::DeletePolicyResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::DeletePolicy)?;
        let v1::DeletePolicyRequest { name } = request.get_ref();
        let result = self.entry.service.delete_policy(&admitted.call, name).await;
        admitted.answer(result.map(|()| v1::DeletePolicyResponse {}))
    }

    async fn get_policy(
        &self,
        request: Request<v1::GetPolicyRequest>,
    ) -> Result<Response<v1::GetPolicyResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::GetPolicy)?;
        let v1::GetPolicyRequest { name } = request.get_ref();
        let result = self.entry.service.get_policy(&admitted.call, name).await;
        admitted.answer(result.map(|shown| v1::GetPolicyResponse { policy: Some(policy(shown)) }))
    }

    async fn list_policies(
        &self,
        request: Request<v1::ListPoliciesRequest>,
    ) -> Result<Response<v1::ListPoliciesResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::ListPolicies)?;
        let v1::ListPoliciesRequest { limit, marker } = request.get_ref();
        let result = self.entry.service.list_policies(&admitted.call, *limit, marker).await;
        admitted.answer(result.map(|page| v1::ListPoliciesResponse {
            truncated: page.next_marker.is_some(),
            next_marker: page.next_marker.unwrap_or_default(),
            policies: page.items.into_iter().map(policy).collect(),
        }))
    }

    async fn attach_policy(
        &self,
        request: Request<v1::AttachPolicyRequest>,
    ) -> Result<Response<v1::AttachPolicyResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::AttachPolicy)?;
        let v1::AttachPolicyRequest { policy, to } = request.into_inner();
        let holder = match to {
            Some(v1::attach_policy_request::To::Principal(arn)) => Ok(Attached::Principal(arn)),
            Some(v1::attach_policy_request::To::Group(name)) => Ok(Attached::Group(name)),
            None => Err(error::validation("name a principal or a group")),
        };
        let result = match holder {
            Ok(holder) => self.entry.service.attach_policy(&admitted.call, &policy, holder).await,
            Err(error) => Err(error),
        };
        admitted.answer(result.map(|()| v1::AttachPolicyResponse {}))
    }

    async fn detach_policy(
        &self,
        request: Request<v1::DetachPolicyRequest>,
    ) -> Result<Response<v1::DetachPolicyResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::DetachPolicy)?;
        let v1::DetachPolicyRequest { policy, from } = request.into_inner();
        let holder = match from {
            Some(v1::detach_policy_request::From::Principal(arn)) => Ok(Attached::Principal(arn)),
            Some(v1::detach_policy_request::From::Group(name)) => Ok(Attached::Group(name)),
            None => Err(error::validation("name a principal or a group")),
        };
        let result = match holder {
            Ok(holder) => self.entry.service.detach_policy(&admitted.call, &policy, holder).await,
            Err(error) => Err(error),
        };
        admitted.answer(result.map(|()| v1::DetachPolicyResponse {}))
    }

    async fn explain_access(
        &self,
        request: Request<v1::ExplainAccessRequest>,
    ) -> Result<Response<v1::ExplainAccessResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::ExplainAccess)?;
        let result = match explain_input(request.into_inner()) {
            Ok(input) => self.entry.service.explain_access(&admitted.call, input).await,
            Err(error) => Err(error),
        };
        admitted.answer(result.map(|Explained { allowed, reason, change, nearest }| v1::ExplainAccessResponse {
            allowed,
            reason,
            change,
            nearest: nearest.into_iter().map(near).collect(),
        }))
    }

    async fn check_policy(
        &self,
        request: Request<v1::CheckPolicyRequest>,
    ) -> Result<Response<v1::CheckPolicyResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::CheckPolicy)?;
        let v1::CheckPolicyRequest { document, key_policy, key_id } = request.into_inner();
        let of = match (key_policy, key_id.is_empty()) {
            (_, false) => CheckedPolicy::Key(key_id),
            (true, true) => CheckedPolicy::AnyKey,
            (false, true) => CheckedPolicy::Identity,
        };
        let result = self.entry.service.check_policy(&admitted.call, document, of).await;
        admitted
            .answer(result.map(|found| v1::CheckPolicyResponse { findings: found.into_iter().map(finding).collect() }))
    }
}

fn principal(shown: PrincipalView) -> v1::Principal {
    let PrincipalView { id, arn, description, created_at, identities, tags, groups, policies } = shown;
    let identity =
        |(identity, since): (String, i64)| v1::PrincipalIdentity { identity, creation_date: Some(timestamp(since)) };
    v1::Principal {
        principal_id: id.to_string(),
        arn,
        description,
        creation_date: Some(timestamp(created_at)),
        identities: identities.into_iter().map(identity).collect(),
        tags,
        groups,
        policies,
    }
}

fn group(shown: GroupView) -> v1::Group {
    let GroupView { name, arn, created_at, policies } = shown;
    v1::Group { name, arn, creation_date: Some(timestamp(created_at)), policies }
}

fn policy(shown: PolicyView) -> v1::Policy {
    let PolicyView { name, arn, description, document, built_in, updated_at } = shown;
    v1::Policy { name, arn, description, document, built_in, update_date: updated_at.map(timestamp) }
}

fn explain_input(request: v1::ExplainAccessRequest) -> Result<ExplainInput, Error> {
    let v1::ExplainAccessRequest { principal, action, key_id, resource, encryption_context, parameters } = request;
    let v1::CallParameters {
        tags,
        tag_keys,
        pending_window_in_days,
        rotation_period_in_days,
        bypass_policy_lockout_safety_check,
        re_encrypt_on_same_key,
        grant,
        grant_id,
    } = parameters.unwrap_or_default();
    let parameters = CallParameters {
        tags: tags.into_iter().collect(),
        tag_keys,
        pending_window_days: pending_window_in_days,
        rotation_period_days: rotation_period_in_days,
        bypass_lockout_check: bypass_policy_lockout_safety_check,
        same_key: re_encrypt_on_same_key,
        grant: grant.map(grants::input).transpose()?,
        grant_id,
    };
    Ok(ExplainInput { principal, action, key_id, resource, context: encryption_context, parameters })
}

fn near(near: NearStatement) -> v1::NearStatement {
    let NearStatement { of_key, policy, index, sid, element, why } = near;
    v1::NearStatement {
        key_policy: of_key,
        policy,
        statement: u32::try_from(index).unwrap_or(u32::MAX),
        sid: sid.unwrap_or_default(),
        element: element.to_owned(),
        why,
    }
}

fn finding(found: PolicyFinding) -> v1::PolicyFinding {
    let PolicyFinding { is_error, place, line, problem } = found;
    v1::PolicyFinding { error: is_error, place, line: u32::try_from(line).unwrap_or(u32::MAX), problem }
}
