//! Using keys.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::bench::{Bench, context, exception, plain, sealed};
use crate::GrantTokens;
use crate::{DataKeyInput, DecryptInput, EncryptInput, Extras, RequestedSpec, Service};
use model::exception::Exception;
use model::id::{KeyId, KeyVersionId};
use model::key::{DataKeySpec, KeyState};
use model::limits::ENCRYPTIONS_PER_VERSION;
use model::operation::Operation;

/// Time enough for a call to begin also on a machine that stands still for a moment, which then waits in vain.
pub(super) const BEGINS: Duration = Duration::from_secs(1);

#[tokio::test]
async fn what_was_encrypted_opens_with_its_own_context_only() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let with = |pairs: &[(&str, &str)]| context(pairs);
    let item = EncryptInput { context: with(&[("a", "1"), ("b", "2")]), ..plain(&key.arn, b"secret") };
    let blob = bench.encrypt(item).await.unwrap();
    for key_id in [String::new(), key.id.to_string(), key.arn.clone()] {
        let item = DecryptInput { key_id, context: with(&[("b", "2"), ("a", "1")]), ..sealed(&blob) };
        assert_eq!(bench.decrypt(item).await.unwrap(), b"secret");
    }
    for pairs in [&[][..], &[("a", "1")], &[("a", "1"), ("b", "3")], &[("a", "1"), ("b", "2"), ("c", "")]] {
        let error = bench.decrypt(DecryptInput { context: with(pairs), ..sealed(&blob) }).await.unwrap_err();
        assert_eq!((error.exception, error.message.as_str()), (Exception::InvalidCiphertext, ""));
    }
}

#[tokio::test]
async fn ciphertexts_that_are_none_never_reach_an_hsm() {
    let bench = Bench::new().await;
    let (key, other) = (bench.create().await, bench.create().await);
    let blob = bench.encrypt(plain(&key.arn, b"secret")).await.unwrap();
    let begun = bench.fake.begun.load(Ordering::SeqCst);
    let mut foreign = blob.clone();
    foreign[1] ^= 1;
    let (mut future, mut later) = (blob.clone(), blob.clone());
    future[0] = 2;
    later[20] = 2;
    for bad in [&blob[..20], &blob[..49], &foreign, &future, &later, b"x"] {
        let error = bench.decrypt(sealed(bad)).await.unwrap_err();
        assert_eq!((error.exception, error.message.as_str()), (Exception::InvalidCiphertext, ""), "{bad:?}");
    }
    let named = |key_id: String, blob: &[u8]| DecryptInput { key_id, ..sealed(blob) };
    assert_eq!(exception(bench.decrypt(named(other.arn, &blob)).await), Exception::IncorrectKey);
    assert_eq!(exception(bench.decrypt(named(KeyId::random().to_string(), &blob)).await), Exception::NotFound);
    assert_eq!(exception(bench.decrypt(sealed(b"")).await), Exception::Validation);
    assert_eq!(exception(bench.decrypt(sealed(&[1; 6_145])).await), Exception::Validation);
    assert_eq!(bench.fake.begun.load(Ordering::SeqCst), begun);
}

