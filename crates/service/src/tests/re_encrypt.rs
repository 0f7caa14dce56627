//! Encrypting anew: two keys, each with its permission, its state and its context.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::bench::{Bench, Manner, USERS, context, exception, plain, sealed, statement};
use super::data::BEGINS;
use super::fake::Fake;
use crate::core::cluster_registry::ActiveCluster;
use crate::core::hsm_cluster::Members;
use crate::core::recorder::Phase;
use crate::{CreateKeyInput, DecryptInput, EncryptInput, Error, KeyMetadata, ReEncryptInput, ReEncrypted};
use model::clock::Clock;
use model::exception::Exception;
use model::id::{ClusterId, KeyId, KeyVersionId};
use model::key::KeyState;
use model::limits::ENCRYPTIONS_PER_VERSION;
use model::operation::Operation;

const FROM: &str = "kms:ReEncryptFrom";
const TO: &str = "kms:ReEncryptTo";

fn item(ciphertext: &[u8], destination: &str) -> ReEncryptInput {
    ReEncryptInput {
        ciphertext: ciphertext.to_vec().into(),
        destination_key_id: destination.to_owned(),
        ..ReEncryptInput::default()
    }
}

async fn anew(bench: &Bench, item: ReEncryptInput) -> Result<ReEncrypted, Error> {
    bench.service.re_encrypt(&bench.call(), vec![item]).await?.remove(0)
}

fn allow(action: &str, key: &KeyMetadata) -> String {
    statement("Allow", action, &key.arn, &[])
}

/// Everything but this with that key.
fn all_but(action: &str, key: &KeyMetadata) -> [String; 2] {
    [statement("Allow", "*", "*", &[]), statement("Deny", action, &key.arn, &[])]
}

/// Two keys, and a ciphertext under the first one with a context.
async fn two() -> (Bench, KeyMetadata, KeyMetadata, Vec<u8>) {
    let bench = Bench::new().await;
    let (from, to) = (bench.create().await, bench.create().await);
    let input = EncryptInput { context: context(&[("old", "1")]), ..plain(&from.arn, b"secret") };
    let blob = bench.encrypt(input).await.unwrap();
    (bench, from, to, blob)
}

fn old(item: ReEncryptInput) -> ReEncryptInput {
    ReEncryptInput { source_context: context(&[("old", "1")]), ..item }
}

#[tokio::test]
async fn what_was_encrypted_anew_opens_under_the_new_key_and_context_only() {
    let (bench, from, to, blob) = two().await;
    let material = |key: &KeyMetadata| bench.store.catalogue().key(key.id).unwrap().versions[0].material_id.clone();
    for source_key_id in [String::new(), from.id.to_string(), from.arn.clone()] {
        for destination in [to.id.to_string(), to.arn.clone()] {
            let input = ReEncryptInput {
                source_key_id: source_key_id.clone(),
                destination_context: context(&[("new", "2")]),
                ..old(item(&blob, &destination))
            };
            let made = anew(&bench, input).await.unwrap();
            assert_eq!((&*made.source_key_arn, &*made.key_arn), (from.arn.as_str(), to.arn.as_str()));
            assert_eq!((made.source_material_id, made.material_id), (material(&from), material(&to)));
            let with = |pairs: &[(&str, &str)]| DecryptInput { context: context(pairs), ..sealed(&made.ciphertext) };
            assert_eq!(bench.decrypt(with(&[("new", "2")])).await.unwrap(), b"secret");
            for pairs in [&[][..], &[("old", "1")]] {
                assert_eq!(exception(bench.decrypt(with(pairs)).await), Exception::InvalidCiphertext);
            }
        }
    }
    // Under the same key: another context, or none.
    let made = anew(&bench, old(item(&blob, &from.arn))).await.unwrap();
    assert_eq!(made.source_key_arn, made.key_arn);
    assert_eq!(bench.decrypt(sealed(&made.ciphertext)).await.unwrap(), b"secret");
    // Nothing else than this verb was asked of the HSMs, so nothing in clear has been here.
    let asked = bench.fake.asked.lock().unwrap().clone();
    assert_eq!(asked.iter().filter(|asked| **asked == ("re-encrypt", 1)).count(), 7);
    assert!(asked.iter().all(|(verb, _)| !["take out", "bring in"].contains(verb)), "{asked:?}");
}

