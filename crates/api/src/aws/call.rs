//! One request, from its head to its answer.
//!
//! What can be judged by the head is, before anything of the body is read: what is asked for, whether it is signed for
//! here and now, and with a key that there is. Only then is the body read, and the signature looked at as a whole. From
//! then on it is a call as any other.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, poll_fn};
use http::header::USER_AGENT;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use tonic::codegen::Service as HttpService;
use zeroize::Zeroizing;

use super::answer::{self, Whole};
use super::error::Failure;
use super::hosts::Hosts;
use super::metering::{NO_ROOM, NotRead};
use super::operations::{self, CallExtras};
use super::recorded::{AskedFor, Unheard};
use super::target::{Astray, BODY_BYTES, TARGET, Target};
use super::{Settings, sts, target};
use crate::entry::open_call::OpenCall;
use crate::entry::{Arrival, CallEntry, Deadlines};
use crate::metered::{BoxError, Unread};
use crate::receipt;
use crate::sigv4::{self, Claim, Expected};
use ::model::clock::Clock;
use ::model::exception::Exception;
use ::model::operation::Plane;
use auth::peer::{Peer, Principal};
use auth::request::{Interface, TlsDetails, Trace};
use service::{AccessKey, RequestContext, Service};
use telemetry::fault;
use telemetry::watchdog::Task;

/// The same in each try of one call. PHP's SDK has the second one.
const INVOCATION_IDS: [&str; 2] = ["amz-sdk-invocation-id", "aws-sdk-invocation-id"];
/// A body's first buffer is no larger.
const FIRST_BYTES: usize = 16 << 10;
/// So much of a refused request is read all the same: others are let end their connections.
const LEFT_BYTES: u64 = 16 << 10;
/// Longest of these that is taken; SDKs send a UUID.
const INVOCATION_ID_BYTES: usize = 128;

/// Answers requests.
#[derive(Clone)]
pub struct Calls(Arc<Inner>);

struct Inner {
    service: Service,
    entry: CallEntry,
    region: Arc<str>,
    hosts: Hosts,
    clock: Clock,
}

/// What of a request is known before anybody has read it.
struct Arrived {
    head: Parts,
    request_id: Arc<str>,
    trace: Arc<Trace>,
    peer: Option<Arc<Peer>>,
    open: Option<Arc<OpenCall>>,
}

/// What a request came to.
enum Came {
    /// JSON, or nothing.
    Json(Bytes),
    /// STS's XML.
    Xml(String),
    Healthy,
}

/// Why it came to nothing.
struct Refusal {
    failure: Failure,
    ends: bool,
    /// Who called, where that is proven.
    principal: Option<Principal>,
    /// With which access key somebody claims to have signed, where that was looked at and is not so.
    claimed: Option<String>,
}

impl Refusal {
    const fn new(failure: Failure, ends: bool) -> Self {
        Self { failure, ends, principal: None, claimed: None }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::new(failure, false)
    }
}

impl From<Astray> for Refusal {
    fn from(Astray { failure, ends }: Astray) -> Self {
        Self::new(failure, ends)
    }
}

impl Calls {
    pub(super) fn new(service: Service, settings: Settings, clock: Clock) -> Self {
        let Settings { region, hosts, default_deadline, default_control_deadline } = settings;
        let deadlines = Deadlines { data: default_deadline, control: default_control_deadline };
        let entry = CallEntry::new(deadlines, clock.clone());
        Self(Arc::new(Inner { service, entry, region, hosts: Hosts::new(&hosts), clock }))
    }
}

impl<B> HttpService<Request<B>> for Calls
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = Response<Whole>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Whole>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let parts = Arc::clone(&self.0);
        async move { Ok(parts.answer(request).await) }.boxed()
    }
}

