//! Records of refused calls: those that a use case refused before it did anything, those that an interface refused, and
//! strangers who came to no call at all.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;

use super::log_recorder::{other, tell};
use super::recorder::{
    ACCEPTED_BESIDE, Accepted, CallRecord, Ending, NotRecorded, Parameters, Phase, event_name, recorded_at, within,
};
use super::service_event::SLOW;
use super::{strangers, turned_away};
use crate::core::Core;
use crate::{Error, RequestContext};
use audit::event::{EventId, Fields};
use audit::log::Position;
use auth::peer::Principal;
use auth::request::{Interface, TlsDetails};
use model::exception::Exception;
use model::lock::MutexExt as _;
use model::operation::Operation;
use telemetry::sampled::{self, Line};

/// What the record of strangers' refusals is called, and what a handshake that came to nothing is.
const REFUSED: &str = "UnauthenticatedRefusals";
/// The name of handshakes among them.
const HANDSHAKE: &str = "TlsHandshake";
/// What the record of calls is called that were turned away and have none of their own.
const TURNED_AWAY: &str = "RefusedCalls";

/// A call that an interface refused, so that no use case has had it.
#[derive(Clone, Debug)]
pub struct RefusedCall {
    /// Who called, if that was proven.
    pub principal: Option<Principal>,
    /// From which address.
    pub source: Option<IpAddr>,
    /// What the client calls itself.
    pub user_agent: Option<Arc<str>>,
    /// By which connection.
    pub tls: Option<TlsDetails>,
    /// By which interface.
    pub interface: Interface,
    /// Under which id; empty where it has none.
    pub request_id: Arc<str>,
    /// What was asked for; absent for a stream, and for what only AWS has.
    pub operation: Option<Operation>,
    /// AWS's name of what only AWS has.
    pub event: Option<&'static str>,
    /// How many requests: a stream's are refused together.
    pub items: usize,
    /// Why it was refused.
    pub error: Error,
    /// How long that took.
    pub took: Duration,
}

impl RefusedCall {
    /// What records call it.
    fn name(&self) -> &'static str {
        let unnamed = || self.event.unwrap_or_else(|| other(self.interface));
        self.operation.map_or_else(unnamed, |operation| event_name(operation, self.interface))
    }

    /// Nobody has looked at what it asks for: there was no room for it, or it could not be read, or not in time, or is
    /// nothing that anybody can do here, or the daemon is about to stop.
    const fn is_turned_away(&self) -> bool {
        matches!(
            self.error.exception,
            Exception::Throttling
                | Exception::Validation
                | Exception::UnsupportedOperation
                | Exception::DependencyTimeout
                | Exception::KeyUnavailable
        )
    }
}

impl Core {
    /// Puts on record that a call was refused before it did anything.
    pub(crate) async fn refused(&self, ending: Ending<'_>, items: usize, error: &Error) {
        let outcomes = vec![(Some(error.exception), items.max(1))];
        self.observe(&ending, &outcomes);
        let record = self.record_of(&ending, Phase::Ended, ending.about.parameters(), outcomes, Some(error.clone()));
        // The record is made to its end by itself; its caller waits no longer than it wants to.
        let left = ending.call.deadline.saturating_duration_since(self.clock().now());
        if let Ok(Some(position)) = tokio::time::timeout(left, self.record_refusal(record)).await {
            recorded_at(ending.call, Some(position));
        }
    }

    /// The same of a call that was turned away before anybody looked at what it asks for: it has a record of its own while
    /// its principal has not had as many as it may in this minute, and that does not say what it asks for. Gives the error
    /// back.
    pub(crate) async fn turned_away(
        &self,
        call: &RequestContext,
        (operation, started): (Operation, Instant),
        items: usize,
        error: Error,
    ) -> Error {
        let RequestContext { principal, source, interface, request_id, .. } = call;
        let who = (principal, *source, *interface, &**request_id);
        let mut ending = Ending::new(call, operation, started);
        if self.is_counted(who, event_name(operation, *interface), items, &error) {
            self.observe(&ending, &[(Some(error.exception), items.max(1))]);
        } else {
            ending.caller = self.keyring().caller(principal);
            self.refused(ending, items, &error).await;
        }
        error
    }

    /// Whether a call that was turned away has no record of its own, and was counted.
    fn is_counted(
        &self,
        (principal, source, interface, request_id): (&Principal, Option<IpAddr>, Interface, &str),
        name: &'static str,
        items: usize,
        error: &Error,
    ) -> bool {
        let (keyring, unix_millis, exception) = (self.keyring(), self.clock().unix_millis(), error.exception);
        let (party, message) = (keyring.party(principal).0, error.message.as_str());
        let refusal = turned_away::Refusal { party, principal, source, interface, name, exception, message, items };
        let counted = self.inner.turned_away.lock_anyway().is_counted(unix_millis, &refusal);
        if counted {
            self.inner.records.counted.fetch_add(1, Ordering::Relaxed);
            let (principal, exception) = (principal.as_str(), exception.name());
            tracing::debug!(
                request_id,
                principal,
                operation = name,
                items,
                exception,
                why = message,
                "call turned away"
            );
        }
        counted
    }

