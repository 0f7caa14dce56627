//! What follows from what an HSM shows: of one token, and of one whose module has its keys in several HSMs, which do not show
//! the same at the same time.

use std::time::Duration;

use super::bench::{Bench, plain, sealed};
use super::rotation::versions;
use crate::KeyMetadata;
use model::id::{HsmId, KeyVersionId};
use model::key::Placement;

/// How long each HSM of the cluster may be behind the others.
const SETTLES: Duration = Duration::from_millis(2);

/// One HSM that stands for two zones, a key of it, and that one's version.
async fn replicating() -> (Bench, KeyMetadata, KeyVersionId) {
    let bench = Bench::over(&["zone-a+zone-b"]).await;
    *bench.fake.settles.lock().unwrap() = SETTLES;
    let key = bench.create().await;
    let version = KeyVersionId { key: key.id, version: 1 };
    (bench, key, version)
}

/// One look at the HSM; whether it holds what it should.
async fn look(bench: &Bench) -> bool {
    bench.service.lifecycle.reconcile(&bench.key_store, &*bench.fake, 0, &"hsm-0".into()).await
}

/// Whether the material is on record as destroyed in the HSM.
fn is_noted(bench: &Bench, version: KeyVersionId) -> bool {
    let catalogue = bench.store.catalogue();
    let row = catalogue.key(version.key).unwrap().version(version.version).unwrap();
    row.destructions[&HsmId::from("hsm-0")].destroyed_at.is_some()
}

fn placement(bench: &Bench, version: KeyVersionId) -> Placement {
    let catalogue = bench.store.catalogue();
    catalogue.key(version.key).unwrap().version(version.version).unwrap().placements[&HsmId::from("hsm-0")]
}

/// Gives the material up while the HSM does not destroy it.
async fn given_up(bench: &Bench, key: &KeyMetadata) {
    bench.service.disable_key(&bench.call(), &key.arn).await.unwrap();
    bench.fake.fail("destroy", 0, 1);
    bench.service.destroy_key_material(&bench.call(), &key.arn, &key.arn).await.unwrap();
}

#[tokio::test]
async fn what_one_list_does_not_show_is_not_destroyed_by_that() {
    let (bench, key, version) = replicating().await;
    given_up(&bench, &key).await;
    bench.fake.unlisted.lock().unwrap().insert(version, 1);
    bench.fake.fail("destroy", 0, 1);
    assert!(!look(&bench).await);
    assert_eq!((is_noted(&bench, version), bench.fake.objects()), (false, vec![1]), "it is there, and said to be");
    // What the second list alone shows is destroyed, in one of the HSMs behind the slot as far as a session can tell.
    bench.fake.unlisted.lock().unwrap().insert(version, 1);
    assert!(!look(&bench).await, "it is looked at again soon");
    assert_eq!((is_noted(&bench, version), bench.fake.objects()), (false, vec![0]));
    assert!(look(&bench).await);
    assert!(is_noted(&bench, version), "neither list shows it");
}

/// The caller is not told that it is gone before two lists do not show it.
#[tokio::test]
async fn what_one_session_has_destroyed_is_noted_by_the_next_look() {
    let (bench, key, version) = replicating().await;
    bench.service.disable_key(&bench.call(), &key.arn).await.unwrap();
    let answered = bench.service.destroy_key_material(&bench.call(), &key.arn, &key.arn).await.unwrap();
    assert_eq!(bench.fake.objects(), [0]);
    assert!(
        answered.destructions.iter().all(|one| one.destroyed_at.is_none() && one.failure.is_none()),
        "{answered:?}"
    );
    assert!(!is_noted(&bench, version));
    let lists = *bench.fake.lists.borrow();
    assert!(look(&bench).await);
    assert_eq!((is_noted(&bench, version), *bench.fake.lists.borrow() - lists), (true, 2));
}

/// A key that is shown and that a session cannot find is on its way between the HSMs behind the slot.
#[tokio::test]
async fn what_is_shown_was_not_removed() {
    let (bench, _, version) = replicating().await;
    bench.store.set_placement(version, &"hsm-0".into(), Placement::Pending).await.unwrap();
    bench.fake.fail("find", 0, 1);
    assert!(!look(&bench).await, "it is tried again soon");
    assert_eq!(placement(&bench, version), Placement::Pending);
    // The second list alone shows it.
    bench.fake.unlisted.lock().unwrap().insert(version, 1);
    bench.fake.fail("find", 0, 1);
    assert!(!look(&bench).await);
    assert_eq!(placement(&bench, version), Placement::Pending);
    bench.fake.unlisted.lock().unwrap().insert(version, 2);
    bench.fake.fail("find", 0, 1);
    assert!(!look(&bench).await);
    assert_eq!(placement(&bench, version), Placement::Removed);
}

