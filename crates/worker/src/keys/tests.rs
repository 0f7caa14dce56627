use super::*;
use model::clock::Clock;
use model::id::KeyId;

fn key(number: u32) -> KeyVersionId {
    KeyVersionId { key: KeyId::from_bytes([7; 16]), version: number }
}

fn keys(count: u32, now: Instant) -> Keys<u64> {
    let keys = Keys::new(true, false);
    keys.listed(&(1..=count).map(|n| (key(n), u64::from(n))).collect::<Vec<_>>(), now);
    keys
}

/// Uses the token object twice and keeps the copy that is then allowed.
fn warm(keys: &Keys<u64>, n: u32, now: Instant) -> Option<u64> {
    if !(0..2).any(|_| keys.prove(key(n), u64::from(n), now)) {
        return None;
    }
    let (object, permit) = keys.permit(key(n), now)?;
    assert_eq!(object, u64::from(n));
    keys.keep_copy(key(n), 10_000 + u64::from(n), now, permit)
}

#[test]
fn a_copy_is_used_for_a_second_and_then_the_object_again() {
    let clock = Clock::manual();
    let keys = keys(1, clock.now());
    assert_eq!(keys.copy(key(1), clock.now()), None);
    assert_eq!(warm(&keys, 1, clock.now()), None);
    assert_eq!(keys.copy(key(1), clock.now()), Some(10_001));
    clock.advance(PROOF_LASTS + Duration::from_millis(1));
    assert_eq!(keys.copy(key(1), clock.now()), None);
    assert!(!keys.prove(key(1), 1, clock.now()), "the copy is there already");
    assert_eq!(keys.permit(key(1), clock.now()), None);
    assert_eq!(keys.copy(key(1), clock.now()), Some(10_001));
}

#[test]
fn a_key_used_once_a_while_gets_no_copy() {
    let clock = Clock::manual();
    let keys = keys(1, clock.now());
    for _ in 0..5 {
        assert!(!keys.prove(key(1), 1, clock.now()));
        clock.advance(Duration::from_secs(2));
    }
}

#[test]
fn forgetting_gives_the_copy_up_and_voids_permits() {
    let clock = Clock::manual();
    let keys = keys(2, clock.now());
    warm(&keys, 1, clock.now());
    let (_, permit) = keys.permit(key(2), clock.now()).unwrap();
    assert_eq!(keys.forget(&[key(1)]), [10_001]);
    assert_eq!((keys.copy(key(1), clock.now()), keys.object(key(1))), (None, None));
    assert_eq!(keys.keep_copy(key(2), 77, clock.now(), permit), Some(77), "made before the forget");
    assert_eq!((keys.copy(key(2), clock.now()), keys.object(key(2))), (None, Some(2)));
    assert_eq!(keys.permit(key(1), clock.now()), None, "nobody has found it again");
}

#[test]
fn a_copy_that_does_not_come_is_wanted_again_after_a_while() {
    let clock = Clock::manual();
    let keys = keys(1, clock.now());
    let uses = |times| (0..times).filter(|_| keys.prove(key(1), 1, clock.now())).count();
    assert_eq!(uses(100), 1);
    clock.advance(WANT_LASTS);
    assert_eq!(uses(100), 0, "it may be on its way");
    clock.advance(Duration::from_millis(1));
    assert_eq!(uses(100), 1);
}

#[test]
fn copies_in_use_are_not_driven_out() {
    let clock = Clock::manual();
    let most = u32::try_from(COPIES.get()).unwrap();
    let keys = keys(most + 1, clock.now());
    for n in 1..=most {
        assert_eq!(warm(&keys, n, clock.now()), None);
    }
    let more = || (0..2).any(|_| keys.prove(key(most + 1), u64::from(most + 1), clock.now()));
    assert!(!more(), "all are fresh");
    assert_eq!(keys.permit(key(most + 1), clock.now()), None);
    clock.advance(IN_USE);
    assert_eq!(warm(&keys, most + 1, clock.now()), None, "they may still be used");
    clock.advance(Duration::from_millis(1));
    assert_eq!(warm(&keys, most + 1, clock.now()), Some(10_001), "the one used longest ago goes");
}

#[test]
fn a_proof_by_an_outdated_handle_counts_for_nothing() {
    let clock = Clock::manual();
    let keys = keys(1, clock.now());
    keys.placed(key(1), 9, clock.now());
    assert!(!(0..3).any(|_| keys.prove(key(1), 1, clock.now())));
    assert_eq!((keys.copy(key(1), clock.now()), keys.object(key(1))), (None, Some(9)));
}

