//! Records as lines of the daemon's log: one for each call, for whoever looks for what became of a request id.

use std::sync::Arc;

use futures_util::future::{BoxFuture, ready};

use super::recorder::{Accepted, CallRecord, Phase, Recorder, ServiceEvent};
use auth::request::Interface;
use model::exception::Exception;
use telemetry::sampled::{self, Line};

/// Accepts every record, and tells the log. For where there is no audit log: what the log drops under load is lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogRecorder;

impl Recorder for LogRecorder {
    fn record(self: Arc<Self>, record: CallRecord) -> BoxFuture<'static, Accepted> {
        // Strangers are told of one by one already.
        if record.name.is_none() {
            tell(&record);
        }
        Box::pin(ready(Ok(None)))
    }

    /// Whoever did it has told the log.
    fn happened(self: Arc<Self>, _: ServiceEvent) -> BoxFuture<'static, Accepted> {
        Box::pin(ready(Ok(None)))
    }
}

/// The line of a call.
pub(super) fn tell(record: &CallRecord) {
    let CallRecord { phase, principal, request_id, operation, outcomes, failure, took, .. } = record;
    if *phase == Phase::Intent {
        return;
    }
    let request_id = &**request_id;
    let unnamed = || record.event.unwrap_or_else(|| other(record.interface));
    let operation = operation.map_or_else(unnamed, |operation| operation.spec().label);
    let principal = principal.as_ref().map_or("nobody known", |principal| principal.as_str());
    let source = record.source.map(tracing::field::display);
    let caller = record.caller.as_ref().map(|caller| &*caller.arn);
    let items: usize = outcomes.iter().map(|(_, items)| items).sum();
    let why = failure.as_ref().map(|error| error.message.as_str());
    if failure.as_ref().is_some_and(|error| error.exception == Exception::KmsInternal) {
        // What an operator has to look into: the line before it, with the HSM or the cause, belongs to this call.
        if sampled::whole(Line::OwnFault, &principal) {
            tracing::warn!(
                request_id,
                principal,
                caller,
                source,
                operation,
                items,
                ?took,
                why,
                "failed in the service itself"
            );
        }
        return;
    }
    let failed: usize = outcomes.iter().filter(|(outcome, _)| outcome.is_some()).map(|(_, items)| items).sum();
    let exception = failure.as_ref().map(|error| error.exception.name());
    let withheld = *phase == Phase::Withheld;
    tracing::debug!(
        request_id,
        principal,
        caller,
        source,
        operation,
        items,
        failed,
        withheld,
        ?took,
        exception,
        why,
        "call"
    );
}

/// What is no operation here.
pub(super) const fn other(interface: Interface) -> &'static str {
    match interface {
        // A stream that was not let in.
        Interface::Grpc => "stream",
        // What only AWS can do.
        Interface::AwsJson => "other",
    }
}