impl Inner {
    async fn answer<B>(&self, request: Request<B>) -> Response<Whole>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
    {
        let (head, body) = request.into_parts();
        let arrived = Arrived {
            request_id: answer::new_request_id(),
            trace: head.extensions.get::<Arc<Trace>>().cloned().unwrap_or_default(),
            peer: head.extensions.get::<Arc<Peer>>().cloned(),
            open: head.extensions.get::<Arc<OpenCall>>().cloned(),
            head,
        };
        let target = Target::of(&arrived.head);
        let (asked, came) = match target {
            Ok(asked) => {
                // What a call leaves when it panics is given back by what it held; whoever called is told, not cut off.
                let came = AssertUnwindSafe(self.carry_out(&arrived, &asked, body)).catch_unwind().await;
                (Some(asked), came.unwrap_or_else(|panic| Err(broken_off(panic))))
            }
            Err(Astray { failure, ends }) => {
                let ends = ends || !is_over(body, &arrived.head).await;
                (None, Err(Refusal::new(failure, ends)))
            }
        };
        let request_id = &*arrived.request_id;
        match came {
            Ok(Came::Json(body)) => answer::json(body, request_id),
            Ok(Came::Xml(body)) => answer::xml(body, request_id),
            Ok(Came::Healthy) => answer::healthy(request_id),
            Err(Refusal { failure, ends, principal, claimed }) => {
                let mut response = answer::failure(&failure, asked.as_ref(), ends, request_id);
                let is_call = asked.is_some() || target::is_call(&arrived.head);
                if is_call && !arrived.trace.is_taken() {
                    let named = || AskedFor::named(arrived.head.headers.get(TARGET));
                    let asked = asked.as_ref().map_or_else(named, AskedFor::of);
                    let request_id = Arc::clone(&arrived.request_id);
                    response.extensions_mut().insert(Unheard { principal, claimed, asked, failure, request_id });
                }
                response
            }
        }
    }

    async fn carry_out<B>(&self, arrived: &Arrived, asked: &Target, body: B) -> Result<Came, Refusal>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
    {
        if matches!(asked, Target::Ping) {
            return Ok(Came::Healthy);
        }
        fault::hit(Task::Handler, "");
        let (claim, key) = match self.judge_head(arrived, asked) {
            Ok(judged) => judged,
            Err(failure) => {
                let ends = !is_over(body, &arrived.head).await;
                return Err(Refusal { claimed: sigv4::claimed_key(&arrived.head), ..Refusal::new(failure, ends) });
            }
        };
        let body = read(body, target::length(&arrived.head.headers)).await?;
        claim.verify(&key.secret, &arrived.head, &body).map_err(|refusal| Refusal {
            claimed: Some(claim.access_key_id().to_owned()),
            ..unsigned(&refusal, asked).into()
        })?;
        let principal = key.principal.clone();
        self.signed(arrived, asked, &claim, key.principal, body)
            .await
            .map_err(|failure| Refusal { principal: Some(principal), ..failure.into() })
    }

    /// What a request's head says of its signature, and the key that it is signed with.
    fn judge_head(&self, arrived: &Arrived, asked: &Target) -> Result<(Claim, AccessKey), Failure> {
        self.check_certificate(arrived)?;
        let expected = Expected { region: &self.region, services: &[asked.service()] };
        let refused = |refusal: sigv4::Refusal| unsigned(&refusal, asked);
        let claim = sigv4::claim(&arrived.head, &expected, self.clock.calendar()).map_err(refused)?;
        self.hosts.judge(&arrived.head).map_err(refused)?;
        // Unknown and disabled are the same: neither is known to who cannot sign with it.
        let known = self.service.access_key(claim.access_key_id());
        let key = known.ok_or_else(|| refused(sigv4::Refusal::unknown_key()))?;
        Ok((claim, key))
    }

    /// Carries a request out whose caller has proven who it is.
    async fn signed(
        &self,
        arrived: &Arrived,
        asked: &Target,
        claim: &Claim,
        principal: Principal,
        body: Zeroizing<Vec<u8>>,
    ) -> Result<Came, Failure> {
        self.service.access_key_used(claim.access_key_id(), asked.service());
        if let Some(open) = &arrived.open {
            let account = open.budget().account(&self.service.counted_as(&principal));
            if !open.move_to(&account) {
                return Err(Failure::new(Exception::Throttling, NO_ROOM));
            }
        }
        receipt::AWS.are_in(&arrived.head.headers).map_err(Failure::validation)?;
        let call = self.context(arrived, asked, principal);
        match asked {
            Target::Kms(operation) => {
                let input = operation.read(&body)?;
                drop(body);
                let extras = CallExtras { invocation_id: invocation_id(&arrived.head) };
                let name = operation.name();
                let answer = operations::answer(&self.service, &call, name, input, &extras).await?;
                Ok(Came::Json(answer.freeze()))
            }
            Target::Sts => Ok(Came::Xml(sts::answer(&self.service, &call, &body).await?)),
            Target::Ping => Ok(Came::Healthy),
        }
    }

