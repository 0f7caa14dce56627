//! Which body a signature covers: the whole one, by its SHA-256, and no other kind.

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use super::headers::CONTENT_SHA256;
use super::refusal::{Refusal, shown};

/// Digits of a SHA-256, and of a signature.
pub(super) type Hex = [u8; 64];

/// Reads 64 digits, as signers write them: in lower case.
pub(super) fn hex(text: &[u8]) -> Option<Hex> {
    let digits: Hex = text.try_into().ok()?;
    digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')).then_some(digits)
}

/// The SHA-256 of a body.
pub(super) fn hash(body: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digest = digest(&SHA256, body);
    digest
        .as_ref()
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|four| char::from(DIGITS[usize::from(four)]))
        .collect()
}

/// What `X-Amz-Content-Sha256` says, where there is one. It is signed, as everything of AWS's is.
pub(super) fn claimed(headers: &HeaderMap) -> Result<Option<Hex>, Refusal> {
    let chunked = |coding: &[u8]| coding.windows(11).any(|part| part.eq_ignore_ascii_case(b"aws-chunked"));
    if headers.get_all(CONTENT_ENCODING).iter().any(|value| chunked(value.as_bytes())) {
        return Err(unsupported("aws-chunked"));
    }
    let Some(value) = headers.get(CONTENT_SHA256).map(|value| value.as_bytes()) else { return Ok(None) };
    if value == b"UNSIGNED-PAYLOAD" || value.starts_with(b"STREAMING-") {
        return Err(unsupported(&shown(value)));
    }
    hex(value).map(Some).ok_or_else(other_body)
}

fn unsupported(kind: &str) -> Refusal {
    Refusal::invalid(format!("Payloads of the kind '{kind}' are not supported: sign the SHA-256 of the whole body."))
}

/// The body is not the one that the header names.
pub(super) fn other_body() -> Refusal {
    Refusal::invalid("The provided 'x-amz-content-sha256' header does not match what was computed.")
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn claimed_by(name: HeaderName, value: &str) -> Result<Option<Hex>, Refusal> {
        claimed(&HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())]))
    }

    #[test]
    fn bodies_are_hashed() {
        assert_eq!(hash(b""), EMPTY);
        assert_eq!(hash(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn hashes_are_64_digits_in_lower_case() {
        assert_eq!(claimed(&HeaderMap::new()), Ok(None));
        assert_eq!(claimed_by(CONTENT_SHA256, EMPTY), Ok(hex(EMPTY.as_bytes())));
        let upper = EMPTY.to_uppercase();
        for other in ["", "0", &EMPTY[1..], &upper, &format!("{EMPTY}0"), &EMPTY.replace('e', "g"), "required"] {
            assert_eq!(claimed_by(CONTENT_SHA256, other), Err(other_body()), "{other}");
        }
    }

    #[test]
    fn other_kinds_of_payload_are_refused_by_name() {
        for (name, value, kind) in [
            (CONTENT_SHA256, "UNSIGNED-PAYLOAD", "UNSIGNED-PAYLOAD"),
            (CONTENT_SHA256, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
            (CONTENT_SHA256, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            (CONTENT_ENCODING, "gzip, AWS-chunked", "aws-chunked"),
        ] {
            let refusal = claimed_by(name, value).unwrap_err();
            assert_eq!(refusal.name(), "InvalidSignatureException");
            assert!(
                refusal.to_string().starts_with(&format!("Payloads of the kind '{kind}' are not supp")),
                "{refusal}"
            );
        }
    }
}
