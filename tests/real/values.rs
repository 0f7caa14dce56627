//! The same value gets the same answer everywhere, and what the .proto files promise of values holds at its edges.

use std::collections::BTreeMap;

use prost::Message as _;
use proto::v1::{
    BatchDecryptRequest, BatchEncryptRequest, BatchGenerateDataKeyRequest, ConnectionState, CreateKeyRequest,
    DataKeySpec, DecryptRequest, DecryptResult, DescribeClustersRequest, DescribeKeyStoresRequest, DiagnoseHsmRequest,
    EncryptRequest, GenerateDataKeyRequest, GenerateRandomRequest, GetStatisticsRequest, ListKeysRequest,
    ResyncKeysRequest, UpdateKeyStoreRequest, decrypt_result, encrypt_result, generate_data_key_result,
};

use crate::harness::daemon::Site;
use crate::harness::{Caller, Daemon, Failure, bytes, context, shared, tool};

/// What a terminal would obey: clear the screen, the same in one character, a title, writing from right to left.
const EVIL: &str = "x\u{1b}[2J\u{9b}2J\u{1b}]0;owned\u{7}\u{202e}drow\nsecond line";
const LIMIT: usize = 4 << 20;

fn is_harmless(text: &str) -> bool {
    !text.contains(|c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c))
}

