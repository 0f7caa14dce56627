//! Records, and what may be given out: nothing without its record, and nothing that has come to be forbidden.

use std::sync::Arc;
use std::time::Duration;

use super::bench::{Bench, Manner, exception, plain, sealed, statement};
use crate::GrantTokens;
use crate::core::recorder::Phase;
use crate::{Attached, Error, GeneratedDataKey, ListKeysInput, RequestContext};
use model::exception::Exception;
use model::operation::Operation;

async fn data_keys(
    bench: &Bench,
    call: RequestContext,
    key: &str,
    items: usize,
) -> Result<Vec<Result<GeneratedDataKey, Error>>, Error> {
    let input = |_| crate::DataKeyInput {
        key_id: key.to_owned(),
        key_spec: Some(crate::RequestedSpec::Known(model::key::DataKeySpec::Aes256)),
        ..crate::DataKeyInput::default()
    };
    bench.service.generate_data_keys(&call, (0..items).map(input).collect(), false).await
}

#[tokio::test]
async fn nothing_is_given_out_before_its_record_is_accepted() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    bench.recorder.taken();
    bench.recorder.is(Manner::Slow);
    let call = data_keys(&bench, bench.call(), &key.arn, 3);
    tokio::pin!(call);
    tokio::select! {
        biased;
        answered = &mut call => panic!("answered before the record: {answered:?}"),
        () = bench.recorder.given(1) => {}
    }
    // What was to be done is done: only the record is missing.
    assert!(futures_util::poll!(&mut call).is_pending());
    bench.recorder.accepts.send_replace(1);
    assert_eq!(call.await.unwrap().iter().filter(|item| item.is_ok()).count(), 3);
    let records = bench.recorder.taken();
    let [record] = &records[..] else { panic!("a batch has one record: {records:?}") };
    assert_eq!((record.operation, &record.outcomes[..]), (Some(Operation::GenerateDataKey), &[(None, 3)][..]));
    assert_eq!(record.resources, [Arc::from(key.arn.as_str())]);
    assert_eq!(record.principal.as_ref().map(|principal| principal.as_str()), Some("cn:anna"));
}

/// As which principal somebody called stands in the record as it was when it was decided, by items as without, refused or
/// not; and a principal that is taken away by the very call is named all the same.
#[tokio::test]
async fn a_record_names_the_principal_that_policies_know() {
    use super::permissions::{arn, bench, by, created, encrypt, principal};
    let bench = bench().await;
    let key = created(&bench).await;
    principal(&bench, "anna").await;
    let to = Attached::Principal(arn("anna"));
    bench.service.attach_policy(&by(&bench, "admin"), "Administrator", to).await.unwrap();
    bench.recorder.taken();
    encrypt(&bench, "anna", &key).await.unwrap();
    bench.service.describe_key_with(&by(&bench, "anna"), &key, GrantTokens::default()).await.unwrap();
    bench.service.encrypt(&by(&bench, "anna"), Vec::new()).await.unwrap_err();
    encrypt(&bench, "eve", &key).await.unwrap_err();
    bench.service.delete_principal(&by(&bench, "anna"), &arn("anna")).await.unwrap();
    encrypt(&bench, "anna", &key).await.unwrap_err();
    let records = bench.recorder.taken();
    let named: Vec<_> =
        records.iter().map(|record| record.caller.as_ref().map(|caller| caller.arn.to_string())).collect();
    let anna = Some(arn("anna"));
    // A change has two records.
    assert_eq!(named, [anna.clone(), anna.clone(), anna.clone(), None, anna.clone(), anna, None], "{records:?}");
}

#[tokio::test]
async fn a_recorder_that_fails_has_everything_withheld() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let blob = bench.encrypt(plain(&key.arn, b"bytes")).await.unwrap();
    bench.recorder.is(Manner::Fails);
    let items = data_keys(&bench, bench.call(), &key.arn, 2).await.unwrap();
    for item in items {
        let error = item.unwrap_err();
        assert_eq!((error.exception, error.retryable), (Exception::KmsInternal, true), "{error}");
    }
    assert_eq!(exception(bench.decrypt(sealed(&blob)).await), Exception::KmsInternal);
    let call = bench.call();
    let random = bench.service.generate_random(&call, Some(16), "", crate::Extras::default());
    assert_eq!(exception(random.await), Exception::KmsInternal);
    assert_eq!(
        exception(bench.service.describe_key_with(&call, &key.arn, GrantTokens::default()).await),
        Exception::KmsInternal
    );
    assert_eq!(exception(bench.service.list_keys(&call, ListKeysInput::default()).await), Exception::KmsInternal);
    assert_eq!(exception(bench.service.disable_key(&call, &key.arn).await), Exception::KmsInternal);
    // An error tells what it told before: there is nothing in it to withhold.
    assert_eq!(
        exception(bench.service.describe_key_with(&call, "nonsense", GrantTokens::default()).await),
        Exception::NotFound
    );
    bench.recorder.is(Manner::Quick);
    bench.service.enable_key(&call, &key.arn).await.unwrap();
    assert_eq!(bench.decrypt(sealed(&blob)).await.unwrap(), b"bytes");
}

