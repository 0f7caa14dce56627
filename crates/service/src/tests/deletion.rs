//! Keys that are to be deleted: the waiting period, clocks that are wrong, HSMs that are away, what cannot be undone.

use std::time::Duration;

use super::bench::{Bench, exception, plain, sealed};
use crate::GrantTokens;
use crate::lifecycle::tend::Turns;
use model::clock::Clock;
use model::exception::Exception;
use model::id::{HsmId, KeyId, KeyVersionId};
use model::key::KeyState;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// So many hours in which the daemon runs, turn by turn.
async fn run(bench: &Bench, turns: &mut Turns, hours: u32) {
    let turn = Duration::from_secs(60);
    for _ in 0..hours * 60 {
        bench.clock.advance(turn);
        bench.service.lifecycle.tend_keys_once(turns).await;
    }
}

#[tokio::test]
async fn a_key_that_is_to_be_deleted_can_be_kept_and_is_disabled_then() {
    let bench = Bench::by(Clock::manual(), &["a", "b"]).await;
    let key = bench.create().await;
    let id = key.id.to_string();
    let ciphertext = bench.encrypt(plain(&id, b"secret")).await.unwrap();
    for (days, refused) in [(6, true), (31, true), (7, false)] {
        let scheduled = bench.service.schedule_key_deletion(&bench.call(), &id, Some(days)).await;
        assert_eq!(scheduled.is_err(), refused, "{days} days");
    }
    let again = bench.service.schedule_key_deletion(&bench.call(), &id, None).await.unwrap_err();
    assert_eq!(
        (again.exception, again.message),
        (Exception::KmsInvalidState, format!("{} is pending deletion.", key.arn))
    );
    assert_eq!(exception(bench.decrypt(sealed(&ciphertext)).await), Exception::KmsInvalidState);
    assert_eq!(exception(bench.service.enable_key(&bench.call(), &id).await), Exception::KmsInvalidState);
    let described = bench.service.describe_key_with(&bench.call(), &id, GrantTokens::default()).await.unwrap();
    assert_eq!((described.state, described.deletion.unwrap().date), (KeyState::PendingDeletion, 7 * 24 * 3_600_000));
    assert_eq!(bench.service.cancel_key_deletion(&bench.call(), &id).await.unwrap(), key.arn);
    let not_pending = bench.service.cancel_key_deletion(&bench.call(), &id).await.unwrap_err();
    assert_eq!(not_pending.message, format!("{} is not pending deletion.", key.arn));
    assert_eq!(exception(bench.decrypt(sealed(&ciphertext)).await), Exception::Disabled);
    bench.service.enable_key(&bench.call(), &id).await.unwrap();
    assert_eq!(bench.decrypt(sealed(&ciphertext)).await.unwrap(), b"secret");
    let longest = bench.service.schedule_key_deletion(&bench.call(), &id, None).await.unwrap();
    assert_eq!(longest.window_days, 30);
}

#[tokio::test]
async fn the_date_must_have_been_past_through_a_day_of_running() {
    let bench = Bench::by(Clock::manual(), &["a", "b"]).await;
    let key = bench.create().await;
    let id = key.id.to_string();
    bench.service.rotate_key_on_demand(&bench.call(), &id).await.unwrap();
    assert_eq!(bench.fake.objects(), [2, 2]);
    bench.service.schedule_key_deletion(&bench.call(), &id, Some(7)).await.unwrap();
    let mut turns = Turns::new(bench.clock.now());
    run(&bench, &mut turns, 24 * 7 - 1).await;
    // The clock is stepped forward, by a month: one turn has seen it.
    bench.clock.advance(31 * 24 * HOUR);
    run(&bench, &mut turns, 23).await;
    assert_eq!(bench.fake.objects(), [2, 2], "a clock alone destroys nothing");
    // What ran before a restart counts, but for some minutes.
    let mut bench = bench;
    bench.restart();
    let mut turns = Turns::new(bench.clock.now());
    run(&bench, &mut turns, 2).await;
    assert_eq!(bench.fake.objects(), [0, 0]);
    assert!(bench.store.catalogue().key(key.id).is_none(), "the row is gone with the material");
    assert_eq!(bench.store.catalogue().destroyed_of(key.id).count(), 2, "and is remembered");
    let gone = bench.service.describe_key_with(&bench.call(), &id, GrantTokens::default()).await.unwrap_err();
    assert_eq!((gone.exception, gone.message), (Exception::NotFound, format!("Key '{}' does not exist", key.arn)));
}

