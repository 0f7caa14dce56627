//! Who may do what: the calls of the service `AccessService`, and those of `KeysService` on key policies and grants.

use super::receipt::Asking;
use super::{Client, Error};
use proto::v1 as wire;
use proto::v1::access_service_client::AccessServiceClient;

impl Client {
    /// Says who the caller is.
    pub async fn who_am_i(&self) -> Result<wire::WhoAmIResponse, Error> {
        let request = wire::WhoAmIRequest {};
        Ok(self.access().who_am_i(self.request(request)).await?.into_inner())
    }

    /// Makes a principal.
    pub async fn create_principal(&self, request: wire::CreatePrincipalRequest) -> Result<wire::Principal, Error> {
        let response = self.access().create_principal(self.request(request)).await?.into_inner();
        response.principal.ok_or_else(super::crypto::broken_answer)
    }

    /// Takes the principal with this ARN away.
    pub async fn delete_principal(&self, arn: &str) -> Result<(), Error> {
        let request = wire::DeletePrincipalRequest { arn: arn.to_owned() };
        self.access().delete_principal(self.request(request)).await?;
        Ok(())
    }

    /// Shows the principal with this ARN.
    pub async fn describe_principal(&self, arn: &str) -> Result<wire::Principal, Error> {
        let request = wire::DescribePrincipalRequest { arn: arn.to_owned() };
        let response = self.access().describe_principal(self.request(request)).await?.into_inner();
        response.principal.ok_or_else(super::crypto::broken_answer)
    }

    /// One page of the list of principals.
    pub async fn list_principals(
        &self,
        request: wire::ListPrincipalsRequest,
    ) -> Result<wire::ListPrincipalsResponse, Error> {
        Ok(self.access().list_principals(self.request(request)).await?.into_inner())
    }

    /// Has a principal be known by a further name of a certificate.
    pub async fn add_principal_identity(&self, arn: &str, identity: &str) -> Result<(), Error> {
        let request = wire::AddPrincipalIdentityRequest { arn: arn.to_owned(), identity: identity.to_owned() };
        self.access().add_principal_identity(self.request(request)).await?;
        Ok(())
    }

    /// Has it no longer be known by that.
    pub async fn remove_principal_identity(&self, arn: &str, identity: &str) -> Result<(), Error> {
        let request = wire::RemovePrincipalIdentityRequest { arn: arn.to_owned(), identity: identity.to_owned() };
        self.access().remove_principal_identity(self.request(request)).await?;
        Ok(())
    }

    /// Gives a principal tags.
    pub async fn tag_principal(&self, request: wire::TagPrincipalRequest) -> Result<(), Error> {
        self.access().tag_principal(self.request(request)).await?;
        Ok(())
    }

    /// Takes tags away from a principal.
    pub async fn untag_principal(&self, request: wire::UntagPrincipalRequest) -> Result<(), Error> {
        self.access().untag_principal(self.request(request)).await?;
        Ok(())
    }

    /// Gives a principal an access key. The answer has its secret, which nobody is told again.
    pub async fn create_access_key(&self, principal: &str) -> Result<wire::CreateAccessKeyResponse, Error> {
        let request = wire::CreateAccessKeyRequest { principal: principal.to_owned() };
        Ok(self.access().create_access_key(self.request(request)).await?.into_inner())
    }

    /// One page of the access keys of a principal.
    pub async fn list_access_keys(
        &self,
        request: wire::ListAccessKeysRequest,
    ) -> Result<wire::ListAccessKeysResponse, Error> {
        Ok(self.access().list_access_keys(self.request(request)).await?.into_inner())
    }

    /// Has calls be signed with an access key of a principal again.
    pub async fn enable_access_key(&self, principal: &str, id: &str) -> Result<(), Error> {
        let (principal, access_key_id) = (principal.to_owned(), id.to_owned());
        let request = wire::EnableAccessKeyRequest { principal, access_key_id };
        self.access().enable_access_key(self.request(request)).await?;
        Ok(())
    }

    /// Has no call be signed with an access key of a principal any more.
    pub async fn disable_access_key(&self, principal: &str, id: &str) -> Result<(), Error> {
        let (principal, access_key_id) = (principal.to_owned(), id.to_owned());
        let request = wire::DisableAccessKeyRequest { principal, access_key_id };
        self.access().disable_access_key(self.request(request)).await?;
        Ok(())
    }

    /// Takes an access key of a principal away.
    pub async fn delete_access_key(&self, principal: &str, id: &str) -> Result<(), Error> {
        let (principal, access_key_id) = (principal.to_owned(), id.to_owned());
        let request = wire::DeleteAccessKeyRequest { principal, access_key_id };
        self.access().delete_access_key(self.request(request)).await?;
        Ok(())
    }

    /// Makes a group.
    pub async fn create_group(&self, name: &str) -> Result<(), Error> {
        let request = wire::CreateGroupRequest { name: name.to_owned() };
        self.access().create_group(self.request(request)).await?;
        Ok(())
    }

    /// Takes a group away.
    pub async fn delete_group(&self, name: &str) -> Result<(), Error> {
        let request = wire::DeleteGroupRequest { name: name.to_owned() };
        self.access().delete_group(self.request(request)).await?;
        Ok(())
    }

    /// One page of the list of groups.
    pub async fn list_groups(&self, request: wire::ListGroupsRequest) -> Result<wire::ListGroupsResponse, Error> {
        Ok(self.access().list_groups(self.request(request)).await?.into_inner())
    }

