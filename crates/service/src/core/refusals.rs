//! Records of what no use case has had: calls that an interface refused, and strangers who came to no call at all.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::log_recorder::{other, tell};
use super::recorder::{CallRecord, Parameters, Phase};
use super::strangers::Refusals;
use crate::Error;
use crate::core::Core;
use audit::event::{EventId, Fields};
use audit::log::Position;
use auth::peer::Principal;
use auth::request::Interface;
use model::exception::Exception;
use model::lock::MutexExt as _;
use model::operation::Operation;
use telemetry::sampled::{self, Line};

/// What the record of strangers' refusals is called, and what a handshake that came to nothing is.
const REFUSED: &str = "UnauthenticatedRefusals";
/// The name of handshakes among them.
const HANDSHAKE: &str = "TlsHandshake";

/// A call that an interface refused, so that no use case has had it.
#[derive(Clone, Debug)]
pub struct RefusedCall {
    /// Who called, if that was proven.
    pub principal: Option<Principal>,
    /// From which address.
    pub source: Option<IpAddr>,
    /// What the client calls itself.
    pub user_agent: Option<Arc<str>>,
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

impl Core {
    /// Puts on record that an interface refused a call. Of those who proved to be nobody there is one record for each
    /// source and minute. Says where the record stands, if it is the call's own.
    pub(crate) async fn refused_at_entry(&self, call: RefusedCall) -> Option<Position> {
        let RefusedCall { principal, source, user_agent, interface, request_id, operation, event, items, error, took } =
            call;
        if let Some(operation) = operation {
            self.inner.observer.finished(operation, Some(error.exception), took, items);
        }
        let stranger = principal.is_none();
        let unix_millis = self.clock().unix_millis();
        let record = CallRecord {
            caller: principal.as_ref().and_then(|principal| self.keyring().caller(principal)),
            principal,
            source,
            user_agent,
            request_id: Arc::clone(&request_id),
            operation,
            event,
            outcomes: vec![(Some(error.exception), items)],
            failure: Some(error),
            took,
            ..CallRecord::empty(unix_millis, interface)
        };
        if stranger {
            tell(&record);
            let unnamed = || event.unwrap_or_else(|| other(interface));
            let name = operation.map_or_else(unnamed, |operation| operation.spec().event);
            let why =
                record.failure.as_ref().map_or(("", ""), |error| (error.exception.name(), error.message.as_str()));
            self.strangers_refused(source, (name, why), items).await;
            return None;
        }
        self.record_beside(record).await.unwrap_or_else(|error| {
            untold(&request_id, &error.to_string());
            None
        })
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
        let over = self.inner.strangers.lock_anyway().over(self.clock().unix_millis());
        self.record_refusals(over).await;
        self.take_happenings();
        self.record_events().await;
    }

    /// Hands over all that waits, as far as it is accepted: for the end of the daemon.
    pub(crate) async fn record_the_last(&self) {
        let all = self.inner.strangers.lock_anyway().all();
        self.record_refusals(all).await;
        self.record_what_waits().await;
    }

    async fn record_refusals(&self, refusals: Vec<Refusals>) {
        let mut refusals = refusals.into_iter();
        while let Some(one) = refusals.next() {
            let (code, message) = one.why.clone();
            let exception = Exception::ALL.iter().find(|known| known.name() == code).copied();
            let exception = exception.unwrap_or(Exception::AccessDenied);
            let items = usize::try_from(one.count).unwrap_or(usize::MAX);
            let record = CallRecord {
                source: one.source,
                name: Some(REFUSED),
                additional: one.additional(),
                outcomes: vec![(Some(exception), items)],
                failure: Some(Error::new(exception, message, false)),
                ..CallRecord::empty(one.last, Interface::Grpc)
            };
            if let Err(error) = self.record_beside(record).await {
                untold("", &error.to_string());
                // The others would wait for as long in vain.
                let mut strangers = self.inner.strangers.lock_anyway();
                std::iter::once(one).chain(refusals).for_each(|left| strangers.put_back(left));
                return;
            }
        }
    }
}

fn untold(request_id: &str, error: &str) {
    if sampled::whole(Line::OwnFault, &"record") {
        tracing::error!(request_id, error, "a call that was refused could not be recorded");
    }
}

impl CallRecord {
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
