//! Sees that calls which never come to a use case are on record too: those that are refused because of their
//! certificate, their size, their shape, or for want of room. The service records all others itself.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response};
use tonic::Status;
use tonic::codegen::Service as HttpService;
use tonic_types::StatusExt;

use super::entry::REQUEST_ID;
use crate::entry::request_id::is_safe;
use auth::peer::Peer;
use auth::request::{Interface, Trace};
use model::clock::Clock;
use model::exception::Exception;
use model::operation::Operation;
use service::recorder::RefusedCall;
use service::{Error, Service};

/// What the paths of this project's own methods begin with.
const OURS: &str = "/keystored.v1.";

/// A service whose refusals are recorded.
#[derive(Clone)]
pub struct Recorded<S> {
    inner: S,
    /// Who keeps records; absent where there is nothing to be on record.
    recorder: Option<(Service, Clock)>,
}

impl<S> Recorded<S> {
    pub(super) fn new(inner: S, recorder: Option<(Service, Clock)>) -> Self {
        Self { inner, recorder }
    }
}

/// What is known of a call before anybody has read it.
struct Caller {
    peer: Option<Arc<Peer>>,
    request_id: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
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
        let Some((service, clock)) = self.recorder.clone().filter(|_| request.uri().path().starts_with(OURS)) else {
            return self.inner.call(request).boxed();
        };
        let (uri, trace, started) = (request.uri().clone(), Arc::new(Trace::default()), clock.now());
        request.extensions_mut().insert(Arc::clone(&trace));
        let header = |name: &str| request.headers().get(name).cloned();
        let caller = Caller {
            peer: request.extensions().get::<Arc<Peer>>().cloned(),
            request_id: header(REQUEST_ID),
            user_agent: header("user-agent"),
        };
        let answer = self.inner.call(request);
        async move {
            let Ok(response) = answer.await;
            if !trace.is_taken()
                && let Some(error) = refusal(response.headers())
                && let Some(operation) = operation(uri.path())
            {
                let took = clock.now().saturating_duration_since(started);
                let request_id = response.headers().get(REQUEST_ID).cloned().or(caller.request_id);
                let call = RefusedCall {
                    principal: caller.peer.as_ref().and_then(|peer| peer.admit(clock.calendar()).ok().cloned()),
                    source: caller.peer.as_ref().and_then(|peer| peer.source()),
                    user_agent: text(caller.user_agent.as_ref(), crate::entry::USER_AGENT_BYTES),
                    interface: Interface::Grpc,
                    request_id: text(request_id.as_ref(), crate::entry::request_id::CHARS)
                        .filter(|id| is_safe(id))
                        .unwrap_or_default(),
                    operation,
                    items: 1,
                    error,
                    took,
                };
                service.refused_at_entry(call).await;
            }
            Ok(response)
        }
        .boxed()
    }
}

/// What a client says of itself, if that is text and short.
fn text(value: Option<&HeaderValue>, most: usize) -> Option<Arc<str>> {
    value.and_then(|value| value.to_str().ok()).filter(|text| text.len() <= most).map(Into::into)
}

/// The operation of a method, `Some(None)` for the stream, which is many; `None` where there is no such method.
fn operation(path: &str) -> Option<Option<Operation>> {
    let (service, method) = path.strip_prefix(OURS)?.split_once("Service/")?;
    let one = match service {
        "Crypto" if method == "Stream" => return Some(None),
        "Crypto" => method.strip_prefix("Batch").unwrap_or(method),
        "Keys" | "KeyStores" | "Clusters" | "Access" | "Approvals" => method,
        _ => return None,
    };
    Operation::ALL.iter().find(|operation| operation.name() == one).map(|operation| Some(*operation))
}

/// Why a call was refused, where its answer is nothing but that.
fn refusal(headers: &HeaderMap) -> Option<Error> {
    let status = headers.get("grpc-status").filter(|status| *status != "0")?;
    let read = Status::from_header_map(headers);
    let info = read.as_ref().and_then(StatusExt::get_details_error_info);
    let named = info.and_then(|info| Exception::ALL.iter().find(|exception| exception.name() == info.reason).copied());
    let message = read.map_or_else(|| format!("gRPC status {status:?}"), |read| read.message().to_owned());
    // Everything that this service answers has a name; what has none came from below it.
    Some(Error::new(named.unwrap_or(Exception::Validation), message, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    #[test]
    fn every_method_is_an_operation_or_the_stream() {
        let files = prost_types::FileDescriptorSet::decode(proto::v1::FILE_DESCRIPTOR_SET).unwrap().file;
        let (mut found, mut named) = (0, std::collections::HashSet::new());
        for file in files.iter().filter(|file| file.package() == "keystored.v1") {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    assert!(path.starts_with(OURS));
                    let operation = operation(&path).unwrap_or_else(|| panic!("{path} is no operation"));
                    assert_eq!(operation.is_none(), method.client_streaming(), "{path}");
                    named.extend(operation);
                    found += 1;
                }
            }
        }
        let without: Vec<_> = Operation::ALL.iter().filter(|operation| !named.contains(operation)).collect();
        assert!(found > Operation::ALL.len() - without.len(), "{found}");
        assert!(without.is_empty(), "operations without a method: {without:?}");
        for nonsense in ["CryptoService/Nonsense", "NonsenseService/Encrypt", "KeysService/BatchCreateKey", "Encrypt"] {
            assert_eq!(operation(&format!("{OURS}{nonsense}")), None, "{nonsense}");
        }
    }

    /// Messages that hold a plaintext, a PIN, a grant token or the secret of an access key have a Debug that does not show it.
    #[test]
    fn what_is_secret_is_kept_out_of_debug() {
        const PUBLIC: [&str; 4] = ["ciphertext_blob", "wrapped_key", "member_wrapped_key", "attestation_document"];
        let silent = include_str!("../../../proto/build.rs");
        let files = prost_types::FileDescriptorSet::decode(proto::v1::FILE_DESCRIPTOR_SET).unwrap().file;
        let messages = files.iter().filter(|file| file.package() == "keystored.v1").flat_map(|file| &file.message_type);
        let mut secrets = 0;
        for message in messages {
            let secret = |field: &&prost_types::FieldDescriptorProto| {
                let bytes = field.r#type() == prost_types::field_descriptor_proto::Type::Bytes;
                let named = ["password", "grant_token", "secret"].iter().any(|part| field.name().contains(part));
                named || bytes && !PUBLIC.contains(&field.name())
            };
            if let Some(field) = message.field.iter().find(secret) {
                let named = format!("\"keystored.v1.{}\"", message.name());
                assert!(silent.contains(&named), "{} of {} would be shown by Debug", field.name(), message.name());
                secrets += 1;
            }
        }
        assert!(secrets >= 15, "{secrets}");
    }

    #[test]
    fn an_answer_that_is_only_a_status_is_a_refusal() {
        let headers = |status: Status| status.into_http::<()>().into_parts().0.headers;
        let full = refusal(&headers(super::super::error::status(&super::super::error::full()))).unwrap();
        assert_eq!(full.exception, Exception::Throttling);
        assert!(full.message.contains("memory"), "{}", full.message);
        assert_eq!(refusal(&headers(Status::internal("a"))).unwrap().message, "a");
        assert!(refusal(&headers(Status::ok(""))).is_none());
        assert!(refusal(&HeaderMap::new()).is_none());
    }
}