#[tokio::test]
async fn one_item_s_failure_is_not_the_others() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let arn = key.arn.as_str();
    let unknown = KeyId::random().to_string();
    let elsewhere = arn.replace("eu-central-1", "us-east-1");
    let items = [arn, &unknown, arn, "nonsense", "arn:aws:s3:::bucket", &elsewhere, "alias/x", arn];
    let mut items: Vec<EncryptInput> = items.into_iter().map(|key_id| plain(key_id, b"secret")).collect();
    items.push(plain(arn, b""));
    items.push(plain(arn, &[0; 4_097]));
    items.push(EncryptInput { context: context(&[("k", &"v".repeat(9_000))]), ..plain(arn, b"secret") });
    let results = bench.service.encrypt(&bench.call(), items).await.unwrap();
    let outcomes: Vec<Option<Exception>> =
        results.iter().map(|result| result.as_ref().err().map(|error| error.exception)).collect();
    use Exception::{InvalidArn, NotFound, Validation};
    let expected = [None, Some(NotFound), None, Some(NotFound), Some(InvalidArn), Some(NotFound), Some(NotFound), None];
    assert_eq!(outcomes[..8], expected);
    assert_eq!(outcomes[8..], [Some(Validation); 3]);
    for encrypted in results.iter().flatten() {
        assert_eq!(&*encrypted.key_arn, arn);
        assert_eq!(bench.decrypt(sealed(&encrypted.ciphertext)).await.unwrap(), b"secret");
    }
    let message = &results[1].as_ref().unwrap_err().message;
    assert_eq!(message, &format!("Key 'arn:aws:kms:eu-central-1:111122223333:key/{unknown}' does not exist"));
    let seen = bench.seen.finished.lock().unwrap().clone();
    for outcome in [(None, 3), (Some(NotFound), 4), (Some(InvalidArn), 1), (Some(Validation), 3)] {
        assert!(seen.contains(&(Operation::Encrypt, outcome.0, outcome.1)), "{outcome:?}: {seen:?}");
    }
}

#[tokio::test]
async fn calls_are_bounded() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let many = |count: usize, bytes: usize| (0..count).map(|_| plain(&key.arn, &vec![1; bytes])).collect::<Vec<_>>();
    for items in [many(0, 1), many(1_001, 1), many(257, 4_096)] {
        assert_eq!(exception(bench.service.encrypt(&bench.call(), items).await), Exception::Validation);
    }
    assert_eq!(bench.service.encrypt(&bench.call(), many(256, 4_096)).await.unwrap().len(), 256);
    bench.fake.close_gate();
    let call = bench.call();
    let first = bench.service.encrypt(&call, many(1_000, 1));
    let second = async {
        let error = bench.service.encrypt(&bench.call(), many(501, 1)).await.unwrap_err();
        assert_eq!((error.exception, error.retryable), (Exception::Throttling, true));
        bench.fake.open_gate();
    };
    assert_eq!(futures_util::join!(first, second).0.unwrap().len(), 1_000);
}

#[tokio::test]
async fn a_caller_that_leaves_ends_its_waiting_only() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    bench.fake.close_gate();
    let begun = bench.fake.begun.load(Ordering::SeqCst);
    let waiting = tokio::spawn({
        let (service, call, item) = (bench.service.clone(), bench.call(), plain(&key.arn, b"secret"));
        async move { service.encrypt(&call, vec![item]).await }
    });
    until(|| bench.fake.begun.load(Ordering::SeqCst) > begun).await;
    waiting.abort();
    let late = bench.call_within(BEGINS);
    let error = bench.service.encrypt(&late, vec![plain(&key.arn, b"secret")]).await.unwrap_err();
    assert_eq!((error.exception, error.retryable), (Exception::DependencyTimeout, true));
    assert_eq!(bench.service.core.tasks().len(), 2);
    bench.fake.open_gate();
    bench.service.drained(Duration::from_secs(30)).await;
    let seen = bench.seen.finished.lock().unwrap();
    let recorded = seen.iter().filter(|entry| **entry == (Operation::Encrypt, None, 1)).count();
    assert_eq!(recorded, 2, "{seen:?}");
}

#[tokio::test]
async fn a_call_whose_deadline_has_passed_reaches_no_hsm() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let begun = bench.fake.begun.load(Ordering::SeqCst);
    let call = bench.call_within(Duration::ZERO);
    let result = bench.service.encrypt(&call, vec![plain(&key.arn, b"secret")]).await;
    assert_eq!(exception(result), Exception::DependencyTimeout);
    assert_eq!(bench.fake.begun.load(Ordering::SeqCst), begun);
}

