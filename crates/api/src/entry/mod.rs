//! What every call begins with, whatever interface it comes by: who calls, under which id, until when, and how many
//! bytes the daemon holds because of it.
//!
//! Nothing here knows gRPC or HTTP/2. An interface reads its own headers into an [`Arrival`] and turns a [`Refusal`]
//! into its own answer.
//!
//! What is counted: [`budget`] has the sum of all and each principal's share of it, [`ledger`] what one connection holds
//! and which of its calls have not been fetched, [`sizes`] what is reserved before anything is asked of an HSM.
//! [`fair_share`] shares places, of connections and of streams.

pub mod budget;
pub mod fair_share;
pub mod ledger;
pub mod open_call;
pub(crate) mod request_id;
pub mod sizes;

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auth::peer::{CertificateRefusal, Peer, Principal};
use auth::request::{TlsDetails, Trace};
use model::clock::Clock;
use model::operation::{Operation, Plane};
use service::recorder::RefusedCall;
use service::{Error, Interface, RequestContext};

use self::open_call::OpenCall;
use self::request_id::RequestIds;

/// Longest deadline of a data plane call: nobody waits longer for a token than that, and what waits takes room.
const LONGEST_DATA: Duration = Duration::from_secs(60);
/// Longest deadline of a control plane call: several steps, each bounded by the kill limit of its class.
const LONGEST_CONTROL: Duration = Duration::from_secs(600);

/// Longest name that a client calls itself by, in bytes; a longer one is left out of records.
pub(crate) const USER_AGENT_BYTES: usize = 256;

/// How long calls may take that do not say so.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Of the data plane.
    pub data: Duration,
    /// Of the control plane (CreateKey and the like).
    pub control: Duration,
}

/// What an interface has read from a call before its parameters.
#[derive(Clone, Copy)]
pub struct Arrival<'a> {
    /// Whose connection it came by.
    pub peer: Option<&'a Arc<Peer>>,
    /// What is counted for it.
    pub open: Option<&'a Arc<OpenCall>>,
    /// The id that the caller chose.
    pub request_id: Option<&'a str>,
    /// What the client calls itself.
    pub user_agent: Option<&'a str>,
    /// The connection that it came by, with the host that it asks for.
    pub tls: Option<&'a TlsDetails>,
    /// By which interface it came.
    pub interface: Interface,
    /// The time that the caller gives it.
    pub timeout: Option<Duration>,
    /// By which the interface learns whether a use case has had the call.
    pub trace: Option<&'a Arc<Trace>>,
}

/// Why a call is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The listener is not one that asks who is there.
    #[error("this listener did not ask for a client certificate")]
    NoPeer,
    /// The connection's certificate is not good, or no longer.
    #[error(transparent)]
    Certificate(#[from] CertificateRefusal),
}

/// Lets calls in.
pub struct CallEntry {
    deadlines: Deadlines,
    clock: Clock,
    ids: RequestIds,
}

/// A call that was let in.
#[derive(Debug)]
pub struct AdmittedCall {
    /// As the service takes it.
    pub call: RequestContext,
    open: Option<Arc<OpenCall>>,
}

/// A stream of calls that was let in; each of its windows is a call of its own.
pub struct AdmittedStream {
    peer: Arc<Peer>,
    /// In every log line, and given back to the caller.
    pub request_id: Arc<str>,
    user_agent: Option<Arc<str>>,
    tls: Option<TlsDetails>,
    interface: Interface,
    trace: Arc<Trace>,
    /// When the stream as a whole ends, where its caller said so.
    deadline: Option<Instant>,
    own_deadline: Duration,
    clock: Clock,
    open: Option<Arc<OpenCall>>,
}

impl CallEntry {
    /// With these deadlines for those that name none.
    #[must_use]
    pub fn new(deadlines: Deadlines, clock: Clock) -> Self {
        Self { deadlines, clock, ids: RequestIds::new() }
    }

    /// The id that the caller chose where it may be shown, or else one of ours.
    pub fn request_id(&self, chosen: Option<&str>) -> Arc<str> {
        self.ids.of(chosen)
    }

    /// Lets a call in under this id, or says why not.
    pub fn admit(
        &self,
        arrival: Arrival<'_>,
        request_id: Arc<str>,
        operation: Operation,
    ) -> Result<AdmittedCall, Refusal> {
        let peer = arrival.peer.ok_or(Refusal::NoPeer)?;
        let principal = peer.admit(self.clock.calendar())?.clone();
        let call = self.admit_as(principal, arrival, request_id, operation.spec().plane());
        Ok(AdmittedCall { call, open: arrival.open.cloned() })
    }