#[tokio::test]
async fn it_is_the_last_use_of_both_keys() {
    let bench = Bench::by(Clock::manual(), &["a", "b"]).await;
    let (from, to) = (bench.create().await, bench.create().await);
    let blob = bench.encrypt(plain(&from.arn, b"secret")).await.unwrap();
    bench.clock.advance(Duration::from_secs(3_600));
    anew(&bench, item(&blob, &to.arn)).await.unwrap();
    for key in [&from, &to] {
        let usage = bench.service.get_key_last_usage(&bench.call(), &key.arn).await.unwrap();
        assert_eq!(usage.last.map(|last| last.operation).as_deref(), Some("ReEncrypt"));
    }
}

#[tokio::test]
async fn each_key_has_its_own_permission() {
    let (bench, from, to, blob) = two().await;
    let none = KeyId::random();
    let nowhere = from.arn.replace(&from.id.to_string(), &none.to_string());
    let mut foreign = blob.clone();
    foreign[1..17].copy_from_slice(none.as_bytes());
    bench.may_only(&[allow(FROM, &from), allow(TO, &to)]).await;
    anew(&bench, old(item(&blob, &to.arn))).await.unwrap();
    // (what is allowed, what is denied, of which key)
    let cases = [
        (vec![allow(FROM, &from)], TO, &to),
        (vec![allow(TO, &to)], FROM, &from),
        (vec![allow(TO, &from), allow(FROM, &to)], FROM, &from),
        (vec![allow("kms:Decrypt", &from), allow("kms:Encrypt", &to)], FROM, &from),
        (vec![allow(FROM, &from), allow(TO, &from), allow(FROM, &to)], TO, &to),
    ];
    for (statements, denied, of) in cases {
        bench.may_only(&statements).await;
        let error = anew(&bench, old(item(&blob, &to.arn))).await.unwrap_err();
        let expected = format!(
            "User: {USERS}/anna is not authorized to perform: {denied} on resource: {} because nothing allows it",
            of.arn
        );
        assert_eq!((error.exception, error.message), (Exception::AccessDenied, expected));
    }
    // Whether there is such a key is not told: as what the ciphertext names, by name, and as the destination.
    bench.may_only(&[allow(FROM, &from)]).await;
    let denied = async |input: ReEncryptInput| {
        let error = anew(&bench, input).await.unwrap_err();
        assert_eq!(error.exception, Exception::AccessDenied, "{error}");
        error.message
    };
    let there = denied(old(item(&blob, &to.arn))).await.replace(&to.arn, "KEY");
    assert_eq!(denied(old(item(&blob, &nowhere))).await.replace(&nowhere, "KEY"), there);
    bench.may_only(&[allow(TO, &to)]).await;
    let there = denied(old(item(&blob, &to.arn))).await.replace(&from.arn, "KEY");
    assert_eq!(denied(old(item(&foreign, &to.arn))).await.replace(&nowhere, "KEY"), there);
    let named = ReEncryptInput { source_key_id: nowhere.clone(), ..old(item(&blob, &to.arn)) };
    assert_eq!(denied(named).await.replace(&nowhere, "KEY"), there);
    // A condition on the context is about the context of that key.
    let with_old = statement("Allow", FROM, &from.arn, &[("old", "1")]);
    bench.may_only(&[with_old, statement("Allow", TO, &to.arn, &[("new", "2")])]).await;
    let right = || ReEncryptInput { destination_context: context(&[("new", "2")]), ..old(item(&blob, &to.arn)) };
    anew(&bench, right()).await.unwrap();
    denied(old(item(&blob, &to.arn))).await;
    denied(ReEncryptInput { source_context: context(&[]), ..right() }).await;
}

