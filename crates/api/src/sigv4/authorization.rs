//! The `Authorization` header, and the credential in it.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::Expected;
use super::date::Moment;
use super::refusal::{Refusal, shown};

/// Longest header, in bytes. What SDKs send has some 250.
const LONGEST: usize = 4096;
/// Longest name of a key. AWS's own are at most this long.
const LONGEST_KEY_ID: usize = 128;
/// What every scheme of AWS begins with.
const FAMILY: &str = "AWS4-";
/// The one that is verified here.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The one with elliptic curves, SigV4A.
const ASYMMETRIC: &str = "AWS4-ECDSA-P256-SHA256";
/// How the sentence about a credential that is none begins, before it repeats it.
const NO_CREDENTIAL: &str =
    "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term";
/// What every credential ends with.
const TERMINATOR: &str = "aws4_request";

/// What the header says, each part present and not empty, and not looked at yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authorization<'a> {
    pub(super) credential: &'a str,
    pub(super) signed_headers: &'a str,
    pub(super) signature: &'a str,
}

impl<'a> Authorization<'a> {
    /// Reads it. `dated`: whether the request says when it was signed; AWS tells in one sentence all that is missing.
    pub(super) fn read(headers: &'a HeaderMap, dated: bool) -> Result<Self, Refusal> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or_else(Refusal::missing)?.as_bytes();
        if values.next().is_some() {
            return Err(Refusal::incomplete("The request has more than one Authorization header."));
        }
        if !value.starts_with(FAMILY.as_bytes()) {
            // To AWS another scheme is none.
            return Err(Refusal::missing());
        }
        if value.len() > LONGEST {
            return Err(Refusal::incomplete(format!("Authorization header is longer than {LONGEST} bytes.")));
        }
        let Some(text) = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|c| matches!(c, b' '..=b'~')))
        else {
            return Err(Refusal::incomplete("Authorization header has other characters than printable ASCII."));
        };
        let (algorithm, parts) = text.split_once(' ').unwrap_or((text, ""));
        match algorithm {
            ALGORITHM => Self::parse(parts, dated, text),
            ASYMMETRIC => Err(Refusal::incomplete(format!(
                "Unsupported AWS 'algorithm': '{ASYMMETRIC}'. SigV4A is not supported: sign with {ALGORITHM}."
            ))),
            other => Err(Refusal::incomplete(format!("Unsupported AWS 'algorithm': '{}'.", shown(other)))),
        }
    }

    /// Reads `Credential=…, SignedHeaders=…, Signature=…`: in any order and with or without blanks, as AWS takes them
    /// and some clients send them, each once and nothing else.
    fn parse(parts: &'a str, dated: bool, whole: &str) -> Result<Self, Refusal> {
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        let parts = parts.trim_matches(' ');
        for part in parts.split(',').filter(|_| !parts.is_empty()) {
            let Some((name, value)) = part.trim_matches(' ').split_once('=') else {
                let message = "Invalid key=value pair (missing equal-sign) in Authorization header (hashed with \
                               SHA-256 and encoded with Base64)";
                return Err(Refusal::incomplete(format!("{message}: '{}'.", hashed(whole))));
            };
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                other => {
                    let message = format!("Authorization header has an unknown parameter: '{}'.", shown(other));
                    return Err(Refusal::incomplete(message));
                }
            };
            if place.replace(value).is_some() {
                return Err(Refusal::incomplete(format!("Authorization header has more than one '{name}' parameter.")));
            }
        }
        let given = |part: Option<&'a str>| part.filter(|value| !value.is_empty());
        match (given(credential), given(signed_headers), given(signature)) {
            (Some(credential), Some(signed_headers), Some(signature)) if dated => {
                Ok(Self { credential, signed_headers, signature })
            }
            (credential, signed_headers, signature) => {
                let mut message = String::new();
                let named = [("Credential", credential), ("Signature", signature), ("SignedHeaders", signed_headers)];
                for (name, _) in named.iter().filter(|(_, value)| value.is_none()) {
                    message += &format!("Authorization header requires '{name}' parameter. ");
                }
                if !dated {
                    message += "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ";
                }
                message += "(Hashed with SHA-256 and encoded with Base64) Authorization=";
                Err(Refusal::incomplete(message + &hashed(whole)))
            }
        }
    }
}

