//! Records as events of the audit log.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};

use super::log_recorder::{other, tell};
use super::recorder::{
    Accepted, CallRecord, NotRecorded, Parameters, Phase, Recorder, ServiceEvent, event_name, is_of_sts,
};
use audit::event::{self, Actor, Event, KMS, OURS, Request, STS, Tls};
use audit::log::{Class, Leaves, NoLeaf, NotAccepted, Position};
use auth::request::{Interface, TlsDetails};
use model::id::{AccessKeyId, Scope};
use model::operation::{Effect, Operation, Plane};

/// What keeps leaves: the audit log.
pub trait Journal: Send + Sync + 'static {
    /// Ends when they were accepted.
    type Appending: Future<Output = Result<Position, NotAccepted>> + Send + 'static;

    /// Appends the leaves of one event.
    fn append(&self, leaves: Leaves, class: Class) -> Self::Appending;

    /// The same, to be written with those of others, when one of them calls [`Self::write_gathered`].
    fn gather(&self, leaves: Leaves, class: Class) -> Self::Appending {
        self.append(leaves, class)
    }

    /// Writes what was gathered.
    fn write_gathered(&self) {}

    /// The origin of the log; absent until it was open for the first time.
    fn origin(&self) -> Option<Arc<str>>;
}

/// Writes records into a journal, in the shape of CloudTrail's.
pub struct AuditRecorder<J> {
    journal: Arc<J>,
    scope: Scope,
}

impl<J: Journal> AuditRecorder<J> {
    /// For an installation with this scope.
    pub fn new(journal: Arc<J>, scope: Scope) -> Self {
        Self { journal, scope }
    }

    fn leaves(&self, record: &CallRecord) -> Result<Leaves, NoLeaf> {
        if record.name.is_none() {
            tell(record);
        }
        event_of(record, &self.scope, |event| event.leaves())
    }
}

impl<J: Journal> Recorder for AuditRecorder<J> {
    fn record(self: Arc<Self>, record: CallRecord) -> BoxFuture<'static, Accepted> {
        let accepted: fn(_) -> _ = if is_refusal(&record) { accepted_anyway } else { accepted };
        match self.leaves(&record) {
            Ok(leaves) => self.journal.append(leaves, class_of(&record)).map(accepted).boxed(),
            Err(error) => Box::pin(ready(Err(not_written(&error)))),
        }
    }

    fn record_with_others(self: Arc<Self>, record: CallRecord) -> BoxFuture<'static, Accepted> {
        let gathered = match self.leaves(&record) {
            Ok(leaves) => self.journal.gather(leaves, class_of(&record)),
            Err(error) => return Box::pin(ready(Err(not_written(&error)))),
        };
        async move {
            self.journal.write_gathered();
            accepted(gathered.await)
        }
        .boxed()
    }

    fn happened(self: Arc<Self>, event: ServiceEvent) -> BoxFuture<'static, Accepted> {
        match event_of_service(&event, &self.scope, |event| event.leaves()) {
            Ok(leaves) => self.journal.append(leaves, Class::Control).map(accepted_anyway).boxed(),
            Err(error) => Box::pin(ready(Err(not_written(&error)))),
        }
    }

    fn log(&self) -> Option<Arc<str>> {
        self.journal.origin()
    }
}

fn accepted(appended: Result<Position, NotAccepted>) -> Accepted {
    appended.map(Some).map_err(|error| NotRecorded(error.to_string()))
}

/// The same of what nothing is given out by, so that nobody need wait for the disk: what the kernel has is not appended again, nor
/// counted as one that is not there.
fn accepted_anyway(appended: Result<Position, NotAccepted>) -> Accepted {
    match appended {
        Err(NotAccepted::Unsynced) => Ok(None),
        appended => accepted(appended),
    }
}

fn not_written(error: &NoLeaf) -> NotRecorded {
    NotRecorded(error.to_string())
}

