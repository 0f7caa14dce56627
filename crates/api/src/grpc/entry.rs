//! What every method begins with: who calls, under which id, until when.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Settings, error, timeout};
use auth::peer::Peer;
use model::clock::Clock;
use model::operation::{Operation, Plane};
use service::{Error, Interface, RequestContext, Service};
use telemetry::fault;
use telemetry::watchdog::Task;

/// Header and trailer by which a call is found again in the logs. A caller may choose it.
const REQUEST_ID: &str = "x-request-id";
/// Longest id that a caller may choose, in characters.
const REQUEST_ID_CHARS: usize = 64;
/// Longest name that a client calls itself by, in characters; a longer one is left out of records.
const USER_AGENT_CHARS: usize = 256;
/// Longest deadline of a data plane call: nobody waits longer for a token than that, and what waits takes room.
const LONGEST_DATA: Duration = Duration::from_secs(60);
/// Longest deadline of a control plane call: several steps, each bounded by the kill limit of its class.
const LONGEST_CONTROL: Duration = Duration::from_secs(600);

/// What every method needs.
pub(super) struct CallEntry {
    /// The use cases.
    pub(super) service: Service,
    settings: Settings,
    clock: Clock,
    /// Random part of this process's request ids.
    origin: u64,
    /// Counts the calls: the other part.
    calls: AtomicU64,
}

/// A call that was let in.
#[derive(Debug)]
pub(super) struct AdmittedCall {
    /// As the service takes it.
    pub(super) call: RequestContext,
}

/// A stream that was let in; each of its windows is a call of its own.
pub(super) struct AdmittedStream {
    peer: Arc<Peer>,
    request_id: Arc<str>,
    user_agent: Option<Arc<str>>,
    /// When the stream as a whole ends, where its caller said so.
    pub(super) deadline: Option<Instant>,
    entry: Arc<CallEntry>,
}

impl CallEntry {
    pub(super) fn new(service: Service, settings: Settings, clock: Clock) -> Self {
        // The lower half of a version 4 UUID is random but for two bits.
        let origin = Uuid::new_v4().as_u64_pair().1;
        Self { service, settings, clock, origin, calls: AtomicU64::new(0) }
    }

    /// Lets a call in, or says why not.
    pub(super) fn admit<T>(&self, request: &Request<T>, operation: Operation) -> Result<AdmittedCall, Status> {
        fault::hit(Task::Handler, "");
        let request_id = self.request_id(request.metadata());
        let peer = peer(request).ok_or_else(error::no_peer);
        let source = peer.as_ref().ok().and_then(|peer| peer.source());
        let principal = peer
            .and_then(|peer| peer.admit(self.clock.calendar()).cloned().map_err(|refusal| error::refused(&refusal)));
        let started = self.clock.now();
        let admitted = principal.and_then(|principal| {
            let timeout = self.timeout(request.metadata(), operation)?;
            Ok((principal, started + timeout))
        });
        match admitted {
            Ok((principal, deadline)) => {
                let (user_agent, interface) = (user_agent(request.metadata()), Interface::Grpc);
                let call = RequestContext { principal, source, user_agent, interface, request_id, deadline };
                Ok(AdmittedCall { call })
            }
            Err(mut status) => {
                tag(status.metadata_mut(), &request_id);
                Err(status)
            }
        }
    }

    /// Lets a stream in, or says why not.
    pub(super) fn admit_stream<T>(self: &Arc<Self>, request: &Request<T>) -> Result<AdmittedStream, Status> {
        let peer = peer(request).cloned().ok_or_else(error::no_peer)?;
        peer.admit(self.clock.calendar()).map_err(|refusal| error::refused(&refusal))?;
        let deadline = named_timeout(request.metadata())?.map(|timeout| self.clock.now() + timeout);
        let (request_id, user_agent) = (self.request_id(request.metadata()), user_agent(request.metadata()));
        Ok(AdmittedStream { peer, request_id, user_agent, deadline, entry: Arc::clone(self) })
    }

    fn timeout(&self, metadata: &MetadataMap, operation: Operation) -> Result<Duration, Status> {
        let (default, longest) = match operation.spec().plane() {
            Plane::Data => (self.settings.default_deadline, LONGEST_DATA),
            Plane::Control => (self.settings.default_control_deadline, LONGEST_CONTROL),
        };
        Ok(named_timeout(metadata)?.unwrap_or(default).min(longest))
    }

    fn request_id(&self, metadata: &MetadataMap) -> Arc<str> {
        let chosen = metadata.get(REQUEST_ID).and_then(|value| value.to_str().ok());
        match chosen.filter(|text| is_safe(text)) {
            Some(text) => text.into(),
            // Unique is what an id must be, not secret; a random number for each call would cost a system call.
            None => format!("{:016x}-{:x}", self.origin, self.calls.fetch_add(1, Ordering::Relaxed)).into(),
        }
    }
}

