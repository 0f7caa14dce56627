//! What gRPC itself promises: ids of calls, deadlines, streams, health, reflection, errors of messages that are none.

use std::future::poll_fn;

use prost::Message as _;
use proto::v1::{BatchEncryptRequest, EncryptRequest};
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};
use tower::Service as _;

use crate::harness::raw::framed;
use crate::harness::{Failure, shared, wait};

fn encrypt(key: &str, plaintext: &[u8]) -> EncryptRequest {
    EncryptRequest { key_id: key.to_owned(), plaintext: plaintext.to_vec(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_the_id_of_its_call() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("ids").await;
    let call = async |id: Option<&'static str>, key: &str| {
        let mut request = caller.request(encrypt(key, b"x"));
        if let Some(id) = id {
            request.metadata_mut().insert("x-request-id", MetadataValue::from_static(id));
        }
        let metadata = match caller.crypto.clone().encrypt(request).await {
            Ok(response) => response.metadata().clone(),
            Err(status) => status.metadata().clone(),
        };
        metadata.get("x-request-id").expect("an id").to_str().unwrap().to_owned()
    };
    assert_eq!(call(Some("chosen-by_the.caller:1"), &key).await, "chosen-by_the.caller:1");
    assert_eq!(call(Some("also-with-an-error"), "no key").await, "also-with-an-error");
    let (one, other) = (call(None, &key).await, call(Some("not safe\""), &key).await);
    assert_ne!(one, other);
    assert_ne!(other, "not safe\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_that_is_none_is_the_callers_fault() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let mut request = Request::new(encrypt("any", b"x"));
    request.metadata_mut().insert("grpc-timeout", MetadataValue::from_static("soon"));
    let failure = Failure::from(caller.crypto.clone().encrypt(request).await.unwrap_err());
    assert_eq!((failure.code, failure.reason.as_str()), (Code::InvalidArgument, "ValidationException"));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_would_grow_or_are_none_are_refused_with_a_reason() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    // Two bytes each on the wire: a small message that would be large.
    let flood = BatchEncryptRequest { items: vec![EncryptRequest::default(); 500_000] };
    let failure = Failure::from(caller.crypto.clone().batch_encrypt(caller.request(flood)).await.unwrap_err());
    assert_eq!((failure.code, failure.reason.as_str()), (Code::InvalidArgument, "ValidationException"), "{failure:?}");
    assert!(failure.message.contains("fields"), "{failure:?}");
    // Longer than any message may be.
    let long = encrypt("any", &vec![0; 5 << 20]);
    let failure = Failure::from(caller.crypto.clone().encrypt(caller.request(long)).await.unwrap_err());
    assert_eq!((failure.code, failure.reason.as_str()), (Code::InvalidArgument, "ValidationException"), "{failure:?}");
}

/// What a page may have somebody's browser send, with the certificate that the browser has, is not carried out.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_not_called_grpc_is_refused() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("media types").await;
    let message = String::from_utf8(framed(&encrypt(&key, b"x").encode_to_vec())).unwrap();
    let answered = async |media: Option<&str>| {
        let mut request = http::Request::post("/keystored.v1.CryptoService/Encrypt").header("te", "trailers");
        if let Some(media) = media {
            request = request.header("content-type", media);
        }
        let mut channel = caller.channel();
        poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
        let answer = channel.call(request.body(Body::new(message.clone())).unwrap()).await.unwrap();
        let status = answer.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned());
        (answer.status().as_u16(), status)
    };
    for media in ["application/grpc", "application/grpc+proto", "Application/gRPC; charset=utf-8"] {
        // How it went stands behind its answer.
        assert_eq!(answered(Some(media)).await, (200, None), "{media}");
    }
    let forms = ["text/plain", "text/plain;charset=UTF-8", "multipart/form-data", "application/x-www-form-urlencoded"];
    for media in forms.map(Some).into_iter().chain([None, Some("application/grpc-web+proto"), Some("application/json")])
    {
        assert_eq!(answered(media).await, (415, Some("3".to_owned())), "{media:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_at_its_deadline() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    // Whether it is open before its deadline is the machine's affair.
    let (_requests, mut answers) = wait::until_async("it is open in time", wait::LONG, async || {
        let (requests, receiver) = tokio::sync::mpsc::channel(1);
        let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
        request.metadata_mut().insert("grpc-timeout", MetadataValue::from_static("500m"));
        let answers = caller.crypto.clone().stream(request).await.ok()?.into_inner();
        Some((requests, answers))
    })
    .await;
    let ended = tokio::time::timeout(wait::LONG, answers.message()).await.unwrap();
    let failure = Failure::from(ended.unwrap_err());
    assert_eq!(failure.code, Code::DeadlineExceeded);
}
