//! The record of each call. A result is given out when its record has been accepted, and not before.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use crate::core::Core;
use crate::{Error, RequestContext};
use auth::peer::Principal;
use auth::request::Interface;
use model::exception::Exception;
use model::operation::Operation;
use telemetry::sampled::{self, Line};

/// A recorder that has not answered by then has not accepted the record: nothing waits without end.
const ACCEPTED: Duration = Duration::from_secs(10);
/// Most records of refused calls that wait for the recorder at once. What was admitted is bounded by admission.
const REFUSED: usize = 1_024;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// How the call ended, as far as what it did decides. Results are given out after this.
    Ended,
    /// That results of a call whose end is on record are withheld: permission or state was taken away meanwhile.
    Withheld,
}

/// One call and what became of it. Neither plaintext nor ciphertext nor encryption context is in it.
#[derive(Clone, Debug)]
pub struct CallRecord {
    /// What it says.
    pub phase: Phase,
    /// By which certificate it was called; absent where nobody proved to be anybody.
    pub principal: Option<Principal>,
    /// As which principal of policies, at the first look; absent where the certificate is mapped to none.
    pub caller: Option<Arc<store::access::Principal>>,
    /// From which address.
    pub source: Option<IpAddr>,
    /// What the client calls itself.
    pub user_agent: Option<Arc<str>>,
    /// By which interface.
    pub interface: Interface,
    /// Under which id.
    pub request_id: Arc<str>,
    /// What was asked for; absent for a stream, which was refused before it asked for anything, and for what only AWS has.
    pub operation: Option<Operation>,
    /// AWS's name of what only AWS has.
    pub event: Option<&'static str>,
    /// ARNs of what it was asked for, each once; empty where none is named or none is known.
    pub resources: Vec<Arc<str>>,
    /// How many items ended in which way; `None`: they succeeded. A call that has no items has one.
    pub outcomes: Vec<(Option<Exception>, usize)>,
    /// The first thing that went wrong.
    pub failure: Option<Error>,
    /// How long it took.
    pub took: Duration,
}

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

/// Why a record was not accepted.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotRecorded(pub String);

/// Keeps records.
pub trait Recorder: Send + Sync {
    /// Keeps one. Ends when the record is accepted: what is given out then must not be without it after a crash, as far
    /// as the implementation promises.
    fn record(self: Arc<Self>, record: CallRecord) -> BoxFuture<'static, Result<(), NotRecorded>>;
}

/// The recorder, and what bounds its use.
pub(crate) struct Records {
    recorder: Arc<dyn Recorder>,
    refused: Arc<Semaphore>,
}

/// What all records of a call begin with.
pub(crate) struct Ending<'a> {
    pub(crate) call: &'a RequestContext,
    pub(crate) caller: Option<Arc<store::access::Principal>>,
    pub(crate) operation: Operation,
    pub(crate) started: Instant,
    pub(crate) resources: Vec<Arc<str>>,
}

impl Records {
    pub(crate) fn new(recorder: Arc<dyn Recorder>) -> Self {
        Self { recorder, refused: Arc::new(Semaphore::new(REFUSED)) }
    }

    /// Hands a record over and waits until it is accepted, within bounds.
    async fn accepted(&self, record: CallRecord) -> Result<(), NotRecorded> {
        let mut accepting = Arc::clone(&self.recorder).record(record);
        // A recorder that is quick costs no timer.
        match (&mut accepting).now_or_never() {
            Some(accepted) => accepted,
            None => within(accepting).await,
        }
    }
}

async fn within(accepting: BoxFuture<'static, Result<(), NotRecorded>>) -> Result<(), NotRecorded> {
    let late = |_| NotRecorded(format!("the recorder did not answer within {} s", ACCEPTED.as_secs()));
    tokio::time::timeout(ACCEPTED, accepting).await.map_err(late).flatten()
}

impl Core {
    /// Ends a call that has done its work: record, last look, and again until a look withholds nothing more; then what
    /// is left may be given out.
    ///
    /// `look` gets some of the results, with the place of the first. It withholds those that have come to be forbidden, each
    /// once, and says how many. What one look finds is decided by one state of things, which is the present one still when
    /// a look that finds nothing has ended; nothing is awaited between this and the end of the call.
    pub(crate) async fn conclude<T>(
        &self,
        ending: Ending<'_>,
        results: &mut [Result<T, Error>],
        mut look: impl FnMut(usize, &mut [Result<T, Error>]) -> usize,
    ) {
        let mut phase = Phase::Ended;
        loop {
            let outcomes = outcomes(results);
            let record = self.record_of(&ending, phase, outcomes, first_failure(results));
            if let Err(error) = self.inner.records.accepted(record).await {
                unrecorded(&ending, &error);
                for result in results.iter_mut().filter(|result| result.is_ok()) {
                    *result = Err(Error::not_recorded(ending.operation));
                }
                break;
            }
            if self.last_look(results, &mut look).await == 0 {
                break;
            }
            phase = Phase::Withheld;
        }
        self.observe(&ending, &outcomes(results));
    }