impl AdmittedCall {
    /// The answer, with the request's id in its metadata.
    pub(super) fn answer<T>(self, result: Result<T, Error>) -> Result<Response<T>, Status> {
        match result {
            Ok(message) => {
                let mut response = Response::new(message);
                tag(response.metadata_mut(), &self.call.request_id);
                Ok(response)
            }
            Err(error) => {
                let mut status = error::status(&error);
                tag(status.metadata_mut(), &self.call.request_id);
                Err(status)
            }
        }
    }
}

impl AdmittedStream {
    /// A window of the stream, as a call: the peer is looked at again, and the deadline is the data plane's or the
    /// stream's, whichever comes first.
    pub(super) fn window(&self) -> Result<RequestContext, Status> {
        let clock = &self.entry.clock;
        let principal = self.peer.admit(clock.calendar()).cloned().map_err(|refusal| error::refused(&refusal))?;
        let own = clock.now() + self.entry.settings.default_deadline;
        let deadline = self.deadline.map_or(own, |deadline| deadline.min(own));
        Ok(RequestContext {
            principal,
            source: self.peer.source(),
            user_agent: self.user_agent.clone(),
            interface: Interface::Grpc,
            request_id: Arc::clone(&self.request_id),
            deadline,
        })
    }

    /// The service.
    pub(super) fn service(&self) -> &Service {
        &self.entry.service
    }

    /// Time until the stream must end, where there is such a time.
    pub(super) fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(self.entry.clock.now()))
    }

    /// Puts the request's id into the metadata of an answer.
    pub(super) fn tag(&self, metadata: &mut MetadataMap) {
        tag(metadata, &self.request_id);
    }
}

/// Refuses a call of a peer that is no longer good, for services that are not ours (health, reflection).
pub(super) fn check_peer<T>(request: Request<T>, clock: &Clock) -> Result<Request<T>, Status> {
    let peer = peer(&request).ok_or_else(error::no_peer)?;
    peer.admit(clock.calendar()).map_err(|refusal| error::refused(&refusal))?;
    Ok(request)
}

fn peer<T>(request: &Request<T>) -> Option<&Arc<Peer>> {
    request.extensions().get::<Arc<Peer>>()
}

fn named_timeout(metadata: &MetadataMap) -> Result<Option<Duration>, Status> {
    let Some(header) = metadata.get("grpc-timeout") else { return Ok(None) };
    let timeout = timeout::parse(header.as_encoded_bytes()).ok_or_else(|| {
        error::status(&error::validation(
            "the grpc-timeout header must be 1 to 8 digits and one of the units H, M, S, m, u, n",
        ))
    })?;
    Ok(Some(timeout))
}

/// What the client calls itself, if that is short and plain.
fn user_agent(metadata: &MetadataMap) -> Option<Arc<str>> {
    let named = metadata.get("user-agent")?.to_str().ok()?;
    (1..=USER_AGENT_CHARS).contains(&named.len()).then(|| named.into())
}

/// Letters, digits, `.`, `_`, `:` and `-`: nothing that a log or a shell could take for something else.
fn is_safe(text: &str) -> bool {
    let safe = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b':' | b'-');
    (1..=REQUEST_ID_CHARS).contains(&text.len()) && text.bytes().all(safe)
}

fn tag(metadata: &mut MetadataMap, request_id: &str) {
    if let Ok(mut value) = MetadataValue::<Ascii>::try_from(request_id) {
        // Not a secret, but never the same twice: this keeps it out of HTTP/2's header compression table, where it
        // would push useful entries out.
        value.set_sensitive(true);
        metadata.insert(REQUEST_ID, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_of_callers_are_looked_at() {
        for good in ["a", "A-1.b_c:d", &"x".repeat(64)] {
            assert!(is_safe(good), "{good}");
        }
        for bad in ["", "a b", "a\nb", "\"", "ä", &"x".repeat(65)] {
            assert!(!is_safe(bad), "{bad}");
        }
    }

    #[test]
    fn a_timeout_that_is_none_is_refused() {
        let mut metadata = MetadataMap::new();
        assert_eq!(named_timeout(&metadata).unwrap(), None);
        metadata.insert("grpc-timeout", MetadataValue::from_static("20m"));
        assert_eq!(named_timeout(&metadata).unwrap(), Some(Duration::from_millis(20)));
        metadata.insert("grpc-timeout", MetadataValue::from_static("soon"));
        assert_eq!(named_timeout(&metadata).unwrap_err().code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn a_request_without_a_peer_is_refused() {
        let refused = check_peer(Request::new(()), &Clock::manual()).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    }
}
