//! New material for keys, under callers who must not notice.

use std::collections::BTreeSet;
use std::fs;

use model::clock::Clock;
use model::id::{KeyId, KeyVersionId};
use model::limits::ENCRYPTIONS_BEFORE_ROTATION;
use proto::v1::{
    BatchDecryptRequest, BatchEncryptRequest, DecryptRequest, EncryptRequest, PlacementState, RotateKeyOnDemandRequest,
    RotationCause, decrypt_result, encrypt_result,
};
use store::Store;

use crate::harness::daemon::Site;
use crate::harness::load::Load;
use crate::harness::{Caller, Daemon, Failure, chaos, context, tool, wait};

fn version_of(ciphertext: &[u8]) -> u32 {
    u32::from_be_bytes(ciphertext[17..21].try_into().unwrap())
}

async fn rotate(caller: &Caller, key: &str) -> Result<(), Failure> {
    let request = RotateKeyOnDemandRequest { key_id: key.to_owned() };
    caller.keys.clone().rotate_key_on_demand(caller.request(request)).await?;
    Ok(())
}

async fn batch(caller: &Caller, key: &str) -> Vec<Vec<u8>> {
    let item = |number: u8| EncryptRequest {
        key_id: key.to_owned(),
        plaintext: vec![number; 32],
        ..EncryptRequest::default()
    };
    let request = BatchEncryptRequest { items: (0..64).map(item).collect() };
    let results = caller.crypto.clone().batch_encrypt(caller.request(request)).await.unwrap().into_inner().results;
    let ciphertext = |result: proto::v1::EncryptResult| match result.result.unwrap() {
        encrypt_result::Result::Response(response) => response.ciphertext_blob.to_vec(),
        encrypt_result::Result::Error(error) => panic!("{error:?}"),
    };
    results.into_iter().map(ciphertext).collect()
}

