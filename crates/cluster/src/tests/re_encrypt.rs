//! Encrypting anew: two keys, one member, and nothing in clear on the way.

use bytes::Bytes;

use super::*;
use crate::KeyRef;
use crate::fake::errors;
use crate::item::{BringIn, ReEncrypt};
use crate::{PlacementMask, Verify};
use model::profile::VerifyWraps;
use protocol::{DecryptItem, EncryptItem, ReEncryptItem, Sealed};

const VERIFIED: Verify = Verify { wraps: VerifyWraps::DataKeys, unwraps: false };

fn task(source: &Arc<KeyRef>, key: &Arc<KeyRef>, sealed: &'static [u8]) -> Task<ReEncryptItem> {
    let opens = DecryptItem { key: source.version, aad: Bytes::new(), iv: [0; 12], sealed: Bytes::from_static(sealed) };
    let item = ReEncryptItem { source: opens, key: key.version, aad: Bytes::new() };
    Task { source: Some(Arc::clone(source)), ..Task::anywhere(Some(Arc::clone(key)), item) }
}

async fn anew(bench: &Bench, tasks: Vec<Task<ReEncryptItem>>) -> Vec<Result<Sealed, Error>> {
    errors(bench.dispatcher.wrap::<ReEncrypt>(tasks, bench.within(1_000)).await)
}

/// A member whose faults are of the source.
fn refuses_the_source(op: &Op, class: Class) -> Act {
    match (op, refuse_all(op, class)) {
        (Op::ReEncrypt(_), Act::Say(Reply::ReEncrypted(items))) => {
            Act::Say(Reply::ReEncrypted(items.into_iter().map(|item| item.map_err(Fault::of_source)).collect()))
        }
        (Op::Decrypt(_), act) => act,
        _ => Act::Well,
    }
}

#[tokio::test]
async fn one_member_opens_and_seals_and_another_compares() {
    let bench = Bench::verifying(2, Some("zone-a"), NO_HEDGE, VERIFIED);
    for member in &bench.members {
        // Whatever would bring a plaintext here, or take one there, is no part of it.
        member.script(|op| match op {
            Op::ReEncrypt(_) | Op::Compare(_) => Act::Well,
            other => panic!("{other:?}"),
        });
    }
    let (source, key) = (key(0b11), key(0b11));
    let answers = anew(&bench, vec![task(&source, &key, b"data")]).await;
    assert_eq!(&answers[0].as_ref().unwrap().sealed[..], b"data");
    assert_eq!((bench.members[0].calls(), bench.members[1].calls()), (1, 1));
    let answers = anew(&bench, vec![task(&source, &key, b"data"); 64]).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!(bench.members.iter().map(|member| member.calls()).sum::<usize>() <= 6, "items travel together");
}

