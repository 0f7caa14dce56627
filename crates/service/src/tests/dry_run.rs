//! What is decided without an HSM, and what is refused rather than ignored.

use std::sync::atomic::Ordering;

use super::bench::{Bench, exception, plain, sealed};
use crate::{DataKeyInput, DecryptInput, EncryptInput, Error, Extras, ReEncryptInput, RequestedSpec};
use model::exception::Exception;
use model::id::{KeyId, KeyVersionId};
use model::key::{DataKeySpec, KeyState};
use model::limits::ENCRYPTIONS_PER_VERSION;
use model::operation::Operation;

const OPERATIONS: [Operation; 5] = [
    Operation::Encrypt,
    Operation::Decrypt,
    Operation::GenerateDataKey,
    Operation::GenerateDataKeyWithoutPlaintext,
    Operation::ReEncrypt,
];

/// Whether each item succeeded, or with what error it did not.
async fn asked(bench: &Bench, operation: Operation, key: &str, blob: &[u8], extras: &[Extras]) -> Vec<Option<Error>> {
    fn errors<T>(results: Result<Vec<Result<T, Error>>, Error>) -> Vec<Option<Error>> {
        results.unwrap().into_iter().map(Result::err).collect()
    }
    let (service, call, each) = (&bench.service, bench.call(), extras.iter().cloned());
    match operation {
        Operation::Encrypt => {
            let item = |extras| EncryptInput { extras, ..plain(key, b"secret") };
            errors(service.encrypt(&call, each.map(item).collect()).await)
        }
        Operation::Decrypt => {
            let item = |extras| DecryptInput { extras, key_id: key.to_owned(), ..sealed(blob) };
            errors(service.decrypt(&call, each.map(item).collect()).await)
        }
        Operation::GenerateDataKey | Operation::GenerateDataKeyWithoutPlaintext => {
            let key_spec = Some(RequestedSpec::Known(DataKeySpec::Aes256));
            let item = |extras| DataKeyInput { key_id: key.to_owned(), key_spec, extras, ..DataKeyInput::default() };
            let without = operation == Operation::GenerateDataKeyWithoutPlaintext;
            errors(service.generate_data_keys(&call, each.map(item).collect(), without).await)
        }
        Operation::ReEncrypt => {
            let (ciphertext, key) = (bytes::Bytes::copy_from_slice(blob), key.to_owned());
            let item = |extras| ReEncryptInput {
                ciphertext: ciphertext.clone(),
                destination_key_id: key.clone(),
                extras,
                ..ReEncryptInput::default()
            };
            errors(service.re_encrypt(&call, each.map(item).collect()).await)
        }
        other => panic!("{other:?} has no items"),
    }
}

fn wet() -> Extras {
    Extras::default()
}

fn dry() -> Extras {
    Extras { dry_run: true, ..Extras::default() }
}

#[tokio::test]
async fn a_dry_run_tells_what_would_come_of_it_and_does_nothing() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let version = KeyVersionId { key: key.id, version: 1 };
    let blob = bench.encrypt(plain(&key.arn, b"secret")).await.unwrap();
    let unknown = KeyId::random().to_string();
    for operation in OPERATIONS {
        let begun = bench.fake.begun.load(Ordering::SeqCst);
        let only = async |key: &str| {
            let error =
                asked(&bench, operation, key, &blob, &[dry()]).await.remove(0).expect("a dry run gives nothing");
            (error.exception, error.message)
        };
        bench.recorder.taken();
        let would = "The request would have succeeded, but the DryRun option is set.".to_owned();
        assert_eq!(only(&key.arn).await, (Exception::DryRunOperation, would), "{operation:?}");
        let record = bench.recorder.taken().remove(0);
        assert_eq!((record.operation, record.resources), (Some(operation), vec![key.arn.as_str().into()]));
        assert_eq!(record.outcomes, [(Some(Exception::DryRunOperation), 1)]);
        // The real error, where there would be one.
        assert_eq!(only(&unknown).await.0, Exception::NotFound);
        bench.store.force_state(key.id, KeyState::Disabled).await.unwrap();
        assert_eq!(only(&key.arn).await.0, Exception::Disabled);
        bench.store.force_state(key.id, KeyState::Enabled).await.unwrap();
        bench.may_nothing();
        assert_eq!(only(&key.arn).await.0, Exception::AccessDenied);
        bench.may_everything();
        assert_eq!(bench.fake.begun.load(Ordering::SeqCst), begun, "{operation:?} reached an HSM");
        // Item by item.
        let outcomes = asked(&bench, operation, &key.arn, &blob, &[wet(), dry(), wet()]).await;
        let outcomes: Vec<_> = outcomes.into_iter().map(|error| error.map(|error| error.exception)).collect();
        assert_eq!(outcomes, [None, Some(Exception::DryRunOperation), None], "{operation:?}");
    }
    bench.service.return_budgets().await;
    let left = bench.store.reserve_encryptions(version, ENCRYPTIONS_PER_VERSION).await.unwrap();
    assert_eq!(left, ENCRYPTIONS_PER_VERSION - 9, "the first, and two of each operation that encrypts");
}

