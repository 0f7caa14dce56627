//! Requests are signed by callers, and what they say about it is read before anybody knows who they are. Any head is
//! taken or refused; what is taken is for what was expected, and says nothing twice; and what the secret is found to have
//! signed is one of the seeds, in all that is used of a request.
#![no_main]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use api::sigv4::{Expected, claim};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use libfuzzer_sys::fuzz_target;

/// Requests of `tests/vectors/sigv4-clients.json`.
const SEEDS: [&[u8]; 5] = [
    include_bytes!("../seeds/sigv4/botocore.http"),
    include_bytes!("../seeds/sigv4/curl.http"),
    include_bytes!("../seeds/sigv4/javascript.http"),
    include_bytes!("../seeds/sigv4/sts.http"),
    include_bytes!("../seeds/sigv4/xks.http"),
];
/// What they are signed with, and about when.
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const NOW: Duration = Duration::from_secs(1_795_991_949);
const SERVICES: &[&str] = &["kms", "sts", "kms-xks-proxy"];

fuzz_target!(|bytes: &[u8]| {
    let Some((head, body)) = read(bytes) else { return };
    let expected = Expected { region: "eu-central-1", services: SERVICES };
    match claim(&head, &expected, SystemTime::UNIX_EPOCH + NOW) {
        Ok(claim) => {
            assert!(SERVICES.contains(&claim.service()));
            assert!((1..=128).contains(&claim.access_key_id().len()));
            assert!(head.uri.query().is_none());
            for name in head.headers.keys().filter(|name| name.as_str().starts_with("x-amz-") || *name == "host") {
                assert_eq!(head.headers.get_all(name).iter().count(), 1);
            }
            assert!(claim.verify("another secret", &head, body).is_err());
            if claim.verify(SECRET, &head, body).is_ok() {
                let same = |(seed, its): (Parts, &[u8])| used(&seed) == used(&head) && its == body;
                assert!(SEEDS.into_iter().filter_map(read).any(same), "nobody signed this");
            }
        }
        Err(refusal) => {
            let text = refusal.to_string();
            assert!(!text.is_empty() && text.len() < 2_048 && !text.contains(char::is_control));
        }
    }
});

/// What is used of a head whose signature is good.
fn used(head: &Parts) -> (&Method, &Uri, BTreeMap<&str, &[u8]>) {
    let pairs = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    (&head.method, &head.uri, pairs.filter(|(name, _)| name.starts_with("x-amz-") || *name == "host").collect())
}

/// Reads a request roughly as HTTP/1.1 is read; what it makes of other things does not matter.
fn read(bytes: &[u8]) -> Option<(Parts, &[u8])> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let mut lines = bytes[..end].split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let mut first = lines.next()?.split(|byte| *byte == b' ');
    let (mut parts, ()) = Request::builder().method(first.next()?).uri(first.next()?).body(()).ok()?.into_parts();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        parts.headers.append(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
    }
    Some((parts, &bytes[end + 4..]))
}
