//! Keys that are made in the one HSM that there is, which stands for several zones, and never leave it.

use std::time::Duration;

use super::bench::{Bench, FREE, exception, plain, sealed};
use crate::UpdateKeyStoreInput;
use crate::key_stores::update_key_store::{Plan, carry_out};
use model::exception::Exception;
use model::id::KeyVersionId;
use model::key::{KeyState, Placement, RotationCause};
use model::key_store::Event;
use store::{Begun, NewKey, Rotating};

async fn bench() -> Bench {
    Bench::over(&["zone-a+zone-b"]).await
}

#[tokio::test]
async fn a_key_is_made_there_and_serves() {
    let bench = bench().await;
    let key = bench.create_with("t").await.unwrap();
    assert_eq!(key.state, KeyState::Enabled);
    assert_eq!(key.placements, [("hsm-0".to_owned(), "zone-a+zone-b".to_owned(), Placement::Present)]);
    let row = bench.store.catalogue().key(key.id).cloned().unwrap();
    let version = row.current().unwrap();
    assert!(version.in_place && version.blob.is_none() && version.proof.is_some(), "no escrow: {version:?}");
    assert_eq!(bench.create_with("t").await.unwrap().id, key.id, "the same call gives the same key");
    let first = bench.encrypt(plain(&key.arn, b"secret")).await.unwrap();
    bench.service.rotate_key_on_demand(&bench.call(), &key.id.to_string()).await.unwrap();
    let second = bench.encrypt(plain(&key.arn, b"secret")).await.unwrap();
    for (ciphertext, version) in [(first, 1_u32), (second, 2)] {
        assert_eq!(ciphertext[17..21], version.to_be_bytes());
        assert_eq!(bench.decrypt(sealed(&ciphertext)).await.unwrap(), b"secret");
    }
    assert_eq!(bench.fake.objects(), [2]);
}

/// Who counts for two zones proves the key by two operations, and shows that there is one object of it.
#[tokio::test]
async fn a_creation_that_fails_leaves_nothing_behind() {
    for step in ["place", "proof", "prove", "confirm"] {
        let bench = bench().await;
        bench.fake.fail(step, 0, 100);
        bench.create_with("t").await.unwrap_err();
        bench.service.drained(Duration::from_secs(30)).await;
        assert_eq!(bench.fake.objects(), [0], "after {step}");
        let catalogue = bench.store.catalogue();
        assert_eq!(catalogue.key_count(), 0, "after {step}");
        assert_eq!(catalogue.orphaned().count(), 1, "after {step} what may be there is destroyed when it is seen");
        bench.fake.faults.lock().unwrap().clear();
        assert_eq!(bench.create_with("t").await.unwrap().state, KeyState::Enabled, "after {step}");
    }
}

#[tokio::test]
async fn without_the_hsm_nothing_is_begun() {
    let bench = bench().await;
    bench.fake.absent.lock().unwrap().push(0);
    assert_eq!(exception(bench.create_with("t").await), Exception::CloudHsmClusterInvalidConfiguration);
    assert_eq!(bench.store.catalogue().key_count(), 0);
}

/// What a crash has interrupted was never used: it is made anew, as the only object of the key.
#[tokio::test]
async fn an_interrupted_creation_is_finished_with_one_object() {
    let mut bench = bench().await;
    let new = NewKey { in_place: true, ..NewKey::new(&bench.key_store, &["hsm-0".into()]) };
    let Begun::New(key) = bench.store.begin_key(new, None).await.unwrap() else { panic!("it is new") };
    let version = KeyVersionId { key, version: 1 };
    let left = bytes::Bytes::from_static(b"half made");
    bench.fake.tokens.lock().unwrap()[0].insert(version, left.clone());
    bench.restart();
    bench.service.lifecycle.resume().await;
    assert_eq!(bench.store.catalogue().key(key).unwrap().state, KeyState::Enabled);
    assert_eq!(bench.fake.objects(), [1]);
    assert_ne!(bench.fake.tokens.lock().unwrap()[0][&version], left);
}

/// In place every HSM would make a material of its own, and without a wrapping key nothing is unwrapped.
#[tokio::test]
async fn what_was_begun_in_another_way_is_taken_away() {
    for (zones, in_place) in [(&["zone-a", "zone-b"][..], true), (&["zone-a+zone-b"], false)] {
        let bench = Bench::over(zones).await;
        let key = bench.create().await;
        let hsms = ["hsm-0".into()];
        let new = NewKey { in_place, ..NewKey::new(&bench.key_store, &hsms) };
        let Begun::New(half) = bench.store.begin_key(new, None).await.unwrap() else { panic!("it is new") };
        let further = KeyVersionId { key: key.id, version: 2 };
        let rotating = Rotating { version: further, cause: RotationCause::Request, in_place };
        bench.store.begin_version(rotating, &hsms).await.unwrap();
        if !in_place {
            for version in [KeyVersionId { key: half, version: 1 }, further] {
                bench.store.keep_blob(version, &bytes::Bytes::from_static(b"blob")).await.unwrap();
            }
        }
        let refused = bench.service.rotate_key_on_demand(&bench.call(), &key.id.to_string()).await.unwrap_err();
        assert!(refused.retryable && refused.message.contains("capabilities.keys.made"), "{refused}");
        bench.service.lifecycle.resume().await;
        bench.service.drained(Duration::from_secs(30)).await;
        let catalogue = bench.store.catalogue();
        assert_eq!(catalogue.key(key.id).unwrap().versions.len(), 1, "in place: {in_place}");
        assert_eq!(bench.fake.objects(), vec![1; zones.len()]);
    }
}