#[tokio::test]
async fn what_is_wrong_with_either_is_told_and_reaches_no_hsm() {
    let (bench, from, to, blob) = two().await;
    let begun = bench.fake.begun.load(Ordering::SeqCst);
    let refused = async |input: ReEncryptInput| {
        let error = anew(&bench, input).await.unwrap_err();
        (error.exception, error.message)
    };
    let good = || old(item(&blob, &to.arn));
    let named = |key: &str| ReEncryptInput { source_key_id: key.to_owned(), ..good() };
    let unknown = KeyId::random().to_string();
    let mut foreign = blob.clone();
    foreign[1] ^= 1;
    let cases = [
        (item(&blob[..40], &to.arn), Exception::InvalidCiphertext),
        (item(&foreign, &to.arn), Exception::InvalidCiphertext),
        (item(b"", &to.arn), Exception::Validation),
        (item(&[1; 6_145], &to.arn), Exception::Validation),
        (named(&to.arn), Exception::IncorrectKey),
        (named(&unknown), Exception::NotFound),
        (named("nonsense"), Exception::NotFound),
        (old(item(&blob, &unknown)), Exception::NotFound),
        (old(item(&blob, "")), Exception::Validation),
        (old(item(&blob, "arn:aws:s3:::bucket")), Exception::InvalidArn),
        (
            ReEncryptInput { destination_context: context(&[("k", &"v".repeat(9_000))]), ..good() },
            Exception::Validation,
        ),
        (ReEncryptInput { source_context: context(&[("k", &"v".repeat(9_000))]), ..good() }, Exception::Validation),
    ];
    for (number, (input, expected)) in cases.into_iter().enumerate() {
        assert_eq!(refused(input).await.0, expected, "case {number}");
    }
    let states = [
        (KeyState::Disabled, Exception::Disabled, "is disabled."),
        (KeyState::PendingDeletion, Exception::KmsInvalidState, "is pending deletion."),
        (KeyState::Creating, Exception::KmsInvalidState, "is creating."),
    ];
    for key in [&from, &to] {
        for (state, exception, text) in states {
            bench.store.force_state(key.id, state).await.unwrap();
            assert_eq!(refused(good()).await, (exception, format!("{} {text}", key.arn)));
        }
        bench.store.force_state(key.id, KeyState::Enabled).await.unwrap();
    }
    assert_eq!(bench.fake.begun.load(Ordering::SeqCst), begun);
    // The HSMs' word: another context than the ciphertext was made with.
    assert_eq!(refused(item(&blob, &to.arn)).await, (Exception::InvalidCiphertext, String::new()));
    // One item's failure is not the others'.
    let items = vec![good(), item(&blob, &to.arn), old(item(&blob, &unknown)), good()];
    let results = bench.service.re_encrypt(&bench.call(), items).await.unwrap();
    let outcomes: Vec<_> = results.iter().map(|result| result.as_ref().err().map(|error| error.exception)).collect();
    assert_eq!(outcomes, [None, Some(Exception::InvalidCiphertext), Some(Exception::NotFound), None]);
}

#[tokio::test]
async fn what_is_forbidden_of_either_key_meanwhile_is_withheld() {
    let (bench, from, to, blob) = two().await;
    let both = || {
        let mut both = vec![Arc::from(from.arn.as_str()), Arc::from(to.arn.as_str())];
        both.sort();
        both
    };
    for (key, action) in [(&from, FROM), (&to, TO)] {
        for by_policy in [false, true] {
            bench.recorder.taken();
            bench.recorder.is(Manner::Slow);
            let before = *bench.recorder.waiting.borrow();
            let call = anew(&bench, old(item(&blob, &to.arn)));
            tokio::pin!(call);
            tokio::select! {
                biased;
                answered = &mut call => panic!("answered before the record: {answered:?}"),
                () = bench.recorder.given(before + 1) => {}
            }
            bench.recorder.is(Manner::Quick);
            if by_policy {
                bench.may_only(&all_but(action, key)).await;
            } else {
                bench.service.disable_key(&bench.call(), &key.arn).await.unwrap();
            }
            bench.recorder.accepts.send_replace(before + 1);
            let expected = if by_policy { Exception::AccessDenied } else { Exception::Disabled };
            assert_eq!(exception(call.await), expected, "{action}");
            let records = bench.recorder.taken();
            let of_call = records.iter().filter(|record| record.operation == Some(Operation::ReEncrypt));
            let told: Vec<_> = of_call.map(|record| (record.phase, record.resources.clone())).collect();
            let sorted = |mut arns: Vec<Arc<str>>| {
                arns.sort();
                arns
            };
            let told: Vec<_> = told.into_iter().map(|(phase, arns)| (phase, sorted(arns))).collect();
            assert_eq!(told, [(Phase::Ended, both()), (Phase::Withheld, both())]);
            bench.may_everything();
            bench.service.enable_key(&bench.call(), &key.arn).await.unwrap();
        }
    }
    // What is refused has both on record too, whichever it was refused for.
    for (action, key) in [(FROM, &from), (TO, &to)] {
        bench.may_only(&all_but(action, key)).await;
        bench.recorder.taken();
        anew(&bench, old(item(&blob, &to.arn))).await.unwrap_err();
        let records = bench.recorder.taken();
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].resources, both());
    }
}

/// What is left of a key's budget, durably.
async fn unreserved(bench: &Bench, key: &KeyMetadata) -> u64 {
    let version = KeyVersionId { key: key.id, version: 1 };
    let left = bench.store.reserve_encryptions(version, ENCRYPTIONS_PER_VERSION).await.unwrap();
    bench.store.return_encryptions(&[(version, left)]).await.unwrap();
    left
}

