//! Encrypting anew on real tokens: two keys, two contexts, one HSM, and a plaintext that does not come to the daemon.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use proto::v1::stream_request::Request as StreamCall;
use proto::v1::{
    BatchReEncryptRequest, CreateAliasRequest, CreateKeyRequest, DecryptRequest, DescribeKeyRequest, EncryptRequest,
    GenerateDataKeyRequest, GenerateDataKeyWithoutPlaintextRequest, GenerateRandomRequest, ReEncryptRequest,
    ReEncryptResponse, RecipientInfo, RotateKeyOnDemandRequest, StreamRequest, re_encrypt_result, stream_response,
};

use crate::harness::other::PIN;
use crate::harness::process::remembers;
use crate::harness::{Caller, Daemon, Failure, context, shared};
use crate::key_stores::with_two_clusters;

fn item(ciphertext: &[u8], pairs: &BTreeMap<String, String>, destination: &str) -> ReEncryptRequest {
    ReEncryptRequest {
        ciphertext_blob: ciphertext.to_vec().into(),
        source_encryption_context: pairs.clone(),
        destination_key_id: destination.to_owned(),
        ..Default::default()
    }
}

async fn anew(caller: &Caller, request: ReEncryptRequest) -> Result<ReEncryptResponse, Failure> {
    Ok(caller.crypto.clone().re_encrypt(caller.request(request)).await?.into_inner())
}

async fn batch(caller: &Caller, items: Vec<ReEncryptRequest>) -> Vec<Result<ReEncryptResponse, Failure>> {
    let request = caller.request(BatchReEncryptRequest { items });
    let results = caller.crypto.clone().batch_re_encrypt(request).await.unwrap().into_inner().results;
    let result = |result: proto::v1::ReEncryptResult| match result.result.unwrap() {
        re_encrypt_result::Result::Response(response) => Ok(response),
        re_encrypt_result::Result::Error(error) => Err(error.into()),
    };
    results.into_iter().map(result).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ciphertext_goes_to_another_key_in_each_form() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let (from, to) = (caller.create_key("from").await, caller.create_key("to").await);
    let (from_arn, to_arn) = (from_arn(&caller, &from).await, from_arn(&caller, &to).await);
    let alias = format!("alias/to-{to}");
    let request = CreateAliasRequest { alias_name: alias.clone(), target_key_id: to.clone(), ..Default::default() };
    caller.keys.clone().create_alias(caller.request(request)).await.unwrap();
    let alias_arn = to_arn.replace(&format!("key/{to}"), &alias);
    let (old, new) = (context(&[("old", "1")]), context(&[("new", "2")]));
    let ciphertext = caller.encrypt(&from, b"to be moved", &old).await.unwrap();
    for destination in [&to, &to_arn, &alias, &alias_arn] {
        for source_key_id in ["", &from, &from_arn] {
            let request = ReEncryptRequest {
                source_key_id: source_key_id.to_owned(),
                destination_encryption_context: new.clone(),
                ..item(&ciphertext, &old, destination)
            };
            let made = anew(&caller, request).await.unwrap();
            assert_eq!((&made.source_key_id, &made.key_id), (&from_arn, &to_arn));
            for material in [&made.source_key_material_id, &made.destination_key_material_id] {
                assert!(material.len() == 64 && material.bytes().all(|digit| digit.is_ascii_hexdigit()), "{material}");
            }
            assert_eq!(caller.decrypt(&made.ciphertext_blob, &new).await.unwrap(), b"to be moved");
            let wrong = caller.decrypt(&made.ciphertext_blob, &old).await.unwrap_err();
            assert_eq!(wrong.reason, "InvalidCiphertextException");
        }
    }
    let named = ReEncryptRequest { source_key_id: to.clone(), ..item(&ciphertext, &old, &to) };
    assert_eq!(anew(&caller, named).await.unwrap_err().reason, "IncorrectKeyException");
    let refused = anew(&caller, item(&ciphertext, &new, &to)).await.unwrap_err();
    assert_eq!((refused.reason.as_str(), refused.message.as_str()), ("InvalidCiphertextException", ""));

    // Many at once, over all HSMs, the bad ones among them.
    let items =
        (0..300).map(|at| if at % 50 == 7 { item(&ciphertext, &new, &to) } else { item(&ciphertext, &old, &to) });
    for (at, result) in batch(&caller, items.collect()).await.into_iter().enumerate() {
        match result {
            Ok(made) => {
                assert_ne!(at % 50, 7);
                assert_eq!(caller.decrypt(&made.ciphertext_blob, &context(&[])).await.unwrap(), b"to be moved");
            }
            Err(failure) => assert_eq!((at % 50, failure.reason.as_str()), (7, "InvalidCiphertextException")),
        }
    }

    // And in a stream, beside others.
    let encrypt = EncryptRequest { key_id: from.clone(), plaintext: b"beside".to_vec(), ..Default::default() };
    let calls = [
        StreamCall::ReEncrypt(item(&ciphertext, &old, &alias)),
        StreamCall::Encrypt(encrypt),
        StreamCall::ReEncrypt(item(&ciphertext, &new, &to)),
        StreamCall::ReEncrypt(ReEncryptRequest { dry_run: true, ..item(&ciphertext, &old, &to) }),
    ];
    let requests = calls.into_iter().zip(0..).map(|(call, number)| StreamRequest { number, request: Some(call) });
    let answers = caller.crypto.clone().stream(tokio_stream::iter(requests.collect::<Vec<_>>())).await.unwrap();
    let answers: Vec<_> = answers.into_inner().map(Result::unwrap).collect().await;
    assert_eq!(answers.len(), 4);
    for answer in answers {
        match (answer.number, answer.result.unwrap()) {
            (0, stream_response::Result::ReEncrypt(made)) => assert_eq!(made.key_id, to_arn),
            (1, stream_response::Result::Encrypt(_)) => {}
            (2, stream_response::Result::Error(error)) => assert_eq!(error.reason, "InvalidCiphertextException"),
            (3, stream_response::Result::Error(error)) => assert_eq!(error.reason, "DryRunOperationException"),
            other => panic!("{other:?}"),
        }
    }
}