/// One that is wrong again and again would otherwise come to a day in the end.
#[tokio::test]
async fn what_was_past_by_a_clock_that_was_put_back_counts_for_nothing() {
    let bench = Bench::by(Clock::manual(), &["a", "b"]).await;
    let key = bench.create().await;
    bench.service.schedule_key_deletion(&bench.call(), &key.id.to_string(), Some(7)).await.unwrap();
    let overdue = || bench.store.catalogue().key(key.id).unwrap().deletion.unwrap().overdue;
    let mut turns = Turns::new(bench.clock.now());
    for _ in 0..2 {
        bench.clock.advance(31 * 24 * HOUR);
        run(&bench, &mut turns, 20).await;
        assert!(overdue() > 19 * HOUR, "{:?}", overdue());
        bench.clock.set_back(31 * 24 * HOUR + 20 * HOUR);
        run(&bench, &mut turns, 1).await;
        assert_eq!(overdue(), Duration::ZERO);
    }
    assert_eq!(bench.fake.objects(), [1, 1]);
    run(&bench, &mut turns, 24 * 7 - 2).await;
    run(&bench, &mut turns, 23).await;
    assert_eq!(bench.fake.objects(), [1, 1], "the day begins when the date is past in truth");
    run(&bench, &mut turns, 2).await;
    assert_eq!(bench.fake.objects(), [0, 0]);
}

#[tokio::test]
async fn an_hsm_that_is_away_has_it_done_later_and_is_told_of_meanwhile() {
    let bench = Bench::by(Clock::manual(), &["a", "b", "c"]).await;
    let key = bench.create().await;
    let id = key.id.to_string();
    bench.service.schedule_key_deletion(&bench.call(), &id, Some(7)).await.unwrap();
    let mut turns = Turns::new(bench.clock.now());
    run(&bench, &mut turns, 24 * 7).await;
    bench.fake.absent.lock().unwrap().push(2);
    bench.fake.fail("destroy", 1, 1);
    run(&bench, &mut turns, 25).await;
    assert_eq!(bench.fake.objects(), [0, 1, 1]);
    let described = bench.service.describe_key_with(&bench.call(), &id, GrantTokens::default()).await.unwrap();
    let stands = described.destructions.iter().map(|one| (one.destroyed_at.is_some(), one.failure.is_some()));
    assert_eq!(stands.collect::<Vec<_>>(), [(true, false), (false, true), (false, false)]);
    assert!(described.deletion.unwrap().material_destroyed);
    let kept = bench.service.cancel_key_deletion(&bench.call(), &id).await.unwrap_err();
    assert_eq!(kept.exception, Exception::KmsInvalidState);
    assert!(kept.message.contains("destroyed"), "{kept}");
    // Whoever looks at what the HSMs hold has it destroyed when they return; here the same by hand.
    bench.fake.absent.lock().unwrap().clear();
    bench.service.lifecycle.destroy_material(key.id).await;
    assert_eq!(bench.fake.objects(), [0, 0, 0]);
    run(&bench, &mut turns, 1).await;
    assert!(bench.store.catalogue().key(key.id).is_none());
}

#[tokio::test]
async fn material_is_destroyed_now_only_of_keys_that_nobody_may_use() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let (id, arn) = (key.id.to_string(), key.arn.clone());
    let ciphertext = bench.encrypt(plain(&id, b"secret")).await.unwrap();
    let enabled = bench.service.destroy_key_material(&bench.call(), &id, &arn).await.unwrap_err();
    assert_eq!(enabled.exception, Exception::KmsInvalidState);
    assert!(enabled.message.contains("disable it first"), "{enabled}");
    bench.service.disable_key(&bench.call(), &id).await.unwrap();
    for wrong in ["", &id, &arn.replace("key/", "key/0")] {
        let refused = bench.service.destroy_key_material(&bench.call(), &id, wrong).await.unwrap_err();
        assert_eq!(refused.exception, Exception::Validation, "{wrong}");
    }
    assert_eq!(bench.fake.objects(), [1, 1]);
    bench.fake.absent.lock().unwrap().push(0);
    let destroyed = bench.service.destroy_key_material(&bench.call(), &id, &arn).await.unwrap();
    let done: Vec<bool> = destroyed.destructions.iter().map(|one| one.destroyed_at.is_some()).collect();
    assert_eq!((done, bench.fake.objects()), (vec![false, true], vec![1, 0]));
    let row = bench.store.catalogue().key(key.id).cloned().unwrap();
    assert!(row.versions.iter().all(|version| version.blob.is_none() && version.proof.is_none()), "escrow is gone");
    assert_eq!(exception(bench.decrypt(sealed(&ciphertext)).await), Exception::KmsInvalidState);
    assert_eq!(exception(bench.service.enable_key(&bench.call(), &id).await), Exception::KmsInvalidState);
    assert_eq!(exception(bench.service.cancel_key_deletion(&bench.call(), &id).await), Exception::KmsInvalidState);
    bench.fake.absent.lock().unwrap().clear();
    let again = bench.service.destroy_key_material(&bench.call(), &id, &arn).await.unwrap();
    assert!(again.destructions.iter().all(|one| one.destroyed_at.is_some()), "the same call goes on");
    assert_eq!((again.deletion_date, bench.fake.objects()), (destroyed.deletion_date, vec![0, 0]));
}

