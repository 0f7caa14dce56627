//! Sees that calls which never come to a use case are on record too, whatever interface they come by. The service records
//! all others itself.
//!
//! What such a call is, and why it was refused, only its interface can tell: that is [`Refusals`].
//!
//! Whatever became of a call, whoever asked for it is told here where its record stands.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use tonic::codegen::Service as HttpService;

use crate::entry::USER_AGENT_BYTES;
use crate::receipt::{Headers, Receipt};
use auth::peer::{Peer, Principal, Tls};
use auth::request::{Interface, TlsDetails, Trace};
use model::clock::Clock;
use model::operation::Operation;
use service::recorder::RefusedCall;
use service::{Error, Service};

/// Longest host of a request that stands in records, with its port: DNS has names of 253 characters.
const HOST_BYTES: usize = 260;

/// How an interface tells its refused calls.
pub trait Refusals: Clone + Send + Sync + 'static {
    /// Which interface it is.
    const INTERFACE: Interface;
    /// By which its callers ask where records stand, and are told.
    const RECEIPTS: Headers;
    /// What it keeps of a request until that is answered.
    type Asked: Send + 'static;

    /// What a request is about, as its head says; `None` where it is no call that a record could be about.
    fn asked(&self, uri: &Uri, headers: &HeaderMap) -> Option<Self::Asked>;

    /// Why the answer is a refusal of a call that no use case has had; `None` where it is none.
    fn refused<A>(
        &self,
        asked: Self::Asked,
        peer: Option<&Peer>,
        now: SystemTime,
        answer: &mut Response<A>,
    ) -> Option<Refused>;
}

/// A refused call, as its interface knows it.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Who called, if that was proven.
    pub(crate) principal: Option<Principal>,
    /// Empty where it has none.
    pub(crate) request_id: Arc<str>,
    pub(crate) operation: Option<Operation>,
    /// AWS's name of what only AWS has.
    pub(crate) event: Option<&'static str>,
    pub(crate) error: Error,
}

/// A service whose refusals are recorded.
#[derive(Clone)]
pub struct Recorded<S, R> {
    inner: S,
    refusals: R,
    /// Who keeps records; absent where there is nothing to be on record.
    recorder: Option<(Service, Clock)>,
}

impl<S, R> Recorded<S, R> {
    pub(crate) fn new(inner: S, refusals: R, recorder: Option<(Service, Clock)>) -> Self {
        Self { inner, refusals, recorder }
    }
}

impl<S, R, B, A> HttpService<Request<B>> for Recorded<S, R>
where
    S: HttpService<Request<B>, Response = Response<A>, Error = Infallible, Future: Send + 'static>,
    R: Refusals,
    A: Send + 'static,
{
    type Response = Response<A>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<A>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let asked = self.recorder.clone().zip(self.refusals.asked(request.uri(), request.headers()));
        let Some(((service, clock), asked)) = asked else { return self.inner.call(request).boxed() };
        // What can be taken either way is refused by the interface.
        let wanted = R::RECEIPTS.are_in(request.headers()).unwrap_or(false);
        let (trace, started) = (Arc::new(Trace::with_receipt(wanted)), clock.now());
        request.extensions_mut().insert(Arc::clone(&trace));
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        let tls = peer.as_ref().and_then(|peer| tls(peer, request.uri(), request.headers()));
        if let Some(tls) = &tls {
            request.extensions_mut().insert(tls.clone());
        }
        let user_agent = request.headers().get(USER_AGENT).cloned();
        let refusals = self.refusals.clone();
        let answer = self.inner.call(request);
        async move {
            let Ok(mut answer) = answer.await;
            let refused = match trace.is_taken() {
                true => None,
                false => refusals.refused(asked, peer.as_deref(), clock.calendar(), &mut answer),
            };
            if let Some(Refused { principal, request_id, operation, event, error }) = refused {
                let call = RefusedCall {
                    principal,
                    source: peer.as_ref().and_then(|peer| peer.source()),
                    user_agent: text(user_agent.as_ref(), USER_AGENT_BYTES),
                    tls,
                    interface: R::INTERFACE,
                    request_id,
                    operation,
                    event,
                    items: 1,
                    error,
                    took: clock.now().saturating_duration_since(started),
                };
                if let Some((first, count)) = service.refused_at_entry(call).await {
                    trace.note_record(first, count);
                }
            }
            R::RECEIPTS.add(Receipt::of(&service, &trace), answer.headers_mut());
            Ok(answer)
        }
        .boxed()
    }
}

/// The connection of a request, and the host that it asks for, if that is text and short.
fn tls(peer: &Peer, uri: &Uri, headers: &HeaderMap) -> Option<TlsDetails> {
    let Tls { version, cipher_suite } = peer.tls()?;
    let authority = uri.authority().map(|authority| authority.as_str());
    let host = authority.or_else(|| headers.get(HOST)?.to_str().ok()).filter(|host| host.len() <= HOST_BYTES);
    // A name and a password before it are nobody's business.
    let host = host.map(|host| host.rsplit_once('@').map_or(host, |(_, host)| host).into());
    Some(TlsDetails { version, cipher_suite, host })
}

/// What a client says of itself, if that is text and short.
pub(crate) fn text(value: Option<&HeaderValue>, most: usize) -> Option<Arc<str>> {
    value.and_then(|value| value.to_str().ok()).filter(|text| text.len() <= most).map(Into::into)
}
