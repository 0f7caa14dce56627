//! GetAuditKeys: the public keys that the audit log is checked by, and who vouches for them.

use crate::core::access::Named;
use crate::{Error, RequestContext, Service};
use model::operation::Operation;

impl Service {
    /// The file of public keys.
    pub async fn get_audit_keys(&self, call: &RequestContext) -> Result<String, Error> {
        let (core, of_task) = (self.core.clone(), call.clone());
        let work = async move { core.read_audit_log(&of_task, |log| log.keys()).await };
        self.core.on_one(call, Operation::GetAuditKeys, Named::other(self.core.audit_log_arn()), work).await
    }
}
