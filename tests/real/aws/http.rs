//! HTTP as clients, proxies and tools write it: what is the same request is answered the same, and what could be read in two
//! ways is refused.

use serde_json::json;

use crate::harness::aws::{AccessKey, Answer, Ask, Endpoint, Scope, principal};
use crate::harness::shared;

async fn sent(aws: &Endpoint, request: &[u8]) -> Answer {
    let mut wire = aws.connect().await.unwrap();
    wire.send(request).await.unwrap();
    wire.answer().await.unwrap()
}

fn list(key: &AccessKey, more: &[(&str, &str)]) -> Ask {
    let ask = more.iter().fold(Ask::kms("ListKeys", &json!({})), |ask, (name, value)| ask.header(name, value));
    ask.sign(key, &Scope::of("kms"))
}

/// The names of its headers in capitals.
fn in_capitals(request: &str) -> String {
    let line = |line: &str| match line.split_once(": ") {
        Some((name, value)) => format!("{}: {value}", name.to_uppercase()),
        None => line.to_owned(),
    };
    request.split("\r\n").map(line).collect::<Vec<_>>().join("\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_be_written_in_many_ways() {
    let daemon = shared().await;
    let (key, aws) = (principal(&daemon.caller().await, "aws-http", "Auditor").await, Endpoint::of(&daemon));
    let ask = list(&key, &[("x-amz-meta", "a b")]);
    let plain = String::from_utf8(ask.bytes()).unwrap();
    let chunked = plain.replace("content-length: 2\r\n\r\n{}", "transfer-encoding: chunked\r\n\r\n");
    for (what, request) in [
        ("as it is", plain.clone()),
        ("an older version of HTTP", plain.replace(" HTTP/1.1", " HTTP/1.0")),
        ("a whole URL, as proxies are asked", plain.replace("POST / ", "POST https://localhost/ ")),
        ("names in capitals", in_capitals(&plain)),
        ("more blanks", plain.replace("x-amz-meta: a b", "x-amz-meta:    a     b   ")),
        ("its length twice", plain.replace("content-length: 2", "content-length: 2\r\ncontent-length: 2")),
        ("in pieces", format!("{chunked}1;more=1\r\n{{\r\n1\r\n}}\r\n0\r\nx-trailer: 1\r\n\r\n")),
        ("with what it does not expect", plain.replace("content-length", "expect: nothing\r\ncontent-length")),
    ] {
        assert_eq!(request == plain, what == "as it is", "{what}");
        let answer = sent(&aws, request.as_bytes()).await;
        assert!(answer.status == 200 && answer.json()["Keys"].is_array(), "{what}: {answer:?} {}", answer.text());
    }
    for media in ["application/x-amz-json-1.1; charset=utf-8", "Application/X-AMZ-JSON-1.1;charset=UTF-8"] {
        let mut ask = Ask::kms("ListKeys", &json!({}));
        ask.headers.iter_mut().filter(|(name, _)| name == "content-type").for_each(|(_, value)| *value = media.into());
        assert_eq!(aws.ask(&ask.sign(&key, &Scope::of("kms"))).await.status, 200, "{media}");
    }
    // An empty body is an object without members, and blanks around it are nothing.
    for body in ["", " {} \r\n"] {
        let ask = Ask { body: body.into(), ..Ask::kms("ListKeys", &json!({})) };
        assert_eq!(aws.ask(&ask.sign(&key, &Scope::of("kms"))).await.status, 200, "{body:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_be_read_in_two_ways_is_refused() {
    let daemon = shared().await;
    let (key, aws) = (principal(&daemon.caller().await, "aws-http-refused", "Auditor").await, Endpoint::of(&daemon));
    let plain = String::from_utf8(list(&key, &[]).bytes()).unwrap();
    let date = plain.lines().find(|line| line.starts_with("x-amz-date: ")).unwrap();
    let with = |more: &[(&str, &str)]| String::from_utf8(list(&key, more).bytes()).unwrap();
    let invalid = "InvalidSignatureException";
    for (what, request, status, name) in [
        ("no host", plain.replace("host: localhost\r\n", ""), 400, invalid),
        ("two hosts", plain.replace("host: localhost\r\n", "host: localhost\r\nhost: other\r\n"), 400, invalid),
        ("another host in the URL", plain.replace("POST / ", "POST https://other/ "), 400, invalid),
        (
            "a path that is not in its normal form",
            plain.replace("POST / ", "POST // "),
            404,
            "UnknownOperationException",
        ),
        ("a query", plain.replace("POST / ", "POST /?a=b "), 400, invalid),
        (
            "a presigned URL",
            plain.replace("POST / ", "GET /?Action=GetCallerIdentity&X-Amz-Signature=00 "),
            400,
            "IncompleteSignatureException",
        ),
        ("an empty query", plain.replace("POST / ", "POST /? "), 400, invalid),
        (
            "a date of the other kind",
            plain.replace(date, "date: Mon, 30 Nov 2026 12:00:00 GMT"),
            400,
            "IncompleteSignatureException",
        ),
        ("a session token", with(&[("x-amz-security-token", "abc")]), 400, "UnrecognizedClientException"),
        ("a body that is not signed", with(&[("x-amz-content-sha256", "UNSIGNED-PAYLOAD")]), 400, invalid),
        ("another media type", plain.replace("x-amz-json-1.1", "json"), 400, "UnknownOperationException"),
    ] {
        assert_ne!(request, plain, "{what}");
        let answer = sent(&aws, request.as_bytes()).await;
        assert_eq!(answer.error(), (status, name.to_owned()), "{what}: {}", answer.text());
    }
    let deep = format!("{{\"Else\": {}{}}}", "[".repeat(200), "]".repeat(200));
    for (what, body) in [
        ("a byte order mark", &b"\xef\xbb\xbf{}"[..]),
        ("no UTF-8", b"{\"Marker\": \"\xff\"}"),
        ("a member twice", b"{\"Limit\": 1, \"Limit\": 2}"),
        ("more behind it", b"{}{}"),
        ("null", b"null"),
        ("too deep a nesting", deep.as_bytes()),
    ] {
        let ask = Ask { body: body.to_vec(), ..Ask::kms("ListKeys", &json!({})) };
        let answer = aws.ask(&ask.sign(&key, &Scope::of("kms"))).await;
        assert_eq!(answer.error(), (400, "SerializationException".to_owned()), "{what}: {}", answer.text());
    }
}
