//! Keys that are rotated by themselves as their periods end, and clocks that are wrong for a while.

use std::time::Duration;

use super::bench::Bench;
use super::rotation::{turn, turns, versions};
use crate::lifecycle::tend::Turns;
use model::clock::Clock;
use model::id::KeyVersionId;
use model::key::RotationCause;
use model::key_store::Event;
use store::Rotating;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// As many hours of turns.
async fn run(bench: &Bench, turns: &mut Turns, hours: u32) {
    let every = Duration::from_secs(60);
    for _ in 0..hours * 60 {
        bench.clock.advance(every);
        turn(bench, turns).await;
    }
}

#[tokio::test]
async fn a_period_that_is_over_rotates_once() {
    let bench = Bench::by(Clock::manual(), &["a", "b"]).await;
    let key = bench.create().await;
    let (id, call) = (key.id.to_string(), bench.call());
    let mut turns = turns(&bench);
    for (days, refused) in [(89, true), (90, false), (2_560, false), (2_561, true)] {
        let enabled = bench.service.enable_key_rotation(&call, &id, Some(days)).await;
        assert_eq!(enabled.is_err(), refused, "{days} days");
    }
    bench.service.enable_key_rotation(&call, &id, None).await.unwrap();
    let status = bench.service.get_key_rotation_status(&call, &id).await.unwrap();
    assert_eq!((status.enabled, status.period_days), (true, Some(365)));
    bench.clock.advance(364 * DAY);
    turn(&bench, &mut turns).await;
    assert_eq!(versions(&bench, &key), (vec![1], 1));
    // Somebody's own rotation does not shift it.
    bench.service.rotate_key_on_demand(&bench.call(), &id).await.unwrap();
    bench.clock.advance(DAY);
    turn(&bench, &mut turns).await;
    turn(&bench, &mut turns).await;
    assert_eq!(versions(&bench, &key), (vec![1, 2, 3], 3));
    let (_, page) = bench.service.list_key_rotations(&bench.call(), &id, false, None, "").await.unwrap();
    let causes: Vec<_> = page.items.iter().map(|one| one.cause).collect();
    assert_eq!(causes, [Some(RotationCause::Request), Some(RotationCause::Period)]);
    // A key that is disabled as its period ends is rotated when it is enabled again.
    bench.service.disable_key(&bench.call(), &id).await.unwrap();
    bench.clock.advance(366 * DAY);
    turn(&bench, &mut turns).await;
    assert_eq!(versions(&bench, &key).1, 3);
    bench.service.enable_key(&bench.call(), &id).await.unwrap();
    turn(&bench, &mut turns).await;
    assert_eq!(versions(&bench, &key).1, 4);
    bench.service.disable_key_rotation(&bench.call(), &id).await.unwrap();
    bench.clock.advance(3_000 * DAY);
    turn(&bench, &mut turns).await;
    assert_eq!(versions(&bench, &key).1, 4);
    assert!(!bench.service.get_key_rotation_status(&bench.call(), &id).await.unwrap().enabled);
}

/// What it sets would else hold for as long as it was ahead.
#[tokio::test]
async fn a_clock_that_is_ahead_for_a_while_shifts_no_rotation_by_more_than_a_period() {
    let bench = Bench::by(Clock::manual(), &["a", "b"]).await;
    let key = bench.create().await;
    let (id, mut turns) = (key.id.to_string(), turns(&bench));
    bench.service.enable_key_rotation(&bench.call(), &id, Some(90)).await.unwrap();
    bench.clock.advance(3_650 * DAY);
    turn(&bench, &mut turns).await;
    assert_eq!(versions(&bench, &key).1, 2);
    bench.clock.set_back(3_649 * DAY);
    run(&bench, &mut turns, 24).await;
    let status = bench.service.get_key_rotation_status(&bench.call(), &id).await.unwrap();
    let day = i64::try_from(DAY.as_millis()).unwrap();
    assert_eq!((status.period_days, status.next), (Some(90), Some(92 * day)));
    // By a day at most it is put right without that.
    bench.clock.set_back(DAY);
    run(&bench, &mut turns, 25).await;
    assert_eq!(bench.store.catalogue().key(key.id).unwrap().rotation.unwrap().next, 92 * day);
    bench.clock.advance(91 * DAY);
    turn(&bench, &mut turns).await;
    assert_eq!(versions(&bench, &key).1, 3);
}

