//! GetAuditConsistency: that the audit log has only grown since a head that somebody has kept.

use super::list_audit_records::recorded;
use crate::core::access::Named;
use crate::{Error, RequestContext, Service};
use model::operation::Operation;

impl Service {
    /// A proof that the newest head goes on from a head of so many records.
    pub async fn get_audit_consistency(&self, call: &RequestContext, since: u64) -> Result<String, Error> {
        let (core, of_task) = (self.core.clone(), call.clone());
        let resource = Named::other(self.core.audit_log_arn())
            .asking(move |_, say| say.in_record(|fields| fields.number("since", recorded(since))));
        let work = async move { core.read_audit_log(&of_task, move |log| log.growth(since)).await };
        self.core.on_one(call, Operation::GetAuditConsistency, resource, work).await
    }
}
