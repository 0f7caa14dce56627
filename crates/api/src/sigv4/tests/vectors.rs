//! Requests that others signed: AWS's own test suite, and clients of AWS.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Suite {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    normalize: bool,
    secret: String,
    request: String,
    signature: String,
}

/// The suite's cases, with whether their paths and queries say what is signed.
fn suite() -> impl Iterator<Item = (Case, Whole)> {
    let suite: Suite = serde_json::from_str(include_str!("../../../../../tests/vectors/sigv4-aws.json")).unwrap();
    assert_eq!(suite.cases.len(), 38, "vectors are never taken away");
    suite.cases.into_iter().filter_map(|case| {
        let whole = read(&case.request);
        // HTTP has no blanks in targets: such a request does not get as far as this.
        assert_eq!(whole.is_none(), case.name.starts_with("get-space-"), "{}", case.name);
        Some((case, whole?))
    })
}

/// Below what is refused on purpose, the signer's reading of the rules is AWS's.
#[test]
fn the_suites_signatures_are_made() {
    let mut made = 0;
    for (case, (parts, body)) in suite() {
        let authorization = Authorization::read(&parts.headers, true).unwrap();
        let credential = Credential::parse(authorization.credential).unwrap();
        let scope = Scope {
            access_key_id: credential.access_key_id,
            region: credential.region,
            service: credential.service,
            time: at(NOW),
        };
        let names: Vec<HeaderName> =
            authorization.signed_headers.split(';').map(|name| name.parse().unwrap()).collect();
        let signature = signature::of(&scope, &case.secret, &parts, &names, content::hash(&body)).unwrap();
        assert_eq!(authorization.signature, case.signature, "{}", case.name);
        // S3 alone signs paths as they are.
        assert_eq!(signature == case.signature, case.normalize, "{}", case.name);
        made += usize::from(case.normalize);
    }
    assert_eq!(made, 30);
}

#[test]
fn the_suites_requests_are_taken_where_they_say_what_is_signed() {
    let expected = Expected { region: "us-east-1", services: &["service"] };
    let mut taken = 0;
    for (case, mut whole) in suite() {
        let judgement = judged(&whole, &case.secret, &expected, at(NOW));
        let refused = if whole.0.uri.query().is_some() {
            Some("The request has a query string: parameters belong in the body.")
        } else if ["relative", "slash"].iter().any(|part| case.name.contains(part)) {
            Some("The path must be in its normal form, without '.', '..' and empty segments.")
        } else if case.name == "post-sts-header-after" {
            Some("'x-amz-security-token' must be a 'SignedHeader' in the AWS Authorization.")
        } else if whole.0.headers.contains_key("x-amz-security-token") {
            Some("The security token included in the request is invalid.")
        } else {
            None
        };
        assert_eq!(judgement.err().map(|refusal| refusal.to_string()).as_deref(), refused, "{}", case.name);
        if refused.is_none() {
            taken += 1;
            whole.1.push(0);
            assert!(judged(&whole, &case.secret, &expected, at(NOW)).is_err(), "{}", case.name);
        }
    }
    assert_eq!(taken, 14);
}

#[derive(Deserialize)]
struct Clients {
    region: String,
    access_key_id: String,
    secret: String,
    cases: Vec<Sent>,
}

#[derive(Deserialize)]
struct Sent {
    name: String,
    service: String,
    request: String,
}

#[test]
fn requests_of_clients_are_taken() {
    let clients: Clients =
        serde_json::from_str(include_str!("../../../../../tests/vectors/sigv4-clients.json")).unwrap();
    assert!(clients.cases.len() >= 11, "vectors are never taken away");
    for Sent { name, service, request } in clients.cases {
        let mut whole = read(&request).unwrap();
        let now = at(whole.0.headers["x-amz-date"].to_str().unwrap());
        let expected = Expected { region: &clients.region, services: &["kms", "sts", "kms-xks-proxy"] };
        let claim = claim(&whole.0, &expected, now).unwrap();
        assert_eq!((claim.access_key_id(), claim.service()), (&*clients.access_key_id, &*service), "{name}");
        assert_eq!(claim.verify(&clients.secret, &whole.0, &whole.1), Ok(()), "{name}");
        assert_eq!(claim.verify(SECRET.trim_end_matches('Y'), &whole.0, &whole.1), Err(Refusal::mismatch()), "{name}");
        whole.1.push(b' ');
        assert!(claim.verify(&clients.secret, &whole.0, &whole.1).is_err(), "{name}");
    }
}