#[test]
fn what_cannot_be_copied_is_left_alone_for_a_while() {
    let clock = Clock::manual();
    let keys = keys(1, clock.now());
    keys.prove(key(1), 1, clock.now());
    assert!(keys.prove(key(1), 1, clock.now()));
    keys.refuse_copies(key(1), clock.now());
    assert_eq!(keys.permit(key(1), clock.now()), None);
    let uses = || (0..3).any(|_| keys.prove(key(1), 1, clock.now()));
    clock.advance(REFUSAL_LASTS);
    assert!(!uses());
    clock.advance(Duration::from_millis(1));
    assert!(uses() && keys.permit(key(1), clock.now()).is_some());
}

#[test]
fn without_hot_copies_there_is_no_permit() {
    let clock = Clock::manual();
    let keys = Keys::new(false, false);
    keys.placed(key(1), 1_u64, clock.now());
    assert!(!(0..3).any(|_| keys.prove(key(1), 1, clock.now())));
    assert_eq!(keys.permit(key(1), clock.now()), None);
}

#[test]
fn an_object_says_again_and_again_which_key_it_is() {
    let clock = Clock::manual();
    let keys = keys(1, clock.now());
    assert!(keys.is_named(key(1), 1, clock.now()));
    assert!(!keys.is_named(key(1), 2, clock.now()) && !keys.is_named(key(2), 1, clock.now()));
    clock.advance(NAME_LASTS + Duration::from_millis(1));
    assert!(!keys.is_named(key(1), 1, clock.now()), "use does not vouch for the name");
    keys.named(key(1), 1, clock.now());
    assert!(keys.is_named(key(1), 1, clock.now()));
}

#[test]
fn of_two_objects_with_one_id_the_known_one_stays() {
    let clock = Clock::manual();
    let keys = keys(1, clock.now());
    keys.learn(&[(key(1), 8), (key(2), 9)], clock.now());
    assert_eq!((keys.object(key(1)), keys.object(key(2))), (Some(1), Some(9)));
    for found in [[(key(1), 7), (key(1), 1)], [(key(1), 1), (key(1), 7)]] {
        keys.listed(&found, clock.now());
        assert_eq!((keys.object(key(1)), keys.object(key(2))), (Some(1), None), "what was not shown is gone");
    }
    keys.listed(&[(key(1), 7)], clock.now());
    assert_eq!(keys.object(key(1)), Some(7));
}

/// Each would be another key, and only who has used one before they were several knows which is meant.
#[test]
fn of_two_objects_of_a_key_made_in_place_none_is_used_but_a_known_one() {
    let clock = Clock::manual();
    let (knows, new) = (Keys::new(false, true), Keys::new(false, true));
    knows.learn(&[(key(1), 1_u64)], clock.now());
    let both = [(key(1), 7), (key(1), 1), (key(2), 2)];
    for keys in [&knows, &new] {
        keys.learn(&both, clock.now());
    }
    assert_eq!((knows.object(key(1)), knows.has_several(key(1))), (Some(1), false));
    assert_eq!((new.object(key(1)), new.has_several(key(1))), (None, true));
    assert_eq!((new.object(key(2)), new.has_several(key(2))), (Some(2), false));
    for keys in [&knows, &new] {
        keys.listed(&both, clock.now());
    }
    assert_eq!((knows.object(key(1)), new.object(key(1))), (Some(1), None));
    knows.forget(&[key(1)]);
    knows.learn(&both, clock.now());
    assert_eq!((knows.object(key(1)), knows.has_several(key(1))), (None, true), "it knows as little as others then");
    new.forget(&[key(1)]);
    assert!(new.has_several(key(1)), "another thread may just have found them");
    new.searched(key(1), &[(key(3), 3)], clock.now());
    assert_eq!((new.has_several(key(1)), new.object(key(3))), (false, Some(3)), "they are gone");
    new.searched(key(1), &both, clock.now());
    assert_eq!((new.object(key(1)), new.has_several(key(1))), (None, true));
    // The other one is gone.
    new.learn(&[(key(1), 1)], clock.now());
    knows.listed(&[(key(1), 1)], clock.now());
    for keys in [&knows, &new] {
        assert_eq!((keys.object(key(1)), keys.has_several(key(1))), (Some(1), false));
    }
}

#[test]
fn what_is_not_there_is_known_until_something_failed() {
    let clock = Clock::manual();
    let keys = Keys::new(false, false);
    keys.learn(&[(key(1), 1_u64)], clock.now());
    assert!(!keys.is_complete(), "nobody has looked at everything");
    keys.listed(&[(key(1), 1)], clock.now());
    assert!(keys.is_complete());
    keys.doubt();
    assert!(!keys.is_complete());
}
