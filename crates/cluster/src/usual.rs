//! Which member a single item goes to where many keys are in use: the one that has met its key before.
//!
//! Workers keep copies of keys that are used again and again, and each copy is proven once a second by a use of the
//! token's object. An item that goes to whoever has least to do meets its key in every worker in turn: each of them has
//! all copies to keep, and meets a key so seldom that a copy is hardly of use.

use super::route::{Gauge, bits};
use model::id::KeyVersionId;

/// The member of `mask` that meets this key first, unless it has more to do than another one: more than it may by
/// `alike`, in items for each session. None where it does not matter, or nobody is healthy.
///
/// Each of `mask` has a share of all keys, healthy or not: that one of them fails for a moment moves its own keys alone,
/// each to one of the others. The same one that gets a batch's item under this key where both members get as many parts.
pub(super) fn member(
    mask: u64,
    key: KeyVersionId,
    alike: impl Fn(usize) -> usize,
    gauge: impl Fn(usize) -> Gauge,
) -> Option<usize> {
    let all = || bits(mask).map(|member| (member, gauge(member)));
    let healthy = |(_, gauge): &(usize, Gauge)| gauge.class() == 0;
    let own = all().filter(healthy).any(|(_, gauge)| gauge.own);
    let sharers = || all().filter(|(_, gauge)| gauge.own == own);
    let candidates = || sharers().filter(healthy);
    let wait = |gauge: Gauge| gauge.load / gauge.capacity.max(1);
    let least = candidates().map(|(_, gauge)| wait(gauge)).min()?;
    let first = key.key.as_bytes().first_chunk().copied().map_or(0, u32::from_be_bytes);
    let (place, rest) = share(first, sharers().count());
    let usual = sharers().nth(place).filter(healthy);
    // Where in its share a key is says who has it instead, so that all get as many of them.
    let (usual, gauge) = usual.or_else(|| candidates().nth(share(rest, candidates().count()).0))?;
    (wait(gauge) <= least.saturating_add(alike(usual))).then_some(usual)
}

/// In which of so many equal shares of all numbers this one is, and where in it.
fn share(number: u32, shares: usize) -> (usize, u32) {
    let scaled = u128::from(number) * shares as u128;
    let within = scaled & u128::from(u32::MAX);
    (usize::try_from(scaled >> u32::BITS).unwrap_or(0), u32::try_from(within).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::super::Health;
    use super::*;
    use model::id::KeyId;

    fn key(first: u8) -> KeyVersionId {
        let mut id = [7; 16];
        id[0] = first;
        KeyVersionId { key: KeyId::from_bytes(id), version: 1 }
    }

    fn idle() -> Gauge {
        Gauge { health: Health::Healthy, own: false, load: 0, capacity: 2, throttled: false }
    }

    #[test]
    fn keys_are_shared_out_among_healthy_members_and_each_has_one() {
        let of = |first, gauges: &[Gauge]| member((1 << gauges.len()) - 1, key(first), |_| 4, |place| gauges[place]);
        let two = [idle(); 2];
        assert_eq!([0, 127, 128, 255].map(|first| of(first, &two)), [Some(0), Some(0), Some(1), Some(1)]);
        let four = [idle(); 4];
        assert_eq!([0, 64, 128, 255].map(|first| of(first, &four)), [Some(0), Some(1), Some(2), Some(3)]);
        for out in [
            Gauge { health: Health::Suspect, ..idle() },
            Gauge { health: Health::Down, ..idle() },
            Gauge { throttled: true, ..idle() },
        ] {
            assert_eq!([0, 255].map(|first| of(first, &[out, idle()])), [Some(1), Some(1)], "{out:?}");
            assert_eq!(of(0, &[out]), None);
        }
        assert_eq!(member(0b10, key(0), |_| 4, |_| idle()), Some(1), "the others do not have it");
        assert_eq!(member(0, key(0), |_| 4, |_| idle()), None);
    }

    #[test]
    fn the_own_zone_keeps_what_is_its_own() {
        let gauges = [idle(), Gauge { own: true, load: 1_000, ..idle() }];
        assert_eq!([0, 255].map(|first| member(0b11, key(first), |_| 4, |place| gauges[place])), [Some(1), Some(1)]);
        let suspect = [idle(), Gauge { own: true, health: Health::Suspect, ..idle() }];
        assert_eq!(member(0b11, key(255), |_| 4, |place| suspect[place]), Some(0));
    }

    #[test]
    fn who_has_noticeably_more_to_do_is_not_preferred() {
        for (load, usual) in [(0, Some(0)), (9, Some(0)), (10, None), (1_000, None)] {
            let gauges = [Gauge { load, ..idle() }, idle()];
            assert_eq!(member(0b11, key(0), |_| 4, |place| gauges[place]), usual, "{load} items in two sessions");
        }
    }
    #[test]
    fn one_that_fails_moves_its_own_keys_alone_and_each_of_the_others_gets_as_many() {
        let of = |first: u8, gauges: &[Gauge; 4]| member(0b1111, key(first), |_| 4, |place| gauges[place]).unwrap();
        for out in 0..4 {
            let mut gauges = [idle(); 4];
            gauges[out].health = Health::Suspect;
            let mut moved = [0; 4];
            for first in 0..=255 {
                match of(first, &[idle(); 4]) {
                    before if before == out => moved[of(first, &gauges)] += 1,
                    before => assert_eq!(of(first, &gauges), before, "{first} without {out}"),
                }
            }
            assert!(
                moved.iter().enumerate().all(|(place, keys)| (place != out) == (21..=22).contains(keys)),
                "{moved:?}"
            );
        }
    }

    #[test]
    fn how_much_more_it_may_have_to_do_is_said_of_the_one_that_has_the_key() {
        let gauges = [Gauge { load: 2, ..idle() }, idle()];
        let of = |alike: [usize; 2]| member(0b11, key(0), |place| alike[place], |place| gauges[place]);
        assert_eq!([of([1, 0]), of([0, 4])], [Some(0), None]);
    }
}
