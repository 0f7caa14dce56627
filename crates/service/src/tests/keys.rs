//! Keys and their life.

use futures_util::future::join_all;

use super::bench::{Bench, exception, plain, sealed};
use crate::GrantTokens;
use crate::{CreateKeyInput, ListKeysInput};
use cluster::Removal;
use model::exception::Exception;
use model::id::KeyVersionId;
use model::key::{KeyState, Placement};
use model::key_store::Event;
use store::{Begun, NewKey};

fn placements(key: &crate::KeyMetadata) -> Vec<Placement> {
    key.placements.iter().map(|(_, _, placement)| *placement).collect()
}

#[tokio::test]
async fn a_key_is_enabled_in_every_zone() {
    let bench = Bench::new().await;
    let input = CreateKeyInput { description: "for payroll".into(), ..CreateKeyInput::default() };
    let key = bench.service.create_key(&bench.call(), input).await.unwrap();
    assert_eq!((key.state, key.description.as_str(), key.current_version), (KeyState::Enabled, "for payroll", 1));
    assert_eq!(key.arn, format!("arn:aws:kms:eu-central-1:111122223333:key/{}", key.id));
    assert_eq!((key.account.as_str(), key.cluster.as_str()), ("111122223333", "cluster-abcdefghijk"));
    let expected = [("hsm-0", "zone-a"), ("hsm-1", "zone-b")];
    let expected = expected.map(|(hsm, zone)| (hsm.to_owned(), zone.to_owned(), Placement::Present));
    assert_eq!(key.placements, expected);
    assert_eq!(bench.fake.objects(), [1, 1]);
    let shown =
        bench.service.describe_key_with(&bench.call(), &key.id.to_string(), GrantTokens::default()).await.unwrap();
    assert_eq!((shown.arn, shown.state), (key.arn, KeyState::Enabled));
}

#[tokio::test]
async fn with_one_zone_nothing_is_begun() {
    let bench = Bench::new().await;
    let before = bench.create_with("t").await.unwrap();
    bench.fake.absent.lock().unwrap().push(1);
    let error = bench.create_with("u").await.unwrap_err();
    assert_eq!(error.exception, Exception::CloudHsmClusterInvalidConfiguration);
    assert_eq!(bench.store.catalogue().key_count(), 1);
    assert_eq!(bench.create_with("t").await.unwrap().id, before.id, "what is made already is given all the same");
    let blob = bench.encrypt(plain(&before.arn, b"secret")).await.unwrap();
    assert_eq!(bench.decrypt(sealed(&blob)).await.unwrap(), b"secret");
}

#[tokio::test]
async fn a_failed_creation_leaves_nothing_behind() {
    for (step, member) in
        [("make", 0), ("place", 0), ("place", 1), ("proof", 0), ("prove", 1), ("spoil", 0), ("spoil", 1)]
    {
        let bench = Bench::new().await;
        bench.fake.fail(step, member, 100);
        if step == "proof" {
            bench.fake.fail(step, 1, 100);
        }
        bench.create_with("t").await.unwrap_err();
        // The caller is told first; what is left is undone behind it.
        bench.service.drained(std::time::Duration::from_secs(30)).await;
        assert_eq!(bench.fake.objects(), [0, 0], "{step} {member}");
        assert!(bench.store.catalogue().key_count() == 0, "{step} {member}");
        bench.fake.faults.lock().unwrap().clear();
        assert_eq!(bench.create_with("t").await.unwrap().state, KeyState::Enabled, "{step} {member}");
    }
}