/// How AWS names a header that it doesn't want to repeat.
fn hashed(header: &str) -> String {
    STANDARD.encode(digest(&SHA256, header.as_bytes()))
}

/// `KEY/DATE/REGION/SERVICE/aws4_request`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Credential<'a> {
    pub(super) access_key_id: &'a str,
    date: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    terminator: &'a str,
}

impl<'a> Credential<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Refusal> {
        let mut elements = text.split('/');
        let mut next = || elements.next();
        match (next(), next(), next(), next(), next(), next()) {
            (Some(access_key_id), Some(date), Some(region), Some(service), Some(terminator), None) => {
                Ok(Self { access_key_id, date, region, service, terminator })
            }
            _ => Err(Refusal::incomplete(format!("{NO_CREDENTIAL}, got '{}'", shown(text)))),
        }
    }

    /// Whether it is for this place and the moment that the request says; AWS tells all that is wrong at once. What is
    /// no name of a key is nobody's key.
    pub(super) fn judge(&self, expected: &Expected<'_>, moment: Moment) -> Result<(), Refusal> {
        let mut wrong = Vec::new();
        if self.region != expected.region {
            wrong.push(format!("Credential should be scoped to a valid region, not '{}'. ", shown(self.region)));
        }
        if !expected.services.contains(&self.service) {
            let services = expected.services.join("' or '");
            wrong.push(format!("Credential should be scoped to correct service: '{services}'. "));
        }
        if self.terminator != TERMINATOR {
            let not = shown(self.terminator);
            wrong.push(format!("Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{not}'. "));
        }
        let at = moment.to_string();
        let day = at.split('T').next().unwrap_or_default();
        if self.date != day {
            let not = shown(self.date);
            wrong.push(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{not}' != \
                 '{day}', from '{at}'."
            ));
        }
        if !wrong.is_empty() {
            return Err(Refusal::invalid(wrong.concat()));
        }
        if self.is_legal() { Ok(()) } else { Err(Refusal::unknown_key()) }
    }

    /// Whether it names a key as all that are made are named. What does not may be the secret, where somebody has taken the one for
    /// the other: those have small letters.
    pub(super) fn looks_like_a_key(&self) -> bool {
        self.is_legal() && !self.access_key_id.bytes().any(|c| c.is_ascii_lowercase())
    }

    /// Whether a key may have this name.
    pub(super) fn is_legal(&self) -> bool {
        let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        (1..=LONGEST_KEY_ID).contains(&self.access_key_id.len()) && self.access_key_id.bytes().all(word)
    }
}

