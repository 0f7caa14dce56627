//! New material for a key, under callers and under failures.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;

use super::bench::{Bench, exception, plain, sealed};
use crate::GrantTokens;
use crate::lifecycle::tend::Turns;
use model::clock::Clock;
use model::exception::Exception;
use model::id::KeyVersionId;
use model::key::{KeyState, RotationCause};
use model::limits::ENCRYPTIONS_BEFORE_ROTATION;
use store::{Begun, NewKey, Rotating};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The numbers of a key's versions, and which of them encrypts.
pub(super) fn versions(bench: &Bench, key: &crate::KeyMetadata) -> (Vec<u32>, u32) {
    let catalogue = bench.store.catalogue();
    let row = catalogue.key(key.id).unwrap();
    (row.versions.iter().map(|version| version.id.version).collect(), row.current_version)
}

pub(super) fn turns(bench: &Bench) -> Turns {
    Turns::new(bench.clock.now())
}

/// One turn of what is done about keys, and what it has begun.
pub(super) async fn turn(bench: &Bench, turns: &mut Turns) {
    bench.service.lifecycle.tend_keys_once(turns).await;
    turns.rotated().await;
}

#[tokio::test]
async fn old_ciphertexts_open_and_new_ones_are_the_new_versions() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let (id, call) = (key.id.to_string(), bench.call());
    let mut made = Vec::new();
    for round in 1..=4_u32 {
        let ciphertext = bench.encrypt(plain(&id, b"secret")).await.unwrap();
        assert_eq!(ciphertext[17..21], round.to_be_bytes());
        made.push(ciphertext);
        assert_eq!(bench.service.rotate_key_on_demand(&call, &id).await.unwrap(), key.arn);
    }
    for ciphertext in &made {
        assert_eq!(bench.decrypt(sealed(ciphertext)).await.unwrap(), b"secret");
    }
    assert_eq!(versions(&bench, &key), (vec![1, 2, 3, 4, 5], 5));
    assert_eq!(bench.fake.objects(), [5, 5]);
    let (arn, all) = bench.service.list_key_rotations(&call, &id, true, None, "").await.unwrap();
    let names: std::collections::BTreeSet<_> = all.items.iter().map(|one| one.material_id.to_string()).collect();
    assert!(names.len() == 5 && names.iter().all(|name| name.len() == 64), "{names:?}");
    assert_eq!((arn, all.items.iter().filter(|one| one.current).count()), (key.arn, 1));
    let (_, only) = bench.service.list_key_rotations(&call, &id, false, Some(3), "").await.unwrap();
    let (_, rest) =
        bench.service.list_key_rotations(&call, &id, false, Some(3), &only.next_marker.unwrap()).await.unwrap();
    let numbers: Vec<u32> = only.items.iter().chain(&rest.items).map(|one| one.version).collect();
    assert_eq!((numbers, rest.next_marker), (vec![2, 3, 4, 5], None));
}

#[tokio::test]
async fn a_rotation_on_demand_has_its_limit() {
    let bench = Bench::new().await;
    let id = bench.create().await.id.to_string();
    for _ in 0..25 {
        bench.service.rotate_key_on_demand(&bench.call(), &id).await.unwrap();
    }
    let refused = bench.service.rotate_key_on_demand(&bench.call(), &id).await.unwrap_err();
    assert_eq!((refused.exception, refused.retryable), (Exception::LimitExceeded, false));
    assert!(refused.message.contains("25 times"), "{refused}");
}

/// Of two calls at once, one may have been looked at before the other one has ended.
#[tokio::test]
async fn the_limit_holds_where_the_rotation_begins() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    for _ in 0..25 {
        bench.service.lifecycle.rotate(key.id, RotationCause::Request).await.unwrap();
    }
    let refused = bench.service.lifecycle.rotate(key.id, RotationCause::Request).await.unwrap_err();
    assert_eq!(refused.exception, Exception::LimitExceeded, "{refused}");
    bench.service.lifecycle.rotate(key.id, RotationCause::Wear).await.unwrap();
    assert_eq!(versions(&bench, &key).1, 27);
}