/// A daemon whose key store is not made yet.
async fn bare() -> (Daemon, Caller) {
    let daemon = Site::prepare().await.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    (daemon, caller)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_a_token_has_is_taken_by_every_command() {
    let (daemon, caller) = bare().await;
    let pin = " a pin with blanks ~";
    daemon.zones.iter().for_each(|zone| zone.officer_sets(pin));
    let file = daemon.site().path().join("blanks.pin");
    std::fs::write(&file, format!("{pin}\n")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, mode).unwrap();
    let anchor = daemon.site().path().join("anchor.crt");
    std::fs::write(&anchor, daemon.site().trust_anchor()).unwrap();
    let (file, anchor) = (file.to_str().unwrap(), anchor.to_str().unwrap());

    // The ceremony has it already: what is left is to find everything as it should be, with a login.
    let config = daemon.site().config_file().to_str().unwrap().to_owned();
    let folder = daemon.site().ceremony();
    let init = ["cluster", "init", "--config", &config, "--folder", folder.to_str().unwrap(), "--pin-file", file];
    let ran = tool::keystorectl(BTreeMap::new(), &init);
    assert_eq!(ran.code, Some(0), "{ran:?}");

    let cluster = daemon.site().cluster().to_owned();
    let create = ["key-store", "create", "lab", "--cluster", &cluster, "--trust-anchor", anchor];
    let id = daemon.keystorectl(&[&create[..], &["--password-file", file]].concat()).ok();
    let id = id.trim();
    let store = caller.connect(id).await.unwrap();
    assert_eq!(store.connection_state(), ConnectionState::Connected, "{store:?}");
    caller.disconnect(id).await.unwrap();
    daemon.keystorectl(&["key-store", "update", id, "--password-file", file]).ok();
    assert_eq!(caller.connect(id).await.unwrap().connection_state(), ConnectionState::Connected);
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_and_names_have_their_bounds() {
    let (daemon, caller) = bare().await;
    let site = daemon.site();
    for (pin, good) in [
        ("1".repeat(3), false),
        ("1".repeat(4), true),
        ("1".repeat(255), true),
        ("1".repeat(256), false),
        ("tab\tpin".to_owned(), false),
        ("pín-pín".to_owned(), false),
    ] {
        let made = caller.create_key_store_with("n", site.cluster(), &site.trust_anchor(), &pin).await;
        let update = |id: &str| UpdateKeyStoreRequest {
            key_store_id: id.to_owned(),
            key_store_password: pin.clone(),
            ..Default::default()
        };
        match made {
            Ok(id) => {
                assert!(good, "{} bytes were taken", pin.len());
                caller.update_key_store(update(&id)).await.unwrap();
                caller.delete_key_store(&id).await.unwrap();
            }
            Err(failure) => {
                assert!(!good && failure.reason == "ValidationException", "{} bytes: {failure:?}", pin.len());
                assert!(!failure.message.contains(&pin), "{failure:?}");
            }
        }
    }
    let id = caller.create_key_store("n", site).await.unwrap();
    for (name, good) in [
        ("n".repeat(256), true),
        ("鍵".repeat(256), true),
        ("n".repeat(257), false),
        ("a\u{202e}b".to_owned(), false),
        (EVIL.to_owned(), false),
    ] {
        let change = |name: &str| UpdateKeyStoreRequest {
            key_store_id: id.clone(),
            new_key_store_name: name.to_owned(),
            ..Default::default()
        };
        let changed = caller.update_key_store(change(&name)).await;
        assert_eq!(changed.is_ok(), good, "{name:?}: {changed:?}");
        if let Err(failure) = changed {
            assert!(failure.reason == "ValidationException" && is_harmless(&failure.message), "{failure:?}");
            // Before anything is asked of the service.
            let ran = daemon.keystorectl(&["key-store", "update", &id, "--new-name", &name]);
            assert_eq!(ran.code, Some(2), "{ran:?}");
            assert!(is_harmless(&ran.err), "{:?}", ran.err);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_cannot_be_one_has_one_answer() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    async fn reason<T>(answer: Result<tonic::Response<T>, tonic::Status>) -> (String, String) {
        let failure = Failure::from(answer.map(drop).unwrap_err());
        (failure.reason, failure.message)
    }
    let mut clusters = caller.clusters.clone();
    for (cluster, wanted) in [
        ("cluster-", "ValidationException"),
        (EVIL, "ValidationException"),
        ("cluster-zzzzzzzzzzz", "CloudHsmClusterNotFoundException"),
    ] {
        let cluster_id = cluster.to_owned();
        let described = DescribeClustersRequest { cluster_id: cluster_id.clone() };
        let resync = ResyncKeysRequest { cluster_id: cluster_id.clone(), ..Default::default() };
        let statistics = GetStatisticsRequest { cluster_id: cluster_id.clone() };
        let diagnosis = DiagnoseHsmRequest { cluster_id: cluster_id.clone(), hsm_id: "hsm-a".to_owned() };
        let answers = [
            reason(clusters.describe_clusters(caller.request(described)).await).await,
            reason(clusters.resync_keys(caller.request(resync)).await).await,
            reason(clusters.get_statistics(caller.request(statistics)).await).await,
            reason(clusters.diagnose_hsm(caller.request(diagnosis)).await).await,
        ];
        for (found, message) in answers {
            assert_eq!(found, wanted, "{cluster:?}: {message}");
            assert!(is_harmless(&message) && !message.contains('\n'), "{message:?}");
        }
        let created = caller.create_key_store_with("n", cluster, "x", "1234").await.unwrap_err();
        assert_eq!(created.reason, wanted, "{cluster:?}: {created:?}");
    }
    let store = "cks-".repeat(17);
    let request = DescribeKeyStoresRequest { key_store_id: store.clone(), ..Default::default() };
    let described = reason(caller.stores.clone().describe_key_stores(caller.request(request)).await).await;
    let connected = caller.begin_connect(&store).await.unwrap_err();
    let deleted = caller.delete_key_store(&store).await.unwrap_err();
    assert_eq!([&described.0, &connected.reason, &deleted.reason], ["ValidationException"; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_creator_wrote_is_shown_and_never_obeyed() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key(EVIL).await;
    assert_eq!(caller.describe_key(&key).await.unwrap().description, EVIL, "it is the creator's, and kept as it is");
    let text = daemon.keystorectl(&["key", "describe", &key]).ok();
    assert!(is_harmless(&text), "{text:?}");
    assert!(text.contains(r"x\u{1b}[2J\u{9b}2J\u{1b}]0;owned\u{7}\u{202e}drow\nsecond line"), "{text}");
    let json = daemon.keystorectl(&["--json", "key", "describe", &key]).ok();
    assert!(is_harmless(&json), "{json:?}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["description"], EVIL);
    for arguments in [["key", "describe", EVIL], ["key-store", "describe", EVIL], ["key", "describe", "alias/\u{9b}2J"]]
    {
        let ran = daemon.keystorectl(&arguments);
        assert!(ran.code != Some(0) && is_harmless(&ran.err), "{ran:?}");
        let request = proto::v1::DescribeKeyRequest { key_id: arguments[2].to_owned(), ..Default::default() };
        let failure = caller.keys.clone().describe_key(caller.request(request)).await.map(drop).unwrap_err();
        assert!(is_harmless(failure.message()) && !failure.message().contains('\n'), "{failure:?}");
    }
    assert!(is_harmless(&daemon.log()), "the log holds what a terminal would obey");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fits_is_taken_to_the_last_byte() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key(&"ü".repeat(8_192)).await;
    for (length, good) in [(128, true), (129, false)] {
        let request = CreateKeyRequest { client_token: "t".repeat(length), ..Default::default() };
        let made = caller.keys.clone().create_key(caller.request(request)).await;
        assert_eq!(made.is_ok(), good, "a client token of {length}: {made:?}");
    }
    for length in [1, 4_096] {
        let plaintext = bytes(length, 3);
        let sealed = caller.encrypt(&key, &plaintext, &context(&[])).await.unwrap();
        assert_eq!(caller.decrypt(&sealed, &context(&[])).await.unwrap(), plaintext);
    }
    let full = context(&[("k", &"v".repeat(8_192 - 5))]);
    let sealed = caller.encrypt(&key, b"x", &full).await.unwrap();
    assert_eq!(caller.decrypt(&sealed, &full).await.unwrap(), b"x");
    for length in [1, 1_024] {
        let request = GenerateRandomRequest { number_of_bytes: Some(length), ..Default::default() };
        let random = caller.crypto.clone().generate_random(caller.request(request)).await.unwrap().into_inner();
        assert_eq!(random.plaintext.len() as u32, length);
        let request =
            GenerateDataKeyRequest { key_id: key.clone(), number_of_bytes: Some(length), ..Default::default() };
        assert_eq!(caller.generate_data_key(request).await.unwrap().plaintext.len() as u32, length);
    }
    for (spec, length) in [(DataKeySpec::Aes128, 16), (DataKeySpec::Aes256, 32)] {
        let mut request = GenerateDataKeyRequest { key_id: key.clone(), ..Default::default() };
        request.set_key_spec(spec);
        assert_eq!(caller.generate_data_key(request).await.unwrap().plaintext.len(), length);
    }
    for limit in [1, 1_000] {
        let request = ListKeysRequest { limit: Some(limit), ..Default::default() };
        caller.keys.clone().list_keys(caller.request(request)).await.unwrap();
    }
}

/// Asks BatchDecrypt for all of it; the plaintexts.
async fn decrypt_all(caller: &Caller, items: Vec<DecryptRequest>) -> Vec<Vec<u8>> {
    let request = BatchDecryptRequest { items };
    assert!(request.encoded_len() > LIMIT, "{} bytes prove nothing", request.encoded_len());
    let results = caller.crypto.clone().batch_decrypt(caller.request(request)).await.unwrap().into_inner().results;
    let plaintext = |result: DecryptResult| match result.result {
        Some(decrypt_result::Result::Response(response)) => response.plaintext,
        other => panic!("{other:?}"),
    };
    results.into_iter().map(plaintext).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_batch_gave_one_batch_takes_back() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("batches to the last byte").await;
    for count in [521, 1_000] {
        // As large as the call takes it: contexts fill what the plaintexts leave of 4 MiB.
        let plaintext = vec![7; (1 << 20) / count];
        let with = |length: usize| EncryptRequest {
            key_id: key.clone(),
            plaintext: plaintext.clone(),
            encryption_context: context(&[("k", &"v".repeat(length))]),
            ..Default::default()
        };
        let fits = |length: usize| BatchEncryptRequest { items: vec![with(length); count] }.encoded_len() <= LIMIT;
        let longest = (0..=8_192 - 5).rev().find(|length| fits(*length)).unwrap();
        let request = BatchEncryptRequest { items: vec![with(longest); count] };
        let sealed = caller.crypto.clone().batch_encrypt(caller.request(request)).await.unwrap().into_inner().results;
        let items = sealed.into_iter().map(|result| match result.result {
            Some(encrypt_result::Result::Response(response)) => DecryptRequest {
                ciphertext_blob: response.ciphertext_blob,
                encryption_context: with(longest).encryption_context,
                key_id: response.key_id,
                ..Default::default()
            },
            other => panic!("{other:?}"),
        });
        assert_eq!(decrypt_all(&caller, items.collect()).await, vec![plaintext; count], "{count} items");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_batch_made_one_batch_opens() {
    const COUNT: usize = 1_000;
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("data keys to the last byte").await;
    let with = |length: usize| GenerateDataKeyRequest {
        key_id: key.clone(),
        number_of_bytes: Some(1_024),
        encryption_context: context(&[("k", &"v".repeat(length))]),
        ..Default::default()
    };
    let fits = |length: usize| BatchGenerateDataKeyRequest { items: vec![with(length); COUNT] }.encoded_len() <= LIMIT;
    let longest = (0..=8_192 - 5).rev().find(|length| fits(*length)).unwrap();
    let request = caller.request(BatchGenerateDataKeyRequest { items: vec![with(longest); COUNT] });
    let made = caller.crypto.clone().batch_generate_data_key(request).await.unwrap().into_inner().results;
    let (items, plaintexts): (Vec<_>, Vec<_>) = made
        .into_iter()
        .map(|result| match result.result {
            Some(generate_data_key_result::Result::Response(response)) => {
                let item = DecryptRequest {
                    ciphertext_blob: response.ciphertext_blob,
                    encryption_context: with(longest).encryption_context,
                    key_id: response.key_id,
                    ..Default::default()
                };
                (item, response.plaintext)
            }
            other => panic!("{other:?}"),
        })
        .unzip();
    assert_eq!(decrypt_all(&caller, items).await, plaintexts);
}