/// Else there would be a key with the next connect that nobody knows of.
#[tokio::test]
async fn a_key_whose_key_store_is_disconnected_while_it_is_made_is_not_there_afterwards() {
    let bench = Bench::new().await;
    let rotated = bench.create().await;
    let permit = bench.fake.placing.acquire().await.unwrap();
    let call = bench.call();
    let disconnected = async {
        let made = || {
            let catalogue = bench.store.catalogue();
            let unfinished = |key: &std::sync::Arc<store::Key>| match key.state {
                KeyState::Creating => key.current().is_some_and(|version| version.blob.is_some()),
                _ => key.unfinished().is_some_and(|version| version.blob.is_some()),
            };
            catalogue.keys().filter(|key| unfinished(key)).count()
        };
        while made() < 2 {
            tokio::task::yield_now().await;
        }
        for event in [Event::Disconnect, Event::DisconnectDone] {
            bench.store.advance_key_store(&bench.key_store, event, None, false).await.unwrap();
        }
        drop(permit);
    };
    let (made, again, ()) =
        tokio::join!(bench.create_with(""), bench.service.rotate_key_on_demand(&call, &rotated.arn), disconnected,);
    for refused in [made.map(drop), again.map(drop)] {
        assert_eq!(exception(refused), Exception::CustomKeyStoreInvalidState);
    }
    bench.service.drained(std::time::Duration::from_secs(30)).await;
    let row = bench.store.catalogue().key(rotated.id).cloned().unwrap();
    assert_eq!((bench.store.catalogue().key_count(), row.versions.len()), (1, 1));
    assert_eq!(bench.fake.objects(), [1, 1]);
}

#[tokio::test]
async fn a_passing_failure_is_mended_on_the_way() {
    for (step, member) in [("proof", 0), ("prove", 1), ("spoil", 1)] {
        let bench = Bench::new().await;
        bench.fake.fail(step, member, 1);
        let key = bench.create().await;
        assert_eq!(placements(&key), [Placement::Present; 2], "{step} {member}");
    }
}

#[tokio::test]
async fn two_zones_of_three_are_enough() {
    for member in 0..3 {
        for step in ["place", "proof", "prove"] {
            let bench = Bench::over(&["zone-a", "zone-b", "zone-c"]).await;
            bench.fake.fail(step, member, 100);
            let key = bench.create().await;
            assert_eq!(key.state, KeyState::Enabled);
            let present = placements(&key).iter().filter(|placement| **placement == Placement::Present).count();
            assert!(present >= 2, "{step} {member}: {key:?}");
        }
    }
    let bench = Bench::over(&["zone-a", "zone-a", "zone-b"]).await;
    bench.fake.fail("place", 2, 100);
    let error = bench.create_with("").await.unwrap_err();
    assert_eq!(error.exception, Exception::CloudHsmClusterInvalidConfiguration, "two HSMs of one zone: {error}");
}

#[tokio::test]
async fn what_cannot_be_undone_is_on_record_as_destroyed() {
    let mut bench = Bench::new().await;
    bench.fake.fail("prove", 1, 2);
    bench.fake.fail("destroy", 1, 100);
    bench.create_with("t").await.unwrap_err();
    bench.service.drained(std::time::Duration::from_secs(30)).await;
    let catalogue = bench.store.catalogue();
    assert!(catalogue.key_count() == 0, "its caller was told that there is none");
    let left = catalogue.destroyed().next().expect("an object may be left");
    bench.fake.faults.lock().unwrap().clear();
    bench.restart();
    assert_ne!(bench.create_with("t").await.unwrap().id, left.key);
    // It is the reconcilers that destroy what is left, once they can.
    assert_eq!(bench.fake.objects(), [1, 2]);
}

#[tokio::test]
async fn a_crash_at_any_step_is_resumed() {
    let bench = Bench::new().await;
    let hsms: Vec<_> =
        bench.service.core.registry().active()[0].members.hsms.iter().map(|(hsm, _)| hsm.clone()).collect();
    let begin = || async {
        match bench.store.begin_key(NewKey::new(&bench.key_store, &hsms), None).await.unwrap() {
            Begun::New(key) | Begun::Existing(key) => KeyVersionId { key, version: 1 },
        }
    };
    let (bare, with_blob, placed) = (begin().await, begin().await, begin().await);
    for version in [with_blob, placed] {
        bench.store.keep_blob(version, &bytes::Bytes::from_static(b"blob")).await.unwrap();
    }
    bench.fake.tokens.lock().unwrap()[0].insert(placed, bytes::Bytes::from_static(b"half written"));
    let stale = bytes::Bytes::from_static(b"proof of what was half written");
    bench.store.keep_proof(placed, &[0; 12], &stale).await.unwrap();
    let state = |version: KeyVersionId| bench.store.catalogue().key(version.key).map(|key| key.state);
    bench.fake.absent.lock().unwrap().push(0);
    bench.service.resume().await;
    assert_eq!(state(bare), None, "no token was asked to keep it");
    assert_eq!(state(with_blob), Some(KeyState::Creating), "one zone is not enough, and it is kept for the next try");
    bench.fake.absent.lock().unwrap().clear();
    bench.service.resume().await;
    for version in [with_blob, placed] {
        assert_eq!(state(version), Some(KeyState::Enabled));
        let blob = bench.encrypt(plain(&version.key.to_string(), b"secret")).await.unwrap();
        assert_eq!(bench.decrypt(sealed(&blob)).await.unwrap(), b"secret");
    }
}