    /// Puts on record that an interface refused a call. Of those who proved to be nobody there is one record for each
    /// source and minute. Says where the record stands, if it is the call's own.
    pub(crate) async fn refused_at_entry(&self, call: RefusedCall) -> Option<Position> {
        let name = call.name();
        if let Some(operation) = call.operation {
            self.inner.observer.finished(operation, Some(call.error.exception), call.took, call.items);
        }
        if call.is_turned_away()
            && let RefusedCall { principal: Some(principal), source, interface, request_id, items, error, .. } = &call
            && self.is_counted((principal, *source, *interface, &**request_id), name, *items, error)
        {
            return None;
        }
        let RefusedCall { principal, source, user_agent, tls, interface, request_id, operation, event, .. } = call;
        let (items, error, took) = (call.items, call.error, call.took);
        let stranger = principal.is_none();
        let unix_millis = self.clock().unix_millis();
        let record = CallRecord {
            caller: principal.as_ref().and_then(|principal| self.keyring().caller(principal)),
            principal,
            source,
            user_agent,
            tls,
            request_id,
            operation,
            event,
            outcomes: vec![(Some(error.exception), items)],
            failure: Some(error),
            took,
            ..CallRecord::empty(unix_millis, interface)
        };
        if stranger {
            tell(&record);
            let why =
                record.failure.as_ref().map_or(("", ""), |error| (error.exception.name(), error.message.as_str()));
            self.strangers_refused(source, (name, why), items).await;
            return None;
        }
        self.record_refusal(record).await
    }

    /// Hands the record of a refused call over, and says where it stands. One that is not accepted is counted with those
    /// that its principal has none of: the call is refused all the same.
    async fn record_refusal(&self, record: CallRecord) -> Option<Position> {
        let CallRecord { principal, source, interface, outcomes, failure, .. } = &record;
        let items = outcomes.iter().map(|(_, items)| items).sum();
        let name = record.operation.map(|operation| event_name(operation, *interface)).or(record.event);
        let (name, principal) = (name.unwrap_or_else(|| other(*interface)), principal.clone());
        let (source, interface, failure) = (*source, *interface, failure.clone());
        let (request_id, core) = (Arc::clone(&record.request_id), self.clone());
        self.record_beside(record, move |accepted| match accepted {
            Ok(position) => position,
            Err(error) => {
                untold(&request_id, &error.to_string());
                core.inner.records.unrecorded.fetch_add(1, Ordering::Relaxed);
                if let (Some(principal), Some(Error { exception, message, .. })) = (principal, failure) {
                    let (keyring, unix_millis) = (core.keyring(), core.clock().unix_millis());
                    let (principal, message) = (&principal, message.as_str());
                    let party = keyring.party(principal).0;
                    let refusal =
                        turned_away::Refusal { party, principal, source, interface, name, exception, message, items };
                    core.inner.turned_away.lock_anyway().count(unix_millis, &refusal);
                }
                None
            }
        })
        .await
        .flatten()
    }

