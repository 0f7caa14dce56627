//! Deletions and rotations on either side of a backup.

use std::time::Duration;

use super::*;
use crate::{Finished, GiveUp, Rotating};
use bytes::Bytes;
use model::key::RotationCause;

#[tokio::test]
async fn a_deletion_that_was_cancelled_is_not_revived_and_destroyed_material_not_brought_back() {
    let (site, store, key_store) = Site::used().await;
    let keys = [
        key(&store, &key_store).await.key,
        key(&store, &key_store).await.key,
        key(&store, &key_store).await.key,
        key(&store, &key_store).await.key,
    ];
    let [spared, going, rotated, destroyed] = keys;
    for id in [spared, going] {
        store.schedule_deletion(id, 1_000).await.unwrap();
        store.add_overdue(&[(id, Duration::from_secs(23 * 60 * 60))]).await.unwrap();
    }
    let copy = site.copy("backup");
    backup(&site.file(), &copy, &site.clock).await.unwrap();

    store.cancel_deletion(spared).await.unwrap();
    let version = KeyVersionId { key: rotated, version: 2 };
    let rotating = Rotating { version, cause: RotationCause::Request, in_place: false };
    store.begin_version(rotating, &[]).await.unwrap();
    let proof = ([0; 12], Bytes::from_static(b"proof"));
    store.finish_version(Finished { version, proof, proven: Vec::new(), reserve: 0 }).await.unwrap();
    store.schedule_deletion(destroyed, 1_000).await.unwrap();
    store.give_up_material(destroyed, GiveUp::Due { date: 1_000 }, &[hsm()]).await.unwrap();
    store.close().await;

    let (plan, _) = site.restore(&copy).await;
    assert_eq!((&plan.spared[..], &plan.unknown_versions[..]), (&[spared][..], &[version][..]));
    let store = site.open().await.unwrap();
    let catalogue = store.catalogue();
    let (kept, gone) = (catalogue.key(spared).unwrap(), catalogue.key(going).unwrap());
    assert_eq!((kept.state, kept.deletion), (KeyState::Disabled, None));
    let deletion = gone.deletion.unwrap();
    assert_eq!((gone.state, deletion.overdue), (KeyState::PendingDeletion, Duration::ZERO), "there is a day to see it");
    assert!(catalogue.key(destroyed).is_none() && catalogue.destroyed_of(destroyed).count() == 1);
    assert_eq!(catalogue.key(rotated).unwrap().current_version, 1);
}

/// It has come into use since, and the backup has nothing of it but its number.
#[tokio::test]
async fn a_version_that_was_begun_when_the_backup_was_made_is_neither_gone_on_with_nor_destroyed() {
    let (site, store, key_store) = Site::used().await;
    let id = key(&store, &key_store).await.key;
    let version = KeyVersionId { key: id, version: 2 };
    let rotating = Rotating { version, cause: RotationCause::Request, in_place: false };
    store.begin_version(rotating, &[]).await.unwrap();
    let copy = site.copy("backup");
    backup(&site.file(), &copy, &site.clock).await.unwrap();

    store.keep_blob(version, &Bytes::from_static(b"blob")).await.unwrap();
    let proof = ([0; 12], Bytes::from_static(b"proof"));
    store.finish_version(Finished { version, proof, proven: Vec::new(), reserve: 0 }).await.unwrap();
    store.close().await;

    let (plan, _) = site.restore(&copy).await;
    assert_eq!((&plan.half_made[..], &plan.unknown_versions[..]), (&[version][..], &[version][..]));
    let store = site.open().await.unwrap();
    let catalogue = store.catalogue();
    let row = catalogue.key(id).unwrap();
    assert!(row.unfinished().is_none() && row.versions.len() == 1 && !catalogue.is_destroyed(version));
}

#[tokio::test]
async fn what_was_prepared_and_not_decided_is_forgotten() {
    let (site, store, _) = Site::used().await;
    let copy = site.copy("backup");
    backup(&site.file(), &copy, &site.clock).await.unwrap();
    store.close().await;
    let before = site.bytes();
    drop(site.prepare(&copy).await.unwrap());
    assert!(before != site.bytes());
    assert_eq!(files::finish(&site.file()).await.unwrap(), None);
    assert!(before == site.bytes());
}

/// As people made them before there was a command for it.
#[tokio::test]
async fn copies_of_a_stopped_daemon_are_restored_too() {
    let (site, store, key_store) = Site::used().await;
    let version = key(&store, &key_store).await;
    replace(&store, &key_store, hsm(), None, pin("then")).await;
    store.close().await;
    let (copy, older) = (site.copy("stopped"), site.copy("of-an-earlier-release"));
    fs::copy(site.file(), &copy).unwrap();
    fs::copy(site.file(), &older).unwrap();
    let mut database = open(&older).await.unwrap();
    database.execute("PRAGMA application_id = 0", values![]).await.unwrap();
    database.close().await.unwrap();
    let store = site.open().await.unwrap();
    replace(&store, &key_store, hsm(), Some(pin("then")), pin("now")).await;
    key(&store, &key_store).await;
    store.close().await;
    for (source, order) in [(copy, Order::FormerIsNewer), (older, Order::Unrelated)] {
        let restore = site.prepare(&source).await.unwrap();
        assert_eq!((restore.origin().made_at, restore.former().unwrap().1), (None, order));
        restore.abandon().await.unwrap();
        site.clock.advance(std::time::Duration::from_secs(1));
        site.restore(&source).await;
        let store = site.open().await.unwrap();
        assert_eq!(store.catalogue().keys().map(|key| key.id).collect::<Vec<_>>(), [version.key]);
        assert_eq!(store.pins(&key_store).await.unwrap(), [(hsm(), pin("now"))]);
        store.close().await;
    }
}
