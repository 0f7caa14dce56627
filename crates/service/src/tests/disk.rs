//! The service over metadata that cannot be written.

use super::bench::{Bench, plain, sealed};
use crate::CreateKeyInput;
use model::exception::Exception;
use model::id::KeyVersionId;
use model::key::KeyState;

#[tokio::test]
async fn what_can_wait_is_refused_with_a_reason_that_passes_and_a_key_can_be_disabled() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let blob = bench.encrypt(plain(&key.arn, b"secret")).await.unwrap();
    bench.store.spend_reserve();
    let error = bench.create_with("token").await.unwrap_err();
    assert_eq!((error.exception, error.retryable), (Exception::KmsInternal, true), "{error}");
    for words in ["could not be recorded", "is full", "free space"] {
        assert!(error.message.contains(words), "{error}");
    }
    assert_eq!(bench.store.catalogue().key_count(), 1, "nothing is left of the other one");
    bench.encrypt(plain(&key.arn, b"again")).await.unwrap();
    assert_eq!(bench.decrypt(sealed(&blob)).await.unwrap(), b"secret");
    bench.service.disable_key(&bench.call(), &key.arn).await.unwrap();
    assert_eq!(bench.encrypt(plain(&key.arn, b"more")).await.unwrap_err().exception, Exception::Disabled);
    let error = bench.service.enable_key(&bench.call(), &key.arn).await.unwrap_err();
    assert!(error.retryable, "{error}");
    bench.store.free_reserve().await;
    bench.service.enable_key(&bench.call(), &key.arn).await.unwrap();
    let made = bench.create_with("token").await.unwrap();
    assert_eq!(made.state, KeyState::Enabled);
}

/// The same token gives the same key without anything being written.
#[tokio::test]
async fn a_repeated_create_is_answered_without_room() {
    let bench = Bench::new().await;
    let made = bench.create_with("token").await.unwrap();
    bench.store.spend_reserve();
    let input = CreateKeyInput { client_token: "token".into(), ..CreateKeyInput::default() };
    let again = bench.service.create_key(&bench.call(), input).await.unwrap();
    assert_eq!(again.id, made.id);
}

#[tokio::test]
async fn encryptions_go_on_as_long_as_they_can_be_counted_and_then_say_why_not() {
    let mut bench = Bench::new().await;
    let key = bench.create().await;
    let blob = bench.encrypt(plain(&key.arn, b"secret")).await.unwrap();
    let version = KeyVersionId { key: key.id, version: 1 };
    bench.store.spend_reserve();
    bench.restart();
    bench.service.resume().await;
    bench.encrypt(plain(&key.arn, b"out of the reserve")).await.unwrap();
    let error = loop {
        if let Err(error) = bench.store.reserve_last_encryptions(version, 1).await {
            break error;
        }
    };
    assert!(matches!(error, store::Error::Kept(_)), "{error}");
    bench.encrypt(plain(&key.arn, b"out of what was reserved")).await.unwrap();
    bench.restart();
    let error = bench.encrypt(plain(&key.arn, b"not counted")).await.unwrap_err();
    assert_eq!((error.exception, error.retryable), (Exception::KmsInternal, true), "{error}");
    for words in ["no encryption is done that is not counted", "is full", "free space"] {
        assert!(error.message.contains(words), "{error}");
    }
    assert_eq!(bench.decrypt(sealed(&blob)).await.unwrap(), b"secret");
    bench.store.free_reserve().await;
    bench.encrypt(plain(&key.arn, b"counted")).await.unwrap();
}
