//! Keys that are deleted, and those whose owner thinks better of it at the last moment.

use std::time::Duration;

use bytes::Bytes;

use super::Bench;
use crate::{Destroyed, Error, GiveUp, Rotating};
use model::id::{HsmId, KeyId, KeyVersionId};
use model::key::{KeyState, RotationCause};

/// Whoever finds that a deletion is due has read it a moment before it acts.
#[tokio::test]
async fn a_deletion_that_was_cancelled_or_scheduled_anew_is_not_carried_out() {
    let bench = Bench::new().await;
    let (store, key) = (&bench.store, bench.new_key().await.key);
    store.force_state(key, KeyState::Enabled).await.unwrap();
    store.schedule_deletion(key, 5).await.unwrap();
    store.cancel_deletion(key).await.unwrap();
    let due = GiveUp::Due { date: 5 };
    let cancelled = store.give_up_material(key, due, &[]).await.unwrap_err();
    assert!(matches!(cancelled, Error::KeyState(_, KeyState::Disabled)), "{cancelled}");
    store.schedule_deletion(key, 6).await.unwrap();
    let anew = store.give_up_material(key, due, &[]).await.unwrap_err();
    assert!(matches!(anew, Error::Contradiction(_)), "{anew}");
    assert!(!store.catalogue().key(key).unwrap().is_destroyed() && store.catalogue().destroyed().next().is_none());
    store.give_up_material(key, GiveUp::Due { date: 6 }, &[]).await.unwrap();
    assert!(store.catalogue().key(key).unwrap().is_destroyed());
    assert!(matches!(store.cancel_deletion(key).await, Err(Error::MaterialDestroyed(_))));
}

#[tokio::test]
async fn what_a_deletion_was_overdue_is_forgotten_where_it_is_not_any_more() {
    let bench = Bench::new().await;
    let (store, [past, ahead]) = (&bench.store, [bench.new_key().await.key, bench.new_key().await.key]);
    for (key, date) in [(past, 1_000), (ahead, 5_000)] {
        store.force_state(key, KeyState::Enabled).await.unwrap();
        store.schedule_deletion(key, date).await.unwrap();
    }
    bench.clock.advance(Duration::from_secs(5));
    let ran = Duration::from_secs(60);
    store.add_overdue(&[(past, ran), (ahead, ran)]).await.unwrap();
    bench.clock.set_back(Duration::from_secs(1));
    store.forget_overdue(&[past, ahead]).await.unwrap();
    let overdue = |key| store.catalogue().key(key).unwrap().deletion.unwrap().overdue;
    assert_eq!([overdue(past), overdue(ahead)], [ran, Duration::ZERO]);
    // Also where the disk is full, and nothing is added.
    bench.clock.set_back(Duration::from_secs(4));
    store.spend_reserve();
    assert!(store.add_overdue(&[(past, ran)]).await.is_err());
    store.forget_overdue(&[past]).await.unwrap();
    assert_eq!(overdue(past), Duration::ZERO);
}

#[tokio::test]
async fn a_key_in_use_is_not_destroyed_because_somebody_asks() {
    let bench = Bench::new().await;
    let (store, key) = (&bench.store, bench.new_key().await.key);
    store.force_state(key, KeyState::Enabled).await.unwrap();
    let refused = store.give_up_material(key, GiveUp::Asked { date: 5 }, &[]).await.unwrap_err();
    assert!(matches!(refused, Error::KeyState(_, KeyState::Enabled)), "{refused}");
}

/// An HSM that had destroyed it may have been told to keep it after that.
#[tokio::test]
async fn a_version_that_was_given_up_while_it_was_made_is_to_be_destroyed_anew() {
    let bench = Bench::new().await;
    let (store, key) = (&bench.store, bench.new_key().await.key);
    store.force_state(key, KeyState::Enabled).await.unwrap();
    let [first, late] = [1, 2].map(|version| KeyVersionId { key, version });
    let rotating = Rotating { version: late, cause: RotationCause::Request, in_place: false };
    store.begin_version(rotating, &[]).await.unwrap();
    assert!(store.catalogue().key(key).unwrap().unfinished().is_some());
    store.force_state(key, KeyState::Disabled).await.unwrap();
    let hsm = HsmId::from("hsm-a");
    store.give_up_material(key, GiveUp::Asked { date: 1 }, std::slice::from_ref(&hsm)).await.unwrap();
    let done = |version| Destroyed { version, hsm: hsm.clone(), failure: None };
    store.note_destroyed(&[done(first), done(late)]).await.unwrap();
    store.abandon_version(late).await.unwrap();
    let stands = || {
        let row = store.catalogue().key(key).cloned().unwrap();
        assert!(row.unfinished().is_none());
        row.versions.iter().map(|version| version.destructions[&hsm].destroyed_at.is_some()).collect::<Vec<_>>()
    };
    assert_eq!(stands(), [true, false]);
    store.note_destroyed(&[done(late)]).await.unwrap();
    assert_eq!(stands(), [true, true]);
    store.note_undestroyed(first, &hsm, Some("it does not")).await.unwrap();
    assert_eq!(stands(), [false, true]);
    store.note_undestroyed(KeyVersionId { key: KeyId::random(), version: 1 }, &hsm, None).await.unwrap();
}

#[tokio::test]
async fn nothing_of_material_that_was_given_up_stays_in_the_file() {
    let bench = Bench::new().await;
    let (store, version) = (&bench.store, bench.new_key().await);
    // Longer than a page, too, so that pages of their own are overwritten as well.
    let blobs = [b"short-escrow-of-a-key".to_vec(), b"long-escrow-of-a-key".repeat(500)];
    for blob in &blobs {
        store.keep_blob(version, &Bytes::copy_from_slice(blob)).await.unwrap();
    }
    let file = bench.file();
    let holds = |what: &[u8]| std::fs::read(&file).unwrap().windows(what.len()).any(|window| window == what);
    store.force_state(version.key, KeyState::Disabled).await.unwrap();
    store.give_up_material(version.key, GiveUp::Asked { date: 1 }, &["hsm-a".into()]).await.unwrap();
    // Whoever makes a version of it at that time comes too late.
    let late = store.keep_blob(version, &Bytes::copy_from_slice(&blobs[0])).await;
    assert!(matches!(late, Err(Error::MaterialDestroyed(_))), "{late:?}");
    store.close().await;
    assert!(holds(version.key.to_string().as_bytes()), "this is the file");
    assert!(!holds(b"escrow-of-a-key"));
}
