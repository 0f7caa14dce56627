//! Members that say that they have too much to do.

use super::*;

#[tokio::test]
async fn they_are_asked_after_the_others_and_stay_healthy() {
    let bench = Bench::new(2, Some("zone-a"), NO_HEDGE);
    let asked = counted(&bench, 0, |op| refuse_all(op, Class::Busy));
    let began = bench.clock.now();
    for _ in 0..200 {
        assert!(bench.encrypt(&[key(0b11)], 1_000).await[0].is_ok());
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
        assert!(bench.encrypt(&[key(0b11)], 1_000).await[0].is_ok());
        // The pause grows until it is longer than the call.
        if second.is_throttled() {
            break;
        }
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    bench.until("the end of the pause", || !second.is_throttled()).await;
    assert!(bench.encrypt(&[key(0b11)], 1_000).await[0].is_ok());
    assert_eq!(asked.load(Ordering::Relaxed), 1);
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
