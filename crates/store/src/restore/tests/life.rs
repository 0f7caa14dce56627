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
