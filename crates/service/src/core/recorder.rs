//! The record of each call. A result is given out when its record has been accepted, and not before.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::noted::Noted;
use super::notes::{Notes, Noting};
pub use super::refusals::RefusedCall;
pub use super::service_event::ServiceEvent;
use super::waiting::Waiting;
use crate::core::Core;
use crate::core::release::Looked;
use crate::{Error, RequestContext};
use audit::event::{EventId, Fields, Items, Value};
use audit::log::Position;
use auth::peer::Principal;
use auth::request::{Interface, TlsDetails};
use model::exception::Exception;
use model::operation::Operation;
use telemetry::sampled::{self, Line};

/// A recorder that has not answered by then has not accepted the record: nothing waits without end.
const ACCEPTED: Duration = Duration::from_secs(10);
/// The same of what nobody waits for. It is longer, so that the log says before what has become of it: that it is written and waits
/// for the disk is no reason to hand it over again.
pub(super) const ACCEPTED_BESIDE: Duration = Duration::from_secs(15);

/// From so many items in work on, records are kept several at a time: what that saves is more than the wait for others then.
const MANY: usize = 16;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// That the call is about to change something. Nothing is changed before this is accepted.
    Intent,
    /// How the call ended, as far as what it did decides. Results are given out after this.
    Ended,
    /// That results of a call whose end is on record are withheld: permission or state was taken away meanwhile.
    Withheld,
}

/// What a call asked for.
#[derive(Clone, Debug)]
pub enum Parameters {
    /// Nothing, or nobody knows.
    None,
    /// These parameters.
    Fields(Fields),
    /// The items of a batch, as tables and rows.
    Items(Items),
}

/// One call and what became of it. Neither plaintext nor ciphertext nor any other secret is in it; encryption contexts and
/// what else callers say of what they ask for are.
#[derive(Clone, Debug)]
pub struct CallRecord {
    /// Its own id.
    pub id: EventId,
    /// When it was made, in milliseconds since the Unix epoch.
    pub unix_millis: i64,
    /// What it says.
    pub phase: Phase,
    /// The record that said that the call is about to change something.
    pub intent: Option<EventId>,
    /// What it is called where that is not the operation: it stands for many calls.
    pub name: Option<&'static str>,
    /// By which certificate it was called; absent where nobody proved to be anybody.
    pub principal: Option<Principal>,
    /// As which principal of policies, at the first look; absent where the certificate is mapped to none.
    pub caller: Option<Arc<store::access::Principal>>,
    /// From which address.
    pub source: Option<IpAddr>,
    /// What the client calls itself.
    pub user_agent: Option<Arc<str>>,
    /// By which connection.
    pub tls: Option<TlsDetails>,
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
    /// What it asked for.
    pub parameters: Parameters,
    /// What it answered, where AWS records that.
    pub response: Option<Fields>,
    /// What else is to be said of it.
    pub additional: Fields,
    /// Which statement, grant or right decided on it.
    pub decided_by: Option<Arc<str>>,
    /// How many items ended in which way; `None`: they succeeded. A call that has no items has one.
    pub outcomes: Vec<(Option<Exception>, usize)>,
    /// The first thing that went wrong.
    pub failure: Option<Error>,
    /// How long it took.
    pub took: Duration,
}

/// What records call an operation: over AWS's interface by the name that it has there, also where that is another service's.
pub(crate) fn event_name(operation: Operation, interface: Interface) -> &'static str {
    if is_of_sts(operation, interface) { "GetCallerIdentity" } else { operation.spec().event }
}

/// Whether an operation is one of AWS's STS as it was asked for.
pub(crate) fn is_of_sts(operation: Operation, interface: Interface) -> bool {
    operation == Operation::WhoAmI && interface == Interface::AwsJson
}

/// Why a record was not accepted.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotRecorded(pub String);

/// What becomes of a record.
pub type Accepted = Result<Option<Position>, NotRecorded>;

/// Keeps records.
pub trait Recorder: Send + Sync {
    /// Keeps one. Ends when the record is accepted: what is given out then must not be without it after a crash, as far
    /// as the implementation promises. Says where it stands, if it stands in a log.
    fn record(self: Arc<Self>, record: CallRecord) -> BoxFuture<'static, Accepted>;