/// What an earlier try has left may show up only after a while, and a second object of the version would be another key.
#[tokio::test]
async fn what_is_made_anew_waits_until_an_earlier_try_shows() {
    let bench = bench().await;
    let settles = Duration::from_millis(200);
    *bench.fake.settles.lock().unwrap() = settles;
    for (step, failures, waits) in [("proof", 1, 2), ("place", 0, 0)] {
        bench.fake.fail(step, 0, failures);
        let began = bench.clock.now();
        bench.create().await;
        let took = bench.clock.now() - began;
        assert!(took >= waits * settles, "{step}: {took:?}");
    }
    assert_eq!(bench.fake.objects(), [2]);
}

#[tokio::test]
async fn a_key_whose_only_object_is_gone_says_so() {
    let bench = bench().await;
    let key = bench.create().await;
    let version = KeyVersionId { key: key.id, version: 1 };
    bench.store.set_placement(version, &"hsm-0".into(), Placement::Removed).await.unwrap();
    let refused = bench.encrypt(plain(&key.arn, b"secret")).await.unwrap_err();
    assert_eq!(refused.exception, Exception::KmsInvalidState);
    assert!(refused.message.contains("made in place, and there is no other copy of it"), "{refused}");
}

/// The key goes on with its newer one, and what is said of the older one is what is so: nothing places it again where it was
/// made in place.
#[tokio::test]
async fn an_older_version_whose_objects_are_gone_says_so() {
    let way_out = [("made in place, and there is no other copy of it", true), ("placed again from its escrow.", false)];
    for (zones, (way_out, in_place)) in [&["zone-a+zone-b"][..], &["zone-a", "zone-b"]].into_iter().zip(way_out) {
        let bench = Bench::over(zones).await;
        let key = bench.create().await;
        let old = bench.encrypt(plain(&key.arn, b"old")).await.unwrap();
        bench.service.rotate_key_on_demand(&bench.call(), &key.id.to_string()).await.unwrap();
        for member in 0..zones.len() {
            let (version, hsm) = (KeyVersionId { key: key.id, version: 1 }, format!("hsm-{member}"));
            bench.store.set_placement(version, &hsm.as_str().into(), Placement::Removed).await.unwrap();
        }
        let refused = bench.decrypt(sealed(&old)).await.unwrap_err();
        assert_eq!((refused.exception, refused.retryable), (Exception::KmsInvalidState, false), "in place: {in_place}");
        let said = format!("Version 1 of {} is unavailable. Its objects were removed in every HSM", key.arn);
        assert!(refused.message.starts_with(&said) && refused.message.contains(way_out), "{refused}");
        let new = bench.encrypt(plain(&key.arn, b"new")).await.unwrap();
        assert_eq!(bench.decrypt(sealed(&new)).await.unwrap(), b"new");
    }
}

#[tokio::test]
async fn its_material_is_destroyed_like_any_other() {
    let bench = bench().await;
    let key = bench.create().await;
    bench.service.disable_key(&bench.call(), &key.arn).await.unwrap();
    let destroyed = bench.service.destroy_key_material(&bench.call(), &key.arn, &key.arn).await.unwrap();
    assert!(destroyed.destructions.iter().all(|one| one.destroyed_at.is_some()), "{destroyed:?}");
    assert_eq!(bench.fake.objects(), [0]);
}

/// No other cluster could have them.
#[tokio::test]
async fn a_key_store_stays_with_its_cluster() {
    let bench = bench().await;
    bench.create().await;
    for event in [Event::Disconnect, Event::DisconnectDone] {
        bench.store.advance_key_store(&bench.key_store, event, None, false).await.unwrap();
    }
    let input = UpdateKeyStoreInput {
        key_store_id: bench.key_store.to_string(),
        cluster_id: Some(FREE.to_owned()),
        ..UpdateKeyStoreInput::default()
    };
    let refused = bench.service.update_key_store(&bench.call(), input.clone()).await.unwrap_err();
    assert_eq!(refused.exception, Exception::CloudHsmClusterInvalidConfiguration);
    assert!(refused.message.contains("no other cluster can have them"), "{refused}");
    // Also where such a key was made after the first look.
    let plan = Plan { cluster: Some(FREE.into()), ..Plan::default() };
    let (core, lifecycle) = (&bench.service.core, &bench.service.lifecycle);
    let late = carry_out(core, lifecycle, &bench.key_store, &input, &plan).await.unwrap_err();
    assert_eq!(late.message, refused.message);
    assert_ne!(bench.store.catalogue().key_store(&bench.key_store).unwrap().cluster.as_str(), FREE);
}