/// It lists the tokens before it has a row that says why it is made.
#[tokio::test]
async fn one_that_is_made_for_another_reason_is_not_joined() {
    let bench = Bench::by(Clock::manual(), &["a", "b"]).await;
    let key = bench.create().await;
    let id = key.id.to_string();
    bench.service.enable_key_rotation(&bench.call(), &id, None).await.unwrap();
    bench.clock.advance(366 * DAY);
    let permits = bench.fake.listing.acquire().await.unwrap();
    let lists = *bench.fake.lists.borrow();
    let mut turns = turns(&bench);
    bench.service.lifecycle.tend_keys_once(&mut turns).await;
    bench.fake.lists.subscribe().wait_for(|made| *made > lists).await.unwrap();
    assert!(bench.store.catalogue().key(key.id).unwrap().unfinished().is_none());
    assert_eq!(exception(bench.service.rotate_key_on_demand(&bench.call(), &id).await), Exception::Conflict);
    drop(permits);
    turns.rotated().await;
    let causes = || {
        let row = bench.store.catalogue().key(key.id).cloned().unwrap();
        row.versions.iter().filter_map(|version| version.cause).collect::<Vec<_>>()
    };
    assert_eq!(causes(), [RotationCause::Period]);
    bench.service.rotate_key_on_demand(&bench.call(), &id).await.unwrap();
    assert_eq!(causes(), [RotationCause::Period, RotationCause::Request]);
}

/// Its version may be current already while it is listed still: there is no unfinished row any more that says why.
#[tokio::test]
async fn one_that_was_interrupted_is_not_joined_for_another_reason_as_it_ends() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let hsms: Vec<_> =
        bench.service.core.registry().active()[0].members.hsms.iter().map(|(hsm, _)| hsm.clone()).collect();
    let version = KeyVersionId { key: key.id, version: 2 };
    bench.store.begin_version(Rotating { version, cause: RotationCause::Wear, in_place: false }, &hsms).await.unwrap();
    bench.store.keep_blob(version, &bytes::Bytes::from_static(b"blob")).await.unwrap();
    let permit = bench.fake.placing.acquire().await.unwrap();
    let service = bench.service.clone();
    let resuming = tokio::spawn(async move { service.resume().await });
    let lifecycle = &bench.service.lifecycle;
    let listed = loop {
        let underway = lifecycle.creations().lock().await;
        if underway.contains_key(&key.id) {
            break underway;
        }
        drop(underway);
        tokio::task::yield_now().await;
    };
    // It has its turn before the other one is taken off the list.
    let mut rotating = std::pin::pin!(lifecycle.rotate(key.id, RotationCause::Request));
    assert!(rotating.as_mut().now_or_never().is_none());
    drop(permit);
    while versions(&bench, &key).1 != 2 {
        tokio::task::yield_now().await;
    }
    drop(listed);
    assert_eq!(exception(rotating.await), Exception::Conflict);
    resuming.await.unwrap();
    lifecycle.creations().ended(key.id).await;
    lifecycle.rotate(key.id, RotationCause::Request).await.unwrap();
    assert_eq!(versions(&bench, &key), (vec![1, 2, 3], 3));
}

/// The key is in use, and the one that made it is listed still.
#[tokio::test]
async fn the_making_of_the_key_is_no_rotation_of_it() {
    let bench = Bench::new().await;
    let permit = bench.fake.placing.acquire().await.unwrap();
    let mut creating = std::pin::pin!(bench.create_with(""));
    let lifecycle = &bench.service.lifecycle;
    let (key, listed) = loop {
        assert!(creating.as_mut().now_or_never().is_none());
        let underway = lifecycle.creations().lock().await;
        if let Some(key) = underway.keys().next().copied() {
            break (key, underway);
        }
        drop(underway);
        tokio::task::yield_now().await;
    };
    // It has its turn before the other one is taken off the list.
    let mut rotating = std::pin::pin!(lifecycle.rotate(key, RotationCause::Request));
    assert!(rotating.as_mut().now_or_never().is_none());
    drop(permit);
    while bench.store.catalogue().key(key).unwrap().state != KeyState::Enabled {
        tokio::task::yield_now().await;
    }
    drop(listed);
    rotating.await.unwrap();
    let key = creating.await.unwrap();
    assert_eq!(versions(&bench, &key), (vec![1, 2], 2));
}

