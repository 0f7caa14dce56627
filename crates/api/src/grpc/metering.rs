//! How gRPC has its calls counted.

use std::sync::LazyLock;

use http::{HeaderMap, Response};
use tonic::body::Body;

use super::error;
use crate::entry::Refusal;
use crate::entry::open_call::Kind;
use crate::metered::{BoxError, Metering, Unread};

/// gRPC's.
#[derive(Clone, Copy, Debug)]
pub struct GrpcMetering;

/// Methods whose messages have no end.
const STREAMS: [&str; 2] =
    ["/keystored.v1.CryptoService/Stream", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"];
/// Methods whose answers have none.
const WATCHES: [&str; 2] = ["/grpc.health.v1.Health/Watch", "/keystored.v1.AuditService/FollowAuditRecords"];

/// Where a status has what it says beside its code and message.
const DETAILS: &str = "grpc-status-details-bin";

/// The answer where there is no room, whose own bytes must not take any: all of them share the values.
static FULL: LazyLock<HeaderMap> =
    LazyLock::new(|| error::status(&error::full()).into_http::<Body>().into_parts().0.headers);

/// Whether an answer says that there is no room. Nothing of it is decoded: who is refused for this has cost enough.
pub(super) fn is_full(headers: &HeaderMap) -> bool {
    headers.get(DETAILS).is_some_and(|said| FULL.get(DETAILS) == Some(said))
}

impl Metering for GrpcMetering {
    type Body = Body;

    fn kind(&self, path: &str) -> Kind {
        match path {
            path if WATCHES.contains(&path) => Kind::Watch,
            path if STREAMS.contains(&path) => Kind::Stream,
            _ => Kind::Unary,
        }
    }

    fn full(&self) -> Response<Body> {
        let mut response = Response::default();
        response.headers_mut().clone_from(&FULL);
        response
    }

    fn unknown(&self) -> Response<Body> {
        error::refused(&Refusal::NoPeer).into_http()
    }

    fn unread(&self, why: Unread) -> BoxError {
        let error = match why {
            Unread::Late => error::late(),
            Unread::Full => error::full(),
        };
        Box::new(error::status(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use proto::v1::FILE_DESCRIPTOR_SET;

    #[test]
    fn every_method_that_streams_is_known() {
        let files = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
        let others = prost_types::FileDescriptorSet::decode(tonic_health::pb::FILE_DESCRIPTOR_SET).unwrap().file;
        let mut found = 0;
        for file in files.iter().chain(&others) {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let kind = match (method.client_streaming(), method.server_streaming()) {
                        (false, false) => Kind::Unary,
                        (false, true) => Kind::Watch,
                        (true, _) => Kind::Stream,
                    };
                    assert_eq!(GrpcMetering.kind(&path), kind, "{path}");
                    found += usize::from(kind != Kind::Unary);
                }
            }
        }
        let named =
            "CryptoService.Stream, Health.Watch and FollowAuditRecords; reflection's descriptors are not at hand";
        assert_eq!(found, 3, "{named}");
    }
}