#[tokio::test]
async fn a_recorder_that_hangs_gives_nothing_and_holds_up_nobody_for_ever() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    bench.recorder.is(Manner::Hangs);
    let call = bench.call_within(Duration::from_millis(50));
    let error = data_keys(&bench, call, &key.arn, 1).await.unwrap_err();
    assert_eq!(error.exception, Exception::DependencyTimeout);
    let call = bench.call_within(Duration::from_millis(50));
    assert_eq!(exception(bench.service.list_keys(&call, ListKeysInput::default()).await), Exception::DependencyTimeout);
    bench.recorder.is(Manner::Quick);
    data_keys(&bench, bench.call(), &key.arn, 1).await.unwrap().remove(0).unwrap();
}

#[tokio::test]
async fn what_is_forbidden_while_the_record_is_made_is_withheld_and_on_record() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    // By the key's state and by policies; the second look finds it, and the second record says it.
    for (round, by_policy) in [(0, false), (1, true)] {
        bench.recorder.taken();
        bench.recorder.is(Manner::Slow);
        let before = *bench.recorder.waiting.borrow();
        let call = data_keys(&bench, bench.call(), &key.arn, 2);
        tokio::pin!(call);
        tokio::select! {
            biased;
            answered = &mut call => panic!("round {round}: answered before the record: {answered:?}"),
            () = bench.recorder.given(before + 1) => {}
        }
        bench.recorder.is(Manner::Quick);
        if by_policy {
            bench.may_nothing();
        } else {
            bench.service.disable_key(&bench.call(), &key.arn).await.unwrap();
        }
        bench.recorder.accepts.send_replace(before + 1);
        let expected = if by_policy { Exception::AccessDenied } else { Exception::Disabled };
        for item in call.await.unwrap() {
            assert_eq!(item.unwrap_err().exception, expected, "round {round}");
        }
        let records = bench.recorder.taken();
        let of_call = records.iter().filter(|record| record.operation == Some(Operation::GenerateDataKey));
        let told: Vec<_> = of_call.map(|record| (record.phase, record.outcomes.clone())).collect();
        assert_eq!(told, [(Phase::Ended, vec![(None, 2)]), (Phase::Withheld, vec![(Some(expected), 2)])]);
        bench.may_everything();
        bench.service.enable_key(&bench.call(), &key.arn).await.unwrap();
    }
}

#[tokio::test]
async fn what_an_operation_shows_is_looked_at_once_more_too() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    bench.recorder.is(Manner::Slow);
    let call = bench.call();
    let described = bench.service.describe_key_with(&call, &key.arn, GrantTokens::default());
    tokio::pin!(described);
    tokio::select! {
        biased;
        answered = &mut described => panic!("answered before the record: {answered:?}"),
        () = bench.recorder.given(1) => {}
    }
    bench.recorder.is(Manner::Quick);
    bench.may_nothing();
    bench.recorder.accepts.send_replace(1);
    assert_eq!(exception(described.await), Exception::AccessDenied);
    assert_eq!(bench.recorder.taken().last().map(|record| record.phase), Some(Phase::Withheld));
}

#[tokio::test]
async fn a_refused_call_has_one_record() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    bench.recorder.taken();
    assert!(data_keys(&bench, bench.call(), &key.arn, 0).await.is_err());
    assert!(bench.service.describe_key_with(&bench.call(), "nonsense", GrantTokens::default()).await.is_err());
    assert!(bench.encrypt(plain("nonsense", b"x")).await.is_err());
    bench.may_nothing();
    // What cannot be a key's name is told as such, whoever asks.
    assert!(bench.service.describe_key_with(&bench.call(), "nonsense", GrantTokens::default()).await.is_err());
    assert!(bench.service.list_keys(&bench.call(), ListKeysInput::default()).await.is_err());
    assert!(bench.encrypt(plain(&key.arn, b"x")).await.is_err());
    let told: Vec<_> = bench.recorder.taken().into_iter().map(|record| (record.operation, record.outcomes)).collect();
    let once = |operation, exception| (Some(operation), vec![(Some(exception), 1)]);
    assert_eq!(
        told,
        [
            once(Operation::GenerateDataKey, Exception::Validation),
            once(Operation::DescribeKey, Exception::NotFound),
            once(Operation::Encrypt, Exception::NotFound),
            once(Operation::DescribeKey, Exception::NotFound),
            once(Operation::ListKeys, Exception::AccessDenied),
            once(Operation::Encrypt, Exception::AccessDenied),
        ]
    );
}

