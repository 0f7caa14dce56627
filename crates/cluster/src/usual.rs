//! Which member a single item goes to where many keys are in use: the one that has met its key before.
//!
//! Workers keep copies of keys that are used again and again, and each copy is proven once a second by a use of the
//! token's object. An item that goes to whoever has least to do meets its key in every worker in turn: each of them has
//! all copies to keep, and meets a key so seldom that a copy is hardly of use.

use super::route::{Gauge, bits};
use model::id::KeyVersionId;

/// The member of `mask` that meets this key first, unless it has more to do than another one: more than `alike` items for
/// each session. None where it does not matter, or nobody is healthy.
///
/// The same one that gets a batch's item under this key where both members get as many parts.
pub(super) fn member(mask: u64, key: KeyVersionId, alike: usize, gauge: impl Fn(usize) -> Gauge) -> Option<usize> {
    let seen = || bits(mask).map(|member| (member, gauge(member))).filter(|(_, gauge)| gauge.class() == 0);
    let own = seen().any(|(_, gauge)| gauge.own);
    let candidates = || seen().filter(|(_, gauge)| gauge.own == own);
    let wait = |gauge: Gauge| gauge.load / gauge.capacity.max(1);
    let count = candidates().count();
    let least = candidates().map(|(_, gauge)| wait(gauge)).min()?;
    let first = key.key.as_bytes().first_chunk().copied().map_or(0, u32::from_be_bytes);
    let place = usize::try_from((u64::from(first) * count as u64) >> u32::BITS).ok()?;
    let (usual, gauge) = candidates().nth(place)?;
    (wait(gauge) <= least.saturating_add(alike)).then_some(usual)
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
        let of = |first, gauges: &[Gauge]| member((1 << gauges.len()) - 1, key(first), 4, |place| gauges[place]);
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
        assert_eq!(member(0b10, key(0), 4, |_| idle()), Some(1), "the others do not have it");
        assert_eq!(member(0, key(0), 4, |_| idle()), None);
    }

    #[test]
    fn the_own_zone_keeps_what_is_its_own() {
        let gauges = [idle(), Gauge { own: true, load: 1_000, ..idle() }];
        assert_eq!([0, 255].map(|first| member(0b11, key(first), 4, |place| gauges[place])), [Some(1), Some(1)]);
        let suspect = [idle(), Gauge { own: true, health: Health::Suspect, ..idle() }];
        assert_eq!(member(0b11, key(255), 4, |place| suspect[place]), Some(0));
    }

    #[test]
    fn who_has_noticeably_more_to_do_is_not_preferred() {
        for (load, usual) in [(0, Some(0)), (9, Some(0)), (10, None), (1_000, None)] {
            let gauges = [Gauge { load, ..idle() }, idle()];
            assert_eq!(member(0b11, key(0), 4, |place| gauges[place]), usual, "{load} items in two sessions");
        }
    }
}
