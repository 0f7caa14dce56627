//! What gRPC itself promises: ids of calls, deadlines, streams, health, reflection, errors of messages that are none.

use proto::v1::{BatchEncryptRequest, EncryptRequest};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

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