    /// The same of one of many calls that end at about the same time, which may be kept together. Others get to be recorded
    /// before this is asked for the first time.
    fn record_with_others(self: Arc<Self>, record: CallRecord) -> BoxFuture<'static, Accepted> {
        self.record(record)
    }

    /// Keeps what the service did by itself. Ends when it is accepted.
    fn happened(self: Arc<Self>, event: ServiceEvent) -> BoxFuture<'static, Accepted>;

    /// The name of the log that records stand in, which stays the same as long as the process runs; absent where there is
    /// none.
    fn log(&self) -> Option<Arc<str>> {
        None
    }
}

/// The recorder, and what bounds its use.
pub(crate) struct Records {
    pub(super) recorder: Arc<dyn Recorder>,
    /// Records of refused calls that wait for it.
    pub(super) refused: Arc<Waiting>,
    /// Refused calls that had no record of their own, since the daemon was started.
    pub(super) counted: AtomicU64,
    /// Those of them whose record was not accepted.
    pub(super) unrecorded: AtomicU64,
}

/// What all records of a call begin with.
pub(crate) struct Ending<'a> {
    pub(crate) call: &'a RequestContext,
    pub(crate) caller: Option<Arc<store::access::Principal>>,
    pub(crate) operation: Operation,
    pub(crate) started: Instant,
    pub(crate) resources: Vec<Arc<str>>,
    /// What was asked for.
    pub(crate) about: About,
    /// The record that said that the call is about to change something.
    pub(crate) intent: Option<EventId>,
    /// Which statement, grant or right decided on it.
    pub(crate) decided_by: Option<Arc<str>>,
}

/// What a call was about.
pub(crate) enum About {
    Nothing,
    Items(Noted),
    One(Fields, Notes),
}

impl<'a> Ending<'a> {
    /// Of a call of which no more is known.
    pub(crate) fn new(call: &'a RequestContext, operation: Operation, started: Instant) -> Self {
        let (resources, about) = (Vec::new(), About::Nothing);
        Self { call, caller: None, operation, started, resources, about, intent: None, decided_by: None }
    }
}

impl Records {
    pub(crate) fn new(recorder: Arc<dyn Recorder>) -> Self {
        Self { recorder, refused: Arc::default(), counted: AtomicU64::new(0), unrecorded: AtomicU64::new(0) }
    }

    /// The name of the log that records stand in.
    pub(crate) fn log(&self) -> Option<Arc<str>> {
        self.recorder.log()
    }

    /// Hands over what the service did by itself, likewise.
    pub(crate) async fn accepted_event(&self, event: ServiceEvent) -> Accepted {
        within(ACCEPTED_BESIDE, Arc::clone(&self.recorder).happened(event)).await
    }

    /// Hands a record over and waits until it is accepted, within bounds. `of_many`: many calls are in work.
    async fn accepted(&self, record: CallRecord, of_many: bool) -> Accepted {
        let recorder = Arc::clone(&self.recorder);
        let mut accepting = if of_many {
            let accepting = recorder.record_with_others(record);
            // Whoever else is ready by now comes to this as well.
            tokio::task::yield_now().await;
            accepting
        } else {
            recorder.record(record)
        };
        // A recorder that is quick costs no timer.
        match (&mut accepting).now_or_never() {
            Some(accepted) => accepted,
            None => within(ACCEPTED, accepting).await,
        }
    }
}

pub(super) async fn within(most: Duration, accepting: BoxFuture<'static, Accepted>) -> Accepted {
    let late = |_| NotRecorded(format!("the recorder did not answer within {} s", most.as_secs()));
    tokio::time::timeout(most, accepting).await.map_err(late).flatten()
}