#[tokio::test]
async fn one_client_token_makes_one_key() {
    let bench = Bench::new().await;
    let keys = join_all((0..8).map(|_| bench.create_with("same"))).await;
    let first = keys[0].as_ref().unwrap().id;
    assert!(keys.iter().all(|key| key.as_ref().unwrap().id == first));
    assert_eq!((bench.store.catalogue().key_count(), bench.fake.objects()), (1, vec![1, 1]));
    let same = CreateKeyInput {
        client_token: "same".into(),
        description: bench.store.catalogue().key(first).unwrap().description.clone(),
        key_store_id: bench.key_store.to_string(),
        ..CreateKeyInput::default()
    };
    assert_eq!(bench.service.create_key(&bench.call(), same.clone()).await.unwrap().id, first);
    let others = [
        CreateKeyInput { description: "other".into(), ..same.clone() },
        CreateKeyInput { bypass_lockout_check: true, ..same.clone() },
        CreateKeyInput { tags: vec![(String::new(), "bypassPolicyLockoutSafetyCheck".into())], ..same.clone() },
        CreateKeyInput { tags: vec![("team".into(), "billing".into())], ..same },
    ];
    let expected = [Exception::Conflict, Exception::Conflict, Exception::Validation, Exception::Conflict];
    for (other, expected) in others.into_iter().zip(expected) {
        assert_eq!(exception(bench.service.create_key(&bench.call(), other.clone()).await), expected, "{other:?}");
    }
}

#[tokio::test]
async fn the_procedure_goes_on_without_its_caller() {
    let bench = Bench::new().await;
    let call = bench.call_within(std::time::Duration::ZERO);
    let result = bench.service.create_key(&call, CreateKeyInput::default()).await;
    assert_eq!(exception(result), Exception::DependencyTimeout);
    bench.service.drained(std::time::Duration::from_secs(30)).await;
    let states: Vec<KeyState> = bench.store.catalogue().keys().map(|key| key.state).collect();
    assert_eq!(states, [KeyState::Enabled]);
}

#[tokio::test]
async fn a_removal_is_recorded_once_and_nothing_is_refilled() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let version = KeyVersionId { key: key.id, version: 1 };
    bench.fake.tokens.lock().unwrap()[0].remove(&version);
    let removal = |hsm: &str| Removal { hsm: hsm.into(), version };
    bench.service.note_removal(removal("hsm-0")).await;
    bench.service.note_removal(removal("hsm-0")).await;
    assert_eq!(*bench.seen.removed.lock().unwrap(), [removal("hsm-0")]);
    let shown = bench.service.describe_key_with(&bench.call(), &key.arn, GrantTokens::default()).await.unwrap();
    assert_eq!((shown.state, placements(&shown)), (KeyState::Enabled, vec![Placement::Removed, Placement::Present]));
    let blob = bench.encrypt(plain(&key.arn, b"secret")).await.unwrap();
    bench.service.note_removal(removal("hsm-1")).await;
    let shown = bench.service.describe_key_with(&bench.call(), &key.arn, GrantTokens::default()).await.unwrap();
    assert_eq!((shown.state, placements(&shown)), (KeyState::Unavailable, vec![Placement::Removed; 2]));
    let error = bench.decrypt(sealed(&blob)).await.unwrap_err();
    assert_eq!((error.exception, error.retryable), (Exception::KmsInvalidState, false));
    assert!(error.message.contains("removed in every HSM"), "{error}");
    assert_eq!(bench.store.catalogue().key(key.id).unwrap().state, KeyState::Enabled, "the stored state is untouched");
}