#[tokio::test]
async fn the_last_use_is_known_after_a_restart() {
    let mut bench = Bench::by(Clock::manual(), &["a", "b"]).await;
    bench.clock.advance(HOUR);
    let (key, unused) = (bench.create().await, bench.create().await);
    let id = key.id.to_string();
    let last = |usage: crate::KeyLastUsage| usage.last.map(|last| (last.operation, last.at));
    assert_eq!(last(bench.service.get_key_last_usage(&bench.call(), &id).await.unwrap()), None);
    let ciphertext = bench.encrypt(plain(&id, b"secret")).await.unwrap();
    bench.clock.advance(HOUR);
    bench.decrypt(sealed(&ciphertext)).await.unwrap();
    bench.clock.advance(HOUR);
    let mut altered = ciphertext.clone();
    *altered.last_mut().unwrap() ^= 1;
    bench.decrypt(sealed(&altered)).await.unwrap_err();
    let expected = Some(("Decrypt".to_owned(), 2 * 3_600_000));
    assert_eq!(last(bench.service.get_key_last_usage(&bench.call(), &id).await.unwrap()), expected);
    let mut turns = Turns::new(bench.clock.now());
    bench.service.lifecycle.tend_keys_once(&mut turns).await;
    bench.restart();
    bench.service.core.load_usage().await;
    assert_eq!(last(bench.service.get_key_last_usage(&bench.call(), &id).await.unwrap()), expected);
    let never = bench.service.get_key_last_usage(&bench.call(), &unused.id.to_string()).await.unwrap();
    assert!(never.last.is_none());
}

/// Whether a version is on record as destroyed in an HSM, and why it is not.
fn stands(bench: &Bench, version: KeyVersionId, hsm: &str) -> (bool, bool) {
    let catalogue = bench.store.catalogue();
    let destructions = &catalogue.key(version.key).unwrap().version(version.version).unwrap().destructions;
    let one = &destructions[&HsmId::from(hsm)];
    (one.destroyed_at.is_some(), one.failure.is_some())
}

/// A key is disabled and its material destroyed while one of its versions is on its way to the HSMs: they are told to
/// destroy it, and to keep it after that. In the second HSM so many tries to destroy it then fail.
async fn destroyed_on_its_way(failures: usize) -> (Bench, crate::KeyMetadata) {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let (id, call) = (key.id.to_string(), bench.call());
    let permit = bench.fake.placing.acquire().await.unwrap();
    let destroyed = async {
        let is_made = || {
            let catalogue = bench.store.catalogue();
            catalogue.key(key.id).unwrap().unfinished().is_some_and(|version| version.blob.is_some())
        };
        while !is_made() {
            tokio::task::yield_now().await;
        }
        bench.service.disable_key(&call, &id).await.unwrap();
        let destroyed = bench.service.destroy_key_material(&call, &id, &key.arn).await.unwrap();
        assert!(destroyed.destructions.iter().all(|one| one.destroyed_at.is_some()), "{destroyed:?}");
        bench.fake.fail("destroy", 1, failures);
        drop(permit);
    };
    let (rotated, ()) = tokio::join!(bench.service.rotate_key_on_demand(&call, &id), destroyed);
    assert_eq!(exception(rotated), Exception::KmsInvalidState);
    bench.service.lifecycle.creations().ended(key.id).await;
    (bench, key)
}

#[tokio::test]
async fn what_is_placed_after_it_was_destroyed_is_destroyed_again_at_once() {
    let (bench, key) = destroyed_on_its_way(0).await;
    assert_eq!(bench.fake.objects(), [0, 0]);
    let row = bench.store.catalogue().key(key.id).cloned().unwrap();
    assert!(row.unfinished().is_none() && row.is_destroyed());
    assert_eq!(bench.store.catalogue().destroyed_of(key.id).count(), 2);
}

/// Else the key would go from the metadata while an HSM holds a version of it.
#[tokio::test]
async fn what_is_placed_late_and_not_destroyed_is_on_record_until_it_is() {
    let (bench, key) = destroyed_on_its_way(1).await;
    let late = KeyVersionId { key: key.id, version: 2 };
    assert_eq!(bench.fake.objects(), [0, 1]);
    assert_eq!(["hsm-0", "hsm-1"].map(|hsm| stands(&bench, late, hsm)), [(true, false), (false, true)]);
    bench.service.resume().await;
    assert_eq!(stands(&bench, late, "hsm-1"), (false, true), "nobody takes its row away");
    bench.service.lifecycle.reconcile(&bench.key_store, &*bench.fake, 1, &"hsm-1".into()).await;
    assert_eq!((bench.fake.objects(), stands(&bench, late, "hsm-1").0), (vec![0, 0], true));
}

