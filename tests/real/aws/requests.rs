//! Requests that are answered, and such as are refused before they are any call.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::aws::{AccessKey, Ask, Endpoint, Scope, another_key, principal};
use crate::harness::clients::address_of;
use crate::harness::{Caller, context, shared, wait};

const PLAINTEXT: &[u8] = b"attack at dawn";
const BASE64: &str = "YXR0YWNrIGF0IGRhd24=";

/// A principal that may do everything, named after its test.
async fn signer(caller: &Caller, name: &str) -> AccessKey {
    principal(caller, name, "Administrator").await
}

fn kms(operation: &str, body: &Value, key: &AccessKey) -> Ask {
    Ask::kms(operation, body).sign(key, &Scope::of("kms"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_interface_seals_the_other_opens() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let (key, aws) = (signer(&caller, "aws-round-trip").await, Endpoint::of(&daemon));
    let id = caller.create_key("used by both").await;
    // All of it on one connection, the first two at once.
    let mut wire = aws.connect().await.unwrap();
    let asked = json!({ "KeyId": id, "Plaintext": BASE64, "EncryptionContext": { "a": "b" } });
    let encrypt = kms("Encrypt", &asked, &key);
    wire.send(&encrypt.bytes().repeat(2)).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let sealed = wire.answer().await.unwrap();
        assert_eq!(sealed.status, 200, "{sealed:?}");
        let said = sealed.json();
        assert!(said["KeyId"].as_str().unwrap().contains(&id) && said["EncryptionAlgorithm"] == "SYMMETRIC_DEFAULT");
        let blob = said["CiphertextBlob"].as_str().unwrap();
        let asked = json!({ "CiphertextBlob": blob, "EncryptionContext": { "a": "b" } });
        let mut other = aws.connect().await.unwrap();
        other.send(&kms("Decrypt", &asked, &key).bytes()).await.unwrap();
        assert_eq!(other.answer().await.unwrap().json()["Plaintext"], BASE64);
        let by_grpc = caller.decrypt(&STANDARD.decode(blob).unwrap(), &context(&[("a", "b")])).await.unwrap();
        assert_eq!(by_grpc, PLAINTEXT);
        ids.push(sealed.headers["x-amzn-requestid"].clone());
        assert!(uuid::Uuid::parse_str(&ids[0]).is_ok() && sealed.headers.contains_key("date"), "{sealed:?}");
    }
    assert_ne!(ids[0], ids[1], "the same request again is another call");
    let by_grpc = caller.encrypt(&id, PLAINTEXT, &context(&[])).await.unwrap();
    let opened = aws.ask(&kms("Decrypt", &json!({ "CiphertextBlob": STANDARD.encode(&by_grpc) }), &key)).await;
    assert_eq!(opened.json()["Plaintext"], BASE64);
    // What has no answer.
    let silent = aws.ask(&kms("DisableKey", &json!({ "KeyId": id }), &key)).await;
    assert_eq!((silent.status, silent.text().as_str()), (200, ""));
    let refused = aws.ask(&encrypt).await;
    assert_eq!(refused.error(), (400, "DisabledException".to_owned()));

    let form = "Action=GetCallerIdentity&Version=2011-06-15";
    let who = aws.ask(&Ask::sts(form).sign(&key, &Scope::of("sts"))).await;
    let arn = &key.principal;
    assert!(who.status == 200 && who.text().contains(&format!("<Arn>{arn}</Arn>")), "{}", who.text());
    assert_eq!(who.headers["content-type"], "text/xml");
    // They are calls of that interface, under their ids.
    let enabled = aws.ask(&kms("EnableKey", &json!({ "KeyId": id }), &key)).await;
    daemon.wait_until_recorded(&enabled.headers["x-amzn-requestid"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_holds_for_what_was_signed() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let (key, aws) = (signer(&caller, "aws-signatures").await, Endpoint::of(&daemon));
    let (scope, body) = (Scope::of("kms"), json!({}));
    let ask = || Ask::kms("ListKeys", &body);
    let good = ask().sign(&key, &scope);
    assert_eq!(aws.ask(&good).await.status, 200);
    let by = |change: &dyn Fn(&mut AccessKey)| {
        let mut key = key.clone();
        change(&mut key);
        ask().sign(&key, &scope)
    };
    let at = |seconds: i64| {
        let distance = Duration::from_secs(seconds.unsigned_abs());
        let at = if seconds < 0 { scope.at - distance } else { scope.at + distance };
        ask().sign(&key, &Scope { at, ..scope.clone() })
    };
    let invalid = "InvalidSignatureException";
    let mut altered = good.clone();
    altered.body = b"{ }".to_vec();
    let mut elsewhere = good.clone();
    elsewhere.path = "/?a=b".to_owned();
    let mut other_operation = good.clone();
    other_operation.headers.retain(|(name, _)| name != "x-amz-target");
    let other_operation = other_operation.header("x-amz-target", "TrentService.ListAliases");
    let mut no_date = good.clone();
    no_date.headers.retain(|(name, _)| name != "x-amz-date");
    for (what, ask, name) in [
        ("unsigned", ask(), "MissingAuthenticationTokenException"),
        ("another secret", by(&|key| key.secret = "x".repeat(40)), invalid),
        ("another key", by(&|key| key.id = "AKKS0000000000000000".to_owned()), "UnrecognizedClientException"),
        ("another region", ask().sign(&key, &Scope { region: "us-east-1", ..scope.clone() }), invalid),
        ("another service", ask().sign(&key, &Scope::of("sts")), invalid),
        ("six minutes ago", at(-360), invalid),
        ("in six minutes", at(360), invalid),
        ("an unsigned header", good.clone().header("x-amz-more", "1"), invalid),
        ("an altered body", altered, invalid),
        ("another query", elsewhere, invalid),
        ("another operation", other_operation, invalid),
        ("no date", no_date, "IncompleteSignatureException"),
    ] {
        let answer = aws.ask(&ask).await;
        let (status, found) = answer.error();
        let expected = found == name || (what == "no date" && found == invalid);
        assert!(status == 400 && expected, "{what}: {answer:?} {}", answer.text());
        assert!(answer.headers.contains_key("x-amzn-requestid") && answer.headers.contains_key("date"));
    }
    let form = Ask::sts("Action=GetCallerIdentity&Version=2011-06-15");
    let answer =
        aws.ask(&form.clone().sign(&AccessKey { secret: "x".repeat(40), ..key.clone() }, &Scope::of("sts"))).await;
    assert!(answer.status == 403 && answer.text().contains("<Code>SignatureDoesNotMatch</Code>"), "{}", answer.text());
    let answer = aws.ask(&form.sign(&key, &scope)).await;
    assert!(answer.status == 403 && answer.text().contains("<ErrorResponse"), "{}", answer.text());
    // Neither the secret nor who knows what else is in the log.
    assert!(!daemon.log().contains(&key.secret));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_not_is_refused_and_the_connection_goes_on() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let (key, aws) = (signer(&caller, "aws-astray").await, Endpoint::of(&daemon));
    let mut wire = aws.connect().await.unwrap();
    let unknown = "UnknownOperationException";
    let sign = |ask: Ask| ask.sign(&key, &Scope::of("kms"));
    let with_method = |method| Ask { method, ..Ask::kms("ListKeys", &json!({})) };
    for (ask, status, name) in [
        (sign(Ask::kms("Encryp", &json!({}))), 400, unknown),
        (sign(Ask { path: "/x".to_owned(), ..Ask::kms("ListKeys", &json!({})) }), 404, unknown),
        (with_method("GET"), 405, unknown),
        (with_method("DELETE"), 405, unknown),
        (sign(Ask::kms("Encrypt", &json!([]))), 400, "SerializationException"),
        (sign(Ask::kms("Encrypt", &json!({}))), 400, "ValidationException"),
        (sign(Ask::kms("Sign", &json!({ "KeyId": "a" }))), 400, "ValidationException"),
        (sign(Ask::kms("DescribeKey", &json!({ "KeyId": "nobody" }))), 400, "NotFoundException"),
    ] {
        wire.send(&ask.bytes()).await.unwrap();
        let answer = wire.answer().await.unwrap();
        assert_eq!(answer.error(), (status, name.to_owned()), "{}", answer.text());
        if status == 405 {
            assert_eq!(answer.headers["allow"], "POST");
        }
    }
    for (method, body) in [("GET", "healthy"), ("HEAD", "")] {
        wire.send(format!("{method} /ping HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
        let answer = wire.answer_to(method).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, body));
    }
    // In pieces of a length of their own, and after having been asked to go on.
    let ask = sign(Ask::kms("ListKeys", &json!({})));
    let head = String::from_utf8(ask.head(2)).unwrap().replace("content-length: 2", "transfer-encoding: chunked");
    wire.send(format!("{head}1\r\n{{\r\n1\r\n}}\r\n0\r\n\r\n").as_bytes()).await.unwrap();
    assert_eq!(wire.answer().await.unwrap().status, 200);
    wire.send(&ask.clone().header("expect", "100-continue").head(2)).await.unwrap();
    assert_eq!(wire.answer().await.unwrap().status, 100);
    wire.send(b"{}").await.unwrap();
    assert_eq!(wire.answer().await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_key_that_is_disabled_signs_nothing_more_on_open_connections_too() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let (key, aws) = (signer(&caller, "aws-disabled").await, Endpoint::of(&daemon));
    let second = another_key(&caller, &key.principal).await;
    let mut wire = aws.connect().await.unwrap();
    let mut status = async |key: &AccessKey| {
        wire.send(&kms("ListKeys", &json!({}), key).bytes()).await.unwrap();
        wire.answer().await.unwrap()
    };
    assert_eq!(status(&key).await.status, 200);
    daemon.keystorectl(&["access-key", "disable", &key.principal, &key.id]).ok();
    assert_eq!(status(&key).await.error(), (400, "UnrecognizedClientException".to_owned()));
    assert_eq!(status(&second).await.status, 200);
    daemon.keystorectl(&["access-key", "enable", &key.principal, &key.id]).ok();
    assert_eq!(status(&key).await.status, 200);
    // It has what its principal has, and no more.
    daemon.keystorectl(&["policy", "detach", "Administrator", "--principal", &key.principal]).ok();
    assert_eq!(status(&key).await.error(), (400, "AccessDeniedException".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_know_the_interface() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let (key, aws) = (principal(&caller, "aws-interface", "KeyUser").await, Endpoint::of(&daemon));
    let id = caller.create_key("by interface").await;
    let encrypt = || kms("Encrypt", &json!({ "KeyId": id, "Plaintext": BASE64 }), &key);
    assert_eq!(aws.ask(&encrypt()).await.status, 200);
    let file = daemon.site().path().join("interface.json");
    let policy = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Action": "kms:Encrypt", "Resource": "*",
        "Condition": { "StringEquals": { "keystored:Interface": "aws" } }
    }]});
    std::fs::write(&file, policy.to_string()).unwrap();
    daemon.keystorectl(&["policy", "put", "no-aws", file.to_str().unwrap()]).ok();
    daemon.keystorectl(&["policy", "attach", "no-aws", "--principal", &key.principal]).ok();
    assert_eq!(aws.ask(&encrypt()).await.error(), (400, "AccessDeniedException".to_owned()));
    // The same principal by its certificate.
    daemon.keystorectl(&["principal", "add-identity", &key.principal, "cn:aws-interface"]).ok();
    let by_certificate = address_of(&daemon, "aws-interface").connect().await.unwrap();
    by_certificate.encrypt(&id, PLAINTEXT, &context(&[])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_bounded_and_come_in_time() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let (key, aws) = (signer(&caller, "aws-bodies").await, Endpoint::of(&daemon));
    let too_large = (413, "RequestEntityTooLargeException".to_owned());
    let ask = kms("ListKeys", &json!({}), &key);
    let mut wire = aws.connect().await.unwrap();
    wire.send(&ask.head((512 << 10) + 1)).await.unwrap();
    assert_eq!(wire.answer().await.unwrap().error(), too_large, "it is not waited for");
    wire.ends(wait::LONG).await;
    let head = String::from_utf8(ask.head(2)).unwrap().replace("content-length: 2", "transfer-encoding: chunked");
    let mut wire = aws.connect().await.unwrap();
    wire.send(head.as_bytes()).await.unwrap();
    let piece = [&b"10000\r\n"[..], &[b' '; 0x10000], b"\r\n"].concat();
    for _ in 0..8 {
        wire.send(&piece).await.unwrap();
    }
    wire.send(b"1\r\n \r\n").await.unwrap();
    assert_eq!(wire.answer().await.unwrap().error(), too_large);
    wire.ends(wait::LONG).await;
    // A body that does not come.
    let mut wire = aws.connect().await.unwrap();
    wire.send(&ask.head(2)).await.unwrap();
    wire.send(b"{").await.unwrap();
    assert_eq!(wire.answer().await.unwrap().error(), (408, "RequestTimeoutException".to_owned()));
    wire.ends(wait::LONG).await;
}
