//! Members that say that they have too much to do.

use super::*;

#[tokio::test]
async fn they_are_asked_after_the_others_and_stay_healthy() {
    let bench = Bench::new(2, Some("zone-a"), NO_HEDGE);
    let asked = counted(&bench, 0, |op| refuse_all(op, Class::Busy));
    let began = bench.clock.now();
    for _ in 0..200 {
        assert!(bench.encrypt(&[key(0b11)], 20_000).await[0].is_ok());
    }
    let ran = bench.clock.now() - began;
    // Pauses of 25, 50, 100 ms and so on. Its zone is the own one, and would be asked first each time.
    let at_most = 1 + usize::try_from(ran.as_millis() / 25).unwrap();
    assert!((1..=at_most).contains(&asked.load(Ordering::Relaxed)), "{asked:?} in {ran:?}");
    assert_eq!(bench.healths(), [Health::Healthy; 2]);
    assert_eq!(bench.dispatcher.members[0].status().statistics.failures, 0);
}

#[tokio::test]
async fn where_all_of_them_are_the_caller_is_told_so() {
    let bench = Bench::new(2, Some("zone-a"), NO_HEDGE);
    bench.members.iter().for_each(|member| member.script(|op| refuse_all(op, Class::Busy)));
    for _ in 0..20 {
        assert!(matches!(bench.encrypt(&[key(0b11)], 1_000).await[..], [Err(Error::Busy)]));
        assert!(matches!(bench.decrypt(&key(0b11), &[b"good"], 1_000).await[..], [Err(Error::Busy)]));
    }
    assert_eq!(bench.healths(), [Health::Healthy; 2]);
}

