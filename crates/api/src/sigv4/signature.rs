//! The signature that a secret makes of a request: AWS's own signer signs again what was signed.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderName};

/// Whose signature, for what, and when.
pub(super) struct Scope<'a> {
    pub(super) access_key_id: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    pub(super) time: SystemTime,
}

/// Signs the request's method, target and `signed` headers, with a body of this SHA-256. Nothing where a header is not
/// there or not printable ASCII: such a request has no signature.
///
/// The signer is handed these headers alone, and with a `Host` among them looks for none in the URI. What it adds by
/// itself is `X-Amz-Date`, of the scope's time. Its copy of the secret is wiped when the credentials are dropped. But its
/// derivation of the signing key leaves `AWS4` and the secret in memory that it gives back as it is, and states of HMAC
/// and the signature itself; it has no setting for that.
///
/// It traces neither secret nor signature, but those headers and the body's hash, from which a short plaintext could be
/// guessed: `telemetry` lets no line of it into the log.
pub(super) fn of(scope: &Scope<'_>, secret: &str, head: &Parts, signed: &[HeaderName], hash: String) -> Option<String> {
    if !head.headers.contains_key(HOST) {
        // The signer would take the host from the URI then, or panic.
        return None;
    }
    let identity = Credentials::new(scope.access_key_id, secret, None, None, "access-key").into();
    let mut settings = SigningSettings::default();
    // It leaves some headers out on its own account, which are signed here if their signer says so.
    settings.excluded_headers = Some(Vec::new());
    let params = SigningParams::builder()
        .identity(&identity)
        .region(scope.region)
        .name(scope.service)
        .time(scope.time)
        .settings(settings)
        .build()
        .ok()?
        .into();
    let target = head.uri.path_and_query()?.as_str();
    let headers = printable(&head.headers, signed)?;
    let body = SignableBody::Precomputed(hash);
    let request = SignableRequest::new(head.method.as_str(), target, headers.into_iter(), body).ok()?;
    let (_, signature) = sign(request, &params).ok()?.into_parts();
    Some(signature)
}

/// All values of some headers, in the order in which they came.
fn printable<'a>(headers: &'a HeaderMap, names: &'a [HeaderName]) -> Option<Vec<(&'a str, &'a str)>> {
    let mut pairs = Vec::with_capacity(names.len());
    for name in names {
        for value in headers.get_all(name) {
            pairs.push((name.as_str(), value.to_str().ok()?));
        }
    }
    Some(pairs)
}
