//! One member alone, which stands in several zones because its module replicates its keys by itself.

use std::sync::Mutex;
use std::time::Instant;

use super::super::fake::Fake;
use super::super::member_operation::GenerateDataKey;
use super::super::{Proof, Verify};
use super::*;
use bytes::Bytes;
use model::profile::VerifyWraps;
use protocol::DataKeyItem;

const ZONES: [&str; 2] = ["zone-a", "zone-b"];

fn alone(hedge_after: Duration, settles: u64) -> Bench {
    let member = Fake::alone("a", &ZONES, Duration::from_millis(settles));
    let verify = Verify { wraps: VerifyWraps::DataKeys, unwraps: true };
    Bench::of(vec![member], Some("zone-b"), hedge_after, verify)
}

/// The member fails the first uses of a key by these classes, one after the other.
fn fails_first(bench: &Bench, classes: &'static [Class]) -> Arc<AtomicUsize> {
    let uses = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&uses);
    bench.members[0].script(move |op| match op {
        Op::Encrypt(_) | Op::Decrypt(_) => match classes.get(counted.fetch_add(1, Ordering::Relaxed)) {
            Some(class) => refuse_all(op, *class),
            None => Act::Well,
        },
        _ => Act::Well,
    });
    uses
}

#[tokio::test]
async fn it_counts_for_every_zone_that_it_stands_in() {
    let bench = alone(NO_HEDGE, 0);
    bench.until("it serves", || bench.healths() == [Health::Healthy]).await;
    assert_eq!(bench.dispatcher.reachable_for_creation().unwrap(), [0]);
    assert!(bench.dispatcher.members[0].own, "one of its zones is the daemon's own");
    bench.members[0].set_state(State::Down, Some("no HSM of its cluster answers"));
    let error = bench.dispatcher.reachable_for_creation().unwrap_err().to_string();
    assert_eq!(
        error,
        "fewer than two zones can be reached: HSM a in zone zone-a+zone-b: no HSM of its cluster answers"
    );
}

/// There is nobody else to ask: its own proof tells.
#[tokio::test]
async fn a_bad_ciphertext_is_told_from_a_broken_key() {
    let bench = alone(NO_HEDGE, 0);
    let key = key(1);
    for _ in 0..20 {
        let answers = bench.decrypt(&key, &[b"bad one", b"good"], 1_000).await;
        assert!(matches!(&answers[..], [Err(Error::BadCiphertext), Ok(_)]), "{answers:?}");
    }
    assert_eq!(bench.healths(), [Health::Healthy]);
    bench.dispatcher.proofs.forget(0, key.version);
    bench.members[0].script(|op| refuse_all(op, Class::Ambiguous));
    assert!(matches!(&bench.decrypt(&key, &[b"good"], 1_000).await[..], [Err(Error::NoZone(_))]));
}

#[tokio::test]
async fn a_late_answer_is_waited_for() {
    let bench = alone(SOON, 0);
    bench.members[0].script(|_| Act::Slow(5 * SOON));
    let before = bench.members[0].calls();
    assert!(bench.encrypt(&[key(1)], 5_000).await[0].is_ok());
    assert_eq!(bench.members[0].calls() - before, 1);
}

/// Its module may have moved to another HSM meanwhile.
#[tokio::test]
async fn what_failed_there_is_tried_there_once_more() {
    const CLASSES: [&[Class]; 3] = [&[Class::Token], &[Class::Session], &[Class::KeyAbsent]];
    for class in CLASSES {
        let bench = alone(NO_HEDGE, 5_000);
        let uses = fails_first(&bench, class);
        assert!(bench.encrypt(&[key(1)], 20_000).await[0].is_ok(), "{class:?}");
        assert_eq!(uses.load(Ordering::Relaxed), 2, "{class:?}");
    }
}

#[tokio::test]
async fn what_it_has_wrapped_it_opens_itself() {
    let bench = alone(NO_HEDGE, 0);
    let key = key(1);
    let item = DataKeyItem { key: key.version, aad: Bytes::new(), length: 32 };
    let task = || vec![Task::anywhere(Some(Arc::clone(&key)), item.clone())];
    assert!(bench.dispatcher.wrap::<GenerateDataKey>(task(), bench.within(1_000)).await[0].is_ok());
    // One that gives another key in clear than it has wrapped.
    bench.members[0].script(|op| match op {
        Op::Decrypt(items) if items.iter().any(|item| item.sealed[..] == [7; 32]) => {
            Act::Say(Reply::Decrypted(vec![Ok(Secret::new(vec![8; 32]))]))
        }
        _ => Act::Well,
    });
    let failed = bench.dispatcher.wrap::<GenerateDataKey>(task(), bench.within(1_000)).await.remove(0).unwrap_err();
    assert!(matches!(failed.error, Error::NoZone(_)), "{failed}");
}