    /// Puts on record that a call was refused before it did anything.
    pub(crate) async fn refused(&self, ending: Ending<'_>, items: usize, error: &Error) {
        let outcomes = vec![(Some(error.exception), items.max(1))];
        self.observe(&ending, &outcomes);
        let record = self.record_of(&ending, Phase::Ended, outcomes, Some(error.clone()));
        // The record is made to its end by itself; its caller waits no longer than it wants to.
        let left = ending.call.deadline.saturating_duration_since(self.inner.clock.now());
        if let Ok(Err(error)) = tokio::time::timeout(left, self.record_beside(record)).await {
            unrecorded(&ending, &error);
        }
    }

    /// Puts on record that an interface refused a call.
    pub(crate) async fn refused_at_entry(&self, call: RefusedCall) {
        let RefusedCall { principal, source, user_agent, interface, request_id, operation, event, items, error, took } =
            call;
        if let Some(operation) = operation {
            self.inner.observer.finished(operation, Some(error.exception), took, items);
        }
        let record = CallRecord {
            phase: Phase::Ended,
            caller: principal.as_ref().and_then(|principal| self.keyring().caller(principal)),
            principal,
            source,
            user_agent,
            interface,
            request_id: Arc::clone(&request_id),
            operation,
            event,
            resources: Vec::new(),
            outcomes: vec![(Some(error.exception), items)],
            failure: Some(error),
            took,
        };
        if let Err(error) = self.record_beside(record).await
            && sampled::whole(Line::OwnFault, &"record")
        {
            tracing::error!(request_id = &*request_id, %error, "a call that was refused could not be recorded");
        }
    }

    /// Hands a record over in a way that goes on if whoever waits here leaves.
    pub(crate) async fn record_beside(&self, record: CallRecord) -> Result<(), NotRecorded> {
        let records = &self.inner.records;
        let mut accepting = Arc::clone(&records.recorder).record(record);
        if let Some(accepted) = (&mut accepting).now_or_never() {
            return accepted;
        }
        let Ok(place) = Arc::clone(&records.refused).try_acquire_owned() else {
            return Err(NotRecorded(format!("{REFUSED} records wait for the recorder already")));
        };
        // On panic: the record counts as not accepted.
        let accepting = self.inner.tasks.spawn(async move {
            let accepted = within(accepting).await;
            drop(place);
            accepted
        });
        accepting.await.unwrap_or_else(|error| Err(NotRecorded(error.to_string())))
    }

    fn record_of(
        &self,
        Ending { call, caller, operation, started, resources }: &Ending<'_>,
        phase: Phase,
        outcomes: Vec<(Option<Exception>, usize)>,
        failure: Option<Error>,
    ) -> CallRecord {
        CallRecord {
            phase,
            principal: Some(call.principal.clone()),
            caller: caller.clone(),
            source: call.source,
            user_agent: call.user_agent.clone(),
            interface: call.interface,
            request_id: Arc::clone(&call.request_id),
            operation: Some(*operation),
            event: None,
            resources: resources.clone(),
            outcomes,
            failure,
            took: self.inner.clock.now().saturating_duration_since(*started),
        }
    }

    fn observe(&self, ending: &Ending<'_>, outcomes: &[(Option<Exception>, usize)]) {
        let took = self.inner.clock.now().saturating_duration_since(ending.started);
        for (outcome, items) in outcomes {
            self.inner.observer.finished(ending.operation, *outcome, took, *items);
        }
    }
}

/// One outcome nearly always, a handful at most.
fn outcomes<T>(results: &[Result<T, Error>]) -> Vec<(Option<Exception>, usize)> {
    let mut outcomes: Vec<(Option<Exception>, usize)> = Vec::with_capacity(1);
    for result in results {
        let outcome = result.as_ref().err().map(|error| error.exception);
        match outcomes.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, items)) => *items += 1,
            None => outcomes.push((outcome, 1)),
        }
    }
    outcomes
}

fn first_failure<T>(results: &[Result<T, Error>]) -> Option<Error> {
    results.iter().find_map(|result| result.as_ref().err().cloned())
}

fn unrecorded(Ending { call, operation, .. }: &Ending<'_>, error: &NotRecorded) {
    if sampled::whole(Line::OwnFault, &"record") {
        tracing::error!(
            request_id = &*call.request_id,
            principal = call.principal.as_str(),
            operation = operation.spec().label,
            %error,
            "the end of a call could not be recorded; what it gave is withheld"
        );
    }
}
