//! What callers are told when nobody could serve them.

use super::*;

#[tokio::test]
async fn errors_say_what_is_the_matter() {
    let bench = Bench::new(2, None, NO_HEDGE);
    bench.members[0].script(|_| Act::Fail(CallError::Busy));
    bench.members[1].script(|_| Act::Fail(CallError::NotReady));
    assert!(matches!(bench.encrypt(&[key(0b11)], 1_000).await[..], [Err(Error::Busy)]));
    bench.members[1].script(|_| Act::Fail(CallError::WouldMissDeadline(SOON)));
    assert!(matches!(bench.encrypt(&[key(0b11)], 1_000).await[..], [Err(Error::WouldMissDeadline(SOON))]));
    bench.members[0].script(|op| refuse_all(op, Class::Token));
    bench.members[1].script(|_| Act::Fail(CallError::NotReady));
    match &bench.encrypt(&[key(0b11)], 1_000).await[..] {
        [Err(Error::NoZone(why))] => {
            assert!(why.contains("HSM a in zone zone-a: C_Test: failed (scripted)"), "{why}");
            assert!(why.contains("HSM b in zone zone-b: no worker is ready"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    bench.members[0].script(|op| refuse_all(op, Class::Request));
    bench.members[1].script(|op| refuse_all(op, Class::Request));
    assert!(matches!(bench.encrypt(&[key(0b11)], 1_000).await[..], [Err(Error::Hsm { .. })]));
    // A token that refuses the proof as well has a broken key, whatever it says of the ciphertext.
    assert!(matches!(bench.decrypt(&key(0b11), &[b"x"], 1_000).await[..], [Err(Error::NoZone(_))]));

    let bench = Bench::new(2, None, NO_HEDGE);
    for member in &bench.members {
        member.script(|op| match op {
            Op::Decrypt(items) if items[0].sealed != b"x"[..] => Act::Well,
            op => refuse_all(op, Class::Request),
        });
    }
    assert!(matches!(bench.decrypt(&key(0b11), &[b"x"], 1_000).await[..], [Err(Error::BadCiphertext)]));
}

#[tokio::test]
async fn a_ciphertext_is_not_called_bad_by_one_zone_while_the_other_has_no_time_for_it() {
    let bench = Bench::new(2, Some("zone-a"), NO_HEDGE);
    for (trouble, late) in [(CallError::Busy, false), (CallError::WouldMissDeadline(SOON), true)] {
        bench.members[1].script(move |_| Act::Fail(trouble.clone()));
        match &bench.decrypt(&key(0b11), &[b"bad"], 1_000).await[..] {
            [Err(Error::Busy)] if !late => {}
            [Err(Error::WouldMissDeadline(_))] if late => {}
            other => panic!("{other:?}"),
        }
    }
    bench.members[1].script(|_| Act::Fail(CallError::NotReady));
    assert!(matches!(bench.decrypt(&key(0b11), &[b"bad"], 1_000).await[..], [Err(Error::BadCiphertext)]));
}

/// Only what some member had counts against a key's budget.
#[tokio::test]
async fn what_no_member_has_had_is_told_from_what_one_may_have_done() {
    let late = |sent| CallError::DeadlineExceeded { sent };
    let soon = CallError::WouldMissDeadline(Duration::from_secs(1));
    for (first, second, sent) in [
        (CallError::Busy, CallError::Busy, false),
        (soon.clone(), CallError::NotReady, false),
        (late(false), late(false), false),
        (late(true), late(true), true),
        (CallError::WorkerLost, CallError::Busy, true),
        (CallError::Busy, CallError::WorkerLost, true),
    ] {
        let bench = Bench::new(2, Some("zone-a"), NO_HEDGE);
        for (member, error) in bench.members.iter().zip([first.clone(), second.clone()]) {
            member.script(move |_| Act::Fail(error.clone()));
        }
        let task = || Task::anywhere(None, 24);
        for tasks in [vec![task()], vec![task(), task()]] {
            for answer in bench.dispatcher.run::<Random>(tasks, bench.within(1_000)).await {
                let Err(Failed { error, sent: told }) = answer else { panic!("{first} and {second} gave something") };
                assert_eq!(told, sent, "{first} and {second}: {error}");
            }
        }
        bench.members[1].script(|op| refuse_all(op, Class::Token));
        let answers = bench.dispatcher.run::<Random>(vec![task()], bench.within(1_000)).await;
        let refused = first.was_sent() || !matches!(first, CallError::DeadlineExceeded { .. });
        assert!(matches!(&answers[0], Err(failed) if failed.sent == refused), "{first}: {answers:?}");
    }
}
