//! Versions that come into use, with all that is recorded then.

use bytes::Bytes;

use super::Bench;
use crate::{Begun, Error, Finished, NewKey, Rotating};
use model::id::KeyVersionId;
use model::key::{KeyState, Placement, RotationCause};
use model::key_store::{ConnectionState, Event};
use model::limits::ENCRYPTIONS_PER_VERSION;

fn finished(version: KeyVersionId) -> Finished {
    let proof = ([3; 12], Bytes::from_static(b"proof"));
    Finished { version, proof, proven: vec!["hsm-a".into()], reserve: 10 }
}

#[tokio::test]
async fn one_change_records_all_that_a_version_needs() {
    let bench = Bench::new().await;
    let store = &bench.store;
    let first = bench.new_key().await;
    let before = store.revision();
    assert_eq!(store.finish_version(finished(first)).await.unwrap(), 10);
    assert_eq!(store.revision(), before + 1);
    assert_eq!(store.unreserved_encryptions(first), ENCRYPTIONS_PER_VERSION - 10);

    let second = KeyVersionId { version: 2, ..first };
    store
        .begin_version(Rotating { version: second, cause: RotationCause::Request, in_place: false }, &[])
        .await
        .unwrap();
    store.finish_version(finished(second)).await.unwrap();
    let key = store.catalogue().key(first.key).cloned().unwrap();
    assert_eq!((key.state, key.current_version), (KeyState::Enabled, 2));
    for version in &key.versions {
        assert!(version.proof.is_some() && version.current_since.is_some(), "{version:?}");
        assert_eq!(version.placements.get(&"hsm-a".into()), Some(&Placement::Present));
    }
    assert_eq!(key.versions[0].placements.get(&"hsm-b".into()), Some(&Placement::Pending));
}

/// Its HSM may hold it from the moment in which it is on record.
#[tokio::test]
async fn what_is_made_in_place_is_remembered_from_its_beginning() {
    let mut bench = Bench::new().await;
    let new = NewKey { in_place: true, ..NewKey::new(&bench.key_store, &["hsm-a".into()]) };
    let Begun::New(key) = bench.store.begin_key(new.clone(), None).await.unwrap() else { panic!("it is new") };
    let Begun::New(given_up) = bench.store.begin_key(new, None).await.unwrap() else { panic!("it is new") };
    let [first, second] = [1, 2].map(|version| KeyVersionId { key, version });
    bench.store.finish_version(finished(first)).await.unwrap();
    let rotating = Rotating { version: second, cause: RotationCause::Request, in_place: true };
    bench.store.begin_version(rotating, &["hsm-a".into()]).await.unwrap();
    bench.reopen().await;
    let catalogue = bench.store.catalogue();
    let versions = &catalogue.key(key).unwrap().versions;
    assert!(
        versions.len() == 2 && versions.iter().all(|one| one.in_place && one.blob.is_none() && one.may_be_in_tokens())
    );
    bench.store.abandon_version(second).await.unwrap();
    bench.store.abandon_key(given_up).await.unwrap();
    let catalogue = bench.store.catalogue();
    let given_up = KeyVersionId { key: given_up, version: 1 };
    assert!(catalogue.destroyed_of(key).eq([second]) && catalogue.destroyed_of(given_up.key).eq([given_up]));
}

#[tokio::test]
async fn no_key_is_begun_or_enabled_in_a_store_that_is_not_connected() {
    let bench = Bench::new().await;
    let (store, id) = (&bench.store, &bench.key_store);
    let version = bench.new_key().await;
    let key = version.key;
    store.advance_key_store(id, Event::Disconnect, None, false).await.unwrap();
    let refused = |error| matches!(error, Error::State(ConnectionState::Disconnecting));
    assert!(refused(store.finish_version(finished(version)).await.unwrap_err()));
    assert_eq!(store.unreserved_encryptions(version), ENCRYPTIONS_PER_VERSION, "all of it or nothing");
    assert!(refused(store.begin_key(NewKey::new(id, &[]), None).await.err().unwrap()));
    assert_eq!(store.catalogue().key(key).unwrap().state, KeyState::Creating);
}