    /// Hands a record over in a way that goes on if whoever waits here leaves. `then` gets what came of it, in any case.
    async fn record_beside<T: Send + 'static>(
        &self,
        record: CallRecord,
        then: impl FnOnce(Accepted) -> T + Send + 'static,
    ) -> Option<T> {
        let records = &self.inner.records;
        let (caller, principal, name) = (record.caller.clone(), record.principal.clone(), record.name);
        let mut accepting = Arc::clone(&records.recorder).record(record);
        if let Some(accepted) = (&mut accepting).now_or_never() {
            return Some(then(accepted));
        }
        let party = caller.as_ref().map(|caller| caller.id.as_str());
        // What stands for many calls is the daemon's own, so that a principal of whom much waits holds up nobody's count.
        let party = name.or(party).or(principal.as_ref().map(Principal::as_str)).unwrap_or_default();
        let Some(place) = records.refused.place(party) else {
            return Some(then(Err(NotRecorded("too many records of refused calls wait for the recorder".to_owned()))));
        };
        // On panic: whoever waits for it has no position of the record.
        let accepting = self.tasks().spawn(async move {
            let accepted = within(ACCEPTED_BESIDE, accepting).await;
            drop(place);
            then(accepted)
        });
        accepting.await.ok()
    }

    /// Takes note of a handshake that came to nothing.
    pub(crate) async fn handshake_failed(&self, source: Option<IpAddr>, why: &str) {
        self.strangers_refused(source, (HANDSHAKE, ("HandshakeFailed", why)), 1).await;
    }

    async fn strangers_refused(
        &self,
        source: Option<IpAddr>,
        what: (&'static str, (&'static str, &str)),
        count: usize,
    ) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let over = self.inner.strangers.lock_anyway().note(self.clock().unix_millis(), source, what, count);
        self.record_refusals(over).await;
    }

    /// Hands over what has waited for its time, or to be accepted.
    pub(crate) async fn record_what_waits(&self) {
        let unix_millis = self.clock().unix_millis();
        let over = self.inner.strangers.lock_anyway().over(unix_millis);
        self.record_refusals(over).await;
        let over = self.inner.turned_away.lock_anyway().over(unix_millis);
        self.record_turned_away(over).await;
        self.take_happenings();
        self.record_events().await;
    }

    /// Hands over all that waits, as far as it is accepted: for the end of the daemon.
    pub(crate) async fn record_the_last(&self) {
        let all = self.inner.strangers.lock_anyway().all();
        self.record_refusals(all).await;
        let all = self.inner.turned_away.lock_anyway().all();
        self.record_turned_away(all).await;
        self.record_what_waits().await;
    }

    async fn record_refusals(&self, refusals: Vec<strangers::Refusals>) {
        let mut refusals = refusals.into_iter();
        while let Some(one) = refusals.next() {
            let (code, message) = one.why.clone();
            let exception = Exception::ALL.iter().find(|known| known.name() == code).copied();
            let exception = exception.unwrap_or(Exception::AccessDenied);
            let record = CallRecord {
                source: one.source,
                name: Some(REFUSED),
                additional: one.additional(),
                ..CallRecord::counted(one.last, Interface::Grpc, one.count, exception, message)
            };
            let begun = self.clock().now();
            let recorded = self.is_recorded(record).await;
            if !recorded || self.clock().now().saturating_duration_since(begun) >= SLOW {
                // The others would wait for as long in vain.
                let mut strangers = self.inner.strangers.lock_anyway();
                let left = (!recorded).then_some(one).into_iter().chain(refusals);
                left.for_each(|left| strangers.put_back(left));
                return;
            }
        }
    }

    async fn record_turned_away(&self, refusals: Vec<turned_away::Refusals>) {
        let mut refusals = refusals.into_iter();
        while let Some(one) = refusals.next() {
            let record = CallRecord {
                caller: self.keyring().caller(&one.principal),
                principal: Some(one.principal.clone()),
                source: one.source,
                name: Some(TURNED_AWAY),
                additional: one.additional(),
                ..CallRecord::counted(one.last, one.interface, one.count, one.exception, one.message.clone())
            };
            let begun = self.clock().now();
            let recorded = self.is_recorded(record).await;
            if !recorded || self.clock().now().saturating_duration_since(begun) >= SLOW {
                let mut away = self.inner.turned_away.lock_anyway();
                let left = (!recorded).then_some(one).into_iter().chain(refusals);
                left.for_each(|left| away.put_back(left));
                return;
            }
        }
    }

    async fn is_recorded(&self, record: CallRecord) -> bool {
        let accepted = self.record_beside(record, |accepted| accepted).await;
        match accepted {
            Some(Ok(_)) => true,
            Some(Err(error)) => {
                untold("", &error.to_string());
                false
            }
            None => false,
        }
    }

    /// How many refused calls had no record of their own since the daemon was started, and of how many a record was not
    /// accepted. All of them are counted in records of their principals.
    pub(crate) fn refusals_without_record(&self) -> (u64, u64) {
        let records = &self.inner.records;
        (records.counted.load(Ordering::Relaxed), records.unrecorded.load(Ordering::Relaxed))
    }
}

fn untold(request_id: &str, error: &str) {
    if sampled::whole(Line::OwnFault, &"record") {
        tracing::error!(request_id, error, "a call that was refused could not be recorded");
    }
}

impl CallRecord {
    /// Of many calls that were refused.
    fn counted(unix_millis: i64, interface: Interface, count: u64, exception: Exception, message: String) -> Self {
        Self {
            outcomes: vec![(Some(exception), usize::try_from(count).unwrap_or(usize::MAX))],
            failure: Some(Error::new(exception, message, false)),
            ..Self::empty(unix_millis, interface)
        }
    }

    /// Of which nothing is known but when it was.
    fn empty(unix_millis: i64, interface: Interface) -> Self {
        Self {
            id: EventId::new(unix_millis),
            unix_millis,
            phase: Phase::Ended,
            intent: None,
            name: None,
            principal: None,
            caller: None,
            source: None,
            user_agent: None,
            tls: None,
            interface,
            request_id: "".into(),
            operation: None,
            event: None,
            resources: Vec::new(),
            parameters: Parameters::None,
            response: None,
            additional: Fields::new(),
            decided_by: None,
            outcomes: Vec::new(),
            failure: None,
            took: Duration::ZERO,
        }
    }
}
