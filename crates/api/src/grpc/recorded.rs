//! Which calls over gRPC never come to a use case: those that are refused because of their certificate, their size, their
//! shape, or for want of room.

use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, Response, Uri};
use tonic::Status;
use tonic_types::StatusExt;

use super::entry::REQUEST_ID;
use super::error::full;
use super::metering::is_full;
use crate::entry::request_id::{CHARS, is_safe};
use crate::receipt::{self, Headers};
use crate::recorded::{Refusals, Refused, text};
use auth::peer::Peer;
use auth::request::Interface;
use model::exception::Exception;
use model::operation::Operation;
use service::Error;

/// What the paths of this project's own methods begin with.
const OURS: &str = "/keystored.v1.";

/// What records call that.
const UNKNOWN: &str = "UnknownMethod";
/// So much of its path they show.
const SHOWN: usize = 128;

/// gRPC's.
#[derive(Clone, Copy, Debug)]
pub struct GrpcRefusals;

impl Refusals for GrpcRefusals {
    const INTERFACE: Interface = Interface::Grpc;
    const RECEIPTS: Headers = receipt::GRPC;
    type Asked = (Uri, Option<HeaderValue>);

    fn asked(&self, uri: &Uri, headers: &HeaderMap) -> Option<Self::Asked> {
        uri.path().starts_with(OURS).then(|| (uri.clone(), headers.get(REQUEST_ID).cloned()))
    }

    fn refused<A>(
        &self,
        (uri, request_id): Self::Asked,
        peer: Option<&Peer>,
        now: SystemTime,
        answer: &mut Response<A>,
    ) -> Option<Refused> {
        let error = refusal(answer.headers())?;
        let (operation, event, error) = match operation(uri.path()) {
            Some(operation) => (operation, None, error),
            None => (None, Some(UNKNOWN), unknown(uri.path())),
        };
        let request_id = answer.headers().get(REQUEST_ID).cloned().or(request_id);
        Some(Refused {
            principal: peer.and_then(|peer| peer.admit(now).ok().cloned()),
            request_id: text(request_id.as_ref(), CHARS).filter(|id| is_safe(id)).unwrap_or_else(|| Arc::from("")),
            operation,
            event,
            error,
        })
    }
}

/// What was asked for, as far as it is to be shown, is no method.
fn unknown(path: &str) -> Error {
    let shown: String = path.chars().take(SHOWN).collect();
    Error::new(Exception::UnsupportedOperation, format!("there is no method {shown}"), false)
}

/// The operation of a method, `Some(None)` for the stream, which is many; `None` where there is no such method.
fn operation(path: &str) -> Option<Option<Operation>> {
    let (service, method) = path.strip_prefix(OURS)?.split_once("Service/")?;
    let one = match service {
        "Crypto" if method == "Stream" => return Some(None),
        "Crypto" => method.strip_prefix("Batch").unwrap_or(method),
        "Keys" | "KeyStores" | "Clusters" | "Access" | "Approvals" | "Audit" => method,
        _ => return None,
    };
    Operation::ALL.iter().find(|operation| operation.name() == one).map(|operation| Some(*operation))
}

/// Why a call was refused, where its answer is nothing but that.
fn refusal(headers: &HeaderMap) -> Option<Error> {
    let status = headers.get("grpc-status").filter(|status| *status != "0")?;
    if is_full(headers) {
        return Some(full());
    }
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
        // Records of the audit log have no secrets.
        const PUBLIC: [&str; 5] =
            ["ciphertext_blob", "wrapped_key", "member_wrapped_key", "attestation_document", "record"];
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
    fn a_method_that_there_is_not_is_a_refusal_too() {
        let of = |path: &'static str| {
            let refusals = GrpcRefusals;
            let uri = Uri::from_static(path);
            let asked = refusals.asked(&uri, &HeaderMap::new())?;
            let mut answer = Status::unimplemented("").into_http::<()>();
            let refused = refusals.refused(asked, None, SystemTime::UNIX_EPOCH, &mut answer)?;
            Some((refused.operation, refused.event, refused.error.message))
        };
        let told = "there is no method /keystored.v1.KeysService/Nonsense".to_owned();
        assert_eq!(of("/keystored.v1.KeysService/Nonsense"), Some((None, Some("UnknownMethod"), told)));
        assert_eq!(of("/keystored.v1.KeysService/CreateKey").map(|(_, event, _)| event), Some(None));
        assert_eq!(of("/grpc.health.v1.Health/Nonsense"), None, "no service of ours");
    }

    #[test]
    fn an_answer_that_is_only_a_status_is_a_refusal() {
        let headers = |status: Status| status.into_http::<()>().into_parts().0.headers;
        let full = refusal(&headers(super::super::error::status(&super::super::error::full()))).unwrap();
        assert_eq!(full.exception, Exception::Throttling);
        assert!(full.message.contains("memory"), "{}", full.message);
        let throttled = refusal(&headers(super::super::error::status(&super::super::error::throttling("a")))).unwrap();
        assert_eq!((throttled.exception, throttled.message.as_str()), (Exception::Throttling, "a"));
        assert_eq!(refusal(&headers(Status::internal("a"))).unwrap().message, "a");
        assert!(refusal(&headers(Status::ok(""))).is_none());
        assert!(refusal(&HeaderMap::new()).is_none());
    }
}