async fn from_arn(caller: &Caller, key: &str) -> String {
    caller.describe_key(key).await.unwrap().arn
}

#[tokio::test(flavor = "multi_thread")]
async fn old_data_comes_to_the_current_version_and_answers_say_which_it_is() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("rotated").await;
    let none = context(&[]);
    let old = caller.encrypt(&key, b"old data", &none).await.unwrap();
    let same = anew(&caller, item(&old, &none, &key)).await.unwrap();
    assert_eq!(same.source_key_material_id, same.destination_key_material_id);
    let rotate = RotateKeyOnDemandRequest { key_id: key.clone() };
    caller.keys.clone().rotate_key_on_demand(caller.request(rotate)).await.unwrap();
    let made = anew(&caller, item(&old, &none, &key)).await.unwrap();
    assert_eq!(made.source_key_material_id, same.destination_key_material_id);
    assert_ne!(made.destination_key_material_id, made.source_key_material_id);
    let material = async |ciphertext: &[u8]| {
        let request = DecryptRequest { ciphertext_blob: ciphertext.to_vec().into(), ..Default::default() };
        caller.crypto.clone().decrypt(caller.request(request)).await.unwrap().into_inner().key_material_id
    };
    assert_eq!(material(&old).await, made.source_key_material_id);
    assert_eq!(material(&made.ciphertext_blob).await, made.destination_key_material_id);
    let request = GenerateDataKeyRequest { key_id: key.clone(), number_of_bytes: Some(8), ..Default::default() };
    assert_eq!(caller.generate_data_key(request).await.unwrap().key_material_id, made.destination_key_material_id);
    let request =
        GenerateDataKeyWithoutPlaintextRequest { key_id: key, number_of_bytes: Some(8), ..Default::default() };
    let without = caller.crypto.clone().generate_data_key_without_plaintext(caller.request(request)).await.unwrap();
    assert_eq!(without.into_inner().key_material_id, made.destination_key_material_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_means_nothing_here_is_refused_and_a_dry_run_does_nothing() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("dry").await;
    let ciphertext = caller.encrypt(&key, b"x", &context(&[])).await.unwrap();
    let left = caller.describe_key(&key).await.unwrap().encryptions_left;
    let (tokens, recipient) = (vec!["token".to_owned()], Some(RecipientInfo::default()));
    let crypto = || caller.crypto.clone();
    let mut outcomes = Vec::new();
    let mut told = |expected: &'static str, refused: Result<(), tonic::Status>| {
        outcomes.push((expected, Failure::from(refused.unwrap_err())));
    };
    for (dry_run, grant_tokens, recipient, expected) in [
        (true, Vec::new(), None, "DryRunOperationException"),
        (false, tokens.clone(), None, "InvalidGrantTokenException"),
        (false, Vec::new(), recipient.clone(), "UnsupportedOperationException"),
    ] {
        let decrypt = DecryptRequest {
            ciphertext_blob: ciphertext.clone().into(),
            grant_tokens: grant_tokens.clone(),
            dry_run,
            recipient: recipient.clone(),
            ..Default::default()
        };
        told(expected, crypto().decrypt(caller.request(decrypt)).await.map(drop));
        let data_key = GenerateDataKeyRequest {
            key_id: key.clone(),
            number_of_bytes: Some(8),
            grant_tokens: grant_tokens.clone(),
            dry_run,
            recipient: recipient.clone(),
            ..Default::default()
        };
        told(expected, crypto().generate_data_key(caller.request(data_key)).await.map(drop));
        if recipient.is_some() {
            let random = GenerateRandomRequest { number_of_bytes: Some(8), recipient, ..Default::default() };
            told(expected, crypto().generate_random(caller.request(random)).await.map(drop));
            continue;
        }
        let encrypt = EncryptRequest {
            key_id: key.clone(),
            plaintext: b"x".to_vec(),
            grant_tokens: grant_tokens.clone(),
            dry_run,
            ..Default::default()
        };
        told(expected, crypto().encrypt(caller.request(encrypt)).await.map(drop));
        let without = GenerateDataKeyWithoutPlaintextRequest {
            key_id: key.clone(),
            number_of_bytes: Some(8),
            grant_tokens: grant_tokens.clone(),
            dry_run,
            ..Default::default()
        };
        told(expected, crypto().generate_data_key_without_plaintext(caller.request(without)).await.map(drop));
        let both = ReEncryptRequest { grant_tokens, dry_run, ..item(&ciphertext, &context(&[]), &key) };
        told(expected, crypto().re_encrypt(caller.request(both)).await.map(drop));
    }
    let describe = DescribeKeyRequest { key_id: key.clone(), grant_tokens: tokens };
    let refused = caller.keys.clone().describe_key(caller.request(describe)).await;
    told("InvalidGrantTokenException", refused.map(drop));
    for (expected, failure) in outcomes {
        assert_eq!((failure.reason.as_str(), failure.retryable), (expected, false), "{failure:?}");
    }
    assert_eq!(caller.describe_key(&key).await.unwrap().encryptions_left, left, "nothing was taken of the budget");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_do_not_notice_that_a_zone_s_workers_are_replaced() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let (from, to) = (caller.create_key("from").await, caller.create_key("to").await);
    let none = context(&[]);
    let ciphertext = caller.encrypt(&from, b"through all of it", &none).await.unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let load = tokio::spawn({
        let (caller, ciphertext, to) = (caller.clone(), ciphertext.clone(), to.clone());
        async move {
            let mut last = Vec::new();
            while !*stopped.borrow() {
                let made = anew(&caller, item(&ciphertext, &context(&[]), &to)).await.unwrap();
                last = made.ciphertext_blob.to_vec();
                let many = vec![item(&ciphertext, &context(&[]), &to); 20];
                batch(&caller, many).await.into_iter().for_each(|made| drop(made.unwrap()));
            }
            last
        }
    });
    for zone in ["a", "b"] {
        daemon.replace_workers(zone, &caller).await;
    }
    stop.send_replace(true);
    let last = load.await.unwrap();
    assert_eq!(caller.decrypt(&last, &none).await.unwrap(), b"through all of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn within_a_cluster_the_plaintext_does_not_come_to_the_daemon() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let (from, to) = (caller.create_key("from").await, caller.create_key("to").await);
    let arn = from_arn(&caller, &from).await;
    let plaintext = b"a plaintext that only tokens and their workers have seen".to_vec();
    let none = context(&[]);
    let ciphertext = caller.encrypt(&from, &plaintext, &none).await.unwrap();
    // Another process, which has not encrypted it.
    let (status, site) = daemon.terminate();
    assert!(status.success());
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    let made = anew(&caller, item(&ciphertext, &none, &to)).await.unwrap();
    let many = batch(&caller, vec![item(&ciphertext, &none, &to); 200]).await;
    assert!(many.iter().all(Result::is_ok));
    match remembers(daemon.pid(), &plaintext) {
        Some(found) => {
            assert!(!found, "the plaintext is in the daemon's memory");
            assert_eq!(
                remembers(daemon.pid(), arn.as_bytes()),
                Some(true),
                "a search that finds nothing proves nothing"
            );
        }
        None => eprintln!("not shown: the system lets nobody but root look into the daemon's memory"),
    }
    assert_eq!(caller.decrypt(&made.ciphertext_blob, &none).await.unwrap(), plaintext);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ciphertext_goes_to_another_cluster_and_back() {
    let (daemon, caller, other, _controls) = with_two_clusters().await;
    let first = caller.create_key_store("first", daemon.site()).await.unwrap();
    let second = caller.create_key_store_with("second", "cluster-othercluster", &other.anchor, PIN).await.unwrap();
    let mut keys = Vec::new();
    for store in [&first, &second] {
        caller.connect(store).await.unwrap();
        let request = CreateKeyRequest { key_store_id: store.clone(), ..Default::default() };
        let made = caller.keys.clone().create_key(caller.request(request)).await.unwrap().into_inner();
        keys.push(made.key_metadata.unwrap().key_id);
    }
    let (old, none) = (context(&[("old", "1")]), context(&[]));
    let ciphertext = caller.encrypt(&keys[0], b"far away", &old).await.unwrap();
    let there = anew(&caller, item(&ciphertext, &old, &keys[1])).await.unwrap();
    assert_eq!(caller.decrypt(&there.ciphertext_blob, &none).await.unwrap(), b"far away");
    let back = anew(&caller, item(&there.ciphertext_blob, &none, &keys[0])).await.unwrap();
    assert_eq!(caller.decrypt(&back.ciphertext_blob, &none).await.unwrap(), b"far away");
    let wrong = anew(&caller, item(&ciphertext, &none, &keys[1])).await.unwrap_err();
    assert_eq!(wrong.reason, "InvalidCiphertextException");
    let items = vec![
        item(&ciphertext, &old, &keys[1]),
        item(&ciphertext, &none, &keys[1]),
        item(&ciphertext, &old, &keys[0]),
        item(&there.ciphertext_blob, &none, &keys[1]),
    ];
    let results = batch(&caller, items).await;
    assert_eq!(results[1].as_ref().unwrap_err().reason, "InvalidCiphertextException");
    for at in [0, 2, 3] {
        let made = results[at].as_ref().unwrap();
        assert_eq!(caller.decrypt(&made.ciphertext_blob, &none).await.unwrap(), b"far away");
    }
    caller.disconnect(&second).await.unwrap();
    let away = anew(&caller, item(&ciphertext, &old, &keys[1])).await.unwrap_err();
    assert_eq!(away.reason, "KMSInvalidStateException");
}