#[tokio::test]
async fn a_dry_run_knows_of_a_bad_ciphertext_what_can_be_known_without_an_hsm() {
    let bench = Bench::new().await;
    let (key, other) = (bench.create().await, bench.create().await);
    let blob = bench.encrypt(plain(&key.arn, b"secret")).await.unwrap();
    let mut altered = blob.clone();
    *altered.last_mut().unwrap() ^= 1;
    let mut later = blob.clone();
    later[20] = 9;
    let dry = async |key_id: &str, blob: &[u8]| {
        exception(bench.decrypt(DecryptInput { extras: dry(), key_id: key_id.to_owned(), ..sealed(blob) }).await)
    };
    assert_eq!(dry("", &blob[..40]).await, Exception::InvalidCiphertext);
    assert_eq!(dry("", &later).await, Exception::InvalidCiphertext);
    assert_eq!(dry(&other.arn, &blob).await, Exception::IncorrectKey);
    assert_eq!(dry("", &altered).await, Exception::DryRunOperation, "only the HSM could tell");
}

#[tokio::test]
async fn a_dry_run_can_do_without_a_ciphertext() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let begun = bench.fake.begun.load(Ordering::SeqCst);
    let extras = Extras { ignore_ciphertext: true, ..dry() };
    let decrypt = async |key_id: &str, extras: &Extras| {
        let input = DecryptInput { key_id: key_id.to_owned(), extras: extras.clone(), ..DecryptInput::default() };
        exception(bench.decrypt(input).await)
    };
    let re_encrypt = async |source: &str, extras: &Extras| {
        let (source_key_id, destination_key_id, extras) = (source.to_owned(), key.arn.clone(), extras.clone());
        let input = ReEncryptInput { source_key_id, destination_key_id, extras, ..ReEncryptInput::default() };
        exception(bench.service.re_encrypt(&bench.call(), vec![input]).await.unwrap().remove(0))
    };
    let unknown = KeyId::random().to_string();
    for (key_id, extras, expected) in [
        (key.arn.as_str(), extras.clone(), Exception::DryRunOperation),
        (unknown.as_str(), extras.clone(), Exception::NotFound),
        ("", extras.clone(), Exception::Validation),
        // Without it an empty ciphertext is none.
        (key.arn.as_str(), dry(), Exception::Validation),
        // A modifier of nothing, and one that nobody knows.
        (key.arn.as_str(), Extras { dry_run: false, ..extras }, Exception::Validation),
        (key.arn.as_str(), Extras { unknown_modifier: true, ..dry() }, Exception::Validation),
    ] {
        assert_eq!(decrypt(key_id, &extras).await, expected, "{key_id} {extras:?}");
        assert_eq!(re_encrypt(key_id, &extras).await, expected, "{key_id} {extras:?}");
    }
    assert_eq!(bench.fake.begun.load(Ordering::SeqCst), begun);
}

#[tokio::test]
async fn a_dry_run_tells_that_a_key_is_worn_out() {
    let mut bench = Bench::new().await;
    let key = bench.create().await;
    let blob = bench.encrypt(plain(&key.arn, b"secret")).await.unwrap();
    let version = KeyVersionId { key: key.id, version: 1 };
    while bench.store.reserve_encryptions(version, ENCRYPTIONS_PER_VERSION).await.unwrap() > 0 {}
    bench.restart();
    bench.service.resume().await;
    for operation in OPERATIONS {
        // What is reserved is asked for by the first that needs it.
        asked(&bench, Operation::Encrypt, &key.arn, &blob, &[wet()]).await;
        let told = asked(&bench, operation, &key.arn, &blob, &[dry()]).await.remove(0).unwrap().exception;
        let expected =
            if operation == Operation::Decrypt { Exception::DryRunOperation } else { Exception::LimitExceeded };
        assert_eq!(told, expected, "{operation:?}");
    }
}

#[tokio::test]
async fn recipients_are_refused_rather_than_ignored() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let blob = bench.encrypt(plain(&key.arn, b"secret")).await.unwrap();
    let begun = bench.fake.begun.load(Ordering::SeqCst);
    for dry_run in [false, true] {
        let extras = Extras { recipient: true, dry_run, ..Extras::default() };
        for operation in OPERATIONS {
            let error =
                asked(&bench, operation, &key.arn, &blob, std::slice::from_ref(&extras)).await.remove(0).unwrap();
            assert_eq!((error.exception, error.retryable), (Exception::UnsupportedOperation, false));
            assert!(error.message.contains("recipient"), "{error}");
        }
        let random = bench.service.generate_random(&bench.call(), Some(1), "", extras).await;
        assert_eq!(exception(random), Exception::UnsupportedOperation);
    }
    assert_eq!(bench.fake.begun.load(Ordering::SeqCst), begun);
}

#[tokio::test]
async fn answers_name_the_material() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let blob = bench.encrypt(plain(&key.arn, b"secret")).await.unwrap();
    let material = bench.store.catalogue().key(key.id).unwrap().versions[0].material_id.clone();
    assert!(material.len() == 64 && material.bytes().all(|digit| digit.is_ascii_hexdigit()), "{material}");
    let opened = bench.service.decrypt(&bench.call(), vec![sealed(&blob)]).await.unwrap().remove(0).unwrap();
    assert_eq!(opened.material_id, material);
    for without in [false, true] {
        let item = DataKeyInput { key_id: key.arn.clone(), number_of_bytes: Some(8), ..DataKeyInput::default() };
        let made = bench.service.generate_data_keys(&bench.call(), vec![item], without).await.unwrap().remove(0);
        assert_eq!(made.unwrap().material_id, material);
    }
}
