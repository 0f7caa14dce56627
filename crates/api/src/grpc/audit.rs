//! Service `AuditService`: the audit log, read over the network.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::entry::CallEntry;
use super::follow::{Followers, Following};
use model::limits;
use model::operation::Operation;
use proto::v1;
use proto::v1::audit_service_server::AuditService;
use service::{AuditFilter as Filter, AuditOutcome as Outcome, FollowAuditRecordsInput, ListAuditRecordsInput};

/// The most that a page holds beside the record that ends it.
const PAGE_BYTES: usize = limits::LIST_DETAILS_BYTES + limits::AUDIT_RECORD_BYTES;
/// A proof: the record in base64, hashes, the signed head.
const PROOF_BYTES: usize = 2 * limits::AUDIT_RECORD_BYTES;

/// The service's gRPC side.
pub(super) struct AuditApi {
    pub(super) entry: Arc<CallEntry>,
    pub(super) followers: Followers,
}

#[tonic::async_trait]
impl AuditService for AuditApi {
    type FollowAuditRecordsStream = Following;

    async fn get_audit_keys(
        &self,
        request: Request<v1::GetAuditKeysRequest>,
    ) -> Result<Response<v1::GetAuditKeysResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::GetAuditKeys)?;
        let result = self.entry.service.get_audit_keys(&admitted.call).await;
        admitted.answer(result.map(|keys| v1::GetAuditKeysResponse { keys }))
    }

    async fn get_audit_head(
        &self,
        request: Request<v1::GetAuditHeadRequest>,
    ) -> Result<Response<v1::GetAuditHeadResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::GetAuditHead)?;
        let result = self.entry.service.get_audit_head(&admitted.call).await;
        admitted.answer(result.map(|head| v1::GetAuditHeadResponse { head }))
    }

    async fn list_audit_records(
        &self,
        request: Request<v1::ListAuditRecordsRequest>,
    ) -> Result<Response<v1::ListAuditRecordsResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::ListAuditRecords)?.expects(PAGE_BYTES)?;
        let v1::ListAuditRecordsRequest { filter: wanted, from, newest_first, limit, marker } = request.into_inner();
        let input = ListAuditRecordsInput { filter: filter(wanted), from, newest_first, limit, marker };
        let result = self.entry.service.list_audit_records(&admitted.call, input).await;
        admitted.answer(result.map(|page| v1::ListAuditRecordsResponse {
            records: page.records.into_iter().map(record).collect(),
            truncated: page.next_marker.is_some(),
            next_marker: page.next_marker.unwrap_or_default(),
            size: page.size,
        }))
    }

    async fn follow_audit_records(
        &self,
        request: Request<v1::FollowAuditRecordsRequest>,
    ) -> Result<Response<Following>, Status> {
        let admitted = self.entry.admit(&request, Operation::FollowAuditRecords)?;
        let stream = self.entry.admit_stream(&request)?;
        let v1::FollowAuditRecordsRequest { filter: wanted, from } = request.into_inner();
        let input = FollowAuditRecordsInput { filter: filter(wanted), from };
        // The place first: who finds none is told so without the record of a beginning.
        let slot = match self.followers.place(&admitted.call.principal, stream.open()) {
            Ok(slot) => slot,
            Err(error) => return admitted.answer(Err(error)),
        };
        let follower = self.entry.service.follow_audit_records(&admitted.call, input).await;
        let service = &self.entry.service;
        admitted.answer(follower.map(|follower| self.followers.open(service, stream, slot, follower)))
    }

    async fn get_audit_proof(
        &self,
        request: Request<v1::GetAuditProofRequest>,
    ) -> Result<Response<v1::GetAuditProofResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::GetAuditProof)?.expects(PROOF_BYTES)?;
        let result = self.entry.service.get_audit_proof(&admitted.call, request.get_ref().number).await;
        admitted.answer(result.map(|proof| v1::GetAuditProofResponse { proof }))
    }

    async fn get_audit_consistency(
        &self,
        request: Request<v1::GetAuditConsistencyRequest>,
    ) -> Result<Response<v1::GetAuditConsistencyResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::GetAuditConsistency)?;
        let result = self.entry.service.get_audit_consistency(&admitted.call, request.get_ref().old_size).await;
        admitted.answer(result.map(|proof| v1::GetAuditConsistencyResponse { proof }))
    }
}

/// A record as it is sent.
pub(super) fn record(record: service::AuditRecord) -> v1::AuditRecord {
    v1::AuditRecord { number: record.number, record: record.record }
}

/// What is said of nobody is absent.
fn filter(wanted: Option<v1::AuditFilter>) -> Filter {
    let wanted = wanted.unwrap_or_default();
    let outcome = match wanted.outcome() {
        v1::AuditOutcome::Unspecified => None,
        v1::AuditOutcome::Ok => Some(Outcome::Ok),
        v1::AuditOutcome::Denied => Some(Outcome::Denied),
        v1::AuditOutcome::Failed => Some(Outcome::Failed),
    };
    let v1::AuditFilter { key, principal, operation, since, until, event_id, outcome: _ } = wanted;
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    Filter {
        event: given(event_id),
        key: given(key),
        principal: given(principal),
        operation: given(operation),
        outcome,
        since: given(since),
        until: given(until),
    }
}
