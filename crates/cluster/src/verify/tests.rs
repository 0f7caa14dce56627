//! Members that answer wrongly and say that all is well.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::super::fake::{Act, Bench, errors, key, well};
use super::super::member_operation::{Encrypt, GenerateDataKey, Task};
use super::super::{Error, Health, KeyRef, Verify};
use model::profile::VerifyWraps;
use model::secret::Secret;
use protocol::{Class, DataKey, DataKeyItem, DecryptItem, EncryptItem, Fault, Op, Reply, Sealed};
use supervisor::CallError;

const NO_HEDGE: Duration = Duration::from_secs(60);
const WRAPS: Verify = Verify { wraps: VerifyWraps::DataKeys, unwraps: false };
const UNWRAPS: Verify = Verify { wraps: VerifyWraps::None, unwraps: true };

async fn data_keys(bench: &Bench, keys: &[Arc<KeyRef>]) -> Vec<Result<DataKey, Error>> {
    let task = |key: &Arc<KeyRef>| {
        Task::anywhere(Some(Arc::clone(key)), DataKeyItem { key: key.version, aad: Bytes::new(), length: 32 })
    };
    errors(bench.dispatcher.wrap::<GenerateDataKey>(keys.iter().map(task).collect(), bench.within(1_000)).await)
}

/// What a sound token says, with the last byte of each ciphertext or plaintext changed. Listings and probes are sound.
fn lie(op: &Op) -> Act {
    let flip = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        bytes
    };
    Act::Say(match well(op) {
        Reply::Decrypted(items) => {
            Reply::Decrypted(items.into_iter().map(|item| item.map(|b| Secret::new(flip(b.expose())))).collect())
        }
        Reply::Encrypted(items) => Reply::Encrypted(
            items
                .into_iter()
                .map(|item| item.map(|sealed| Sealed { sealed: flip(&sealed.sealed).into(), ..sealed }))
                .collect(),
        ),
        Reply::DataKeys(items) => Reply::DataKeys(
            items
                .into_iter()
                .map(|item| {
                    item.map(|key| {
                        let sealed = flip(&key.sealed.sealed).into();
                        DataKey { sealed: Sealed { sealed, ..key.sealed }, ..key }
                    })
                })
                .collect(),
        ),
        reply => reply,
    })
}

fn is_right(key: &DataKey) -> bool {
    key.plaintext.expose() == &key.sealed.sealed[..]
}

#[tokio::test]
async fn a_data_key_is_opened_in_the_other_zone() {
    let bench = Bench::verifying(2, Some("zone-a"), NO_HEDGE, WRAPS);
    assert!(is_right(data_keys(&bench, &[key(0b11)]).await[0].as_ref().unwrap()));
    assert_eq!((bench.members[0].calls(), bench.members[1].calls()), (1, 1));
}

#[tokio::test]
async fn a_lying_zone_gives_out_no_data_key_and_is_suspect() {
    // Whoever of the two lies, as maker or as the one who looks, alone or in a batch over both zones.
    for liar in [0, 1] {
        for count in [1, 200] {
            let bench = Bench::verifying(2, Some("zone-a"), NO_HEDGE, WRAPS);
            bench.members[liar]
                .script(|op| if matches!(op, Op::Probe) { Act::Fail(CallError::WorkerLost) } else { lie(op) });
            let answers = data_keys(&bench, &vec![key(0b11); count]).await;
            for answer in &answers {
                assert!(is_right(answer.as_ref().unwrap()), "liar {liar}, {count} data keys");
            }
            assert_eq!(bench.healths()[liar], Health::Suspect);
            assert_eq!(bench.healths()[1 - liar], Health::Healthy, "the sound zone is not blamed");
            // Who lies is found out for the batch, not for each of its items.
            let calls: usize = bench.members.iter().map(|member| member.calls()).sum();
            assert!(calls < 100, "{calls} calls for {count} data keys");
        }
    }
}

#[tokio::test]
async fn a_zone_that_lies_now_and_then_is_caught_too() {
    let bench = Bench::verifying(2, None, NO_HEDGE, WRAPS);
    let calls = AtomicUsize::new(0);
    bench.members[1].script(move |op| match calls.fetch_add(1, Ordering::Relaxed) % 3 {
        0 => lie(op),
        _ => Act::Well,
    });
    for number in 0..300 {
        let made = data_keys(&bench, &[key(0b11)]).await.remove(0);
        assert!(is_right(made.as_ref().unwrap()), "number {number}");
    }
}

#[tokio::test]
async fn plaintexts_are_right_beside_a_zone_that_lies_now_and_then() {
    let bench = Bench::verifying(2, None, NO_HEDGE, UNWRAPS);
    let calls = AtomicUsize::new(0);
    bench.members[1].script(move |op| match calls.fetch_add(1, Ordering::Relaxed) % 3 {
        0 => lie(op),
        _ => Act::Well,
    });
    for number in 0..300 {
        assert_eq!(opened(&bench, b"data").await.unwrap().expose(), b"data", "number {number}");
    }
}

#[tokio::test]
async fn what_is_good_is_opened_beside_a_zone_that_refuses_it_now_and_then() {
    for every in [2, 3, 5] {
        let bench = Bench::verifying(2, None, NO_HEDGE, UNWRAPS);
        let calls = AtomicUsize::new(0);
        bench.members[1].script(move |op| match (op, calls.fetch_add(1, Ordering::Relaxed) % every) {
            (Op::Decrypt(_), 0) => super::super::fake::refuse_all(op, Class::Request),
            _ => Act::Well,
        });
        for number in 0..300 {
            let opened = opened(&bench, b"data").await;
            assert_eq!(opened.unwrap().expose(), b"data", "one in {every}, number {number}");
        }
    }
}

