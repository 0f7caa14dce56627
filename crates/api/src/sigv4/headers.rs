//! Which headers a signature covers, and which it must.

use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName};

use super::refusal::{Refusal, shown};

/// What says when a request was signed.
pub(super) const DATE: HeaderName = HeaderName::from_static("x-amz-date");
/// What says which body was signed.
pub(super) const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
/// What goes with keys that were lent for a while.
pub(super) const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
/// What all of AWS's own begin with.
const AWS: &str = "x-amz-";
/// What SDKs say of their attempts with. Not all of them sign it.
const SDK: [&str; 2] = ["amz-sdk-", "aws-sdk-"];

/// So many headers are signed at most. SDKs sign ten.
const MOST: usize = 64;
/// And so many bytes of values.
const MOST_BYTES: usize = 16 * 1024;

/// Whoever reads one of these must read what was signed, so there is one of it.
fn stands_alone(name: &HeaderName) -> bool {
    let of_sdk = |name: &HeaderName| SDK.iter().any(|beginning| name.as_str().starts_with(beginning));
    is_aws(name) || of_sdk(name) || [HOST, CONTENT_TYPE].contains(name)
}

fn is_aws(name: &HeaderName) -> bool {
    name.as_str().starts_with(AWS)
}

/// The headers that a signature covers, by `SignedHeaders`. Ascending, each once.
pub(super) fn signed(listed: &str, headers: &HeaderMap) -> Result<Vec<HeaderName>, Refusal> {
    let signed = parse(listed)?;
    for name in [HOST, DATE] {
        if signed.binary_search_by(|one| one.as_str().cmp(name.as_str())).is_err() {
            let name = if name == HOST { "'Host' or ':authority'" } else { "'X-Amz-Date'" };
            return Err(Refusal::invalid(format!("{name} must be a 'SignedHeader' in the AWS Authorization.")));
        }
    }
    let mut bytes = 0;
    for name in &signed {
        let mut found = false;
        for value in headers.get_all(name) {
            found = true;
            bytes += value.len();
            if value.to_str().is_err() {
                let name = shown(name.as_str());
                let message = format!("The signed header '{name}' has other characters than printable ASCII.");
                return Err(Refusal::invalid(message));
            }
        }
        if !found {
            let name = shown(name.as_str());
            let message = format!("'{name}' is a 'SignedHeader' in the AWS Authorization, and the request has none.");
            return Err(Refusal::invalid(message));
        }
    }
    if bytes > MOST_BYTES {
        return Err(Refusal::invalid(format!("The signed headers have more than {MOST_BYTES} bytes.")));
    }
    for name in headers.keys() {
        if stands_alone(name) && headers.get_all(name).iter().nth(1).is_some() {
            let name = shown(name.as_str());
            return Err(Refusal::invalid(format!("The request has more than one '{name}' header.")));
        }
        // Whoever could add one on the way would say things in the signer's name.
        if is_aws(name) && signed.binary_search_by(|one| one.as_str().cmp(name.as_str())).is_err() {
            let name = shown(name.as_str());
            return Err(Refusal::invalid(format!("'{name}' must be a 'SignedHeader' in the AWS Authorization.")));
        }
    }
    Ok(signed)
}

