//! FollowAuditRecords: records of the audit log as signed heads come to be over them.
//!
//! The call leaves one record when it begins and none for what it gives: it would follow itself for ever. Whether it may is
//! looked at before each look at the log, and again before what that has found is given out. Where it may not any more, that is
//! on record, and the stream ends.

use tokio::sync::watch;

use super::list_audit_records::{AuditRecord, by, checked, from};
use crate::core::Core;
use crate::core::access::Named;
use crate::core::recorder::Ending;
use crate::{Error, RequestContext, Service};
use audit::look::{Bounds, Filter, Way};
use model::limits;
use model::operation::Operation;

/// Which records are to be shown as they come.
#[derive(Clone, Debug, Default)]
pub struct FollowAuditRecordsInput {
    /// What they are looked for by.
    pub filter: Filter,
    /// Where to begin; absent: with the first one that comes.
    pub from: Option<u64>,
}

/// Somebody who follows the audit log.
pub struct AuditFollower {
    core: Core,
    resource: Named,
    filter: Filter,
    next: u64,
    signed: watch::Receiver<u64>,
}

/// What a look of somebody who follows has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Records that are wanted; none where there was none among those that were looked at.
    pub records: Vec<AuditRecord>,
    /// The number of the record that the next look begins with.
    pub next: u64,
}

impl Service {
    /// Begins to follow. `call` is that of the beginning alone.
    pub async fn follow_audit_records(
        &self,
        call: &RequestContext,
        input: FollowAuditRecordsInput,
    ) -> Result<AuditFollower, Error> {
        let named = Named::other(self.core.audit_log_arn());
        let (core, said, of_task) = (self.core.clone(), input.clone(), call.clone());
        let asked = named.asking(move |_, say| by(&said.filter, from(said.from, say)));
        let resource = asked.clone();
        let work = async move {
            let filter = checked(input.filter)?;
            let signed = core.audit_reader()?.signed();
            let next = match input.from {
                Some(from) => from,
                None => core.read_audit_log(&of_task, |log| log.size()).await?,
            };
            Ok(AuditFollower { core, resource, filter, next, signed })
        };
        self.core.on_one(call, Operation::FollowAuditRecords, asked, work).await
    }
}

impl AuditFollower {
    /// Ends when there is something to look at.
    pub async fn ready(&mut self) {
        let next = self.next;
        if self.signed.wait_for(|size| *size > next).await.is_err() {
            // Nobody signs heads any more: the daemon ends, and with it whoever follows.
            std::future::pending::<()>().await;
        }
    }

    /// Looks at what there is. `call` is who follows, now.
    pub async fn look(&mut self, call: &RequestContext) -> Result<Followed, Error> {
        self.is_allowed(call).await?;
        let (end, filter, way) = (*self.signed.borrow(), self.filter.clone(), Way::On(self.next));
        let found = self.core.read_audit_log(call, move |log| log.look(&filter, way, end, bounds())).await?;
        self.is_allowed(call).await?;
        self.next = match found.next {
            Some(Way::On(next) | Way::Back { before: next, .. }) => next,
            None => end.max(self.next),
        };
        let records = found.records.into_iter().map(|(number, record)| AuditRecord { number, record }).collect();
        Ok(Followed { records, next: self.next })
    }

    /// Whether it may go on. That it may not is recorded once: it ends with that.
    async fn is_allowed(&self, call: &RequestContext) -> Result<(), Error> {
        let (core, operation) = (&self.core, Operation::FollowAuditRecords);
        let (allowed, decided_by) = self.resource.is_allowed_because(core, call, operation);
        if let Err(error) = &allowed {
            let caller = core.keyring().caller(&call.principal);
            let ending = Ending::new(call, operation, core.clock().now()).of_one(core, caller, &self.resource);
            core.refused(Ending { decided_by, ..ending }, 1, error).await;
        }
        allowed
    }
}

/// Where one look ends.
fn bounds() -> Bounds {
    Bounds {
        records: limits::LIST_LOOKED_AT,
        bytes: limits::AUDIT_FOLLOW_BYTES,
        looked_at: limits::LIST_LOOKED_AT,
        read: limits::AUDIT_LOOK_BYTES,
    }
}