#[tokio::test]
async fn a_zone_that_begins_to_refuse_what_is_good_costs_no_data_key() {
    let bench = Bench::verifying(2, None, NO_HEDGE, WRAPS);
    let key = key(0b11);
    // What its proof came to is known from when it was sound.
    assert!(matches!(bench.decrypt(&key, &[b"bad"], 1_000).await[..], [Err(Error::BadCiphertext)]));
    bench.members[1].script(|op| match op {
        Op::Decrypt(_) => super::super::fake::refuse_all(op, Class::Request),
        _ => Act::Well,
    });
    for number in 0..50 {
        let made = data_keys(&bench, &[Arc::clone(&key)]).await.remove(0);
        assert!(is_right(made.as_ref().unwrap()), "number {number}");
    }
    assert_eq!(bench.healths()[0], Health::Healthy, "the sound zone is not blamed");
}

#[tokio::test]
async fn a_zone_that_has_much_to_do_gets_the_time_for_its_second_look() {
    for setting in [WRAPS, UNWRAPS] {
        let bench = Bench::verifying(2, Some("zone-a"), Duration::from_millis(10), setting);
        let looks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&looks);
        // As one whose queue is too long for a short deadline, and not for the caller's.
        bench.members[1].script(move |op| match (op, counted.fetch_add(1, Ordering::Relaxed) % 2) {
            (Op::Decrypt(_), 0) => Act::Fail(CallError::WouldMissDeadline(Duration::from_millis(50))),
            _ => Act::Well,
        });
        for number in 1..=5 {
            match setting.unwraps {
                false => assert!(is_right(data_keys(&bench, &[key(0b11)]).await[0].as_ref().unwrap())),
                true => assert_eq!(opened(&bench, b"data").await.unwrap().expose(), b"data"),
            }
            assert_eq!(looks.load(Ordering::Relaxed), 2 * number, "it was asked once more, and nobody in its place");
        }
    }
}

#[tokio::test]
async fn a_second_look_that_hangs_is_not_waited_for_to_the_end() {
    for setting in [WRAPS, UNWRAPS] {
        let bench = Bench::verifying(2, Some("zone-a"), Duration::from_millis(10), setting);
        bench.members[1].script(|op| if matches!(op, Op::Decrypt(_)) { Act::Hang } else { Act::Well });
        for _ in 0..5 {
            assert!(is_right(data_keys(&bench, &[key(0b11)]).await[0].as_ref().unwrap()));
            assert_eq!(opened(&bench, b"data").await.unwrap().expose(), b"data");
        }
    }
}

#[tokio::test]
async fn when_the_other_zone_is_gone_the_same_one_looks() {
    let bench = Bench::verifying(2, Some("zone-a"), NO_HEDGE, WRAPS);
    bench.members[1].script(|_| Act::Fail(CallError::WorkerLost));
    for _ in 0..5 {
        assert!(is_right(data_keys(&bench, &[key(0b11)]).await[0].as_ref().unwrap()));
    }
}

#[tokio::test]
async fn what_callers_encrypt_is_looked_at_only_where_the_setting_says_so() {
    for (wraps, right) in [(VerifyWraps::All, true), (VerifyWraps::DataKeys, false)] {
        let bench = Bench::verifying(2, Some("zone-a"), NO_HEDGE, Verify { wraps, unwraps: false });
        bench.members[0].script(lie);
        let key = key(0b11);
        let item = EncryptItem { key: key.version, aad: Bytes::new(), plaintext: Secret::new(b"data".to_vec()) };
        let answers =
            bench.dispatcher.wrap::<Encrypt>(vec![Task::anywhere(Some(key), item)], bench.within(1_000)).await;
        assert_eq!(answers[0].as_ref().unwrap().output.sealed[..] == *b"data", right);
    }
}

async fn opened(bench: &Bench, sealed: &[u8]) -> Result<Secret, Error> {
    let key = key(0b11);
    let item = DecryptItem { key: key.version, aad: Bytes::new(), iv: [0; 12], sealed: Bytes::copy_from_slice(sealed) };
    errors(bench.dispatcher.unwrap(vec![Task::anywhere(Some(key), item)], bench.within(1_000)).await).remove(0)
}

#[tokio::test]
async fn plaintexts_are_compared_where_the_setting_says_so() {
    for liar in [0, 1] {
        let bench = Bench::verifying(2, Some("zone-a"), NO_HEDGE, UNWRAPS);
        bench.members[liar].script(lie);
        assert_eq!(opened(&bench, b"data").await.unwrap().expose(), b"data", "liar {liar}");
        assert!(matches!(opened(&bench, b"bad").await, Err(Error::BadCiphertext)));
    }
}

#[tokio::test]
async fn a_good_ciphertext_that_one_zone_refuses_is_opened_by_the_other() {
    let bench = Bench::new(2, Some("zone-a"), NO_HEDGE);
    // Refuses every other time, and opens the proof in between.
    let calls = AtomicUsize::new(0);
    bench.members[0].script(move |op| match (op, calls.fetch_add(1, Ordering::Relaxed) % 2) {
        (Op::Decrypt(_), 0) => {
            Act::Say(Reply::Decrypted(vec![Err(Fault::own(Class::Ambiguous, "C_Decrypt", "general error"))]))
        }
        _ => Act::Well,
    });
    for _ in 0..20 {
        let opened = bench.decrypt(&key(0b11), &[b"good"], 1_000).await.remove(0);
        assert_eq!(opened.unwrap().expose(), b"good");
    }
}