    /// A certificate is not needed, and one that is shown must be good.
    fn check_certificate(&self, arrived: &Arrived) -> Result<(), Failure> {
        let shown = arrived.peer.as_ref().filter(|peer| peer.shows_certificate());
        match shown.map(|peer| peer.admit(self.clock.calendar())) {
            Some(Err(refusal)) => Err(Failure::new(Exception::AccessDenied, refusal.to_string())),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    fn context(&self, arrived: &Arrived, asked: &Target, principal: Principal) -> RequestContext {
        let arrival = Arrival {
            peer: arrived.peer.as_ref(),
            open: arrived.open.as_ref(),
            request_id: None,
            user_agent: text(&arrived.head, USER_AGENT.as_str()),
            tls: arrived.head.extensions.get::<TlsDetails>(),
            interface: Interface::AwsJson,
            timeout: None,
            trace: Some(&arrived.trace),
        };
        let plane = asked.operation().map_or(Plane::Data, |operation| operation.spec().plane());
        self.entry.admit_as(principal, arrival, Arc::clone(&arrived.request_id), plane)
    }
}

/// A request that nobody has signed, as far as this service can tell.
fn unsigned(refusal: &sigv4::Refusal, asked: &Target) -> Failure {
    let (name, status) = match asked {
        Target::Sts => (refusal.query_name(), refusal.query_status()),
        _ => (refusal.name(), refusal.status()),
    };
    Failure { name, status, message: refusal.to_string() }
}

/// The call panicked, perhaps after its work.
fn broken_off(_: Box<dyn Any + Send>) -> Refusal {
    Failure::internal(
        "a fault in the service broke the call off; what it asked for may have been done all the same, so look before it \
         is repeated. The daemon's log has the place",
    )
    .into()
}

/// Reads a body, whose head may have said how long it is.
async fn read<B>(mut body: B, length: Option<u64>) -> Result<Zeroizing<Vec<u8>>, Refusal>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    let length = length.and_then(|length| usize::try_from(length).ok()).filter(|length| *length <= BODY_BYTES);
    // Most are there as a whole, in one buffer. No more is made ready on a client's word, who has proven nothing yet.
    let mut whole = Zeroizing::new(Vec::with_capacity(length.unwrap_or_default().min(FIRST_BYTES)));
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(data) = frame.map_err(|error| not_read(&*error.into()))?.into_data() else { continue };
        if data.len() > BODY_BYTES - whole.len() {
            return Err(Astray::too_large().into());
        }
        if data.len() > whole.capacity() - whole.len() {
            let mut larger = Vec::with_capacity((2 * whole.capacity()).max(whole.len() + data.len()));
            larger.extend_from_slice(&whole);
            whole = Zeroizing::new(larger);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}

/// Takes what is left of a refused request off the connection, so that it can go on; whether that was done. What is not
/// taken ends the connection, and its client is told so.
async fn is_over<B>(body: B, head: &Parts) -> bool
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    let length = target::length(&head.headers);
    body.is_end_stream() || (length.is_some_and(|length| length <= LEFT_BYTES) && read(body, length).await.is_ok())
}

/// Why a body was not read to its end. What is left of it is not read either.
fn not_read(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Refusal {
    let failure = match error.downcast_ref::<NotRead>() {
        Some(NotRead(Unread::Full)) => Failure::new(Exception::Throttling, NO_ROOM),
        Some(NotRead(Unread::Late)) => Failure {
            name: "RequestTimeoutException",
            status: http::StatusCode::REQUEST_TIMEOUT.as_u16(),
            message: "The request's body did not come in time.".to_owned(),
        },
        None => Failure {
            name: "SerializationException",
            status: http::StatusCode::BAD_REQUEST.as_u16(),
            message: "The request's body cannot be read.".to_owned(),
        },
    };
    Refusal::new(failure, true)
}

fn invocation_id(head: &Parts) -> Option<String> {
    let id = INVOCATION_IDS.into_iter().find_map(|name| text(head, name));
    id.filter(|id| (1..=INVOCATION_ID_BYTES).contains(&id.len())).map(str::to_owned)
}

fn text<'h>(head: &'h Parts, name: &str) -> Option<&'h str> {
    head.headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sdks_name_their_calls_by_one_of_two_headers() {
        let of = |headers: &[(&str, &str)]| {
            let request = Request::post("/");
            let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            invocation_id(&request.body(()).unwrap().into_parts().0)
        };
        assert_eq!(of(&[]), None);
        for name in INVOCATION_IDS {
            assert_eq!(of(&[(name, "one")]).as_deref(), Some("one"), "{name}");
            assert_eq!(of(&[(name, "")]), None, "{name}");
            assert_eq!(of(&[(name, &"x".repeat(INVOCATION_ID_BYTES + 1))]), None, "{name}");
        }
    }
}
