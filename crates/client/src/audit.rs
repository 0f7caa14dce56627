//! The calls of the service `AuditService`.

use super::receipt::Asking;
use super::{Client, Error};
use proto::v1 as wire;
use proto::v1::audit_service_client::AuditServiceClient;

/// Records as they come.
#[derive(Debug)]
pub struct AuditRecords(tonic::Streaming<wire::FollowAuditRecordsResponse>);

impl Client {
    /// The file of public keys that the audit log is checked by. What it says is not checked here.
    pub async fn get_audit_keys(&self) -> Result<String, Error> {
        Ok(self.audit().get_audit_keys(self.request(wire::GetAuditKeysRequest {})).await?.into_inner().keys)
    }

    /// The newest signed head of the audit log, likewise.
    pub async fn get_audit_head(&self) -> Result<String, Error> {
        Ok(self.audit().get_audit_head(self.request(wire::GetAuditHeadRequest {})).await?.into_inner().head)
    }

    /// One page of records of the audit log.
    pub async fn list_audit_records(
        &self,
        request: wire::ListAuditRecordsRequest,
    ) -> Result<wire::ListAuditRecordsResponse, Error> {
        Ok(self.audit().list_audit_records(self.request(request)).await?.into_inner())
    }

    /// Follows the audit log. No deadline bounds the stream.
    pub async fn follow_audit_records(&self, request: wire::FollowAuditRecordsRequest) -> Result<AuditRecords, Error> {
        Ok(AuditRecords(self.audit().follow_audit_records(request).await?.into_inner()))
    }

    /// A proof that this record is in the audit log. It is not checked here.
    pub async fn get_audit_proof(&self, number: u64) -> Result<String, Error> {
        let request = wire::GetAuditProofRequest { number };
        Ok(self.audit().get_audit_proof(self.request(request)).await?.into_inner().proof)
    }

    /// A proof that the audit log has only grown since its head of so many records. It is not checked here.
    pub async fn get_audit_consistency(&self, old_size: u64) -> Result<String, Error> {
        let request = wire::GetAuditConsistencyRequest { old_size };
        Ok(self.audit().get_audit_consistency(self.request(request)).await?.into_inner().proof)
    }

    fn audit(&self) -> AuditServiceClient<Asking> {
        AuditServiceClient::new(self.channel())
    }
}

impl AuditRecords {
    /// What comes next; none when the service has ended the stream in order.
    pub async fn next(&mut self) -> Result<Option<wire::FollowAuditRecordsResponse>, Error> {
        Ok(self.0.message().await?)
    }
}