#[tokio::test]
async fn a_change_during_the_act_withholds_the_result() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let blob = bench.encrypt(plain(&key.arn, b"secret")).await.unwrap();
    bench.fake.close_gate();
    let begun = bench.fake.begun.load(Ordering::SeqCst);
    let opening = bench.decrypt(sealed(&blob));
    let disabling = async {
        until(|| bench.fake.begun.load(Ordering::SeqCst) > begun).await;
        bench.store.force_state(key.id, KeyState::Disabled).await.unwrap();
        bench.fake.open_gate();
    };
    let error = futures_util::join!(opening, disabling).0.unwrap_err();
    assert_eq!((error.exception, error.message), (Exception::Disabled, format!("{} is disabled.", key.arn)));
}

#[tokio::test]
async fn states_decide_what_is_legal() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let cases = [
        (KeyState::Disabled, Exception::Disabled, "is disabled."),
        (KeyState::PendingDeletion, Exception::KmsInvalidState, "is pending deletion."),
        (KeyState::Creating, Exception::KmsInvalidState, "is creating."),
    ];
    for (state, exception, text) in cases {
        bench.store.force_state(key.id, state).await.unwrap();
        let error = bench.encrypt(plain(&key.arn, b"secret")).await.unwrap_err();
        assert_eq!((error.exception, error.message), (exception, format!("{} {text}", key.arn)));
        assert_eq!(
            bench.service.describe_key_with(&bench.call(), &key.arn, GrantTokens::default()).await.unwrap().state,
            state
        );
    }
    bench.store.force_state(key.id, KeyState::Enabled).await.unwrap();
    bench.encrypt(plain(&key.arn, b"secret")).await.unwrap();
}

#[tokio::test]
async fn data_keys_open_with_decrypt() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let input = |key_spec, number_of_bytes| DataKeyInput {
        key_id: key.arn.clone(),
        key_spec,
        number_of_bytes,
        context: context(&[("a", "1")]),
        ..DataKeyInput::default()
    };
    let items =
        vec![input(Some(RequestedSpec::Known(DataKeySpec::Aes256)), None), input(None, Some(7)), input(None, None)];
    let results = bench.service.generate_data_keys(&bench.call(), items, false).await.unwrap();
    for (result, length) in results.iter().zip([32, 7]) {
        let made = result.as_ref().unwrap();
        assert_eq!(made.plaintext.len(), length);
        let item = DecryptInput { context: context(&[("a", "1")]), ..sealed(&made.ciphertext) };
        assert_eq!(bench.decrypt(item).await.unwrap(), made.plaintext.expose());
    }
    assert_eq!(results[2].as_ref().unwrap_err().exception, Exception::Validation);
    let items = vec![input(Some(RequestedSpec::Known(DataKeySpec::Aes128)), None)];
    let results = bench.service.generate_data_keys(&bench.call(), items, true).await.unwrap();
    assert!(results[0].as_ref().unwrap().plaintext.is_empty());
}

#[tokio::test]
async fn random_bytes_come_from_a_connected_store() {
    let bench = Bench::new().await;
    let random = |bytes, store: &'static str| {
        let (service, call): (Service, _) = (bench.service.clone(), bench.call());
        async move { service.generate_random(&call, bytes, store, Extras::default()).await }
    };
    assert_eq!(random(Some(1_024), "").await.unwrap().len(), 1_024);
    assert_eq!(random(None, "").await.unwrap_err().message, "NumberOfBytes is required.");
    assert_eq!(exception(random(Some(0), "").await), Exception::Validation);
    assert_eq!(exception(random(Some(1), "cks-0").await), Exception::CustomKeyStoreNotFound);
    let (call, own) = (bench.call(), bench.key_store.as_str());
    let own = bench.service.generate_random(&call, Some(3), own, Extras::default()).await;
    assert_eq!(own.unwrap().len(), 3);
}