#[tokio::test]
async fn it_takes_one_encryption_of_the_destination_and_none_of_the_source() {
    let (bench, from, to, blob) = two().await;
    for _ in 0..3 {
        anew(&bench, old(item(&blob, &to.arn))).await.unwrap();
    }
    bench.fake.fail("send", 0, 5);
    for _ in 0..5 {
        anew(&bench, old(item(&blob, &to.arn))).await.unwrap_err();
    }
    bench.service.return_budgets().await;
    assert_eq!(unreserved(&bench, &to).await, ENCRYPTIONS_PER_VERSION - 3, "what no worker has had does not count");
    assert_eq!(unreserved(&bench, &from).await, ENCRYPTIONS_PER_VERSION - 1, "the one that made the ciphertext");
}

/// A key in another cluster.
async fn elsewhere(bench: &Bench) -> (Arc<Fake>, KeyMetadata) {
    let mut fake = Fake::over(&["zone-a", "zone-b"]);
    fake.id = ClusterId::parse("cluster-bbbbbbbbbbb").unwrap();
    let fake = Arc::new(fake);
    let key_store = bench.store.connected_key_store("other", &fake.id).await;
    let members = Members::of(fake.clone());
    bench.service.core.registry().put(ActiveCluster { key_store: key_store.clone(), members, running: None });
    let input = CreateKeyInput { key_store_id: key_store.to_string(), ..CreateKeyInput::default() };
    (fake, bench.service.create_key(&bench.call(), input).await.unwrap())
}

#[tokio::test]
async fn between_two_clusters_one_opens_and_the_other_encrypts() {
    let (bench, from, to, blob) = two().await;
    let (other, far) = elsewhere(&bench).await;
    bench.fake.asked.lock().unwrap().clear();
    let asked = || (bench.fake.asked.lock().unwrap().clone(), other.asked.lock().unwrap().clone());
    let made = anew(&bench, old(item(&blob, &far.arn))).await.unwrap();
    assert_eq!((&*made.source_key_arn, &*made.key_arn), (from.arn.as_str(), far.arn.as_str()));
    assert_eq!(asked(), (vec![("take out", 1)], vec![("bring in", 1)]));
    assert_eq!(bench.decrypt(sealed(&made.ciphertext)).await.unwrap(), b"secret");
    // In one call: there, not at all, within the cluster, and back again.
    let items = vec![
        old(item(&blob, &far.arn)),
        item(&blob, &far.arn),
        old(item(&blob, &to.arn)),
        item(&made.ciphertext, &from.arn),
        old(item(&blob, &far.arn)),
    ];
    let results = bench.service.re_encrypt(&bench.call(), items).await.unwrap();
    assert_eq!(results[1].as_ref().unwrap_err().exception, Exception::InvalidCiphertext);
    for place in [0, 2, 3, 4] {
        let made = results[place].as_ref().unwrap();
        assert_eq!(bench.decrypt(sealed(&made.ciphertext)).await.unwrap(), b"secret", "item {place}");
    }
    // What was not opened takes nothing of the destination's budget; what the other cluster had does.
    other.fail("encrypt", 0, 1);
    anew(&bench, old(item(&blob, &far.arn))).await.unwrap_err();
    other.fail("send", 0, 1);
    anew(&bench, old(item(&blob, &far.arn))).await.unwrap_err();
    bench.service.return_budgets().await;
    assert_eq!(unreserved(&bench, &far).await, ENCRYPTIONS_PER_VERSION - 4);
    // Either store's connection is needed.
    bench.service.core.registry().take(&far.key_store);
    let error = anew(&bench, old(item(&blob, &far.arn))).await.unwrap_err();
    assert_eq!(error.exception, Exception::KmsInvalidState);
    assert!(error.message.contains(&far.arn), "{error}");
}

#[tokio::test]
async fn a_call_goes_on_without_its_caller_and_ends_by_its_deadline() {
    let (bench, _, to, blob) = two().await;
    bench.fake.close_gate();
    let call = bench.call_within(BEGINS);
    let error = bench.service.re_encrypt(&call, vec![old(item(&blob, &to.arn))]).await.unwrap_err();
    assert_eq!((error.exception, error.retryable), (Exception::DependencyTimeout, true));
    bench.fake.open_gate();
    bench.service.drained(Duration::from_secs(30)).await;
    let seen = bench.seen.finished.lock().unwrap();
    assert!(seen.contains(&(Operation::ReEncrypt, None, 1)), "{seen:?}");
}