/// Reads `content-type;host;x-amz-date`: lower case, ascending, each once, as signers have to write it.
fn parse(listed: &str) -> Result<Vec<HeaderName>, Refusal> {
    if listed.split(';').nth(MOST).is_some() {
        return Err(Refusal::incomplete(format!("'SignedHeaders' has more than {MOST} headers.")));
    }
    let mut signed: Vec<HeaderName> = Vec::with_capacity(8);
    for text in listed.split(';') {
        let Ok(name) = HeaderName::from_lowercase(text.as_bytes()) else {
            let message = format!("'SignedHeaders' has what is no header's name in lower case: '{}'.", shown(text));
            return Err(Refusal::incomplete(message));
        };
        if name == AUTHORIZATION {
            return Err(Refusal::incomplete("'SignedHeaders' has the header that the signature is in."));
        }
        if signed.last().is_some_and(|last| last.as_str() >= text) {
            return Err(Refusal::incomplete("'SignedHeaders' must be sorted, and name each header once."));
        }
        signed.push(name);
    }
    Ok(signed)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    const USUAL: &[(&str, &str)] = &[
        ("host", "kms"),
        ("x-amz-date", "20150830T123600Z"),
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", "TrentService.Encrypt"),
        ("user-agent", "a"),
    ];

    #[test]
    fn lists_are_read() {
        for list in ["host;x-amz-date;x-amz-target", "content-type;host;user-agent;x-amz-date;x-amz-target"] {
            let names = signed(list, &headers(USUAL)).unwrap();
            assert_eq!(names.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(";"), list);
        }
    }

    #[test]
    fn lists_that_no_signer_writes_are_refused() {
        for (list, says) in [
            ("Host;x-amz-date", "lower case: 'Host'"),
            ("host;X-Amz-Date", "lower case: 'X-Amz-Date'"),
            ("host;;x-amz-date", "lower case: ''"),
            ("host;x-amz-date;", "lower case: ''"),
            ("host; x-amz-date", "lower case: ' x-amz-date'"),
            ("host:x;x-amz-date", "lower case: 'host:x'"),
            (":authority;x-amz-date", "lower case: ':authority'"),
            ("x-amz-date;host", "must be sorted"),
            ("host;host;x-amz-date", "must be sorted, and name each header once"),
            ("authorization;host;x-amz-date", "the header that the signature is in"),
        ] {
            let refusal = signed(list, &headers(USUAL)).unwrap_err();
            assert_eq!(refusal.name(), "IncompleteSignatureException", "{list}");
            assert!(refusal.to_string().contains(says), "{list}: {refusal}");
        }
        let many: Vec<String> = (0..=MOST).map(|index| format!("a{index:03}")).collect();
        assert!(parse(&many.join(";")).unwrap_err().to_string().contains("more than 64 headers"));
        assert_eq!(parse(&many[1..].join(";")).unwrap().len(), MOST);
    }

    #[test]
    fn what_must_be_signed_is_signed() {
        for (list, says) in [
            ("x-amz-date;x-amz-target", "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."),
            ("host;x-amz-target", "'X-Amz-Date' must be a 'SignedHeader' in the AWS Authorization."),
            ("host;x-amz-date", "'x-amz-target' must be a 'SignedHeader' in the AWS Authorization."),
            (
                "host;x-absent;x-amz-date;x-amz-target",
                "'x-absent' is a 'SignedHeader' in the AWS Authorization, and the request has none.",
            ),
        ] {
            let refusal = signed(list, &headers(USUAL)).unwrap_err();
            assert_eq!((refusal.name(), refusal.to_string().as_str()), ("InvalidSignatureException", says));
        }
    }

    #[test]
    fn what_is_used_once_comes_once() {
        let list = "host;user-agent;x-amz-date;x-amz-target";
        let ids = [("amz-sdk-invocation-id", "1"), ("aws-sdk-invocation-id", "1")];
        let repeatable = ["host", "content-type", "x-amz-date", "x-amz-target", ids[0].0, ids[1].0];
        for repeated in repeatable {
            let twice = headers(&[USUAL, &ids, &[(repeated, "other")]].concat());
            let refusal = signed(list, &twice).unwrap_err();
            assert_eq!(refusal.name(), "InvalidSignatureException");
            assert_eq!(refusal.to_string(), format!("The request has more than one '{repeated}' header."));
        }
        // Signed in the order in which they come, as one list.
        assert!(signed(list, &headers(&[USUAL, &[("user-agent", "b")]].concat())).is_ok());
    }

    #[test]
    fn what_is_signed_is_short_and_printable() {
        let list = "host;user-agent;x-amz-date;x-amz-target";
        let long = headers(&[USUAL, &[("user-agent", &"a".repeat(MOST_BYTES))]].concat());
        assert!(signed(list, &long).unwrap_err().to_string().contains("more than 16384 bytes"));
        let foreign = headers(&[USUAL, &[("user-agent", "é")]].concat());
        assert!(signed(list, &foreign).unwrap_err().to_string().contains("'user-agent' has other characters"));
        assert!(signed("host;x-amz-date;x-amz-target", &foreign).is_ok());
        let mut named = headers(USUAL);
        named.insert(
            format!("x-amz-{}", "a".repeat(5_000)).parse::<HeaderName>().unwrap(),
            HeaderValue::from_static(""),
        );
        let told = signed("host;x-amz-date;x-amz-target", &named).unwrap_err().to_string();
        assert!(told.len() < 300 && told.contains("a…' must be a 'SignedHeader'"), "{told}");
    }

    proptest! {
        #[test]
        fn any_list_is_survived(list in "[-a-zA-Z;:_ é]{0,80}") {
            if let Ok(names) = parse(&list) {
                prop_assert!(names.is_sorted_by(|one, next| one.as_str() < next.as_str()));
                prop_assert_eq!(names.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(";"), list);
            }
        }
    }
}
