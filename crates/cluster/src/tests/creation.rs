//! Keys that are made, placed, proven and destroyed, step by step.

use super::*;

#[tokio::test]
async fn keys_are_made_placed_proven_and_destroyed() {
    let bench = Bench::new(2, None, NO_HEDGE);
    bench.members[0].script(|op| match op {
        Op::MakeKey => Act::Fail(CallError::WorkerLost),
        _ => Act::Well,
    });
    for _ in 0..70 {
        assert_eq!(&bench.dispatcher.make_key(bench.within(1_000).deadline).await.unwrap()[..], b"blob");
    }
    let version = key(0b11).version;
    bench.dispatcher.exclusions.exclude(version, 1, false);
    bench.dispatcher.place(1, version, "arn", &b"blob"[..].into(), bench.within(1_000).deadline).await.unwrap();
    assert_eq!(bench.dispatcher.exclusions.of(version).any(), 0, "what is placed anew is used again");
    let proof = bench.dispatcher.make_proof(0, version, bench.within(1_000).deadline).await.unwrap();
    bench.dispatcher.prove(1, version, &proof, bench.within(1_000).deadline).await.unwrap();
    let other = key(0b11);
    let wrong = bench.dispatcher.prove(1, version, &other.proof, bench.within(1_000).deadline).await.unwrap_err();
    assert!(wrong.to_string().contains("it is not that key"), "{wrong}");
    bench.dispatcher.destroy(0, version, bench.within(1_000).deadline).await.unwrap();
    assert!(bench.dispatcher.destroy(9, version, bench.within(1_000).deadline).await.is_err());
}

#[tokio::test]
async fn a_step_is_repeated_after_an_error_that_passes() {
    let bench = Bench::new(2, None, NO_HEDGE);
    let tries = AtomicUsize::new(0);
    bench.members[0].script(move |op| match op {
        Op::Place { .. } if tries.fetch_add(1, Ordering::Relaxed) == 0 => {
            Act::Say(Reply::Failed(Fault::own(Class::Token, "C_GetTokenInfo", "general error")))
        }
        _ => Act::Well,
    });
    let version = key(0b11).version;
    bench.dispatcher.place(0, version, "arn", &b"blob"[..].into(), bench.within(2_000).deadline).await.unwrap();
}

/// SoftHSM has such an error for a moment whenever another process logs in to its token.
#[tokio::test]
async fn a_proof_is_repeated_after_an_error_that_passes() {
    let bench = Bench::new(2, None, NO_HEDGE);
    let version = key(0b11).version;
    let proof = bench.dispatcher.make_proof(1, version, bench.within(1_000).deadline).await.unwrap();
    for (passes, times) in [(Class::Token, 1), (Class::Session, 2)] {
        let tries = AtomicUsize::new(0);
        let fault = move || Fault::own(passes, "C_GetAttributeValue", "general error");
        bench.members[0].script(move |op| match op {
            Op::Encrypt(_) | Op::Decrypt(_) if tries.fetch_add(1, Ordering::Relaxed) % (times + 1) == times => {
                Act::Well
            }
            Op::Encrypt(_) => Act::Say(Reply::Encrypted(vec![Err(fault())])),
            Op::Decrypt(_) => Act::Say(Reply::Decrypted(vec![Err(fault())])),
            _ => Act::Well,
        });
        bench.dispatcher.make_proof(0, version, bench.within(2_000).deadline).await.unwrap();
        bench.dispatcher.prove(0, version, &proof, bench.within(2_000).deadline).await.unwrap();
    }
    bench.members[0].script(|op| refuse_all(op, Class::KeyAbsent));
    let calls = bench.members[0].calls();
    bench.dispatcher.prove(0, version, &proof, bench.within(2_000).deadline).await.unwrap_err();
    assert_eq!(bench.members[0].calls() - calls, 1, "what does not pass is not repeated");
}

#[tokio::test]
async fn a_step_is_repeated_in_the_same_member_after_its_worker_died() {
    let bench = Bench::new(2, None, NO_HEDGE);
    let tries = AtomicUsize::new(0);
    bench.members[0].script(move |op| match op {
        Op::Place { .. } if tries.fetch_add(1, Ordering::Relaxed) == 0 => Act::Fail(CallError::WorkerLost),
        _ => Act::Well,
    });
    let version = key(0b11).version;
    bench.dispatcher.place(0, version, "arn", &b"blob"[..].into(), bench.within(2_000).deadline).await.unwrap();
}
