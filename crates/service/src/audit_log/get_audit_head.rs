//! GetAuditHead: the newest signed head of the audit log, for keeping it elsewhere.

use crate::core::access::Named;
use crate::{Error, RequestContext, Service};
use model::operation::Operation;

impl Service {
    /// The newest signed head, as it was signed.
    pub async fn get_audit_head(&self, call: &RequestContext) -> Result<String, Error> {
        let (core, of_task) = (self.core.clone(), call.clone());
        let work = async move { core.read_audit_log(&of_task, |log| log.head()).await };
        self.core.on_one(call, Operation::GetAuditHead, Named::other(self.core.audit_log_arn()), work).await
    }
}
