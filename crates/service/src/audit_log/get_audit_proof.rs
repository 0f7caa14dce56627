//! GetAuditProof: that a record is in the audit log, to be checked without the rest of it.

use super::list_audit_records::recorded;
use crate::core::access::Named;
use crate::{Error, RequestContext, Service};
use model::operation::Operation;

impl Service {
    /// A proof of the record of this number, which holds the record.
    pub async fn get_audit_proof(&self, call: &RequestContext, number: u64) -> Result<String, Error> {
        let (core, of_task) = (self.core.clone(), call.clone());
        let resource = Named::other(self.core.audit_log_arn())
            .asking(move |_, say| say.in_record(|fields| fields.number("number", recorded(number))));
        let work = async move { core.read_audit_log(&of_task, move |log| log.proof(number)).await };
        self.core.on_one(call, Operation::GetAuditProof, resource, work).await
    }
}
