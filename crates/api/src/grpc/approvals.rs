//! Service `ApprovalsService`: calls that others have to approve.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::entry::CallEntry;
use super::timestamp;
use model::operation::Operation;
use proto::v1;
use proto::v1::approvals_service_server::ApprovalsService;
use service::{ApprovalStanding, ApprovalView, VoteView};

/// The service's gRPC side.
pub(super) struct ApprovalsApi {
    pub(super) entry: Arc<CallEntry>,
}

#[tonic::async_trait]
impl ApprovalsService for ApprovalsApi {
    async fn list_approvals(
        &self,
        request: Request<v1::ListApprovalsRequest>,
    ) -> Result<Response<v1::ListApprovalsResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::ListApprovals)?;
        let v1::ListApprovalsRequest { all, limit, marker } = request.into_inner();
        let result = self.entry.service.list_approvals(&admitted.call, all, limit, &marker).await;
        admitted.answer(result.map(|page| v1::ListApprovalsResponse {
            approvals: page.items.into_iter().map(approval).collect(),
            truncated: page.next_marker.is_some(),
            next_marker: page.next_marker.unwrap_or_default(),
        }))
    }

    async fn describe_approval(
        &self,
        request: Request<v1::DescribeApprovalRequest>,
    ) -> Result<Response<v1::DescribeApprovalResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::DescribeApproval)?;
        let result = self.entry.service.describe_approval(&admitted.call, &request.get_ref().approval_id).await;
        admitted.answer(result.map(|view| v1::DescribeApprovalResponse { approval: Some(approval(view)) }))
    }

    async fn approve(&self, request: Request<v1::ApproveRequest>) -> Result<Response<v1::ApproveResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::Approve)?;
        let v1::ApproveRequest { approval_id, digest } = request.into_inner();
        let result = self.entry.service.approve(&admitted.call, &approval_id, &digest).await;
        admitted.answer(result.map(|view| v1::ApproveResponse { approval: Some(approval(view)) }))
    }

    async fn refuse_approval(
        &self,
        request: Request<v1::RefuseApprovalRequest>,
    ) -> Result<Response<v1::RefuseApprovalResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::RefuseApproval)?;
        let result = self.entry.service.refuse_approval(&admitted.call, &request.get_ref().approval_id).await;
        admitted.answer(result.map(|()| v1::RefuseApprovalResponse {}))
    }
}

fn approval(view: ApprovalView) -> v1::Approval {
    let state = match view.standing {
        ApprovalStanding::Waiting => v1::ApprovalState::Waiting,
        ApprovalStanding::Approved => v1::ApprovalState::Approved,
        ApprovalStanding::Used => v1::ApprovalState::Used,
        ApprovalStanding::Refused => v1::ApprovalState::Refused,
        ApprovalStanding::Expired => v1::ApprovalState::Expired,
    };
    let vote = |VoteView { voter, approves, at, counts }| v1::ApprovalVote {
        voter,
        approves,
        date: Some(timestamp(at)),
        counts,
    };
    v1::Approval {
        approval_id: view.id.to_string(),
        requester: view.requester,
        operation: view.operation,
        resource: view.resource,
        description: view.description,
        digest: view.digest,
        creation_date: Some(timestamp(view.created_at)),
        expiration_date: Some(timestamp(view.expires_at)),
        needed: view.needed,
        given: view.given,
        state: state.into(),
        could_approve: view.could,
        votes: view.votes.into_iter().map(vote).collect(),
    }
}