#[tokio::test]
async fn a_new_key_is_waited_for_until_it_is_everywhere() {
    let bench = alone(NO_HEDGE, 10_000);
    let version = key(1).version;
    let within = || bench.within(20_000).deadline;
    bench.dispatcher.make_in_place(0, version, "arn", within()).await.unwrap();
    let uses = fails_first(&bench, &[Class::Busy, Class::KeyAbsent, Class::KeyUnusable, Class::Busy]);
    let proof = bench.dispatcher.make_proof(0, version, within()).await.unwrap();
    assert_eq!(uses.load(Ordering::Relaxed), 5);
    fails_first(&bench, &[Class::Busy]);
    bench.dispatcher.prove(0, version, &proof, within()).await.unwrap();
    bench.dispatcher.confirm_in_place(0, version, within()).await.unwrap();
}

/// What was made by a try whose answer was lost may not be shown yet: a second object of the version would be made.
#[tokio::test]
async fn a_key_is_made_once_more_only_after_the_first_had_the_time_to_show_up() {
    let settles = Duration::from_millis(300);
    let lost: [fn() -> Act; 3] = [
        || Act::Fail(CallError::WorkerLost),
        || Act::Say(Reply::Failed(Fault::own(Class::Session, "C_GenerateKey", "device error"))),
        || Act::Say(Reply::Failed(Fault::own(Class::Busy, "C_GenerateKey", "function failed"))),
    ];
    for lost in lost {
        let bench = alone(NO_HEDGE, 300);
        let tries: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let (noted, clock) = (Arc::clone(&tries), bench.clock.clone());
        bench.members[0].script(move |op| match op {
            Op::MakeInPlace { .. } => {
                let mut tries = noted.lock().unwrap();
                tries.push(clock.now());
                if tries.len() == 1 { lost() } else { Act::Well }
            }
            _ => Act::Well,
        });
        let version = key(1).version;
        bench.dispatcher.make_in_place(0, version, "arn", bench.within(20_000).deadline).await.unwrap();
        let (made, tries) = (bench.clock.now(), std::mem::take(&mut *tries.lock().unwrap()));
        let [first, second] = tries[..] else { panic!("{} tries", tries.len()) };
        assert!(second - first >= settles, "{:?}", second - first);
        assert!(made - second >= settles, "both would be shown when the key is confirmed: {:?}", made - second);
        // Where there is no time for that, no second one is made.
        bench.members[0].script(move |op| if matches!(op, Op::MakeInPlace { .. }) { lost() } else { Act::Well });
        let before = bench.members[0].calls();
        bench.dispatcher.make_in_place(0, version, "arn", bench.within(250).deadline).await.unwrap_err();
        assert_eq!(bench.members[0].calls() - before, 1);
    }
}

/// Nobody has had it, so that nothing can have been made.
#[tokio::test]
async fn a_key_that_nobody_was_asked_for_is_asked_for_without_a_pause() {
    let bench = alone(NO_HEDGE, 60_000);
    let tries = AtomicUsize::new(0);
    bench.members[0].script(move |op| match op {
        Op::MakeInPlace { .. } if tries.fetch_add(1, Ordering::Relaxed) == 0 => Act::Fail(CallError::NotReady),
        _ => Act::Well,
    });
    bench.dispatcher.make_in_place(0, key(1).version, "arn", bench.within(5_000).deadline).await.unwrap();
}