/// The event of what the service did by itself, for as long as `take` looks at it.
pub(crate) fn event_of_service<T>(event: &ServiceEvent, scope: &Scope, take: impl FnOnce(&Event<'_>) -> T) -> T {
    let resources: Vec<&str> = event.resources.iter().map(|arn| &**arn).collect();
    take(&Event {
        id: event.id,
        unix_millis: event.unix_millis,
        source: if event.kms { KMS } else { OURS },
        name: event.name,
        scope,
        actor: Actor::Service,
        address: None,
        user_agent: None,
        tls: None,
        failure: event.failure.as_ref().map(|(code, message)| (*code, message.as_str())),
        request: Request::None,
        response: None,
        interface: None,
        certificate: None,
        phase: event::Phase::Outcome,
        intent: None,
        latency: None,
        decided_by: None,
        additional: &event.additional,
        request_id: "",
        read_only: false,
        resources: &resources,
    })
}

/// Whether a call was refused, or came to nothing before anything was done.
fn is_refusal(record: &CallRecord) -> bool {
    let failed = record.failure.is_some() && record.outcomes.iter().all(|(outcome, _)| outcome.is_some());
    failed && record.phase == Phase::Ended && record.intent.is_none()
}

/// How much depends on the record of a call. What was refused has taken nothing away: whoever may not do it must not use up
/// what is kept for those who may.
fn class_of(record: &CallRecord) -> Class {
    let refused = record.phase == Phase::Ended && record.intent.is_none() && record.failure.is_some();
    match record.operation {
        Some(operation) if operation.restricts() && !refused => Class::Restricting,
        Some(operation) if operation.spec().plane() == Plane::Control => Class::Control,
        _ => Class::Data,
    }
}

/// The event of a call, for as long as `take` looks at it.
pub(crate) fn event_of<T>(record: &CallRecord, scope: &Scope, take: impl FnOnce(&Event<'_>) -> T) -> T {
    let CallRecord { principal, caller, operation, .. } = record;
    let spec = operation.map(Operation::spec);
    // What is no operation here is AWS's alone, or a stream's or a method's that there is not.
    let alone = record.interface == Interface::AwsJson;
    let of_kms = spec.as_ref().map_or(alone, |spec| spec.permission.starts_with("kms:"));
    let one = record.name.is_none();
    let kms = of_kms && one;
    let name = principal.as_ref().map(|principal| principal.as_str());
    // What stands for many calls has come by any of its principal's certificates and access keys.
    let access_key = name.and_then(AccessKeyId::of_identity).filter(|_| one || caller.is_none());
    let actor = match (caller, name) {
        (Some(caller), _) => Actor::Principal {
            id: caller.id.as_str(),
            arn: &caller.arn,
            access_key: access_key.as_ref().map(AccessKeyId::as_str),
        },
        (None, Some(name)) => Actor::Unmapped(name),
        (None, None) => Actor::Anonymous,
    };
    // Of what AWS does, keys and aliases alone are resources there.
    let is_resource = |arn: &&str| !kms || arn.contains(":key/") || arn.contains(":alias/");
    let resources: Vec<&str> = record.resources.iter().map(|arn| &**arn).filter(is_resource).collect();
    // Where something succeeded, what did not stands with its items.
    let failed = record.outcomes.iter().all(|(outcome, _)| outcome.is_some());
    let failure = record.failure.as_ref().filter(|_| failed);
    let (phase, latency) = match record.phase {
        Phase::Intent => (event::Phase::Intent, None),
        Phase::Ended => (event::Phase::Outcome, Some(record.took)),
        Phase::Withheld => (event::Phase::Withheld, Some(record.took)),
    };
    take(&Event {
        id: record.id,
        unix_millis: record.unix_millis,
        source: match operation {
            Some(operation) if is_of_sts(*operation, record.interface) => STS,
            _ if kms => KMS,
            _ => OURS,
        },
        name: record
            .name
            .or(operation.map(|operation| event_name(operation, record.interface)))
            .or(record.event)
            .unwrap_or_else(|| other(record.interface)),
        scope,
        actor,
        address: record.source,
        user_agent: record.user_agent.as_deref(),
        tls: record.tls.as_ref().map(|TlsDetails { version, cipher_suite, host }| Tls {
            version,
            cipher_suite,
            host: host.as_deref(),
        }),
        failure: failure.map(|error| (error.exception.name(), error.message.as_str())),
        request: match &record.parameters {
            Parameters::None => Request::None,
            Parameters::Fields(fields) => Request::Fields(fields),
            Parameters::Items(items) => Request::Items(items),
        },
        response: record.response.as_ref(),
        interface: Some(record.interface.label()).filter(|_| one),
        certificate: name.filter(|_| one && caller.is_some() && access_key.is_none()),
        phase,
        intent: record.intent,
        latency: latency.filter(|_| one),
        decided_by: record.decided_by.as_deref(),
        additional: &record.additional,
        request_id: &record.request_id,
        read_only: spec.is_none_or(|spec| spec.effect != Effect::Changes),
        resources: &resources,
    })
}
