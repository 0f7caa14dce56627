//! What a request asks for, as far as its head says so. Pure.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};

use super::error::Failure;
use super::model::{self, ModelOperation};
use crate::sigv4;
use ::model::operation::Operation;

/// Longest body. AWS KMS takes no more than some kilobytes of anything; a policy is the longest.
pub(super) const BODY_BYTES: usize = 512 << 10;

/// What stands before an operation's name.
const SERVICE: &str = "TrentService.";
pub(super) const TARGET: &str = "x-amz-target";
/// What JSON is called here; which of them a client says makes no difference.
const JSON: [&str; 2] = ["application/x-amz-json-1.1", "application/x-amz-json-1.0"];
const FORM: &str = "application/x-www-form-urlencoded";

/// What a request asks for.
pub(super) enum Target {
    /// An operation of KMS.
    Kms(&'static ModelOperation),
    /// Something of STS; its form says what.
    Sts,
    /// Whether anybody is here.
    Ping,
}

/// A request that asks for nothing that there is.
#[derive(Debug)]
pub(super) struct Astray {
    pub(super) failure: Failure,
    /// What is left of the request is not read: the connection ends.
    pub(super) ends: bool,
}

impl Target {
    /// What a request asks for.
    pub(super) fn of(head: &Parts) -> Result<Self, Astray> {
        match (&head.method, head.uri.path()) {
            (&Method::GET | &Method::HEAD, "/ping") => return Ok(Self::Ping),
            (_, path) if path != "/" => return Err(Astray::unknown(StatusCode::NOT_FOUND)),
            _ => sigv4::not_presigned(&head.uri).map_err(|refusal| Astray::unsigned(&refusal))?,
        }
        if head.method != Method::POST {
            return Err(Astray::unknown(StatusCode::METHOD_NOT_ALLOWED));
        }
        if length(&head.headers).is_some_and(|length| length > BODY_BYTES as u64) {
            return Err(Astray::too_large());
        }
        let target = only(&head.headers, TARGET);
        match (media_type(&head.headers).as_deref(), target) {
            (Some(FORM), None) if !head.headers.contains_key(TARGET) => Ok(Self::Sts),
            (Some(media), Some(target)) if JSON.contains(&media) => {
                named(target).map(Self::Kms).ok_or_else(|| Astray::unknown(StatusCode::BAD_REQUEST))
            }
            _ => Err(Astray::unknown(StatusCode::BAD_REQUEST)),
        }
    }

    /// Of which service a request's signature must be.
    pub(super) fn service(&self) -> &'static str {
        if matches!(self, Self::Sts) { "sts" } else { "kms" }
    }

    /// The operation that records and metrics know; absent for what only AWS has.
    pub(super) fn operation(&self) -> Option<Operation> {
        match self {
            Self::Kms(asked) => known(asked),
            Self::Sts => Some(Operation::WhoAmI),
            Self::Ping => None,
        }
    }
}

impl Astray {
    fn unknown(status: StatusCode) -> Self {
        Self { failure: Failure { status: status.as_u16(), ..Failure::unknown_operation() }, ends: false }
    }

    fn unsigned(refusal: &sigv4::Refusal) -> Self {
        let (name, status, message) = (refusal.name(), refusal.status(), refusal.to_string());
        Self { failure: Failure { name, status, message }, ends: false }
    }

    /// A body that is longer than any may be.
    pub(super) fn too_large() -> Self {
        let failure = Failure {
            name: "RequestEntityTooLargeException",
            status: StatusCode::PAYLOAD_TOO_LARGE.as_u16(),
            message: format!("Request must be smaller than {BODY_BYTES} bytes"),
        };
        Self { failure, ends: true }
    }
}

/// Whether a request is a call, if one that asks for nothing that there is: a probe of something else that looks for some
/// page is none.
pub(super) fn is_call(head: &Parts) -> bool {
    head.method == Method::POST && head.uri.path() == "/"
}

/// The operation that a target names.
pub(super) fn named(target: &str) -> Option<&'static ModelOperation> {
    target.strip_prefix(SERVICE).and_then(model::operation)
}

/// An operation as records and metrics know it; absent for what only AWS has.
pub(super) fn known(operation: &ModelOperation) -> Option<Operation> {
    Operation::ALL.iter().copied().find(|one| one.spec().event == operation.name())
}

