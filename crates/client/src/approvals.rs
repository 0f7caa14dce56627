//! The calls of the service `ApprovalsService`.

use super::receipt::Asking;
use super::{Client, Error};
use proto::v1 as wire;
use proto::v1::approvals_service_client::ApprovalsServiceClient;

impl Client {
    /// One page of the list of calls that others have to approve.
    pub async fn list_approvals(
        &self,
        request: wire::ListApprovalsRequest,
    ) -> Result<wire::ListApprovalsResponse, Error> {
        Ok(self.approvals().list_approvals(self.request(request)).await?.into_inner())
    }

    /// Shows one of them.
    pub async fn describe_approval(&self, approval_id: &str) -> Result<wire::Approval, Error> {
        let request = wire::DescribeApprovalRequest { approval_id: approval_id.to_owned() };
        let response = self.approvals().describe_approval(self.request(request)).await?.into_inner();
        response.approval.ok_or_else(super::crypto::broken_answer)
    }

    /// Approves it, by the whole digest that was shown.
    pub async fn approve(&self, approval_id: &str, digest: &str) -> Result<wire::Approval, Error> {
        let request = wire::ApproveRequest { approval_id: approval_id.to_owned(), digest: digest.to_owned() };
        let response = self.approvals().approve(self.request(request)).await?.into_inner();
        response.approval.ok_or_else(super::crypto::broken_answer)
    }

    /// Ends it for good.
    pub async fn refuse_approval(&self, approval_id: &str) -> Result<(), Error> {
        let request = wire::RefuseApprovalRequest { approval_id: approval_id.to_owned() };
        self.approvals().refuse_approval(self.request(request)).await?;
        Ok(())
    }

    fn approvals(&self) -> ApprovalsServiceClient<Asking> {
        ApprovalsServiceClient::new(self.channel())
    }
}