#[tokio::test]
async fn they_get_no_hedge() {
    let bench = Bench::new(2, Some("zone-a"), Duration::from_millis(20));
    bench.members[0].script(|_| Act::Slow(Duration::from_millis(60)));
    let asked = counted(&bench, 1, |_| Act::Well);
    let second = &bench.dispatcher.members[1];
    loop {
        second.throttle();
        asked.store(0, Ordering::Relaxed);
        assert!(bench.encrypt(&[key(0b11)], 20_000).await[0].is_ok());
        // The pause grows until it is longer than the call.
        if second.is_throttled() {
            break;
        }
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    bench.until("the end of the pause", || !second.is_throttled()).await;
    bench.members[0].script(once_asked(&asked));
    assert!(bench.encrypt(&[key(0b11)], 20_000).await[0].is_ok());
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

/// What is no ciphertext of the key, by a code that means too much to do as well.
fn says_both(op: &Op) -> Act {
    match (op, well(op)) {
        (Op::Decrypt(_), Reply::Decrypted(mut outputs)) => {
            for output in outputs.iter_mut().filter_map(|output| output.as_mut().err()) {
                output.class = Class::AmbiguousOrBusy;
            }
            Act::Say(Reply::Decrypted(outputs))
        }
        _ => Act::Well,
    }
}

#[tokio::test]
async fn a_code_that_hides_it_condemns_no_key() {
    for zones in [1, 2] {
        let bench = Bench::new(zones, Some("zone-a"), NO_HEDGE);
        let key = key((1 << zones) - 1);
        bench.members.iter().for_each(|member| member.script(|op| refuse_all(op, Class::AmbiguousOrBusy)));
        for _ in 0..3 {
            assert!(matches!(bench.decrypt(&key, &[b"good"], 300).await[..], [Err(Error::Busy)]), "{zones} zones");
        }
        assert_eq!(bench.dispatcher.exclusions.of(key.version).any(), 0);
        bench.members.iter().for_each(|member| member.script(says_both));
        // What is bad is so where the proof opens, which it does before long.
        let answers = bench.decrypt(&key, &[b"good", b"bad"], 5_000).await;
        assert!(matches!(answers[..], [Ok(_), Err(Error::BadCiphertext)]), "{zones} zones: {answers:?}");
        assert!(bench.healths().iter().all(|health| *health == Health::Healthy));
        assert!(bench.dispatcher.members.iter().all(|member| member.status().statistics.failures == 0));
    }
}

/// The proof does not open a moment ago and opens now: the same call waits for that, where nobody else has an answer.
#[tokio::test]
async fn a_proof_is_asked_again_while_there_may_be_too_much_to_do() {
    let bench = Bench::new(1, Some("zone-a"), NO_HEDGE);
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&asked);
    bench.members[0].script(move |op| match seen.fetch_add(1, Ordering::Relaxed) {
        0..4 => refuse_all(op, Class::AmbiguousOrBusy),
        _ => says_both(op),
    });
    let answers = bench.decrypt(&key(1), &[b"bad"], 5_000).await;
    assert!(matches!(answers[..], [Err(Error::BadCiphertext)]), "{answers:?}");
    // The ciphertext, its proof three times, the proof that opens, the ciphertext again.
    assert_eq!(asked.load(Ordering::Relaxed), 6);
    asked.store(0, Ordering::Relaxed);
    let answers = bench.decrypt(&key(1), &[b"good"], 5_000).await;
    assert!(matches!(answers[..], [Ok(_)]), "{answers:?}");
}

/// With a sound zone beside it nobody waits for one that may have too much to do.
#[tokio::test]
async fn another_zone_answers_before_a_proof_is_asked_again() {
    let bench = Bench::new(2, Some("zone-a"), NO_HEDGE);
    bench.members[0].script(|op| refuse_all(op, Class::AmbiguousOrBusy));
    let key = key(0b11);
    assert!(matches!(bench.decrypt(&key, &[b"good"], 5_000).await[..], [Ok(_)]));
    assert_eq!(bench.members[0].calls(), 2, "the ciphertext and its proof, once each");
    // One zone alone does not say that a ciphertext is bad while the other may only have had too much to do.
    let answers = bench.decrypt(&key, &[b"bad"], 200).await;
    assert!(matches!(answers[..], [Err(Error::Busy)]), "{answers:?}");
    assert_eq!(bench.dispatcher.exclusions.of(key.version).any(), 0);
}

/// The hedge says for its items that there is too much to do: the answer under way is waited for.
#[tokio::test]
async fn a_hedge_that_has_too_much_to_do_does_not_win() {
    let bench = Bench::new(2, Some("zone-a"), Duration::from_millis(20));
    for class in [Class::Busy, Class::AmbiguousOrBusy] {
        let asked = counted(&bench, 1, move |op| refuse_all(op, class));
        bench.members[0].script(once_asked(&asked));
        bench.until("the end of the pause", || !bench.dispatcher.members[1].is_throttled()).await;
        let before = bench.members[0].calls();
        assert!(bench.encrypt(&[key(0b11)], 20_000).await[0].is_ok());
        assert_eq!((asked.load(Ordering::Relaxed), bench.members[0].calls() - before), (1, 1), "{class:?}");
    }
    assert_eq!(bench.healths()[1], Health::Healthy);
}

/// It may have said that the ciphertext is bad: then it is asked again, and its proof tells.
#[tokio::test]
async fn what_a_hedge_says_of_a_bad_ciphertext_is_not_lost() {
    let bench = Bench::new(2, Some("zone-a"), Duration::from_millis(20));
    bench.members[0].script(|_| Act::Slow(Duration::from_millis(60)));
    bench.members[1].script(says_both);
    let answers = bench.decrypt(&key(0b11), &[b"bad"], 5_000).await;
    assert!(matches!(answers[..], [Err(Error::BadCiphertext)]), "{answers:?}");
    assert_eq!(bench.healths(), [Health::Healthy; 2]);
}

/// What it has done for some items is kept where the answer under way is none.
#[tokio::test]
async fn a_hedge_that_did_a_part_is_better_than_nothing() {
    let bench = Bench::new(2, Some("zone-a"), Duration::from_millis(20));
    let (asked, again) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let items = Arc::clone(&again);
    bench.members[0].script(move |op| match (op, asked.fetch_add(1, Ordering::Relaxed)) {
        (Op::Encrypt(_), 0) => Act::FailLate(Duration::from_millis(60), CallError::WorkerLost),
        _ => {
            items.fetch_add(op.items(), Ordering::Relaxed);
            Act::Well
        }
    });
    bench.members[1].script(|op| match (op, well(op)) {
        (Op::Encrypt(_), Reply::Encrypted(mut outputs)) => {
            outputs[0] = Err(Fault::own(Class::Busy, "C_Encrypt", "scripted"));
            Act::Say(Reply::Encrypted(outputs))
        }
        _ => Act::Well,
    });
    let one = key(0b11);
    let answers = bench.encrypt(&[Arc::clone(&one), one], 5_000).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(again.load(Ordering::Relaxed), 1, "only what the hedge has not done is asked for again");
}

/// Slow until another one has been asked as well, however long that takes.
fn once_asked(other: &Arc<AtomicUsize>) -> impl Fn(&Op) -> Act + Send + Sync + 'static {
    let other = Arc::clone(other);
    move |_| {
        let other = Arc::clone(&other);
        Act::Once(Arc::new(move || other.load(Ordering::Relaxed) > 0))
    }
}

/// Has a member do this, and counts what it is asked to encrypt.
fn counted(bench: &Bench, place: usize, act: impl Fn(&Op) -> Act + Send + Sync + 'static) -> Arc<AtomicUsize> {
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&asked);
    bench.members[place].script(move |op| {
        if matches!(op, Op::Encrypt(_)) {
            seen.fetch_add(1, Ordering::Relaxed);
        }
        act(op)
    });
    asked
}