/// Not for ever, and no other member is waited for.
#[tokio::test]
async fn what_does_not_come_is_given_up() {
    let of_one_token = Fake::new("b", "zone-b");
    for (member, looks) in [(Fake::alone("a", &ZONES, Duration::from_millis(300)), 2), (of_one_token, 1)] {
        let verify = Verify { wraps: VerifyWraps::None, unwraps: false };
        let bench = Bench::of(vec![member], None, NO_HEDGE, verify);
        bench.members[0].script(|op| refuse_all(op, Class::KeyAbsent));
        let version = key(1).version;
        let proof = Proof { iv: [0; 12], sealed: Bytes::new() };
        let before = bench.members[0].calls();
        let error = bench.dispatcher.prove(0, version, &proof, bench.within(20_000).deadline).await.unwrap_err();
        assert!(matches!(error, Error::Hsm { fault, .. } if fault.class == Class::KeyAbsent));
        let asked = bench.members[0].calls() - before;
        assert!(if looks == 1 { asked == 1 } else { (looks..10).contains(&asked) }, "{asked}");
    }
}

/// One HSM behind the slot may not have it yet that the others have.
#[tokio::test]
async fn a_key_that_is_not_found_is_removed_only_after_it_had_the_time_to_come() {
    let mut bench = alone(NO_HEDGE, 600);
    let key = key(1);
    bench.members[0].script(|op| refuse_all(op, Class::KeyAbsent));
    let began = bench.clock.now();
    match &bench.encrypt(&[Arc::clone(&key)], 5_000).await[0] {
        Err(Error::NoZone(why)) => assert!(why.contains("it did not find the key"), "{why}"),
        other => panic!("not said to be gone: {other:?}"),
    }
    let removal = tokio::time::timeout(Duration::from_secs(60), bench.removals.recv()).await.unwrap().unwrap();
    assert_eq!(removal.version, key.version);
    assert!(bench.clock.now() - began >= Duration::from_millis(600));
}

/// Callers do not notice that a session of another HSM behind the slot has not got the key yet.
#[tokio::test]
async fn a_caller_waits_for_a_key_that_is_on_its_way() {
    const MISSES: &[Class] = &[Class::KeyAbsent; 6];
    let mut bench = alone(NO_HEDGE, 10_000);
    // What the monitor looks for is there: it is some session that does not see it.
    let (key, others) = (key(1), [key(1), key(1)]);
    let uses = fails_first(&bench, MISSES);
    assert!(bench.encrypt(&[Arc::clone(&key)], 10_000).await[0].is_ok());
    assert!(uses.load(Ordering::Relaxed) > MISSES.len());
    fails_first(&bench, MISSES);
    assert_eq!(bench.decrypt(&others[0], &[b"good"], 10_000).await[0].as_ref().unwrap().expose(), b"good");
    fails_first(&bench, MISSES);
    let both = [&others[..], &[key]].concat();
    assert!(bench.encrypt(&both, 10_000).await.iter().all(Result::is_ok));
    assert!(bench.removals.try_recv().is_err());
    assert_eq!(bench.healths(), [Health::Healthy]);
}

/// Not longer than the caller has, nor than it may take, and with fewer looks the longer it takes.
#[tokio::test]
async fn what_does_not_come_is_waited_for_within_bounds() {
    for (settles, deadline, least) in [(60_000, 1_500, 700), (400, 60_000, 300), (0, 60_000, 0)] {
        let bench = alone(NO_HEDGE, settles);
        bench.members[0].script(|op| refuse_all(op, Class::KeyAbsent));
        let (began, before) = (bench.clock.now(), bench.members[0].calls());
        let error = bench.encrypt(&[key(1)], deadline).await.remove(0).unwrap_err();
        assert!(matches!(&error, Error::NoZone(why) if why.contains("it did not find the key")), "{error}");
        let took = bench.clock.now() - began;
        assert!(took >= Duration::from_millis(least), "{took:?} of {settles} ms");
        // The monitor's looks and the proofs among them.
        let asked = bench.members[0].calls() - before;
        assert!(asked <= 30, "{asked} requests in {took:?}");
    }
}

#[tokio::test]
async fn a_key_that_comes_after_all_is_used_at_once() {
    let mut bench = alone(NO_HEDGE, 60_000);
    let key = key(1);
    bench.members[0].script(|op| refuse_all(op, Class::KeyAbsent));
    assert!(bench.encrypt(&[Arc::clone(&key)], 1_000).await[0].is_err());
    bench.members[0].script(|_| Act::Well);
    // As a moment later.
    bench.dispatcher.proofs.forget(0, key.version);
    assert!(bench.encrypt(&[Arc::clone(&key)], 20_000).await[0].is_ok());
    assert!(bench.removals.try_recv().is_err());
}