/// An HSM that is known to take no more is not filled until it says so itself, half-way through a key.
#[tokio::test]
async fn no_more_versions_are_made_than_each_hsm_takes() {
    let bench = Bench::new().await;
    *bench.fake.most_versions.lock().unwrap() = Some(3);
    let (key, other) = (bench.create().await.id.to_string(), bench.create().await.id.to_string());
    bench.service.rotate_key_on_demand(&bench.call(), &key).await.unwrap();
    let refused = [
        bench.create_with("").await.unwrap_err(),
        bench.service.rotate_key_on_demand(&bench.call(), &other).await.unwrap_err(),
    ];
    for refused in refused {
        assert_eq!((refused.exception, refused.retryable), (Exception::LimitExceeded, false));
        assert!(refused.message.contains("HSM hsm-1 has room for 3 versions"), "{refused}");
        assert!(refused.message.contains("capabilities.objects.keys_max"), "{refused}");
    }
    assert_eq!(bench.fake.objects(), [3, 3], "nothing was begun");
    *bench.fake.most_versions.lock().unwrap() = Some(4);
    bench.create().await;
}

/// Between the look for room and the row, a rotation lists the tokens.
#[tokio::test]
async fn of_two_that_want_the_last_room_one_gets_it() {
    let bench = Bench::new().await;
    *bench.fake.most_versions.lock().unwrap() = Some(3);
    let (key, other) = (bench.create().await.id.to_string(), bench.create().await.id.to_string());
    let call = bench.call();
    let (one, two, made) = tokio::join!(
        bench.service.rotate_key_on_demand(&call, &key),
        bench.service.rotate_key_on_demand(&call, &other),
        bench.create_with(""),
    );
    let outcomes = [one.map(drop), two.map(drop), made.map(drop)];
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    for refused in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!(refused.exception, Exception::LimitExceeded, "{refused}");
    }
    assert_eq!(bench.fake.objects(), [3, 3]);
}

/// In the HSM that has destroyed it, and not before.
#[tokio::test]
async fn what_was_destroyed_makes_room() {
    let bench = Bench::new().await;
    *bench.fake.most_versions.lock().unwrap() = Some(1);
    let key = bench.create().await;
    bench.service.disable_key(&bench.call(), &key.arn).await.unwrap();
    bench.fake.absent.lock().unwrap().push(1);
    bench.service.destroy_key_material(&bench.call(), &key.arn, &key.arn).await.unwrap();
    bench.fake.absent.lock().unwrap().clear();
    assert_eq!(bench.fake.objects(), [0, 1]);
    assert_eq!(
        exception(bench.create_with("").await),
        Exception::LimitExceeded,
        "it is still in the one that was away"
    );
    bench.service.destroy_key_material(&bench.call(), &key.arn, &key.arn).await.unwrap();
    assert_eq!(bench.fake.objects(), [0, 0]);
    bench.create().await;
}

#[tokio::test]
async fn a_rotation_that_fails_leaves_the_key_as_it_was_and_its_number_unused() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let id = key.id.to_string();
    for (step, member) in [("place", 1), ("prove", 1), ("proof", 0), ("list", 1), ("make", 0)] {
        bench.fake.fail(step, member, 2);
        if step == "proof" {
            bench.fake.fail("proof", 1, 2);
        }
        bench.service.rotate_key_on_demand(&bench.call(), &id).await.unwrap_err();
        bench.service.lifecycle.creations().ended(key.id).await;
        bench.fake.faults.lock().unwrap().clear();
        let (numbers, current) = versions(&bench, &key);
        assert_eq!((numbers, current), (vec![1], 1), "after {step}");
        assert_eq!(bench.fake.objects(), [1, 1], "after {step}");
        bench.encrypt(plain(&id, b"as before")).await.unwrap();
    }
    bench.service.rotate_key_on_demand(&bench.call(), &id).await.unwrap();
    let (numbers, current) = versions(&bench, &key);
    assert!(numbers[1] == current && current > 2, "no number is given twice: {numbers:?}");
}

#[tokio::test]
async fn a_zone_that_is_away_refuses_a_rotation_or_is_filled_later() {
    let bench = Bench::over(&["a", "b", "c"]).await;
    let key = bench.create().await;
    let id = key.id.to_string();
    bench.fake.absent.lock().unwrap().push(2);
    bench.service.rotate_key_on_demand(&bench.call(), &id).await.unwrap();
    assert_eq!(bench.fake.objects(), [2, 2, 1]);
    bench.fake.absent.lock().unwrap().push(1);
    let refused = bench.service.rotate_key_on_demand(&bench.call(), &id).await;
    assert_eq!(exception(refused), Exception::CloudHsmClusterInvalidConfiguration);
    assert_eq!(versions(&bench, &key), (vec![1, 2], 2));
}

