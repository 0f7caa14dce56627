//! Whole requests, as they come over the wire.

mod properties;
mod refused;
mod vectors;

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request};

use super::date::Moment;
use super::*;

const KEY_ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const NOW: &str = "20150830T123600Z";
const KMS: Expected<'_> = Expected { region: "us-east-1", services: &["kms"] };

fn at(text: &str) -> SystemTime {
    Moment::parse(text).unwrap().time()
}

/// A request and its body.
type Whole = (Parts, Vec<u8>);

/// Reads a request as it is on the wire: lines with or without carriage returns, values that go on in the next line.
/// Nothing where the target is none that HTTP knows.
fn read(text: &str) -> Option<Whole> {
    let text = text.replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let head = head.replace("\n ", " ");
    let mut lines = head.lines();
    let (method, target) = lines.next()?.strip_suffix(" HTTP/1.1")?.split_once(' ')?;
    let (mut parts, ()) = Request::builder().method(method).uri(target).body(()).ok()?.into_parts();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let value = HeaderValue::from_bytes(value.trim().as_bytes()).ok()?;
        parts.headers.append(name.parse::<HeaderName>().ok()?, value);
    }
    Some((parts, body.as_bytes().to_vec()))
}

/// A call of KMS, not signed yet.
fn encrypt() -> Whole {
    read(
        "POST / HTTP/1.1\n\
         Host: kms.test:8443\n\
         Content-Type: application/x-amz-json-1.1\n\
         X-Amz-Target: TrentService.Encrypt\n\
         User-Agent: test/1.0\n\
         \n\
         {\"KeyId\":\"alias/a\",\"Plaintext\":\"AAEC\"}",
    )
    .unwrap()
}

/// Has AWS's SDK sign a request, as it does by itself.
fn signed((parts, body): Whole, secret: &str, region: &str, service: &str, time: SystemTime) -> Whole {
    let identity = Credentials::new(KEY_ID, secret, None, None, "test").into();
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let params =
        SigningParams::builder().identity(&identity).region(region).name(service).time(time).settings(settings);
    let headers = parts.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
    let target = parts.uri.to_string();
    let request = SignableRequest::new(parts.method.as_str(), target, headers, SignableBody::Bytes(&body)).unwrap();
    let (instructions, _) = sign(request, &params.build().unwrap().into()).unwrap().into_parts();
    let mut request = Request::from_parts(parts, ());
    instructions.apply_to_request_http1x(&mut request);
    (request.into_parts().0, body)
}

/// A call of KMS, signed as `KMS` expects it at `NOW`.
fn good() -> Whole {
    signed(encrypt(), SECRET, "us-east-1", "kms", at(NOW))
}

/// Both steps.
fn judged((parts, body): &Whole, secret: &str, expected: &Expected<'_>, now: SystemTime) -> Result<(), Refusal> {
    claim(parts, expected, now)?.verify(secret, parts, body)
}

fn set(whole: &mut Whole, name: &'static str, value: &str) {
    whole.0.headers.insert(name, HeaderValue::from_str(value).unwrap());
}

fn add(whole: &mut Whole, name: &'static str, value: &str) {
    whole.0.headers.append(name, HeaderValue::from_str(value).unwrap());
}

/// The Authorization header with something else in place of a part of it.
fn replace(whole: &mut Whole, part: &str, by: &str) {
    let header = whole.0.headers["authorization"].to_str().unwrap().to_owned();
    assert!(header.contains(part), "{header}");
    set(whole, "authorization", &header.replacen(part, by, 1));
}

#[test]
fn what_was_signed_is_taken_within_five_minutes() {
    let good = good();
    for now in ["20150830T123100Z", NOW, "20150830T124100Z"] {
        assert_eq!(judged(&good, SECRET, &KMS, at(now)), Ok(()), "{now}");
    }
    let claim = claim(&good.0, &KMS, at(NOW)).unwrap();
    assert_eq!((claim.access_key_id(), claim.service()), (KEY_ID, "kms"));
}

#[test]
fn nothing_to_sign_by_is_shown() {
    let good = good();
    let claim = claim(&good.0, &KMS, at(NOW)).unwrap();
    let header = good.0.headers["authorization"].to_str().unwrap();
    let (_, signature) = header.split_once("Signature=").unwrap();
    let refusal = claim.verify("another secret", &good.0, &good.1).unwrap_err();
    for text in [format!("{claim:?}"), format!("{refusal:?}"), refusal.to_string()] {
        assert!(!text.contains(signature) && !text.contains("another secret"), "{text}");
    }
    assert!(format!("{claim:?}").contains(KEY_ID));
}