#[tokio::test]
async fn whoever_is_asked_has_both_keys() {
    let bench = Bench::verifying(3, Some("zone-a"), NO_HEDGE, VERIFIED);
    for _ in 0..50 {
        let answers = anew(&bench, vec![task(&key(0b110), &key(0b011), b"data")]).await;
        assert!(answers[0].is_ok());
    }
    assert_eq!((bench.members[0].calls(), bench.members[2].calls()), (0, 0));
    match &anew(&bench, vec![task(&key(0b100), &key(0b011), b"data")]).await[0] {
        Err(Error::NoZone(why)) => assert!(why.contains("no HSM has both keys"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_bad_ciphertext_is_bad_by_two_zones_word_and_nobody_s_fault_else() {
    let bench = Bench::verifying(2, Some("zone-a"), NO_HEDGE, VERIFIED);
    let (source, key) = (key(0b11), key(0b11));
    let tasks = vec![task(&source, &key, b"good"), task(&source, &key, b"bad"), task(&source, &key, b"fine")];
    assert!(matches!(&anew(&bench, tasks).await[..], [Ok(_), Err(Error::BadCiphertext), Ok(_)]));
    assert_eq!(bench.healths(), [Health::Healthy; 2]);
    // One that calls a good one bad, and a moment later opens the proof, is not believed.
    bench.members[0].script(|op| match op {
        Op::ReEncrypt(_) => refuses_the_source(op, Class::Ambiguous),
        _ => Act::Well,
    });
    for _ in 0..10 {
        assert!(anew(&bench, vec![task(&source, &key, b"good")]).await[0].is_ok());
    }
    bench.members[1].script(|op| match op {
        Op::ReEncrypt(_) => refuses_the_source(op, Class::Ambiguous),
        _ => Act::Well,
    });
    assert!(matches!(&anew(&bench, vec![task(&source, &key, b"good")]).await[..], [Err(Error::BadCiphertext)]));
}

#[tokio::test]
async fn what_is_the_matter_with_one_key_is_not_the_other_s() {
    let mut bench = Bench::verifying(2, Some("zone-a"), NO_HEDGE, VERIFIED);
    let (source, key) = (key(0b11), key(0b11));
    // Broken: it does not open its proof.
    bench.members[0].script(|op| refuses_the_source(op, Class::Ambiguous));
    assert!(anew(&bench, vec![task(&source, &key, b"good")]).await[0].is_ok());
    let excluded = |key: &Arc<KeyRef>| bench.dispatcher.exclusions.of(key.version);
    assert_eq!((excluded(&source).broken, excluded(&key).any()), (0b01, 0));
    // Gone: whichever of the two it is.
    for at_source in [true, false] {
        let (source, key) = (super::key(0b11), super::key(0b11));
        bench.until("health", || bench.healths() == [Health::Healthy; 2]).await;
        bench.members[0].script(move |op| match (op, at_source) {
            (Op::ReEncrypt(_), true) => refuses_the_source(op, Class::KeyAbsent),
            (Op::ReEncrypt(_), false) => refuse_all(op, Class::KeyAbsent),
            _ => Act::Well,
        });
        assert!(anew(&bench, vec![task(&source, &key, b"good")]).await[0].is_ok());
        let removal = tokio::time::timeout(Duration::from_secs(60), bench.removals.recv()).await.unwrap().unwrap();
        let gone = if at_source { source.version } else { key.version };
        assert_eq!((removal.hsm.as_str(), removal.version), ("a", gone));
    }
}

#[tokio::test]
async fn a_lying_zone_gives_out_no_ciphertext_that_holds_something_else() {
    // As the one that makes, and as the one that looks.
    for liar in [0, 1] {
        let bench = Bench::verifying(2, Some("zone-a"), NO_HEDGE, VERIFIED);
        bench.members[liar].script(|op| match (op, well(op)) {
            (Op::Probe, _) => Act::Fail(CallError::WorkerLost),
            (_, Reply::ReEncrypted(items)) => {
                let lie = |sealed: Sealed| Sealed { sealed: Bytes::from_static(b"else"), ..sealed };
                Act::Say(Reply::ReEncrypted(items.into_iter().map(|item| item.map(lie)).collect()))
            }
            // The key there is another one, so that the proof tells it too.
            (_, Reply::Decrypted(items)) => {
                let lie = |_| Secret::new(b"else".to_vec());
                Act::Say(Reply::Decrypted(items.into_iter().map(|item| item.map(lie)).collect()))
            }
            (_, Reply::Compared(items)) => {
                Act::Say(Reply::Compared(items.into_iter().map(|item| item.map(|same| !same)).collect()))
            }
            _ => Act::Well,
        });
        for answer in anew(&bench, vec![task(&key(0b11), &key(0b11), b"data"); 20]).await {
            assert_eq!(&answer.unwrap().sealed[..], b"data", "liar {liar}");
        }
    }
}

#[tokio::test]
async fn callers_do_not_notice_a_member_that_fails_while_it_encrypts_anew() {
    let failures: [fn(&Op) -> Act; 5] = [
        |_| Act::Fail(CallError::WorkerLost),
        |_| Act::Fail(CallError::NotReady),
        |_| Act::Say(Reply::Done),
        |op| refuse_all(op, Class::Token),
        |op| refuse_all(op, Class::Ambiguous),
    ];
    for (number, failure) in failures.into_iter().enumerate() {
        let bench = Bench::verifying(2, Some("zone-a"), NO_HEDGE, VERIFIED);
        bench.members[0].script(failure);
        for answer in anew(&bench, vec![task(&key(0b11), &key(0b11), b"data"); 5]).await {
            assert!(answer.is_ok(), "failure {number}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn between_two_clusters_both_halves_are_looked_at() {
    let (bench, key) = (Bench::verifying(2, Some("zone-a"), NO_HEDGE, VERIFIED), key(0b11));
    let sealed = Bytes::from_static(b"data");
    let item = DecryptItem { key: key.version, aad: Bytes::new(), iv: [0; 12], sealed };
    let tasks = vec![Task::anywhere(Some(Arc::clone(&key)), item)];
    let opened = errors(bench.dispatcher.take_out(tasks, bench.within(1_000)).await);
    assert_eq!(opened[0].as_ref().unwrap().expose(), b"data");
    assert_eq!((bench.members[0].calls(), bench.members[1].calls()), (1, 1));
    let item = EncryptItem { key: key.version, aad: Bytes::new(), plaintext: Secret::new(b"data".to_vec()) };
    let tasks = vec![Task::anywhere(Some(key), item)];
    let made = errors(bench.dispatcher.wrap::<BringIn>(tasks, bench.within(1_000)).await);
    assert_eq!(&made[0].as_ref().unwrap().sealed[..], b"data");
    assert_eq!((bench.members[0].calls(), bench.members[1].calls()), (2, 2));
}

/// Where both keys are placed is what counts, not where either is.
#[test]
fn a_task_knows_its_keys() {
    let (source, key) = (key(0b01), key(0b10));
    let places: Vec<_> = task(&source, &key, b"x").keys().map(|key| key.placed).collect();
    assert_eq!(places, [PlacementMask(0b10), PlacementMask(0b01)]);
}
