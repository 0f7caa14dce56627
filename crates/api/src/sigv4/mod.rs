//! Signatures of version 4 (SigV4), by which callers of AWS's interfaces say who they are.
//!
//! In two steps, because a body is read only for those who may be somebody: [`claim`] judges all that the headers
//! tell, and [`Claim::verify`] compares the signature when the body is there. Between the two the caller looks the
//! access key's secret up. Both are pure.
//!
//! **A signature says what was meant, whole.** The method, the path, the host, every `X-Amz-*` header and the body are
//! in it, each of them once; where the rules of AWS would let two requests have one signature (queries, paths with
//! dots, repeated headers of which one would be used), the other one is refused. A request that is sent again within
//! five minutes of its date is taken again, as AWS takes it.
//!
//! The canonical request and the HMAC are `aws-sigv4`'s (see `signature`): there is no second reading of those rules.
//!
//! Not taken, each with a sentence that says so: presigned URLs and any other query, payloads in chunks or unsigned,
//! SigV4A, `Date` in place of `X-Amz-Date`, session tokens. Nobody gives out session tokens here, so one that comes is
//! as wrong as one that AWS does not know, and gets AWS's answer to that.

mod authorization;
mod content;
mod date;
mod headers;
mod refusal;
mod signature;
mod target;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::SystemTime;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::header::DATE;
use http::request::Parts;
use http::{HeaderName, Uri};

pub use self::authorization::without_credential;
use self::authorization::{Authorization, Credential};
use self::content::Hex;
use self::date::Moment;
pub use self::refusal::Refusal;
use self::signature::Scope;

/// What a signature must be for.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The region that this daemon is.
    pub region: &'a str,
    /// The services that answer here, by the names that scopes have for them.
    pub services: &'a [&'a str],
}

/// Who a request says has signed it, and with what. Nothing of it is true before [`Claim::verify`].
pub struct Claim {
    access_key_id: String,
    region: String,
    service: String,
    moment: Moment,
    signed: Vec<HeaderName>,
    signature: Hex,
    content: Option<Hex>,
}

/// Judges what the headers tell, in the order in which AWS does: whether the request is signed, when, what of it, and
/// for what. Work and memory are bounded by the head's own length.
///
/// # Errors
///
/// What is wrong, for whoever sent it.
pub fn claim(head: &Parts, expected: &Expected<'_>, now: SystemTime) -> Result<Claim, Refusal> {
    not_presigned(&head.uri)?;
    let date = head.headers.get(headers::DATE);
    let authorization = Authorization::read(&head.headers, date.is_some() || head.headers.contains_key(DATE))?;
    let Some(date) = date else {
        let message = "A 'Date' header alone is not supported: sign an 'X-Amz-Date' header.";
        return Err(Refusal::incomplete(message));
    };
    let moment = date::read(date.as_bytes())?;
    moment.judge(Moment::of(now))?;
    let signed = headers::signed(authorization.signed_headers, &head.headers)?;
    target::judge(&head.uri, &head.headers)?;
    let credential = Credential::parse(authorization.credential)?;
    credential.judge(expected, moment)?;
    if head.headers.contains_key(headers::SECURITY_TOKEN) {
        return Err(Refusal::unknown_key());
    }
    let content = content::claimed(&head.headers)?;
    let signature = content::hex(authorization.signature.as_bytes()).ok_or_else(Refusal::mismatch)?;
    Ok(Claim {
        access_key_id: credential.access_key_id.to_owned(),
        region: credential.region.to_owned(),
        service: credential.service.to_owned(),
        moment,
        signed,
        signature,
        content,
    })
}

/// Refuses a presigned URL, whatever else may be wrong with the request: most are fetched by GET.
///
/// # Errors
///
/// It is one.
pub fn not_presigned(target: &Uri) -> Result<(), Refusal> {
    if target::is_presigned(target) {
        let message = "Presigned URLs are not supported: sign the headers of a POST request.";
        return Err(Refusal::incomplete(message));
    }
    Ok(())
}

/// With which access key a request claims to be signed, where its headers name what looks like one: for whoever tells of a
/// request that was refused. It is nobody's before [`Claim::verify`], and what looks otherwise may be a secret.
#[must_use]
pub fn claimed_key(head: &Parts) -> Option<String> {
    let authorization = Authorization::read(&head.headers, true).ok()?;
    let credential = Credential::parse(authorization.credential).ok()?;
    credential.looks_like_a_key().then(|| credential.access_key_id.to_owned())
}

impl Claim {
    /// The access key whose secret is said to have signed.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// Which of the expected services the signature is for.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Whether the secret signed this head, which must be the one that was judged, and this body.
    ///
    /// # Errors
    ///
    /// It did not. What would have been right is told to nobody.
    pub fn verify(&self, secret: &str, head: &Parts, body: &[u8]) -> Result<(), Refusal> {
        let hash = content::hash(body);
        if self.content.is_some_and(|claimed| claimed != hash.as_bytes()) {
            return Err(content::other_body());
        }
        let scope = Scope {
            access_key_id: &self.access_key_id,
            region: &self.region,
            service: &self.service,
            time: self.moment.time(),
        };
        let right = signature::of(&scope, secret, head, &self.signed, hash).ok_or_else(Refusal::mismatch)?;
        verify_slices_are_equal(right.as_bytes(), &self.signature).map_err(|_| Refusal::mismatch())
    }
}

/// Without the signature: whoever has that can send the request once more.
impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("access_key_id", &self.access_key_id)
            .field("region", &self.region)
            .field("service", &self.service)
            .field("date", &format_args!("{}", self.moment))
            .finish_non_exhaustive()
    }
}