/// What a refusal says, as others may read it than whoever has sent the request: without a credential.
#[must_use]
pub fn without_credential(text: &str) -> &str {
    if text.starts_with(NO_CREDENTIAL) { NO_CREDENTIAL } else { text }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const WHOLE: &str = "AWS4-HMAC-SHA256 Credential=K/20150830/us-east-1/kms/aws4_request, \
                         SignedHeaders=host;x-amz-date, Signature=5fa0";

    fn headers(values: &[&[u8]]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_bytes(value).unwrap())).collect()
    }

    fn refusal(value: &str) -> (&'static str, String) {
        let headers = headers(&[value.as_bytes()]);
        let refusal = Authorization::read(&headers, true).unwrap_err();
        (refusal.name(), refusal.to_string())
    }

    #[test]
    fn what_clients_write_is_read() {
        let spaced = WHOLE.replace(", ", " ,  ");
        let other_order = "AWS4-HMAC-SHA256 Signature=5fa0, SignedHeaders=host;x-amz-date, \
                           Credential=K/20150830/us-east-1/kms/aws4_request";
        for header in [WHOLE, &WHOLE.replace(", ", ","), &spaced, other_order] {
            let headers = headers(&[header.as_bytes()]);
            let read = Authorization::read(&headers, true).unwrap();
            assert_eq!(
                read,
                Authorization {
                    credential: "K/20150830/us-east-1/kms/aws4_request",
                    signed_headers: "host;x-amz-date",
                    signature: "5fa0"
                },
                "{header}"
            );
        }
    }

    #[test]
    fn what_is_not_signed_by_a_scheme_of_aws_is_not_signed() {
        let name = "MissingAuthenticationTokenException";
        assert_eq!(Authorization::read(&HeaderMap::new(), false).unwrap_err().name(), name);
        for other in ["", "Bearer abc", "Basic Zm9vOmJhcg==", "AWS AKID:c2ln", "aws4-hmac-sha256 Credential=a"] {
            assert_eq!(refusal(other), (name, "Missing Authentication Token".to_owned()), "{other}");
        }
    }

    #[test]
    fn other_algorithms_are_refused_by_name() {
        let asymmetric = WHOLE.replace(ALGORITHM, ASYMMETRIC).replace("us-east-1/", "");
        assert_eq!(
            refusal(&asymmetric),
            (
                "IncompleteSignatureException",
                "Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256'. SigV4A is not supported: sign with \
                 AWS4-HMAC-SHA256."
                    .to_owned()
            )
        );
        for algorithm in ["AWS4-HMAC-SHA512", "AWS4-HMAC-SHA256-PAYLOAD", "AWS4-"] {
            let (name, text) = refusal(&WHOLE.replace(ALGORITHM, algorithm));
            assert_eq!(name, "IncompleteSignatureException");
            assert_eq!(text, format!("Unsupported AWS 'algorithm': '{algorithm}'."));
        }
    }

    #[test]
    fn all_that_is_missing_is_told_at_once() {
        let needs = |names: &[&str]| {
            names.iter().map(|name| format!("Authorization header requires '{name}' parameter. ")).collect::<String>()
        };
        for (header, missing) in [
            ("AWS4-HMAC-SHA256", vec!["Credential", "Signature", "SignedHeaders"]),
            ("AWS4-HMAC-SHA256 ", vec!["Credential", "Signature", "SignedHeaders"]),
            ("AWS4-HMAC-SHA256 Signature=a", vec!["Credential", "SignedHeaders"]),
            ("AWS4-HMAC-SHA256 Credential=, Signature=, SignedHeaders=host", vec!["Credential", "Signature"]),
        ] {
            let hidden = format!("(Hashed with SHA-256 and encoded with Base64) Authorization={}", hashed(header));
            assert_eq!(refusal(header), ("IncompleteSignatureException", needs(&missing) + &hidden), "{header}");
        }
        let undated = Authorization::read(&headers(&[WHOLE.as_bytes()]), false).unwrap_err();
        assert!(
            undated.to_string().starts_with(
                "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. (Hashed with"
            ),
            "{undated}"
        );
        // Base64 of what sha256sum says of it.
        assert_eq!(hashed("AWS4-HMAC-SHA256"), "YI2YWea8FSxnksZL2ETHbs5elHm9HQufxTLK0W0ffV0=");
    }

    #[test]
    fn every_part_is_there_once_and_nothing_else() {
        for (header, says) in [
            (WHOLE.replace("Signature=5fa0", "Signature"), "Invalid key=value pair (missing equal-sign) in"),
            (format!("{WHOLE},"), "Invalid key=value pair (missing equal-sign) in"),
            (format!("{WHOLE}, Signature=00"), "more than one 'Signature' parameter"),
            (format!("{WHOLE}, Signature="), "more than one 'Signature' parameter"),
            (format!("{WHOLE}, Credential=a/b/c/d/e"), "more than one 'Credential' parameter"),
            (format!("{WHOLE}, Expires=3"), "unknown parameter: 'Expires'"),
            (WHOLE.replace("Credential", "credential"), "unknown parameter: 'credential'"),
            (WHOLE.replace("Credential=", "Credential ="), "unknown parameter: 'Credential '"),
            (WHOLE.replace(' ', "\t"), "other characters than printable ASCII"),
            (WHOLE.replace("5fa0", "5faä"), "other characters than printable ASCII"),
            (format!("{WHOLE}{}", "0".repeat(LONGEST)), "longer than 4096 bytes"),
        ] {
            let (name, text) = refusal(&header);
            assert_eq!(name, "IncompleteSignatureException");
            assert!(text.contains(says), "{header}: {text}");
        }
        let twice = headers(&[WHOLE.as_bytes(), WHOLE.as_bytes()]);
        let refusal = Authorization::read(&twice, true).unwrap_err();
        assert_eq!(refusal.to_string(), "The request has more than one Authorization header.");
    }

    #[test]
    fn credentials_have_five_elements() {
        for text in ["", "a", "a/b/c/d", "a/b/c/d/e/f", "a/b/c/d/e/", "key/with/20150830/us-east-1/kms/aws4_request"] {
            let refusal = Credential::parse(text).unwrap_err();
            let told = format!(
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{text}'"
            );
            assert_eq!((refusal.name(), refusal.to_string()), ("IncompleteSignatureException", told));
        }
        let long = Credential::parse(&"a".repeat(4000)).unwrap_err().to_string();
        assert!(long.len() < 300 && long.ends_with("…'"), "{long}");
    }

    #[test]
    fn scopes_are_for_one_region_some_services_and_one_day() {
        let moment = Moment::parse("20150830T123600Z").unwrap();
        let expected = Expected { region: "us-east-1", services: &["kms", "sts"] };
        let judge = |text: &str| Credential::parse(text).unwrap().judge(&expected, moment);
        for good in ["AKID/20150830/us-east-1/kms/aws4_request", "a_1/20150830/us-east-1/sts/aws4_request"] {
            assert_eq!(judge(good), Ok(()), "{good}");
        }
        let region = "Credential should be scoped to a valid region, not 'us-west-1'. ";
        let service = "Credential should be scoped to correct service: 'kms' or 'sts'. ";
        let terminator = "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5_request'. ";
        let date = "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
                    '20150831' != '20150830', from '20150830T123600Z'.";
        for (text, told) in [
            ("AKID/20150830/us-west-1/kms/aws4_request", region.to_owned()),
            ("AKID/20150830/us-east-1/s3/aws4_request", service.to_owned()),
            ("AKID/20150830/us-east-1/KMS/aws4_request", service.to_owned()),
            ("AKID/20150830/us-east-1/kms/aws5_request", terminator.to_owned()),
            ("AKID/20150831/us-east-1/kms/aws4_request", date.to_owned()),
            ("AKID/20150831/us-west-1/s3/aws5_request", [region, service, terminator, date].concat()),
        ] {
            let refusal = judge(text).unwrap_err();
            assert_eq!((refusal.name(), refusal.to_string()), ("InvalidSignatureException", told), "{text}");
        }
        for nobody in ["", "AK-ID", "AK ID", "AK.ID", &"A".repeat(129)] {
            let refusal = judge(&format!("{nobody}/20150830/us-east-1/kms/aws4_request")).unwrap_err();
            assert_eq!(refusal, Refusal::unknown_key(), "{nobody:?}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_survived(value: Vec<u8>, dated: bool) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
                prop_assert!(Authorization::read(&headers, dated).is_err());
            }
        }

        #[test]
        fn anything_like_it_is_survived(rest in "[CredntialSghuHs=/,; a-z0-9]{0,120}") {
            let headers = headers(&[format!("{ALGORITHM} {rest}").as_bytes()]);
            if let Ok(read) = Authorization::read(&headers, true) {
                prop_assert!(!read.credential.is_empty() && !read.signature.is_empty());
                prop_assert!(read.signed_headers.len() <= LONGEST);
            }
        }
    }
}