/// How long a body is, where its head says so. HTTP's library has seen that it is a number.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A header's value, if it is there once.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// What a body is, without parameters such as its character set.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = only(headers, CONTENT_TYPE.as_str())?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const JSON_1_1: (&str, &str) = ("content-type", "application/x-amz-json-1.1");

    fn of(method: &str, path: &str, headers: &[(&str, &str)]) -> Result<Target, (u16, &'static str, bool)> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        Target::of(&head).map_err(|astray| (astray.failure.status, astray.failure.name, astray.ends))
    }

    fn target(name: &str) -> (&str, &str) {
        ("x-amz-target", name)
    }

    #[test]
    fn operations_are_known_by_their_target() {
        let asked = of("POST", "/", &[JSON_1_1, target("TrentService.Encrypt")]).ok().unwrap();
        assert!(matches!(asked, Target::Kms(operation) if operation.name() == "Encrypt"));
        assert_eq!((asked.service(), asked.operation()), ("kms", Some(Operation::Encrypt)));
        for media in
            ["application/x-amz-json-1.0", "application/x-amz-json-1.1; charset=utf-8", "Application/X-Amz-JSON-1.1"]
        {
            assert!(of("POST", "/", &[("content-type", media), target("TrentService.ListKeys")]).is_ok(), "{media}");
        }
        let asked = of("POST", "/?a=b", &[JSON_1_1, target("TrentService.Sign")]).ok().unwrap();
        assert_eq!(asked.operation(), None, "AWS's alone");
        let form = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
        let asked = of("POST", "/", &[form]).ok().unwrap();
        assert_eq!((asked.service(), asked.operation()), ("sts", Some(Operation::WhoAmI)));
        for method in ["GET", "HEAD"] {
            assert!(matches!(of(method, "/ping", &[]), Ok(Target::Ping)));
        }
    }

    #[test]
    fn what_there_is_not_is_said_to_be_unknown() {
        let encrypt = target("TrentService.Encrypt");
        let form = ("content-type", "application/x-www-form-urlencoded");
        let unknown = |status| Some((status, "UnknownOperationException", false));
        for (method, path, headers, status) in [
            ("GET", "/", &[][..], 405),
            ("PUT", "/", &[JSON_1_1, encrypt], 405),
            ("OPTIONS", "*", &[], 404),
            ("POST", "/kms", &[JSON_1_1, encrypt], 404),
            ("POST", "//", &[JSON_1_1, encrypt], 404),
            ("POST", "/ping", &[], 404),
            ("POST", "/", &[], 400),
            ("POST", "/", &[JSON_1_1], 400),
            ("POST", "/", &[encrypt], 400),
            ("POST", "/", &[("content-type", "application/json"), encrypt], 400),
            ("POST", "/", &[form, encrypt], 400),
            ("POST", "/", &[JSON_1_1, JSON_1_1, encrypt], 400),
            ("POST", "/", &[JSON_1_1, encrypt, encrypt], 400),
            ("POST", "/", &[JSON_1_1, target("TrentService.Encryp")], 400),
            ("POST", "/", &[JSON_1_1, target("TrentService.encrypt")], 400),
            ("POST", "/", &[JSON_1_1, target("Encrypt")], 400),
            ("POST", "/", &[JSON_1_1, target("DynamoDB_20120810.Encrypt")], 400),
            ("POST", "/", &[JSON_1_1, target("")], 400),
        ] {
            assert_eq!(of(method, path, headers).err(), unknown(status), "{method} {path} {headers:?}");
        }
    }

    #[test]
    fn presigned_urls_are_called_by_their_name_whatever_the_method() {
        for method in ["GET", "POST", "HEAD"] {
            let refused = of(method, "/?Action=GetCallerIdentity&X-Amz-Signature=00", &[]).err();
            assert_eq!(refused, Some((400, "IncompleteSignatureException", false)), "{method}");
        }
        assert_eq!(of("GET", "/?Action=GetCallerIdentity", &[]).err().map(|refused| refused.0), Some(405));
    }

    #[test]
    fn a_body_that_is_too_long_is_refused_by_its_head() {
        let of_length =
            |length: &str| of("POST", "/", &[JSON_1_1, target("TrentService.Encrypt"), ("content-length", length)]);
        assert!(of_length("524288").is_ok());
        for length in ["524289", "18446744073709551615"] {
            assert_eq!(of_length(length).err(), Some((413, "RequestEntityTooLargeException", true)));
        }
    }
}
