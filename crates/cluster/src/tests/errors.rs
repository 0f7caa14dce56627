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
