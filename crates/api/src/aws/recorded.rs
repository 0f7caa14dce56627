//! Sees that calls which never come to a use case are on record too: those that nobody has signed, those that cannot be
//! read, those that only AWS can carry out, and those for which there is no room. The service records all others itself.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::USER_AGENT;
use http::{HeaderValue, Request, Response};
use tonic::codegen::Service as HttpService;

use super::answer::ERROR_TYPE;
use super::error::Failure;
use super::metering::{NO_ROOM, THROTTLING};
use super::target::{TARGET, known, named};
use crate::entry::USER_AGENT_BYTES;
use ::model::clock::Clock;
use ::model::exception::Exception;
use ::model::operation::Operation;
use auth::peer::{Peer, Principal};
use auth::request::{Interface, Trace};
use service::recorder::RefusedCall;
use service::{Error, Service};

/// A service whose refusals are recorded.
#[derive(Clone)]
pub struct Recorded<S> {
    inner: S,
    service: Service,
    clock: Clock,
}

/// In the extensions of an answer: the call came to no use case, and why.
#[derive(Clone, Debug)]
pub(super) struct Unheard {
    /// Who called, where that is proven.
    pub(super) principal: Option<Principal>,
    /// What was asked for; absent for what only AWS has.
    pub(super) operation: Option<Operation>,
    pub(super) failure: Failure,
    pub(super) request_id: Arc<str>,
}

impl<S> Recorded<S> {
    pub(super) fn new(inner: S, service: Service, clock: Clock) -> Self {
        Self { inner, service, clock }
    }
}

impl<S, B, A> HttpService<Request<B>> for Recorded<S>
where
    S: HttpService<Request<B>, Response = Response<A>, Error = Infallible, Future: Send + 'static>,
    A: Send + 'static,
{
    type Response = Response<A>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<A>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let (service, clock) = (self.service.clone(), self.clock.clone());
        let (trace, started) = (Arc::new(Trace::default()), clock.now());
        request.extensions_mut().insert(Arc::clone(&trace));
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        let user_agent = request.headers().get(USER_AGENT).cloned();
        let target = request.headers().get(TARGET).cloned();
        let answer = self.inner.call(request);
        async move {
            let Ok(mut response) = answer.await;
            if trace.is_taken() || !response.headers().contains_key(ERROR_TYPE) {
                return Ok(response);
            }
            let unheard = response.extensions_mut().remove::<Unheard>().or_else(|| no_room(&response, target.as_ref()));
            if let Some(Unheard { principal, operation, failure, request_id }) = unheard {
                let text = user_agent.as_ref().and_then(|value| value.to_str().ok());
                let call = RefusedCall {
                    principal,
                    source: peer.as_ref().and_then(|peer| peer.source()),
                    user_agent: text.filter(|text| text.len() <= USER_AGENT_BYTES).map(Into::into),
                    interface: Interface::AwsJson,
                    request_id,
                    operation,
                    items: 1,
                    error: error(failure),
                    took: clock.now().saturating_duration_since(started),
                };
                service.refused_at_entry(call).await;
            }
            Ok(response)
        }
        .boxed()
    }
}

/// A call for which there was no room, so that nobody has read what it asks for.
fn no_room<A>(response: &Response<A>, target: Option<&HeaderValue>) -> Option<Unheard> {
    if response.headers().get(ERROR_TYPE).is_none_or(|name| name != THROTTLING) {
        return None;
    }
    let operation = target.and_then(|target| target.to_str().ok()).and_then(named);
    let failure = Failure::new(Exception::Throttling, NO_ROOM);
    Some(Unheard { principal: None, operation: operation.and_then(known), failure, request_id: "".into() })
}

/// A failure in the service's words. What has a name of AWS's front end alone was not let in.
fn error(failure: Failure) -> Error {
    let named = Exception::ALL.iter().find(|exception| exception.name() == failure.name).copied();
    let exception = named.unwrap_or(match failure.name {
        "SerializationException" | "RequestEntityTooLargeException" | "RequestTimeoutException" => {
            Exception::Validation
        }
        "InvalidAction" | "MissingAction" => Exception::Validation,
        _ => Exception::AccessDenied,
    });
    Error::new(exception, format!("{}: {}", failure.name, failure.message), false)
}