    /// Lets a call in whose caller has proven by the call itself who it is: its interface has looked at that.
    pub fn admit_as(
        &self,
        principal: Principal,
        arrival: Arrival<'_>,
        request_id: Arc<str>,
        plane: Plane,
    ) -> RequestContext {
        let (default, longest) = match plane {
            Plane::Data => (self.deadlines.data, LONGEST_DATA),
            Plane::Control => (self.deadlines.control, LONGEST_CONTROL),
        };
        let deadline = self.clock.now() + arrival.timeout.unwrap_or(default).min(longest);
        RequestContext {
            principal,
            source: arrival.peer.and_then(|peer| peer.source()),
            user_agent: user_agent(arrival.user_agent),
            tls: arrival.tls.cloned(),
            interface: arrival.interface,
            request_id,
            deadline,
            charge: charge(arrival.open),
            trace: arrival.trace.cloned().unwrap_or_default(),
        }
    }

    /// Lets a stream in, or says why not.
    pub fn admit_stream(&self, arrival: Arrival<'_>) -> Result<AdmittedStream, Refusal> {
        let peer = arrival.peer.ok_or(Refusal::NoPeer)?;
        peer.admit(self.clock.calendar())?;
        Ok(AdmittedStream {
            peer: Arc::clone(peer),
            request_id: self.request_id(arrival.request_id),
            user_agent: user_agent(arrival.user_agent),
            tls: arrival.tls.cloned(),
            interface: arrival.interface,
            trace: arrival.trace.cloned().unwrap_or_default(),
            deadline: arrival.timeout.map(|timeout| self.clock.now() + timeout),
            own_deadline: self.deadlines.data,
            clock: self.clock.clone(),
            open: arrival.open.cloned(),
        })
    }
}

/// What the service is given keeps what is counted until the last of its work has ended, even when the caller leaves.
fn charge(open: Option<&Arc<OpenCall>>) -> Option<Arc<dyn Any + Send + Sync>> {
    open.map(|open| Arc::new(open.work()) as _)
}

/// What a client calls itself, if that is short.
fn user_agent(named: Option<&str>) -> Option<Arc<str>> {
    named.filter(|named| (1..=USER_AGENT_BYTES).contains(&named.len())).map(Into::into)
}

impl AdmittedCall {
    /// Reserves room for an answer before anything is done for it; whether there is any.
    #[must_use]
    pub fn has_room_for(&self, answer: usize) -> bool {
        self.open.as_ref().is_none_or(|open| open.reserve(answer))
    }
}

impl AdmittedStream {
    /// A window of the stream, as a call with records of its own: the peer is looked at again, and the deadline is the data
    /// plane's or the stream's, whichever comes first.
    pub fn window(&self) -> Result<RequestContext, Refusal> {
        let principal = self.principal()?;
        let own = self.clock.now() + self.own_deadline;
        let deadline = self.deadline.map_or(own, |deadline| deadline.min(own));
        Ok(RequestContext {
            principal,
            source: self.peer.source(),
            user_agent: self.user_agent.clone(),
            tls: self.tls.clone(),
            interface: self.interface,
            request_id: Arc::clone(&self.request_id),
            deadline,
            charge: charge(self.open.as_ref()),
            trace: Arc::new(self.trace.of_part()),
        })
    }

    /// So many of its requests, refused before any use case had them.
    #[must_use]
    pub fn refused(&self, items: usize, error: Error) -> RefusedCall {
        RefusedCall {
            principal: self.principal().ok(),
            source: self.peer.source(),
            user_agent: self.user_agent.clone(),
            tls: self.tls.clone(),
            interface: self.interface,
            request_id: Arc::clone(&self.request_id),
            operation: None,
            event: None,
            items,
            error,
            took: Duration::ZERO,
        }
    }

    /// Who calls, if its certificate is still good.
    pub fn principal(&self) -> Result<Principal, Refusal> {
        Ok(self.peer.admit(self.clock.calendar())?.clone())
    }

    /// Whether its caller wants to know where the records of its windows stand, and of what is refused.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What is counted for it.
    #[must_use]
    pub fn open(&self) -> Option<&Arc<OpenCall>> {
        self.open.as_ref()
    }

    /// Time until the stream must end, where there is such a time.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(self.clock.now()))
    }
}
