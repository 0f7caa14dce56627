//! Every way in which a request differs from what was signed, by AWS's names.

use super::*;

type Change = fn(&mut Whole);

/// Name, name of the query protocol, its status, and how the text begins.
type Answer = (&'static str, &'static str, u16, &'static str);

const INCOMPLETE: (&str, &str, u16) = ("IncompleteSignatureException", "IncompleteSignature", 400);
const INVALID: (&str, &str, u16) = ("InvalidSignatureException", "SignatureDoesNotMatch", 403);
const UNKNOWN: (&str, &str, u16) = ("UnrecognizedClientException", "InvalidClientTokenId", 403);
const MISSING: (&str, &str, u16) = ("MissingAuthenticationTokenException", "MissingAuthenticationToken", 403);
const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check your AWS \
                        Secret Access Key and signing method. Consult the service documentation for details.";

const fn is(kind: (&'static str, &'static str, u16), text: &'static str) -> Answer {
    (kind.0, kind.1, kind.2, text)
}

fn check(what: &str, refusal: &Refusal, (name, query_name, query_status, text): Answer) {
    assert_eq!((refusal.name(), refusal.status()), (name, 400), "{what}: {refusal}");
    assert_eq!((refusal.query_name(), refusal.query_status()), (query_name, query_status), "{what}");
    assert!(refusal.to_string().starts_with(text), "{what}: {refusal}");
}

/// What the head alone tells: no secret is looked up, and no body read.
#[test]
fn heads_are_refused_before_the_body_is_read() {
    let changes: &[(&str, Change, Answer)] = &[
        ("not signed", |it| drop(it.0.headers.remove("authorization")), is(MISSING, "Missing Authentication Token")),
        (
            "a bearer's token",
            |it| set(it, "authorization", "Bearer a.b.c"),
            is(MISSING, "Missing Authentication Token"),
        ),
        (
            "a presigned URL",
            |it| it.0.uri = "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00".parse().unwrap(),
            is(INCOMPLETE, "Presigned URLs are not supported"),
        ),
        ("a query", |it| it.0.uri = "/?a=b".parse().unwrap(), is(INVALID, "The request has a query string")),
        ("an empty query", |it| it.0.uri = "/?".parse().unwrap(), is(INVALID, "The request has a query string")),
        ("dots", |it| it.0.uri = "/a/..".parse().unwrap(), is(INVALID, "The path must be in its normal form")),
        (
            "no date",
            |it| drop(it.0.headers.remove("x-amz-date")),
            is(INCOMPLETE, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."),
        ),
        (
            "a date of HTTP",
            |it| {
                it.0.headers.remove("x-amz-date");
                set(it, "date", "Sun, 30 Aug 2015 12:36:00 GMT");
            },
            is(INCOMPLETE, "A 'Date' header alone is not supported"),
        ),
        (
            "a date of another form",
            |it| set(it, "x-amz-date", "2015-08-30T12:36:00Z"),
            is(INCOMPLETE, "Date must be in ISO-8601 'basic format'. Got '2015-08-30T12:36:00Z'."),
        ),
        (
            "an old date",
            |it| set(it, "x-amz-date", "20150830T123059Z"),
            is(
                INVALID,
                "Signature expired: 20150830T123059Z is now earlier than 20150830T123100Z (20150830T123600Z - 5 min.)",
            ),
        ),
        (
            "a date to come",
            |it| set(it, "x-amz-date", "20150830T124101Z"),
            is(
                INVALID,
                "Signature not yet current: 20150830T124101Z is still later than 20150830T124100Z \
                 (20150830T123600Z + 5 min.)",
            ),
        ),
        (
            "SigV4A",
            |it| replace(it, "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
            is(INCOMPLETE, "Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256'. SigV4A is not supported"),
        ),
        (
            "no credential",
            |it| replace(it, "Credential=AKIDEXAMPLE/20150830/us-east-1/kms/aws4_request, ", ""),
            is(INCOMPLETE, "Authorization header requires 'Credential' parameter. (Hashed with SHA-256 and"),
        ),
        (
            "four elements",
            |it| replace(it, "/aws4_request", ""),
            is(INCOMPLETE, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/serv"),
        ),
        (
            "another region",
            |it| replace(it, "/us-east-1/", "/x/"),
            is(INVALID, "Credential should be scoped to a valid region, not 'x'. "),
        ),
        (
            "another service",
            |it| replace(it, "/kms/", "/s3/"),
            is(INVALID, "Credential should be scoped to correct service: 'kms'. "),
        ),
        (
            "another day",
            |it| replace(it, "/20150830/", "/20150829/"),
            is(INVALID, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "),
        ),
        (
            "no name of a key",
            |it| replace(it, "AKIDEXAMPLE", "AKID-EXAMPLE"),
            is(UNKNOWN, "The security token included in the request is invalid."),
        ),
        (
            "a signature in capitals",
            |it| {
                let header = it.0.headers["authorization"].to_str().unwrap().to_owned();
                let (before, signature) = header.split_once("Signature=").unwrap();
                set(it, "authorization", &format!("{before}Signature={}", signature.to_uppercase()));
            },
            is(INVALID, MISMATCH),
        ),
        ("no host", |it| drop(it.0.headers.remove("host")), is(INVALID, "'host' is a 'SignedHeader' in the AWS Auth")),
        (
            "a header that is not signed",
            |it| set(it, "x-amz-more", "a"),
            is(INVALID, "'x-amz-more' must be a 'SignedHeader' in the AWS Authorization."),
        ),
        (
            "another target beside the signed one",
            |it| add(it, "x-amz-target", "TrentService.Decrypt"),
            is(INVALID, "The request has more than one 'x-amz-target' header."),
        ),
        (
            "another host beside the signed one",
            |it| add(it, "host", "other"),
            is(INVALID, "The request has more than one 'host' header."),
        ),
        (
            "a second signature",
            |it| add(it, "authorization", "AWS4-HMAC-SHA256 a=b"),
            is(INCOMPLETE, "The request has more than one Authorization header."),
        ),
        (
            "an unsigned payload",
            |it| set(it, "x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
            is(INVALID, "Payloads of the kind 'UNSIGNED-PAYLOAD' are not supported"),
        ),
        (
            "a payload in chunks",
            |it| set(it, "x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
            is(INVALID, "Payloads of the kind 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD' are not supported"),
        ),
    ];
    for (what, change, answer) in changes {
        let mut whole = good();
        change(&mut whole);
        check(what, &claim(&whole.0, &KMS, at(NOW)).expect_err(what), *answer);
    }
}

/// Signed with what keys that were lent have: there are none here.
#[test]
fn session_tokens_are_of_nobody() {
    let mut whole = encrypt();
    set(&mut whole, "x-amz-security-token", "IQoJb3JpZ2luX2Vj");
    let whole = signed(whole, SECRET, "us-east-1", "kms", at(NOW));
    let refusal = claim(&whole.0, &KMS, at(NOW)).unwrap_err();
    check("a token", &refusal, is(UNKNOWN, "The security token included in the request is invalid."));
    assert_eq!(refusal, Refusal::unknown_key());
}

#[test]
fn what_was_altered_does_not_match() {
    let changes: &[(&str, Change)] = &[
        ("the method", |it| it.0.method = http::Method::GET),
        ("the path", |it| it.0.uri = "/a".parse().unwrap()),
        ("the host", |it| set(it, "host", "kms.test:8444")),
        ("the target", |it| set(it, "x-amz-target", "TrentService.Decrypt")),
        ("the content type", |it| set(it, "content-type", "application/json")),
        ("the date", |it| set(it, "x-amz-date", "20150830T123601Z")),
        ("the access key", |it| replace(it, "AKIDEXAMPLE", "AKIDEXAMPLF")),
        ("the headers", |it| replace(it, "content-type;", "")),
        ("the signature", |it| {
            let header = it.0.headers["authorization"].to_str().unwrap().to_owned();
            let last = if header.ends_with('0') { "1" } else { "0" };
            set(it, "authorization", &format!("{}{last}", &header[..header.len() - 1]));
        }),
        ("a signature of nothing", |it| {
            let header = it.0.headers["authorization"].to_str().unwrap().to_owned();
            let (before, _) = header.split_once("Signature=").unwrap();
            set(it, "authorization", &format!("{before}Signature={}", "0".repeat(64)));
        }),
    ];
    for (what, change) in changes {
        let mut whole = good();
        change(&mut whole);
        let judgement = judged(&whole, SECRET, &KMS, at(NOW));
        if *what == "the access key" {
            // The name of a key is not signed: its secret is looked up by it, and another key has another secret.
            assert_eq!(judgement, Ok(()));
            assert_eq!(claim(&whole.0, &KMS, at(NOW)).unwrap().access_key_id(), "AKIDEXAMPLF");
            continue;
        }
        check(what, &judgement.expect_err(what), is(INVALID, MISMATCH));
    }
    for secret in ["", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEy", "AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"] {
        check("the secret", &judged(&good(), secret, &KMS, at(NOW)).unwrap_err(), is(INVALID, MISMATCH));
    }
}

#[test]
fn another_body_is_refused_with_and_without_its_hash_in_a_header() {
    let mut whole = good();
    whole.1.push(b'\n');
    let told = "The provided 'x-amz-content-sha256' header does not match what was computed.";
    check("the body", &judged(&whole, SECRET, &KMS, at(NOW)).unwrap_err(), is(INVALID, told));
    let hash = content::hash(&whole.1);
    set(&mut whole, "x-amz-content-sha256", &hash);
    check("body and hash", &judged(&whole, SECRET, &KMS, at(NOW)).unwrap_err(), is(INVALID, MISMATCH));
}

/// A scope that was altered to one that is expected here too was not signed.
#[test]
fn signatures_for_another_place_do_not_match() {
    let both = Expected { region: "us-east-1", services: &["kms", "sts"] };
    let mut whole = signed(encrypt(), SECRET, "us-east-1", "sts", at(NOW));
    replace(&mut whole, "/sts/", "/kms/");
    check("the service", &judged(&whole, SECRET, &both, at(NOW)).unwrap_err(), is(INVALID, MISMATCH));
    let mut whole = signed(encrypt(), SECRET, "us-west-1", "kms", at(NOW));
    replace(&mut whole, "/us-west-1/", "/us-east-1/");
    check("the region", &judged(&whole, SECRET, &both, at(NOW)).unwrap_err(), is(INVALID, MISMATCH));
    let mut whole = signed(encrypt(), SECRET, "us-east-1", "kms", at("20150829T235959Z"));
    replace(&mut whole, "/20150829/", "/20150830/");
    set(&mut whole, "x-amz-date", "20150830T000001Z");
    let judgement = judged(&whole, SECRET, &both, at("20150830T000001Z"));
    check("the day", &judgement.unwrap_err(), is(INVALID, MISMATCH));
}

/// The step that reads the body is given another head than the one that was judged.
#[test]
fn a_claim_is_for_its_own_head() {
    let good = good();
    let claim = claim(&good.0, &KMS, at(NOW)).unwrap();
    for missing in ["host", "x-amz-target", "content-type"] {
        let mut other = good.clone();
        other.0.headers.remove(missing);
        assert_eq!(claim.verify(SECRET, &other.0, &other.1), Err(Refusal::mismatch()), "{missing}");
    }
    let mut other = good;
    other.0.headers.insert("x-amz-target", HeaderValue::from_bytes(b"\xff").unwrap());
    assert_eq!(claim.verify(SECRET, &other.0, &other.1), Err(Refusal::mismatch()));
}

/// Who takes the secret for the name of the key has it in no record: what a request claims is told where it looks like a name.
#[test]
fn a_secret_in_the_place_of_the_name_is_told_to_nobody_else() {
    for secret in [SECRET, "wJalrXUtnFEMIaK7MDENGabPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"] {
        let (mut head, _) = encrypt();
        let credential = format!("{secret}/20150830/us-east-1/kms/aws4_request");
        let value = format!(
            "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host;x-amz-date, Signature={}",
            "0".repeat(64)
        );
        head.headers.insert("authorization", HeaderValue::try_from(value).unwrap());
        head.headers.insert("x-amz-date", HeaderValue::from_static(NOW));
        assert_eq!(claimed_key(&head), None, "{secret}");
        let refusal = claim(&head, &KMS, at(NOW)).err().unwrap().to_string();
        assert!(!without_credential(&refusal).contains("wJalr"), "{refusal}");
    }
    let (mut head, _) = encrypt();
    let value =
        "AWS4-HMAC-SHA256 Credential=AKKSEXAMPLE/20150831/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=00";
    head.headers.insert("authorization", HeaderValue::from_static(value));
    assert_eq!(claimed_key(&head).as_deref(), Some("AKKSEXAMPLE"));
    assert_eq!(without_credential("Signature expired: now."), "Signature expired: now.");
}