    /// One page of the ARNs of who is in a group.
    pub async fn list_group_members(
        &self,
        request: wire::ListGroupMembersRequest,
    ) -> Result<wire::ListGroupMembersResponse, Error> {
        Ok(self.access().list_group_members(self.request(request)).await?.into_inner())
    }

    /// Takes the principal with this ARN into a group.
    pub async fn add_group_member(&self, group: &str, principal: &str) -> Result<(), Error> {
        let request = wire::AddGroupMemberRequest { group: group.to_owned(), principal: principal.to_owned() };
        self.access().add_group_member(self.request(request)).await?;
        Ok(())
    }

    /// Takes the principal with this ARN out of a group.
    pub async fn remove_group_member(&self, group: &str, principal: &str) -> Result<(), Error> {
        let request = wire::RemoveGroupMemberRequest { group: group.to_owned(), principal: principal.to_owned() };
        self.access().remove_group_member(self.request(request)).await?;
        Ok(())
    }

    /// Makes an identity policy, or puts it in the place of the one of its name. Gives what is doubtful about it.
    pub async fn put_policy(&self, request: wire::PutPolicyRequest) -> Result<Vec<String>, Error> {
        Ok(self.access().put_policy(self.request(request)).await?.into_inner().warnings)
    }

    /// Takes an identity policy away.
    pub async fn delete_policy(&self, name: &str) -> Result<(), Error> {
        let request = wire::DeletePolicyRequest { name: name.to_owned() };
        self.access().delete_policy(self.request(request)).await?;
        Ok(())
    }

    /// Shows an identity policy.
    pub async fn get_policy(&self, name: &str) -> Result<wire::Policy, Error> {
        let request = wire::GetPolicyRequest { name: name.to_owned() };
        let response = self.access().get_policy(self.request(request)).await?.into_inner();
        response.policy.ok_or_else(super::crypto::broken_answer)
    }

    /// One page of the list of identity policies.
    pub async fn list_policies(&self, request: wire::ListPoliciesRequest) -> Result<wire::ListPoliciesResponse, Error> {
        Ok(self.access().list_policies(self.request(request)).await?.into_inner())
    }

    /// Attaches an identity policy to a principal or a group.
    pub async fn attach_policy(&self, request: wire::AttachPolicyRequest) -> Result<(), Error> {
        self.access().attach_policy(self.request(request)).await?;
        Ok(())
    }

    /// Detaches it.
    pub async fn detach_policy(&self, request: wire::DetachPolicyRequest) -> Result<(), Error> {
        self.access().detach_policy(self.request(request)).await?;
        Ok(())
    }

    /// Says why a principal may do something or may not.
    pub async fn explain_access(
        &self,
        request: wire::ExplainAccessRequest,
    ) -> Result<wire::ExplainAccessResponse, Error> {
        Ok(self.access().explain_access(self.request(request)).await?.into_inner())
    }

    /// Looks for what is wrong or doubtful about a policy.
    pub async fn check_policy(&self, request: wire::CheckPolicyRequest) -> Result<wire::CheckPolicyResponse, Error> {
        Ok(self.access().check_policy(self.request(request)).await?.into_inner())
    }

    /// Puts the policy of a key. Gives what is doubtful about it.
    pub async fn put_key_policy(&self, request: wire::PutKeyPolicyRequest) -> Result<Vec<String>, Error> {
        Ok(self.keys().put_key_policy(self.request(request)).await?.into_inner().warnings)
    }

    /// Shows the policy of a key.
    pub async fn get_key_policy(&self, key_id: &str) -> Result<String, Error> {
        let request = wire::GetKeyPolicyRequest { key_id: key_id.to_owned(), ..Default::default() };
        Ok(self.keys().get_key_policy(self.request(request)).await?.into_inner().policy)
    }

    /// Lists the names of a key's policies.
    pub async fn list_key_policies(&self, key_id: &str) -> Result<Vec<String>, Error> {
        let request = wire::ListKeyPoliciesRequest { key_id: key_id.to_owned(), ..Default::default() };
        Ok(self.keys().list_key_policies(self.request(request)).await?.into_inner().policy_names)
    }

    /// Makes a grant. Its token is a secret.
    pub async fn create_grant(&self, request: wire::CreateGrantRequest) -> Result<wire::CreateGrantResponse, Error> {
        Ok(self.keys().create_grant(self.request(request)).await?.into_inner())
    }

    /// One page of the grants of a key.
    pub async fn list_grants(&self, request: wire::ListGrantsRequest) -> Result<wire::ListGrantsResponse, Error> {
        Ok(self.keys().list_grants(self.request(request)).await?.into_inner())
    }

    /// One page of the grants that a principal may retire.
    pub async fn list_retirable_grants(
        &self,
        request: wire::ListRetirableGrantsRequest,
    ) -> Result<wire::ListRetirableGrantsResponse, Error> {
        Ok(self.keys().list_retirable_grants(self.request(request)).await?.into_inner())
    }

    /// Ends a grant on behalf of whom it concerns.
    pub async fn retire_grant(&self, request: wire::RetireGrantRequest) -> Result<(), Error> {
        self.keys().retire_grant(self.request(request)).await?;
        Ok(())
    }

    /// Ends a grant on behalf of the key's owner.
    pub async fn revoke_grant(&self, key_id: &str, grant_id: &str) -> Result<(), Error> {
        let request =
            wire::RevokeGrantRequest { key_id: key_id.to_owned(), grant_id: grant_id.to_owned(), ..Default::default() };
        self.keys().revoke_grant(self.request(request)).await?;
        Ok(())
    }

    fn access(&self) -> AccessServiceClient<Asking> {
        AccessServiceClient::new(self.channel())
    }
}