impl Core {
    /// Ends a call that has done its work: record, last look, and again until a look withholds nothing more; then what
    /// is left may be given out.
    ///
    /// `look` gets some of the results, with the place of the first, and looks at that one at least. It withholds those that
    /// have come to be forbidden, each once. What is found is decided by one state of things, which is the present one still
    /// when a look that finds nothing has ended; nothing is awaited between this and the end of the call.
    pub(crate) async fn conclude<T>(
        &self,
        ending: Ending<'_>,
        results: &mut [Result<T, Error>],
        mut look: impl FnMut(usize, &mut [Result<T, Error>]) -> Looked,
    ) {
        let mut phase = Phase::Ended;
        loop {
            let outcomes = outcomes(results);
            let parameters = match &ending.about {
                About::Items(noted) => Parameters::Items(noted.items(results)),
                about => about.parameters(),
            };
            let record = self.record_of(&ending, phase, parameters, outcomes, first_failure(results));
            let of_many = matches!(ending.about, About::Items(_)) && self.inner.admission.in_work() >= MANY;
            match self.inner.records.accepted(record, of_many).await {
                Ok(position) => recorded_at(ending.call, position),
                Err(error) => {
                    unrecorded(&ending, &error);
                    for result in results.iter_mut().filter(|result| result.is_ok()) {
                        *result = Err(Error::not_recorded(ending.operation));
                    }
                    break;
                }
            }
            if self.last_look(results, &mut look).await == 0 {
                break;
            }
            phase = Phase::Withheld;
        }
        self.observe(&ending, &outcomes(results));
    }

    /// Puts on record that a call is about to change something. Where that is not accepted, nothing is to be changed.
    pub(crate) async fn intend(&self, ending: &mut Ending<'_>) -> Result<(), Error> {
        let record = self.record_of(ending, Phase::Intent, ending.about.parameters(), Vec::new(), None);
        let id = record.id;
        match self.inner.records.accepted(record, false).await {
            Ok(position) => {
                recorded_at(ending.call, position);
                ending.intent = Some(id);
                Ok(())
            }
            Err(error) => {
                unrecorded(ending, &error);
                Err(Error::not_intended())
            }
        }
    }

    pub(super) fn record_of(
        &self,
        ending: &Ending<'_>,
        phase: Phase,
        parameters: Parameters,
        outcomes: Vec<(Option<Exception>, usize)>,
        failure: Option<Error>,
    ) -> CallRecord {
        let (call, unix_millis) = (ending.call, self.inner.clock.unix_millis());
        let Noting { response, additional, resources: more } = match &ending.about {
            About::One(_, notes) => notes.taken(),
            About::Nothing | About::Items(_) => Noting::default(),
        };
        let mut resources = ending.resources.clone();
        resources.extend(more);
        resources.dedup();
        CallRecord {
            id: EventId::new(unix_millis),
            unix_millis,
            phase,
            intent: ending.intent,
            name: None,
            principal: Some(call.principal.clone()),
            caller: ending.caller.clone(),
            source: call.source,
            user_agent: call.user_agent.clone(),
            tls: call.tls.clone(),
            interface: call.interface,
            request_id: Arc::clone(&call.request_id),
            operation: Some(ending.operation),
            event: None,
            resources,
            parameters,
            response: response.filter(|_| failure.is_none()),
            additional,
            decided_by: ending.decided_by.clone(),
            outcomes,
            failure,
            took: self.inner.clock.now().saturating_duration_since(ending.started),
        }
    }

    pub(super) fn observe(&self, ending: &Ending<'_>, outcomes: &[(Option<Exception>, usize)]) {
        let took = self.inner.clock.now().saturating_duration_since(ending.started);
        for (outcome, items) in outcomes {
            self.inner.observer.finished(ending.operation, *outcome, took, *items);
        }
    }
}

impl About {
    /// Nothing is to be changed.
    pub(crate) fn is_dry_run(&self) -> bool {
        matches!(self, Self::One(fields, _) if fields.get("dryRun") == Some(&Value::Flag(true)))
    }

    /// What is known of it before it has ended.
    pub(super) fn parameters(&self) -> Parameters {
        match self {
            Self::One(fields, _) => Parameters::Fields(fields.clone()),
            Self::Nothing | Self::Items(_) => Parameters::None,
        }
    }
}

/// Lets an interface tell its caller where the record stands.
pub(super) fn recorded_at(call: &RequestContext, position: Option<Position>) {
    if let Some(Position { first, count }) = position {
        call.trace.note_record(first, count);
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