#[tokio::test]
async fn a_number_that_a_token_shows_is_not_given_again() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    // As after a restore of metadata from before two rotations, one of which reached this token alone.
    let shown = KeyVersionId { key: key.id, version: 7 };
    bench.fake.tokens.lock().unwrap()[1].insert(shown, bytes::Bytes::from_static(b"of another time"));
    bench.service.rotate_key_on_demand(&bench.call(), &key.id.to_string()).await.unwrap();
    assert_eq!(versions(&bench, &key), (vec![1, 8], 8));
}

#[tokio::test]
async fn a_crash_at_any_step_is_resumed() {
    let bench = Bench::new().await;
    let hsms: Vec<_> =
        bench.service.core.registry().active()[0].members.hsms.iter().map(|(hsm, _)| hsm.clone()).collect();
    for with_blob in [false, true] {
        let key = bench.create().await;
        let id = key.id.to_string();
        let before = bench.encrypt(plain(&id, b"before")).await.unwrap();
        let version = KeyVersionId { key: key.id, version: 2 };
        let rotating = Rotating { version, cause: RotationCause::Request, in_place: false };
        bench.store.begin_version(rotating, &hsms).await.unwrap();
        if with_blob {
            bench.store.keep_blob(version, &bytes::Bytes::from_static(b"blob")).await.unwrap();
            bench.store.keep_proof(version, &[0; 12], &bytes::Bytes::from_static(b"stale")).await.unwrap();
            bench.fake.tokens.lock().unwrap()[0].insert(version, bytes::Bytes::from_static(b"half written"));
        }
        // What is being made encrypts nothing, and is none of the rotations.
        let mut forged = before.clone();
        forged[17..21].copy_from_slice(&2_u32.to_be_bytes());
        assert_eq!(exception(bench.decrypt(sealed(&forged)).await), Exception::InvalidCiphertext);
        assert_eq!(bench.encrypt(plain(&id, b"meanwhile")).await.unwrap()[17..21], 1_u32.to_be_bytes());
        bench.service.resume().await;
        let expected = if with_blob { (vec![1, 2], 2) } else { (vec![1], 1) };
        assert_eq!(versions(&bench, &key), expected);
        let after = bench.encrypt(plain(&id, b"after")).await.unwrap();
        assert_eq!(bench.decrypt(sealed(&after)).await.unwrap(), b"after");
        assert_eq!(bench.decrypt(sealed(&before)).await.unwrap(), b"before");
    }
}

#[tokio::test]
async fn what_is_unfinished_of_a_key_out_of_use_is_taken_away() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let version = KeyVersionId { key: key.id, version: 2 };
    bench.store.begin_version(Rotating { version, cause: RotationCause::Request, in_place: false }, &[]).await.unwrap();
    bench.store.keep_blob(version, &bytes::Bytes::from_static(b"blob")).await.unwrap();
    bench.fake.tokens.lock().unwrap()[0].insert(version, bytes::Bytes::from_static(b"placed"));
    bench.service.disable_key(&bench.call(), &key.id.to_string()).await.unwrap();
    let mut turns = turns(&bench);
    turn(&bench, &mut turns).await;
    bench.service.lifecycle.creations().ended(key.id).await;
    assert_eq!((versions(&bench, &key), bench.fake.objects()), ((vec![1], 1), vec![1, 1]));
    assert!(bench.store.catalogue().is_destroyed(version), "its number is not given again");
}

/// What it comes to is told before the HSMs are rid of it.
#[tokio::test]
async fn while_a_version_is_taken_away_nobody_is_told_that_there_is_one() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let (id, version) = (key.id.to_string(), KeyVersionId { key: key.id, version: 2 });
    bench.store.begin_version(Rotating { version, cause: RotationCause::Request, in_place: false }, &[]).await.unwrap();
    bench.store.keep_blob(version, &bytes::Bytes::from_static(b"blob")).await.unwrap();
    bench.service.disable_key(&bench.call(), &id).await.unwrap();
    let permit = bench.fake.destroying.acquire().await.unwrap();
    bench.service.resume().await;
    bench.service.enable_key(&bench.call(), &id).await.unwrap();
    let refused = bench.service.rotate_key_on_demand(&bench.call(), &id).await.unwrap_err();
    assert_eq!((refused.exception, refused.retryable), (Exception::KmsInternal, true), "{refused}");
    drop(permit);
    bench.service.lifecycle.creations().ended(key.id).await;
    bench.service.rotate_key_on_demand(&bench.call(), &id).await.unwrap();
    assert_eq!(versions(&bench, &key), (vec![1, 3], 3));
}