#[tokio::test]
async fn what_neither_list_shows_is_noted_as_destroyed() {
    let (bench, key, version) = replicating().await;
    given_up(&bench, &key).await;
    // By somebody else.
    bench.fake.tokens.lock().unwrap()[0].clear();
    assert!(look(&bench).await);
    assert!(is_noted(&bench, version));
    // It is destroyed whenever it shows up after all.
    bench.fake.tokens.lock().unwrap()[0].insert(version, bytes::Bytes::from_static(b"restored"));
    assert!(look(&bench).await);
    assert_eq!(bench.fake.objects(), [0]);
}

/// Where the HSM answers the first time only, nothing is concluded from what it did not show.
#[tokio::test]
async fn without_a_second_list_nothing_is_gone() {
    let (bench, key, version) = replicating().await;
    let other = bench.create().await;
    let kept = KeyVersionId { key: other.id, version: 1 };
    given_up(&bench, &key).await;
    bench.fake.tokens.lock().unwrap()[0].clear();
    *bench.fake.settles.lock().unwrap() = Duration::from_millis(300);
    let lists = *bench.fake.lists.borrow();
    let looked = async {
        let (look, first) = (look(&bench), async {
            bench.fake.lists.subscribe().wait_for(|made| *made > lists).await.unwrap();
            bench.fake.fail("list", 0, 1);
        });
        tokio::join!(look, first).0
    };
    assert!(!looked.await, "it is looked at again soon");
    assert!(!is_noted(&bench, version));
    assert_eq!(placement(&bench, kept), Placement::Present);
    *bench.fake.settles.lock().unwrap() = SETTLES;
    look(&bench).await;
    assert!(is_noted(&bench, version));
    assert_eq!(placement(&bench, kept), Placement::Removed);
}

/// A list says nothing of what was given up only after it was made: it may have been placed in between.
#[tokio::test]
async fn what_is_given_up_after_the_list_is_not_noted_by_it() {
    for zones in [&["zone-a+zone-b"][..], &["zone-a", "zone-b"]] {
        let bench = Bench::over(zones).await;
        let permits = bench.fake.listing.acquire().await.unwrap();
        let lists = *bench.fake.lists.borrow();
        let between = async {
            bench.fake.lists.subscribe().wait_for(|made| *made > lists).await.unwrap();
            let key = bench.create().await;
            bench.service.disable_key(&bench.call(), &key.arn).await.unwrap();
            for member in 0..zones.len() {
                bench.fake.fail("destroy", member, 1);
            }
            bench.service.destroy_key_material(&bench.call(), &key.arn, &key.arn).await.unwrap();
            drop(permits);
            KeyVersionId { key: key.id, version: 1 }
        };
        let (complete, version) = tokio::join!(look(&bench), between);
        assert!(complete && !is_noted(&bench, version), "{zones:?}");
        assert!(bench.fake.tokens.lock().unwrap()[0].contains_key(&version));
        look(&bench).await;
        assert!(is_noted(&bench, version), "{zones:?}");
    }
}

/// What the daemon destroys itself while it looks nobody else has removed.
#[tokio::test]
async fn what_is_destroyed_meanwhile_is_no_removal() {
    let (bench, key, version) = replicating().await;
    let permits = bench.fake.listing.acquire().await.unwrap();
    bench.fake.unlisted.lock().unwrap().insert(version, 2);
    let lists = *bench.fake.lists.borrow();
    let between = async {
        bench.fake.lists.subscribe().wait_for(|made| *made > lists).await.unwrap();
        bench.service.disable_key(&bench.call(), &key.arn).await.unwrap();
        bench.service.destroy_key_material(&bench.call(), &key.arn, &key.arn).await.unwrap();
        drop(permits);
    };
    tokio::join!(look(&bench), between);
    assert!(bench.seen.removed.lock().unwrap().is_empty());
}

/// A second object of a version that shows up after the version was confirmed.
#[tokio::test]
async fn of_several_objects_the_one_that_opens_the_proof_is_kept() {
    let (bench, key, version) = replicating().await;
    let sealed = bench.encrypt(plain(&key.arn, b"kept")).await.unwrap();
    bench.fake.doubles.lock().unwrap().push(version);
    bench.fake.fail("keep", 0, 1);
    assert!(!look(&bench).await, "it is tried again soon");
    let orphans = || bench.service.lifecycle.reconcilers().orphans(&"hsm-0".into());
    assert_eq!(orphans(), [version], "and shown meanwhile");
    assert!(look(&bench).await);
    assert!(bench.fake.doubles.lock().unwrap().is_empty() && orphans().is_empty());
    assert_eq!(bench.decrypt(super::bench::sealed(&sealed)).await.unwrap(), b"kept");
}