/// A token that is restored while the key waits for its end holds it again.
#[tokio::test]
async fn what_is_there_again_and_not_destroyed_is_on_record() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let version = KeyVersionId { key: key.id, version: 1 };
    bench.service.disable_key(&bench.call(), &key.arn).await.unwrap();
    bench.service.destroy_key_material(&bench.call(), &key.arn, &key.arn).await.unwrap();
    assert_eq!(stands(&bench, version, "hsm-1"), (true, false));
    bench.fake.tokens.lock().unwrap()[1].insert(version, bytes::Bytes::from_static(b"restored"));
    bench.fake.fail("destroy", 1, 1);
    let hsm = HsmId::from("hsm-1");
    let look = || bench.service.lifecycle.reconcile(&bench.key_store, &*bench.fake, 1, &hsm);
    assert!(!look().await);
    assert_eq!((bench.fake.objects(), stands(&bench, version, "hsm-1")), (vec![0, 1], (false, true)));
    assert!(look().await);
    assert_eq!((bench.fake.objects(), stands(&bench, version, "hsm-1").0), (vec![0, 0], true));
}

/// The same of an HSM that is being filled.
#[tokio::test]
async fn what_an_hsm_is_filled_with_after_it_was_destroyed_is_destroyed_again_at_once() {
    for failures in [0, 1] {
        filled_late(failures).await;
    }
}

async fn filled_late(failures: usize) {
    let bench = Bench::over(&["a", "b", "c"]).await;
    bench.fake.fail("place", 2, 1);
    let key = bench.create().await;
    assert_eq!(bench.fake.objects(), [1, 1, 0]);
    let permit = bench.fake.placing.acquire().await.unwrap();
    let lists = *bench.fake.lists.borrow();
    let hsm = HsmId::from("hsm-2");
    let fill = bench.service.lifecycle.reconcile(&bench.key_store, &*bench.fake, 2, &hsm);
    let destroyed = async {
        bench.fake.lists.subscribe().wait_for(|made| *made > lists).await.unwrap();
        bench.service.disable_key(&bench.call(), &key.arn).await.unwrap();
        bench.service.destroy_key_material(&bench.call(), &key.arn, &key.arn).await.unwrap();
        bench.fake.fail("destroy", 2, failures);
        drop(permit);
    };
    let (complete, ()) = tokio::join!(fill, destroyed);
    assert!(!complete, "it is looked at again soon");
    let version = KeyVersionId { key: key.id, version: 1 };
    let expected = if failures > 0 { (vec![0, 0, 1], (false, true)) } else { (vec![0, 0, 0], (true, false)) };
    assert_eq!((bench.fake.objects(), stands(&bench, version, "hsm-2")), expected);
}

#[tokio::test]
async fn nothing_stays_in_memory_of_the_last_use_of_keys_that_are_gone() {
    let bench = Bench::by(Clock::manual(), &["a", "b"]).await;
    bench.clock.advance(HOUR);
    let (used, unused) = (bench.create().await.id, bench.create().await.id);
    bench.encrypt(plain(&used.to_string(), b"secret")).await.unwrap();
    let usages = bench.service.core.usages();
    // As of keys that a keyring was made with, and that could not be made.
    (0..3).for_each(|_| drop(usages.of(KeyId::random())));
    assert_eq!(usages.count(), 5);
    bench.service.lifecycle.tend_keys_once(&mut Turns::new(bench.clock.now())).await;
    assert_eq!(usages.count(), 2);
    assert!(usages.of(used).last().is_some() && usages.of(unused).last().is_none());
    assert_eq!(bench.store.usage().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_ciphertext_of_a_deleted_key_is_told_from_a_foreign_one() {
    let bench = Bench::by(Clock::manual(), &["a", "b"]).await;
    let key = bench.create().await;
    let id = key.id.to_string();
    let ciphertext = bench.encrypt(plain(&id, b"secret")).await.unwrap();
    bench.service.schedule_key_deletion(&bench.call(), &id, Some(7)).await.unwrap();
    run(&bench, &mut Turns::new(bench.clock.now()), 24 * 8 + 1).await;
    let error = bench.decrypt(sealed(&ciphertext)).await.unwrap_err();
    assert_eq!((error.exception, error.message), (Exception::NotFound, format!("Key '{}' does not exist", key.arn)));
    let mut foreign = ciphertext.clone();
    foreign[1] ^= 1;
    assert_eq!(exception(bench.decrypt(sealed(&foreign)).await), Exception::InvalidCiphertext);
}