#[tokio::test]
async fn whether_a_thing_exists_is_told_only_to_those_who_may_use_it() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let blob = bench.encrypt(plain(&key.arn, b"bytes")).await.unwrap();
    let other = key.arn.replace(&key.id.to_string(), "00000000-0000-4000-8000-000000000001");
    let mut foreign = blob.clone();
    foreign[1] ^= 0xff;
    let service = &bench.service;
    bench.principal("eve").await;
    let eve = bench.call_of("cn:eve", Duration::from_secs(30));
    let denied = |error: Error, name: &str| {
        assert_eq!(error.exception, Exception::AccessDenied, "{error}");
        assert!(!error.retryable);
        error.message.replace(name, "NAME")
    };
    // Encrypt, Decrypt by name and by what the ciphertext says, DescribeKey, EnableKey.
    let encrypt = async |arn: &str| service.encrypt(&eve, vec![plain(arn, b"x")]).await.unwrap().remove(0).unwrap_err();
    assert_eq!(denied(encrypt(&key.arn).await, &key.arn), denied(encrypt(&other).await, &other));
    let decrypt = async |blob: &[u8]| service.decrypt(&eve, vec![sealed(blob)]).await.unwrap().remove(0).unwrap_err();
    assert_eq!(decrypt(&blob).await.exception, Exception::AccessDenied);
    assert_eq!(decrypt(&foreign).await.exception, Exception::AccessDenied);
    let named = async |arn: &str| {
        let item = crate::DecryptInput { key_id: arn.to_owned(), ..sealed(&blob) };
        service.decrypt(&eve, vec![item]).await.unwrap().remove(0).unwrap_err()
    };
    assert_eq!(denied(named(&key.arn).await, &key.arn), denied(named(&other).await, &other));
    let describe = async |arn: &str| service.describe_key_with(&eve, arn, GrantTokens::default()).await.unwrap_err();
    assert_eq!(denied(describe(&key.arn).await, &key.arn), denied(describe(&other).await, &other));
    let enable = async |arn: &str| service.enable_key(&eve, arn).await.unwrap_err();
    assert_eq!(denied(enable(&key.arn).await, &key.arn), denied(enable(&other).await, &other));
    let (store, none) = (bench.key_store.as_str(), "cks-00000000000000000");
    let connect = async |id: &str| service.connect_key_store(&eve, id).await.unwrap_err();
    assert_eq!(denied(connect(store).await, store), denied(connect(none).await, none));
    let (cluster, none) = (bench.fake.id.as_str(), "cluster-zzzzzzzzzzz");
    let clusters = async |id: &str| service.describe_clusters(&eve, id).await.unwrap_err();
    assert_eq!(denied(clusters(cluster).await, cluster), denied(clusters(none).await, none));
    // Who may is told the truth.
    let anna = bench.call();
    assert_eq!(exception(service.describe_key_with(&anna, &other, GrantTokens::default()).await), Exception::NotFound);
    assert_eq!(
        exception(service.connect_key_store(&anna, "cks-00000000000000000").await),
        Exception::CustomKeyStoreNotFound
    );
    assert_eq!(exception(bench.decrypt(sealed(&foreign)).await), Exception::InvalidCiphertext);
}

#[tokio::test]
async fn a_statement_reaches_one_key_one_store_and_one_encryption_context() {
    let bench = Bench::new().await;
    let (key, other) = (bench.create().await, bench.create().await);
    let scope = key.arn.split(":key/").next().unwrap();
    let store = format!("{scope}:key-store/{}", bench.key_store);
    let on_key = statement("Allow", "*", &key.arn, &[("tenant", "7")]);
    bench.may_only(&[on_key, statement("Allow", "*", &store, &[])]).await;
    let with = |key: &str, tenant: &str| crate::EncryptInput {
        context: super::bench::context(&[("tenant", tenant)]),
        ..plain(key, b"x")
    };
    bench.encrypt(with(&key.arn, "7")).await.unwrap();
    for refused in [with(&key.arn, "8"), plain(&key.arn, b"x"), with(&other.arn, "7")] {
        assert_eq!(exception(bench.encrypt(refused).await), Exception::AccessDenied);
    }
    let (service, call) = (&bench.service, bench.call());
    service.describe_key_stores(&call, bench.key_store.as_str(), "", None, "").await.unwrap();
    for other in ["", "cks-00000000000000000"] {
        let refused = service.describe_key_stores(&call, other, "", None, "").await;
        assert_eq!(exception(refused.map(|_| ())), Exception::AccessDenied, "{other:?}");
    }
}
