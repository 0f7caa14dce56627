//! Records as lines of the daemon's log.

use std::sync::Arc;

use futures_util::future::{BoxFuture, ready};

use super::recorder::{CallRecord, NotRecorded, Phase, Recorder};
use auth::request::Interface;
use model::exception::Exception;
use model::operation::{Effect, Plane};
use telemetry::sampled::{self, Line};

/// Accepts every record, and tells the log. What the log drops under load is lost: it counts, and says so.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogRecorder;

impl Recorder for LogRecorder {
    fn record(self: Arc<Self>, record: CallRecord) -> BoxFuture<'static, Result<(), NotRecorded>> {
        tell(&record);
        Box::pin(ready(Ok(())))
    }
}

fn tell(record: &CallRecord) {
    let CallRecord { phase, principal, request_id, operation, outcomes, failure, took, .. } = record;
    let request_id = &**request_id;
    let no_operation = match (record.event, record.interface) {
        // What only AWS can do.
        (Some(event), _) => event,
        // A stream that was not let in.
        (None, Interface::Grpc) => "stream",
        // What nobody can do.
        (None, Interface::AwsJson) => "other",
    };
    let (label, plane, shows) = operation.map_or((no_operation, Plane::Data, false), |operation| {
        let spec = operation.spec();
        (spec.label, spec.plane(), spec.effect == Effect::Shows)
    });
    let principal = principal.as_ref().map_or("nobody known", |principal| principal.as_str());
    let items: usize = outcomes.iter().map(|(_, items)| items).sum();
    let whole = |line| sampled::whole(line, &principal);
    let source = record.source.map(tracing::field::display);
    let caller = record.caller.as_ref().map(|caller| &*caller.arn);
    match (plane, failure) {
        _ if *phase == Phase::Withheld => {
            tracing::info!(
                request_id,
                principal,
                caller,
                source,
                operation = label,
                ?took,
                why = failure.as_ref().map(|error| error.message.as_str()),
                "a result was withheld"
            );
        }
        (Plane::Data, None) => {
            tracing::trace!(request_id, principal, caller, source, operation = label, items, ?took, "done");
        }
        (_, Some(error)) if error.exception == Exception::KmsInternal => {
            // What an operator has to look into: the line before it, with the HSM or the cause, belongs to this call.
            if whole(Line::OwnFault) {
                tracing::warn!(
                    request_id,
                    principal,
                    caller,
                    source,
                    operation = label,
                    items,
                    ?took,
                    why = error.message,
                    "failed in the service itself"
                );
            }
        }
        (Plane::Data, Some(error)) => {
            let failed: usize = outcomes.iter().filter(|(outcome, _)| outcome.is_some()).map(|(_, n)| n).sum();
            tracing::debug!(request_id, principal, caller, source, operation = label, items, failed, ?took,
                exception = %error.exception, why = error.message, "failed");
        }
        (Plane::Control, None) if !whole(if shows { Line::Shown } else { Line::Changed }) => {}
        (Plane::Control, None) => {
            tracing::info!(request_id, principal, caller, source, operation = label, ?took, "done");
        }
        (Plane::Control, Some(_)) if !whole(Line::Refused) => {}
        (Plane::Control, Some(error)) => {
            tracing::info!(request_id, principal, caller, source, operation = label, ?took,
                exception = %error.exception, why = error.message, "refused");
        }
    }
}
