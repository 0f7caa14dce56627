//! A repeated CreateKey with its client_token makes one key.

use proto::v1::KeyState;
use tonic::Code;

use crate::harness::wait::{LONG, until};
use crate::harness::{Daemon, context, shared};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_token_and_parameters_give_the_same_key() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let first = caller.try_create_key("billing", "token-1").await.unwrap();
    let again = caller.try_create_key("billing", "token-1").await.unwrap();
    assert_eq!((first.key_id.as_str(), first.creation_date), (again.key_id.as_str(), again.creation_date));
    assert_eq!(first.key_state(), KeyState::Enabled);
    let failure = caller.try_create_key("something else", "token-1").await.unwrap_err();
    assert_eq!((failure.code, failure.reason.as_str()), (Code::AlreadyExists, "ConflictException"), "{failure:?}");
    let other = caller.try_create_key("billing", "token-2").await.unwrap();
    assert_ne!(other.key_id, first.key_id);
    let (one, two) = (caller.create_key("billing").await, caller.create_key("billing").await);
    assert_ne!(one, two, "without a token every call makes a key");
    // The log says once what was made once.
    let said = |key: &str| daemon.log().lines().filter(|l| l.contains("key created") && l.contains(key)).count();
    until("the last key is in the log", LONG, || (said(&two) == 1).then_some(()));
    assert_eq!(said(&first.key_id), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_come_at_once_get_one_key() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let caller = caller.clone();
        calls.spawn(async move { caller.try_create_key("a race", "token-race").await });
    }
    let ended: Vec<_> = calls.join_all().await;
    let keys: std::collections::BTreeSet<_> = ended.iter().flatten().map(|key| key.key_id.clone()).collect();
    assert_eq!(keys.len(), 1, "{ended:?}");
    for failure in ended.into_iter().filter_map(Result::err) {
        assert!(failure.retryable, "one that came too early may come again: {failure:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_keys_outlive_a_restart() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.try_create_key("kept", "token-kept").await.unwrap();
    let ciphertext = caller.encrypt(&key.key_id, b"kept", &context(&[])).await.unwrap();
    let (status, site) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"kept");
    assert_eq!(caller.try_create_key("kept", "token-kept").await.unwrap().key_id, key.key_id);
}