/// Else all keys would be due at once when it is put right, and rotated for good.
#[tokio::test]
async fn a_clock_that_is_behind_for_a_while_sets_no_period_anew() {
    let bench = Bench::by(Clock::manual(), &["a", "b"]).await;
    bench.clock.advance(200 * DAY);
    let key = bench.create().await;
    let (id, mut turns) = (key.id.to_string(), turns(&bench));
    bench.service.enable_key_rotation(&bench.call(), &id, Some(90)).await.unwrap();
    let next = || bench.store.catalogue().key(key.id).unwrap().rotation.unwrap().next;
    let set = next();
    // What one such while has counted is nothing to the next.
    for _ in 0..2 {
        bench.clock.set_back(150 * DAY);
        run(&bench, &mut turns, 23).await;
        assert_eq!(next(), set);
        bench.clock.advance(150 * DAY);
        turn(&bench, &mut turns).await;
        assert_eq!((next(), versions(&bench, &key).1), (set, 1));
    }
    bench.clock.advance(90 * DAY);
    turn(&bench, &mut turns).await;
    assert_eq!(versions(&bench, &key).1, 2);
}

/// Each try costs the HSMs a key, and leaves a number that is remembered for ever.
#[tokio::test]
async fn a_rotation_that_fails_again_and_again_is_tried_less_often() {
    let bench = Bench::by(Clock::manual(), &["a", "b"]).await;
    let key = bench.create().await;
    bench.service.enable_key_rotation(&bench.call(), &key.arn, None).await.unwrap();
    bench.clock.advance(366 * DAY);
    // As one that is full.
    bench.fake.fail("place", 1, usize::MAX);
    let mut turns = turns(&bench);
    let tried = || bench.store.catalogue().destroyed_of(key.id).count();
    let mut run = async |seconds: u64| {
        for _ in 0..seconds / 5 {
            turn(&bench, &mut turns).await;
            bench.service.lifecycle.creations().ended(key.id).await;
            bench.clock.advance(Duration::from_secs(5));
        }
    };
    run(60).await;
    assert!((3..=5).contains(&tried()), "{}", tried());
    run(60 * 60).await;
    assert!((12..=20).contains(&tried()), "{}", tried());
    // One whose key store is not connected is not tried, and is as soon as it is.
    let events = |events: [Event; 2]| {
        let (store, id) = (&bench.store, &bench.key_store);
        async move {
            for event in events {
                store.advance_key_store(id, event, None, false).await.unwrap();
            }
        }
    };
    bench.fake.faults.lock().unwrap().clear();
    events([Event::Disconnect, Event::DisconnectDone]).await;
    run(5 * 60).await;
    assert_eq!(versions(&bench, &key).0.len(), 1);
    events([Event::Connect, Event::ConnectSucceeded]).await;
    run(5).await;
    assert_eq!(versions(&bench, &key).0.len(), 2);
}