async fn open(caller: &Caller, ciphertexts: &[Vec<u8>]) {
    let item = |blob: &Vec<u8>| DecryptRequest { ciphertext_blob: blob.clone().into(), ..DecryptRequest::default() };
    let request = BatchDecryptRequest { items: ciphertexts.iter().map(item).collect() };
    let results = caller.crypto.clone().batch_decrypt(caller.request(request)).await.unwrap().into_inner().results;
    for (number, result) in (0_u8..64).zip(results) {
        match result.result.unwrap() {
            decrypt_result::Result::Response(response) => assert_eq!(response.plaintext, vec![number; 32]),
            decrypt_result::Result::Error(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_rotations_are_noticed_by_nobody() {
    let site = Site::prepare().await;
    site.configure(|config| {
        let limits = config.entry("limits").or_insert_with(|| toml::Table::new().into());
        limits.as_table_mut().unwrap().insert("on_demand_rotations".to_owned(), 1_000.into());
    });
    let daemon = site.start().await;
    let caller = daemon.caller().await.with_deadline(wait::LONG);
    let key = caller.create_key("renewed").await;
    let load = Load::start(&caller, &key, 3).with_streams(&caller, &key, 2).await;
    let mut made = Vec::new();
    for round in 1..=100_u32 {
        let ciphertexts = batch(&caller, &key).await;
        assert_eq!(version_of(&ciphertexts[0]), round);
        made.push(ciphertexts);
        rotate(&caller, &key).await.unwrap();
    }
    load.passes(50).await;
    let (done, failures) = load.stop().await;
    assert!(failures.is_empty(), "{} of {done} round trips failed: {:?}", failures.len(), failures[0]);
    for ciphertexts in &made {
        open(&caller, ciphertexts).await;
    }
    let shown = daemon.keystorectl(&["key", "rotation", "list", &key]).ok();
    assert_eq!(shown.matches("NON_CURRENT").count(), 100, "{shown}");
    // All of it outlives a restart.
    let (_, site) = daemon.terminate();
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    for ciphertexts in made.iter().step_by(9) {
        open(&caller, ciphertexts).await;
    }
}

/// The store as it is while no daemon has it.
async fn with_store(site: &Site, work: impl AsyncFnOnce(&Store)) {
    let store = Store::open(&site.path().join("state/keystored.db"), Clock::system()).await.unwrap();
    work(&store).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_wears_out_is_rotated_under_load_and_no_call_fails() {
    let daemon = Daemon::start().await;
    let key = daemon.caller().await.create_key("busy").await;
    let (_, site) = daemon.terminate();
    let version = KeyVersionId { key: KeyId::parse(&key).unwrap(), version: 1 };
    with_store(&site, async |store| {
        // What the daemon gave back as it ended is not counted; so much is left until the version is worn out.
        store.reserve_encryptions(version, ENCRYPTIONS_BEFORE_ROTATION - 200).await.unwrap();
    })
    .await;
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let old = caller.encrypt(&key, b"old", &context(&[])).await.unwrap();
    assert_eq!(version_of(&old), 1);
    let load = Load::start(&caller, &key, 8);
    let rotated = wait::until_async("a new version is made by itself", wait::LONG, async || {
        let now = caller.describe_key(&key).await.unwrap();
        (now.current_version > 1).then_some(now)
    })
    .await;
    assert_eq!(rotated.current_version_cause(), RotationCause::Wear);
    load.passes(100).await;
    let (done, failures) = load.stop().await;
    assert!(failures.is_empty(), "{} of {done} round trips failed: {:?}", failures.len(), failures[0]);
    assert_eq!(caller.decrypt(&old, &context(&[])).await.unwrap(), b"old");
    let listed = daemon.keystorectl(&["key", "rotation", "list", &key, "--rotations-only"]).ok();
    assert!(listed.contains("AUTOMATIC") && listed.contains("wore out"), "{listed}");
    let described = daemon.keystorectl(&["key", "describe", &key]).ok();
    assert!(described.contains("because the version before wore out"), "{described}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_yesterday_never_give_one_number_to_two_materials() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("restored").await;
    let config = daemon.site().config_file().to_owned();
    let backup = daemon.site().path().join("backup.db");
    tool::keystored(&["backup".as_ref(), "--config".as_ref(), config.as_ref(), backup.as_ref()]).ok();
    let first = caller.encrypt(&key, b"first", &context(&[])).await.unwrap();
    rotate(&caller, &key).await.unwrap();
    let second = caller.encrypt(&key, b"second", &context(&[])).await.unwrap();
    let (_, site) = daemon.terminate();
    // The disk is lost, so that the backup is all that is known.
    fs::remove_dir_all(site.path().join("state")).unwrap();
    let arguments = ["restore".as_ref(), "--config".as_ref(), config.as_ref(), backup.as_ref(), "--yes".as_ref()];
    let restored = tool::keystored(&arguments);
    assert_eq!(restored.code, Some(0), "{restored:?}");
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    rotate(&caller, &key).await.unwrap();
    let third = caller.encrypt(&key, b"third", &context(&[])).await.unwrap();
    let numbers: BTreeSet<u32> =
        [&first, &second, &third].into_iter().map(|ciphertext| version_of(ciphertext)).collect();
    assert_eq!(numbers, BTreeSet::from([1, 2, 3]));
    assert_eq!(caller.decrypt(&first, &context(&[])).await.unwrap(), b"first");
    assert_eq!(caller.decrypt(&third, &context(&[])).await.unwrap(), b"third");
    // Its row is lost with the disk; what is left of it in the tokens is shown, and nobody's.
    assert_eq!(caller.decrypt(&second, &context(&[])).await.unwrap_err().reason, "InvalidCiphertextException");
    let orphan = format!("{key}/2");
    wait::until_async("the tokens show it", wait::LONG, async || {
        let cluster = caller.cluster().await;
        cluster.hsms.iter().all(|hsm| hsm.orphans.contains(&orphan)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_that_are_away_or_full_are_filled_later_and_two_are_needed() {
    let site = Site::prepare_zones(3).await;
    let controls = chaos::control_each(&site);
    let daemon = site.start().await;
    let caller = daemon.caller().await.with_deadline(wait::LONG);
    let key = caller.create_key("in three zones").await;
    let old = caller.encrypt(&key, b"old", &context(&[])).await.unwrap();
    let full = "[[rule]]\nfunction = \"C_UnwrapKey\"\nfault = { code = \"CKR_DEVICE_MEMORY\" }";
    controls[0].set(full).unwrap();
    rotate(&caller, &key).await.unwrap();
    let new = caller.encrypt(&key, b"new", &context(&[])).await.unwrap();
    assert_eq!(version_of(&new), 2);
    let away = daemon.zone("b").take_away();
    // Until it is known to be away, the HSM's own failure is told, as one that passes.
    let refused = wait::until_async("the rotation is refused", wait::LONG, async || {
        let failure = rotate(&caller, &key).await.unwrap_err();
        let too_few = failure.reason == "CloudHsmClusterInvalidConfigurationException";
        assert!(too_few || failure.retryable, "{failure:?}");
        too_few.then_some(failure)
    })
    .await;
    assert!(!refused.message.is_empty());
    let meanwhile = caller.encrypt(&key, b"meanwhile", &context(&[])).await.unwrap();
    assert_eq!(version_of(&meanwhile), 2, "the key is as it was");
    controls[0].clear().unwrap();
    away.put_back();
    daemon.wait_until_healthy_for(&caller).await;
    wait::until_async("every zone has it", wait::LONG, async || {
        let placements = caller.describe_key(&key).await.unwrap().placements;
        let present = placements.iter().filter(|at| at.state() == PlacementState::Present).count();
        (present == 3).then_some(())
    })
    .await;
    rotate(&caller, &key).await.unwrap();
    for (ciphertext, plaintext) in [(&old, &b"old"[..]), (&new, b"new"), (&meanwhile, b"meanwhile")] {
        assert_eq!(caller.decrypt(ciphertext, &context(&[])).await.unwrap(), plaintext);
    }
    let last = caller.encrypt(&key, b"last", &context(&[])).await.unwrap();
    assert!(version_of(&last) > 2);
}
