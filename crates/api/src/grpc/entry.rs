//! What every method begins with: [`crate::entry`], read from and answered by gRPC's metadata.

use std::sync::Arc;

use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Request, Response, Status};

use super::{Settings, error, timeout};
use crate::entry::open_call::OpenCall;
use crate::entry::{self, AdmittedStream, Arrival, Deadlines};
use crate::receipt::{self, Receipt};
use auth::peer::Peer;
use auth::request::{TlsDetails, Trace};
use model::clock::Clock;
use model::operation::Operation;
use service::{Error, Interface, RequestContext, Service};
use telemetry::fault;
use telemetry::watchdog::Task;

/// Header and trailer by which a call is found again in the logs. A caller may choose it.
pub(super) const REQUEST_ID: &str = "x-request-id";

/// What every method needs.
pub(super) struct CallEntry {
    /// The use cases.
    pub(super) service: Service,
    entry: entry::CallEntry,
}

/// A call that was let in.
#[derive(Debug)]
pub(super) struct AdmittedCall {
    /// As the service takes it.
    pub(super) call: RequestContext,
    admitted: entry::AdmittedCall,
}

impl CallEntry {
    pub(super) fn new(service: Service, settings: Settings, clock: Clock) -> Self {
        let deadlines = Deadlines { data: settings.default_deadline, control: settings.default_control_deadline };
        Self { service, entry: entry::CallEntry::new(deadlines, clock) }
    }

    /// Lets a call in, or says why not.
    pub(super) fn admit<T>(&self, request: &Request<T>, operation: Operation) -> Result<AdmittedCall, Status> {
        fault::hit(Task::Handler, "");
        let request_id = self.entry.request_id(chosen_id(request.metadata()));
        let admitted = arrival(request).and_then(|arrival| {
            self.entry.admit(arrival, Arc::clone(&request_id), operation).map_err(|refusal| error::refused(&refusal))
        });
        match admitted {
            Ok(admitted) => Ok(AdmittedCall { call: admitted.call.clone(), admitted }),
            Err(status) => Err(tagged(status, &request_id)),
        }
    }

    /// Lets a stream in, or says why not.
    pub(super) fn admit_stream<T>(&self, request: &Request<T>) -> Result<AdmittedStream, Status> {
        self.entry.admit_stream(arrival(request)?).map_err(|refusal| error::refused(&refusal))
    }
}

impl AdmittedCall {
    /// Reserves room for an answer of so many bytes before anything is done for it.
    pub(super) fn expects(self, answer: usize) -> Result<Self, Status> {
        match self.admitted.has_room_for(answer) {
            true => Ok(self),
            false => Err(tagged(error::status(&error::full()), &self.call.request_id)),
        }
    }

    /// The answer, with the request's id in its metadata.
    pub(super) fn answer<T>(self, result: Result<T, Error>) -> Result<Response<T>, Status> {
        match result {
            Ok(message) => {
                let mut response = Response::new(message);
                tag(response.metadata_mut(), &self.call.request_id);
                Ok(response)
            }
            Err(error) => Err(tagged(error::status(&error), &self.call.request_id)),
        }
    }
}

/// Refuses a call of a peer that is no longer good, for services that are not ours (health, reflection).
pub(super) fn check_peer<T>(request: Request<T>, clock: &Clock) -> Result<Request<T>, Status> {
    let peer = peer(&request).ok_or_else(|| error::refused(&entry::Refusal::NoPeer))?;
    peer.admit(clock.calendar()).map_err(|refusal| error::refused(&refusal.into()))?;
    Ok(request)
}

fn peer<T>(request: &Request<T>) -> Option<&Arc<Peer>> {
    request.extensions().get::<Arc<Peer>>()
}

fn arrival<T>(request: &Request<T>) -> Result<Arrival<'_>, Status> {
    let timeout = match request.metadata().get(timeout::HEADER) {
        None => None,
        Some(header) => Some(timeout::parse(header.as_encoded_bytes()).ok_or_else(|| {
            error::status(&error::validation(
                "the grpc-timeout header must be 1 to 8 digits and one of the units H, M, S, m, u, n",
            ))
        })?),
    };
    let receipt = receipt::GRPC.are_in(request.metadata().as_ref());
    receipt.map_err(|wrong| error::status(&error::validation(wrong)))?;
    let open = request.extensions().get::<Arc<OpenCall>>();
    let (trace, tls) = (request.extensions().get::<Arc<Trace>>(), request.extensions().get::<TlsDetails>());
    let text = |name| request.metadata().get(name).and_then(|value| value.to_str().ok());
    let (request_id, user_agent) = (chosen_id(request.metadata()), text("user-agent"));
    Ok(Arrival { peer: peer(request), open, request_id, user_agent, tls, interface: Interface::Grpc, timeout, trace })
}

fn chosen_id(metadata: &MetadataMap) -> Option<&str> {
    metadata.get(REQUEST_ID).and_then(|value| value.to_str().ok())
}

fn tagged(mut status: Status, request_id: &str) -> Status {
    tag(status.metadata_mut(), request_id);
    status
}

/// Puts a request's id into the metadata of its answer.
pub(super) fn tag(metadata: &mut MetadataMap, request_id: &str) {
    if let Ok(mut value) = MetadataValue::<Ascii>::try_from(request_id) {
        // Not a secret, but never the same twice: this keeps it out of HTTP/2's header compression table, where it
        // would push useful entries out.
        value.set_sensitive(true);
        metadata.insert(REQUEST_ID, value);
    }
}

/// Puts the receipt of a call into the metadata of what ends a stream.
pub(super) fn tell(metadata: &mut MetadataMap, receipt: Option<Receipt>) {
    let mut headers = std::mem::take(metadata).into_headers();
    receipt::GRPC.add(receipt, &mut headers);
    *metadata = MetadataMap::from_headers(headers);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_timeout_that_is_none_is_refused() {
        let mut request = Request::new(());
        assert_eq!(arrival(&request).unwrap().timeout, None);
        request.metadata_mut().insert(timeout::HEADER, MetadataValue::from_static("20m"));
        assert_eq!(arrival(&request).unwrap().timeout, Some(Duration::from_millis(20)));
        request.metadata_mut().insert(timeout::HEADER, MetadataValue::from_static("soon"));
        let refused = arrival(&request).err().unwrap();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn what_may_ask_for_a_receipt_or_not_is_refused() {
        let mut request = Request::new(());
        request.metadata_mut().insert("keystored-audit-receipt", MetadataValue::from_static("true"));
        assert!(arrival(&request).is_ok());
        request.metadata_mut().insert("keystored-audit-receipt", MetadataValue::from_static("yes"));
        let refused = arrival(&request).err().unwrap();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(refused.message().contains("`true` or `false`"), "{refused:?}");
    }

    #[test]
    fn a_request_without_a_peer_is_refused() {
        let refused = check_peer(Request::new(()), &Clock::manual()).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    }
}