/// Nothing else tells that the HSMs can do it now.
#[tokio::test]
async fn what_could_not_be_finished_is_tried_again() {
    let bench = Bench::by(Clock::manual(), &["a", "b"]).await;
    let rotated = bench.create().await;
    let hsms: Vec<_> =
        bench.service.core.registry().active()[0].members.hsms.iter().map(|(hsm, _)| hsm.clone()).collect();
    let next = KeyVersionId { key: rotated.id, version: 2 };
    bench
        .store
        .begin_version(Rotating { version: next, cause: RotationCause::Request, in_place: false }, &hsms)
        .await
        .unwrap();
    let begun = bench.store.begin_key(NewKey::new(&bench.key_store, &hsms), None).await.unwrap();
    let (Begun::New(made) | Begun::Existing(made)) = begun;
    for version in [next, KeyVersionId { key: made, version: 1 }] {
        bench.store.keep_blob(version, &bytes::Bytes::from_static(b"blob")).await.unwrap();
    }
    bench.fake.absent.lock().unwrap().push(1);
    bench.service.resume().await;
    let mut turns = turns(&bench);
    turn(&bench, &mut turns).await;
    let state = |key| bench.store.catalogue().key(key).unwrap().state;
    assert_eq!((state(made), versions(&bench, &rotated)), (KeyState::Creating, (vec![1, 2], 1)));
    bench.fake.absent.lock().unwrap().clear();
    // The time between two turns.
    bench.clock.advance(Duration::from_secs(5));
    turn(&bench, &mut turns).await;
    assert_eq!((state(made), versions(&bench, &rotated)), (KeyState::Enabled, (vec![1, 2], 2)));
}

#[tokio::test]
async fn a_key_that_is_disabled_meanwhile_keeps_its_version() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let version = KeyVersionId { key: key.id, version: 2 };
    let rotating = Rotating { version, cause: RotationCause::Request, in_place: false };
    bench.store.begin_version(rotating, &[]).await.unwrap();
    bench.service.disable_key(&bench.call(), &key.id.to_string()).await.unwrap();
    let proof = ([0; 12], bytes::Bytes::from_static(b"proof"));
    let finished = store::Finished { version, proof, proven: Vec::new(), reserve: 0 };
    let refused = bench.store.finish_version(finished).await.unwrap_err();
    assert!(matches!(refused, store::Error::KeyState(of, KeyState::Disabled) if of == key.id), "{refused}");
    assert_eq!(versions(&bench, &key).1, 1);
}

#[tokio::test]
async fn many_who_ask_at_once_get_one_version() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let id = key.id.to_string();
    let call = bench.call();
    let rotations = join_all((0..8).map(|_| bench.service.rotate_key_on_demand(&call, &id))).await;
    assert!(rotations.iter().all(Result::is_ok), "{rotations:?}");
    assert_eq!(versions(&bench, &key), (vec![1, 2], 2));
}

#[tokio::test]
async fn a_version_that_wears_out_is_replaced_whatever_the_settings() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let id = key.id.to_string();
    let current = KeyVersionId { key: key.id, version: 1 };
    bench.store.reserve_encryptions(current, ENCRYPTIONS_BEFORE_ROTATION - (1 << 20) - 1).await.unwrap();
    let mut turns = turns(&bench);
    bench.encrypt(plain(&id, b"one")).await.unwrap();
    turn(&bench, &mut turns).await;
    assert_eq!(versions(&bench, &key), (vec![1], 1), "what is reserved and not done counts for nothing");
    bench.store.reserve_encryptions(current, 1 << 20).await.unwrap();
    turn(&bench, &mut turns).await;
    assert_eq!(versions(&bench, &key), (vec![1, 2], 2));
    let described = bench.service.describe_key_with(&bench.call(), &id, GrantTokens::default()).await.unwrap();
    assert_eq!(described.current_cause, Some(RotationCause::Wear));
    turn(&bench, &mut turns).await;
    assert_eq!(versions(&bench, &key), (vec![1, 2], 2), "the new one is fresh");
}
