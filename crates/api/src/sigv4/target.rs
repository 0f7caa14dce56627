//! The request's target: a path as it is signed, and no query.

use http::Uri;
use http::header::{HOST, HeaderMap};

use super::refusal::Refusal;

/// Longest path, in bytes. KMS has `/`; paths of an external key store's proxy have 256 at most.
const LONGEST: usize = 1024;

/// Whether a query holds a signature: a presigned URL.
pub(super) fn is_presigned(target: &Uri) -> bool {
    let of_aws = |pair: &str| pair.get(..6).is_some_and(|beginning| beginning.eq_ignore_ascii_case("x-amz-"));
    target.query().is_some_and(|query| query.split('&').any(of_aws))
}

/// Refuses whatever would be signed as something else than it says. The canonical request has the path without `.`,
/// `..` and empty segments, and the query decoded and sorted: what was signed for one target would hold for others.
/// Nobody who speaks to these services sends either.
pub(super) fn judge(target: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    if target.query().is_some() {
        return Err(Refusal::invalid("The request has a query string: parameters belong in the body."));
    }
    let path = target.path();
    if path.len() > LONGEST {
        return Err(Refusal::invalid(format!("The path has more than {LONGEST} bytes.")));
    }
    let Some(segments) = path.strip_prefix('/') else {
        return Err(Refusal::invalid("The request has no path."));
    };
    let mut segments = segments.split('/');
    let last = segments.next_back().unwrap_or_default();
    let dots = |segment: &str| matches!(segment, "." | "..");
    if dots(last) || segments.any(|segment| segment.is_empty() || dots(segment)) {
        return Err(Refusal::invalid("The path must be in its normal form, without '.', '..' and empty segments."));
    }
    // Proxies are asked by whole URLs, and the host in those goes before the header; only that one is signed.
    match target.authority() {
        Some(authority) if headers.get(HOST).is_none_or(|host| host.as_bytes() != authority.as_str().as_bytes()) => {
            Err(Refusal::invalid("The request's URL names another host than its 'Host' header."))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn judged(target: &str) -> Result<(), Refusal> {
        judge(&target.parse().unwrap(), &HeaderMap::from_iter([(HOST, HeaderValue::from_static("kms.test:8443"))]))
    }

    #[test]
    fn normal_paths_without_a_query_are_taken() {
        let longest = format!("/{}", "a".repeat(LONGEST - 1));
        for target in
            ["/", "/kms/xks/v1/keys/a.b..c/encrypt", "/a/", "/%2E%2e/%2f", "/ሴ", "https://kms.test:8443/", &longest]
        {
            assert_eq!(judged(target), Ok(()), "{target}");
        }
    }

    #[test]
    fn what_would_be_signed_as_something_else_is_refused() {
        let long = format!("/{}", "a".repeat(LONGEST));
        for (target, says) in [
            ("/?", "a query string"),
            ("/?Action=GetCallerIdentity", "a query string"),
            ("//", "normal form"),
            ("/a//b", "normal form"),
            ("/a//", "normal form"),
            ("/.", "normal form"),
            ("/..", "normal form"),
            ("/./a", "normal form"),
            ("/a/../b", "normal form"),
            ("/a/..", "normal form"),
            ("*", "no path"),
            (&long, "more than 1024 bytes"),
            ("https://other.test/", "another host"),
            ("https://kms.test/", "another host"),
            ("https://user@kms.test:8443/", "another host"),
        ] {
            let refusal = judged(target).unwrap_err();
            assert_eq!(refusal.name(), "InvalidSignatureException");
            assert!(refusal.to_string().contains(says), "{target}: {refusal}");
        }
        assert!(judge(&"https://kms.test/".parse().unwrap(), &HeaderMap::new()).is_err());
    }

    #[test]
    fn presigned_urls_are_known() {
        for target in ["/?X-Amz-Algorithm=AWS4-HMAC-SHA256", "/?a=b&x-amz-signature=00", "/?X-Amz-Date"] {
            assert!(is_presigned(&target.parse().unwrap()), "{target}");
        }
        for target in ["/", "/?", "/X-Amz-Date", "/?Action=X-Amz-Date", "/?a=b&c", "/?X-Amzn=1", "/?ééé"] {
            assert!(!is_presigned(&target.parse().unwrap()), "{target}");
        }
    }
}