#[tokio::test]
async fn parameters_are_checked() {
    let bench = Bench::new().await;
    let cases = [
        (CreateKeyInput { description: "ä".repeat(8_193), ..CreateKeyInput::default() }, Exception::Validation),
        (CreateKeyInput { client_token: "t".repeat(129), ..CreateKeyInput::default() }, Exception::Validation),
        (
            CreateKeyInput { key_store_id: "cks-unknown".into(), ..CreateKeyInput::default() },
            Exception::CustomKeyStoreNotFound,
        ),
    ];
    for (input, expected) in cases {
        assert_eq!(exception(bench.service.create_key(&bench.call(), input).await), expected);
    }
    let input = CreateKeyInput { description: "ä".repeat(8_192), ..CreateKeyInput::default() };
    bench.service.create_key(&bench.call(), input).await.unwrap();
    assert_eq!(
        exception(bench.service.describe_key_with(&bench.call(), "", GrantTokens::default()).await),
        Exception::Validation
    );
}

#[tokio::test]
async fn what_is_at_a_limit_is_taken_and_one_past_it_is_not() {
    let bench = Bench::new().await;
    let (service, call) = (&bench.service, bench.call());
    for (characters, taken) in [(128, true), (129, false)] {
        let made = bench.create_with(&"ä".repeat(characters)).await;
        assert_eq!(made.is_ok(), taken, "a client token of {characters} characters");
    }
    let key = bench.create().await;
    for (characters, taken) in [(0, true), (8_192, true), (8_193, false)] {
        let said = service.update_key_description(&call, &key.arn, "語".repeat(characters)).await;
        assert_eq!(said.is_ok(), taken, "a description of {characters} characters");
    }
    for (limit, taken) in [(0, false), (1, true), (1_000, true), (1_001, false)] {
        let input = ListKeysInput { limit: Some(limit), ..ListKeysInput::default() };
        let rotations = service.list_key_rotations(&call, &key.arn, true, Some(limit), "").await;
        let listed = [service.list_keys(&call, input).await.is_ok(), rotations.is_ok()];
        assert_eq!(listed, [taken; 2], "a page of {limit}");
    }
    for (days, taken) in [(31, false), (30, true)] {
        let scheduled = service.schedule_key_deletion(&call, &key.arn, Some(days)).await;
        assert_eq!(scheduled.is_ok(), taken, "{days} days");
    }
    for (characters, expected) in [(2_048, Exception::NotFound), (2_049, Exception::Validation)] {
        let named = service.enable_key(&call, &"k".repeat(characters)).await;
        assert_eq!(exception(named), expected, "a name of {characters} characters");
    }
}

#[tokio::test]
async fn lists_come_in_pages() {
    let bench = Bench::new().await;
    let mut made: Vec<_> = join_all((0..5).map(|_| bench.create())).await.into_iter().map(|key| key.id).collect();
    made.sort();
    let (mut listed, mut marker) = (Vec::new(), String::new());
    loop {
        let input = ListKeysInput { limit: Some(2), marker, ..ListKeysInput::default() };
        let page = bench.service.list_keys(&bench.call(), input).await.unwrap();
        listed.extend(page.items.into_iter().map(|key| key.id));
        match page.next_marker {
            Some(next) => marker = next,
            None => break,
        }
    }
    assert_eq!(listed, made);
    let refused = |input: ListKeysInput| async { exception(bench.service.list_keys(&bench.call(), input).await) };
    let nonsense = ListKeysInput { marker: "nonsense".into(), ..ListKeysInput::default() };
    assert_eq!(refused(nonsense).await, Exception::InvalidMarker);
    assert_eq!(refused(ListKeysInput { limit: Some(0), ..ListKeysInput::default() }).await, Exception::Validation);
    let stores = |id: &'static str, name: &'static str| {
        let (service, call) = (bench.service.clone(), bench.call());
        async move { service.describe_key_stores(&call, id, name, None, "").await.map(|page| page.items.len()) }
    };
    assert_eq!((stores("", "").await.unwrap(), stores("", "main").await.unwrap()), (1, 1));
    assert_eq!(exception(stores("", "other").await), Exception::CustomKeyStoreNotFound);
    assert_eq!(exception(stores("cks-0", "").await), Exception::CustomKeyStoreNotFound);
    assert_eq!(exception(stores("cks-0", "main").await), Exception::Validation);
}