/// Each try has every HSM destroy what it has of the version and take it anew.
#[tokio::test]
async fn a_version_that_cannot_be_finished_is_tried_less_often_and_soon_when_it_can() {
    const MANY: usize = 1_000_000;
    let bench = Bench::by(Clock::manual(), &["a", "b"]).await;
    let key = bench.create().await;
    let hsms: Vec<_> =
        bench.service.core.registry().active()[0].members.hsms.iter().map(|(hsm, _)| hsm.clone()).collect();
    // As a crash leaves it.
    let version = KeyVersionId { key: key.id, version: 2 };
    bench.store.begin_version(Rotating { version, cause: RotationCause::Wear, in_place: false }, &hsms).await.unwrap();
    bench.store.keep_blob(version, &bytes::Bytes::from_static(b"blob")).await.unwrap();
    // As one that is full.
    bench.fake.fail("place", 1, MANY);
    let tried = || MANY - bench.fake.faults.lock().unwrap().get(&("place", 1)).copied().unwrap_or(0);
    let mut turns = turns(&bench);
    let mut run = async |seconds: u64| {
        for _ in 0..seconds / 5 {
            turn(&bench, &mut turns).await;
            bench.service.lifecycle.creations().ended(key.id).await;
            bench.clock.advance(Duration::from_secs(5));
        }
    };
    run(60).await;
    assert!((3..=5).contains(&tried()), "{}", tried());
    run(60 * 60).await;
    assert!((50..=70).contains(&tried()), "{}", tried());
    // There is room.
    bench.fake.faults.lock().unwrap().clear();
    run(65).await;
    assert_eq!(versions(&bench, &key), (vec![1, 2], 2));
}

/// To take it away needs no room.
#[tokio::test]
async fn what_cannot_be_finished_of_a_key_is_taken_away_at_once_when_the_key_is_taken_out_of_use() {
    let bench = Bench::by(Clock::manual(), &["a", "b"]).await;
    let key = bench.create().await;
    let hsms: Vec<_> =
        bench.service.core.registry().active()[0].members.hsms.iter().map(|(hsm, _)| hsm.clone()).collect();
    let version = KeyVersionId { key: key.id, version: 2 };
    bench.store.begin_version(Rotating { version, cause: RotationCause::Wear, in_place: false }, &hsms).await.unwrap();
    bench.store.keep_blob(version, &bytes::Bytes::from_static(b"blob")).await.unwrap();
    bench.fake.fail("place", 1, usize::MAX);
    let mut turns = turns(&bench);
    for _ in 0..24 {
        turn(&bench, &mut turns).await;
        bench.clock.advance(Duration::from_secs(5));
    }
    assert_eq!(versions(&bench, &key), (vec![1, 2], 1));
    bench.service.disable_key(&bench.call(), &key.arn).await.unwrap();
    turn(&bench, &mut turns).await;
    bench.service.lifecycle.creations().ended(key.id).await;
    assert_eq!((versions(&bench, &key), bench.fake.objects()), ((vec![1], 1), vec![1, 1]));
}

/// The turns go on while a try takes its time.
#[tokio::test]
async fn a_turn_while_a_rotation_is_made_does_not_forget_that_it_has_failed() {
    let bench = Bench::by(Clock::manual(), &["a", "b"]).await;
    let key = bench.create().await;
    bench.service.enable_key_rotation(&bench.call(), &key.arn, None).await.unwrap();
    bench.clock.advance(366 * DAY);
    bench.fake.fail("place", 1, usize::MAX);
    let (mut turns, lifecycle) = (turns(&bench), &bench.service.lifecycle);
    turn(&bench, &mut turns).await;
    lifecycle.creations().ended(key.id).await;
    bench.clock.advance(Duration::from_secs(5));
    let permit = bench.fake.placing.acquire().await.unwrap();
    lifecycle.tend_keys_once(&mut turns).await;
    while bench.store.catalogue().key(key.id).unwrap().unfinished().is_none() {
        tokio::task::yield_now().await;
    }
    lifecycle.tend_keys_once(&mut turns).await;
    drop(permit);
    turns.rotated().await;
    lifecycle.creations().ended(key.id).await;
    bench.clock.advance(Duration::from_secs(5));
    turn(&bench, &mut turns).await;
    lifecycle.creations().ended(key.id).await;
    assert_eq!(bench.store.catalogue().destroyed_of(key.id).count(), 2, "the pause is ten seconds by now");
}