#[tokio::test]
async fn the_budget_of_a_key_version_ends_with_a_clear_word() {
    let mut bench = Bench::new().await;
    let key = bench.create().await;
    let blob = bench.encrypt(plain(&key.arn, b"secret")).await.unwrap();
    let version = KeyVersionId { key: key.id, version: 1 };
    let mut left = u64::MAX;
    while left > 0 {
        left = bench.store.reserve_encryptions(version, ENCRYPTIONS_PER_VERSION).await.unwrap();
    }
    bench.restart();
    bench.service.resume().await;
    let error = bench.encrypt(plain(&key.arn, b"secret")).await.unwrap_err();
    assert_eq!((error.exception, error.retryable), (Exception::LimitExceeded, false));
    assert_eq!(bench.decrypt(sealed(&blob)).await.unwrap(), b"secret");
}

#[tokio::test]
async fn what_is_left_of_a_key_is_shown_from_its_making_and_after_a_start() {
    let bench = Bench::new().await;
    let (key, other) = (bench.create().await, bench.create().await);
    let left = async |bench: &Bench, key: &str| {
        bench.service.describe_key_with(&bench.call(), key, GrantTokens::default()).await.unwrap().encryptions_left
    };
    assert_eq!(key.encryptions_left, ENCRYPTIONS_PER_VERSION);
    for _ in 0..3 {
        bench.encrypt(plain(&key.arn, b"bytes")).await.unwrap();
    }
    assert_eq!(left(&bench, &key.arn).await, ENCRYPTIONS_PER_VERSION - 3);
    let version = |id| KeyVersionId { key: id, version: 1 };
    assert_eq!(bench.service.scarcest(1), [(version(key.id), ENCRYPTIONS_PER_VERSION - 3)]);
    // An orderly end gives back what was not used. What a crash loses of a block counts as done.
    bench.service.return_budgets().await;
    bench.store.reserve_encryptions(version(other.id), 10).await.unwrap();
    let bench = bench.reopen().await;
    assert_eq!(left(&bench, &key.arn).await, ENCRYPTIONS_PER_VERSION - 3);
    assert_eq!(left(&bench, &other.arn).await, ENCRYPTIONS_PER_VERSION - 10);
    // A start reserves, and nothing is lost by that.
    bench.service.resume().await;
    assert_eq!(left(&bench, &other.arn).await, ENCRYPTIONS_PER_VERSION - 10);
}

/// What is left of a version's budget, durably.
async fn unreserved(bench: &Bench, version: KeyVersionId) -> u64 {
    let left = bench.store.reserve_encryptions(version, ENCRYPTIONS_PER_VERSION).await.unwrap();
    bench.store.return_encryptions(&[(version, left)]).await.unwrap();
    left
}

#[tokio::test]
async fn only_what_a_worker_has_had_counts() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let version = KeyVersionId { key: key.id, version: 1 };
    bench.encrypt(plain(&key.arn, b"one")).await.unwrap();
    bench.fake.fail("send", 0, 1_000);
    for _ in 0..1_000 {
        bench.encrypt(plain(&key.arn, b"unsent")).await.unwrap_err();
    }
    bench.fake.fail("encrypt", 0, 2);
    for _ in 0..2 {
        bench.encrypt(plain(&key.arn, b"sent in vain")).await.unwrap_err();
    }
    bench.encrypt(plain(&key.arn, b"two")).await.unwrap();
    // At an orderly end what was reserved and not used is there again.
    bench.service.return_budgets().await;
    assert_eq!(unreserved(&bench, version).await, ENCRYPTIONS_PER_VERSION - 4);
}

#[tokio::test]
async fn restarts_cost_nothing() {
    let mut bench = Bench::new().await;
    let key = bench.create().await;
    let version = KeyVersionId { key: key.id, version: 1 };
    for _ in 0..3 {
        bench.service.return_budgets().await;
        bench.restart();
        bench.service.resume().await;
    }
    bench.service.return_budgets().await;
    assert_eq!(unreserved(&bench, version).await, ENCRYPTIONS_PER_VERSION);
}

#[tokio::test]
async fn a_start_that_reserved_nothing_still_encrypts() {
    let mut bench = Bench::new().await;
    let key = bench.create().await;
    bench.restart();
    bench.encrypt(plain(&key.arn, b"secret")).await.unwrap();
}

async fn until(condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), met).await.expect("the condition is met in time");
}