/// Several that all open the proof do no harm: nothing is left to be done, and they are shown.
#[tokio::test]
async fn objects_of_one_material_are_as_one() {
    let (bench, key, version) = replicating().await;
    bench.fake.doubles.lock().unwrap().push(version);
    bench.fake.fail("twins", 0, 2);
    let orphans = || bench.service.lifecycle.reconcilers().orphans(&"hsm-0".into());
    for _ in 0..2 {
        assert!(look(&bench).await, "it is looked at no sooner than usual");
        assert_eq!(orphans(), [version]);
    }
    assert_eq!(*bench.fake.doubles.lock().unwrap(), [version]);
    let sealed = bench.encrypt(plain(&key.arn, b"by either")).await.unwrap();
    assert_eq!(bench.decrypt(super::bench::sealed(&sealed)).await.unwrap(), b"by either");
    // One of them is gone.
    bench.fake.doubles.lock().unwrap().clear();
    assert!(look(&bench).await && orphans().is_empty());
}

/// Where an HSM has keys in several HSMs, one that was made in place may have come beside one that was unwrapped.
#[tokio::test]
async fn an_hsm_that_replicates_has_one_object_of_a_wrapped_key_too() {
    let bench = Bench::new().await;
    *bench.fake.settles.lock().unwrap() = SETTLES;
    let version = KeyVersionId { key: bench.create().await.id, version: 1 };
    bench.fake.doubles.lock().unwrap().push(version);
    assert!(look(&bench).await);
    assert!(bench.fake.doubles.lock().unwrap().is_empty());
}

/// It is proven there after that.
#[tokio::test]
async fn several_objects_of_what_is_not_proven_yet_are_looked_at() {
    let (bench, _, version) = replicating().await;
    bench.store.set_placement(version, &"hsm-0".into(), Placement::Pending).await.unwrap();
    bench.fake.doubles.lock().unwrap().push(version);
    assert!(look(&bench).await);
    assert!(bench.fake.doubles.lock().unwrap().is_empty());
    assert_eq!(placement(&bench, version), Placement::Present);
}

/// Those of a key that is wrapped have the same material.
#[tokio::test]
async fn several_objects_of_a_wrapped_key_are_left_alone() {
    let bench = Bench::new().await;
    let version = KeyVersionId { key: bench.create().await.id, version: 1 };
    bench.fake.doubles.lock().unwrap().push(version);
    assert!(look(&bench).await);
    assert_eq!(*bench.fake.doubles.lock().unwrap(), [version]);
}

/// A single token is not asked twice.
#[tokio::test]
async fn one_token_is_believed_at_once() {
    let bench = Bench::new().await;
    let version = KeyVersionId { key: bench.create().await.id, version: 1 };
    bench.fake.tokens.lock().unwrap()[0].clear();
    let lists = *bench.fake.lists.borrow();
    look(&bench).await;
    assert_eq!(*bench.fake.lists.borrow() - lists, 1);
    assert_eq!(placement(&bench, version), Placement::Removed);
    let removed: Vec<_> = bench.seen.removed.lock().unwrap().iter().map(|removal| removal.version).collect();
    assert_eq!(removed, [version]);
}

/// An HSM that comes back after the tokens were asked may hold the number, of before a restore. It is nobody's to destroy.
#[tokio::test]
async fn what_an_hsm_holds_that_comes_back_while_a_version_is_made_is_left_alone() {
    let bench = Bench::over(&["a", "b", "c"]).await;
    let key = bench.create().await;
    let id = key.id.to_string();
    let (shown, material) = (KeyVersionId { key: key.id, version: 2 }, bytes::Bytes::from_static(b"of another time"));
    bench.fake.tokens.lock().unwrap()[2].insert(shown, material.clone());
    bench.fake.absent.lock().unwrap().push(2);
    let (permit, lists) = (bench.fake.listing.acquire().await.unwrap(), *bench.fake.lists.borrow());
    let back = async {
        bench.fake.lists.subscribe().wait_for(|made| *made >= lists + 2).await.unwrap();
        bench.fake.absent.lock().unwrap().clear();
        drop(permit);
    };
    let call = bench.call();
    let (rotated, ()) = tokio::join!(bench.service.rotate_key_on_demand(&call, &id), back);
    rotated.unwrap();
    assert_eq!((versions(&bench, &key), bench.fake.objects()), ((vec![1, 2], 2), vec![2, 2, 2]));
    assert_eq!(bench.fake.tokens.lock().unwrap()[2][&shown], material);
    assert_eq!(bench.decrypt(sealed(&bench.encrypt(plain(&id, b"x")).await.unwrap())).await.unwrap(), b"x");
}
