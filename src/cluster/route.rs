//! Which members are asked, and in which order: pure functions over a snapshot.
//!
//! A single item goes to the daemon's own zone, else to the less busy of the healthy members; suspects are asked last
//! and what is down only when nothing else is left. A big batch is spread over all zones, because there the throughput
//! counts and not the way to the next zone.

use super::Health;
use crate::hsm::protocol::CHUNK_ITEMS;

/// Most members of a cluster: the bits of [`super::Homes`].
pub(super) const MAX_MEMBERS: usize = 64;

/// What routing sees of a member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gauge {
    /// Its health.
    pub health: Health,
    /// It is in the daemon's own zone.
    pub own: bool,
    /// Items that wait for or are in it.
    pub load: usize,
    /// Session threads that work at once, at least 1.
    pub capacity: usize,
}

impl Gauge {
    /// Waiting items for each session thread, in sixteenths, so that small loads still differ.
    fn pressure(&self) -> u64 {
        (self.load as u64).saturating_mul(16) / self.capacity.max(1) as u64
    }

    fn class(&self) -> u64 {
        match self.health {
            Health::Healthy => 0,
            Health::Suspect => 1,
            Health::Starting | Health::Down => 2,
        }
    }
}

/// Members in the order in which they are asked. Lives on the stack: it is made once for each call.
pub(super) struct Order {
    ranked: [u64; MAX_MEMBERS],
    length: usize,
}

impl Order {
    /// The members' places.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.ranked[..self.length].iter().map(|rank| (rank & 0xff) as usize)
    }

    /// The first member.
    pub(super) fn first(&self) -> Option<usize> {
        self.iter().next()
    }
}

/// Members whose bit is set in `mask`, best first. `turn` decides between members that are alike, so that each of
/// them sees some of the traffic and what is wrong with one is noticed soon.
pub(super) fn order(mask: u64, turn: usize, gauge: impl Fn(usize) -> Gauge) -> Order {
    const CLASS_SHIFT: u32 = 62;
    const ZONE_SHIFT: u32 = 61;
    const PRESSURE_SHIFT: u32 = 16;
    const MOST_PRESSURE: u64 = (1 << (ZONE_SHIFT - PRESSURE_SHIFT)) - 1;
    let mut order = Order { ranked: [0; MAX_MEMBERS], length: 0 };
    for member in bits(mask) {
        let gauge = gauge(member);
        let pressure = gauge.pressure().min(MOST_PRESSURE);
        let tie = (member.wrapping_add(turn) % MAX_MEMBERS) as u64;
        order.ranked[order.length] = gauge.class() << CLASS_SHIFT
            | u64::from(!gauge.own) << ZONE_SHIFT
            | pressure << PRESSURE_SHIFT
            | tie << 8
            | member as u64;
        order.length += 1;
    }
    order.ranked[..order.length].sort_unstable();
    let serving = order.ranked[..order.length].iter().take_while(|rank| **rank >> CLASS_SHIFT < 2).count();
    if serving > 0 {
        order.length = serving;
    }
    order
}

/// A part of a batch that goes to one member in one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Who is asked first; `None` when nobody can be.
    pub first: Option<usize>,
    /// The members that hold the keys of all its items.
    pub mask: u64,
    /// The items' places in the batch.
    pub items: Vec<u32>,
}

/// Splits a batch into parts of at most `most` items. `masks` says for each item which members hold its key, `key` which
/// key that is.
///
/// Parts hold neighbouring keys, and neighbouring parts go to the same member: over many batches each member sees the
/// same share of the keys again, and has fewer copies to keep and to prove.
pub(super) fn plan<K: Ord>(
    masks: &[u64],
    most: usize,
    key: impl Fn(u32) -> K,
    turn: usize,
    gauge: impl Fn(usize) -> Gauge,
) -> Vec<Part> {
    let mut groups: Vec<(u64, Vec<u32>)> = Vec::new();
    for (item, &mask) in masks.iter().enumerate() {
        let item = u32::try_from(item).unwrap_or(u32::MAX);
        match groups.iter_mut().find(|(of, _)| *of == mask) {
            Some((_, items)) => items.push(item),
            None => groups.push((mask, vec![item])),
        }
    }
    let most = most.clamp(1, CHUNK_ITEMS);
    let spread = masks.len() > most;
    let mut given = [0_usize; MAX_MEMBERS];
    let mut parts = Vec::with_capacity(groups.len() + masks.len() / most);
    for (mask, mut items) in groups {
        items.sort_by_key(|item| key(*item));
        let pieces = items.len().div_ceil(most);
        let begin = parts.len();
        // Pieces of the same size: 65 items as 33 and 32 are done sooner than as 64 and 1.
        for piece in items.chunks(items.len().div_ceil(pieces)) {
            let seen = |member: usize| {
                let gauge = gauge(member);
                Gauge { load: gauge.load + given[member], own: gauge.own && !spread, ..gauge }
            };
            let first = order(mask, turn, seen).first();
            if let Some(member) = first {
                given[member] += piece.len();
            }
            parts.push(Part { first, mask, items: piece.to_vec() });
        }
        // How many parts each member gets is decided; which ones follows from the keys in them.
        let mut firsts: Vec<Option<usize>> = parts[begin..].iter().map(|part| part.first).collect();
        firsts.sort_unstable();
        for (part, first) in parts[begin..].iter_mut().zip(firsts) {
            part.first = first;
        }
    }
    parts
}

/// The places of the set bits.
pub(super) fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (mask != 0).then(|| {
            let bit = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            bit
        })
    })
}

/// The bit of a place.
pub(super) fn bit(member: usize) -> u64 {
    u32::try_from(member).ok().and_then(|place| 1_u64.checked_shl(place)).unwrap_or(0)
}

/// A mask with the first `members` bits set.
pub(super) fn all(members: usize) -> u64 {
    if members >= MAX_MEMBERS { u64::MAX } else { bit(members) - 1 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gauge(health: Health, own: bool, load: usize) -> Gauge {
        Gauge { health, own, load, capacity: 1 }
    }

    fn ordered(gauges: &[Gauge]) -> Vec<usize> {
        order(all(gauges.len()), 0, |member| gauges[member]).iter().collect()
    }

    #[test]
    fn own_zone_comes_before_the_less_busy() {
        let gauges = [gauge(Health::Healthy, false, 0), gauge(Health::Healthy, true, 90)];
        assert_eq!(ordered(&gauges), [1, 0]);
    }

    #[test]
    fn without_an_own_zone_the_less_busy_comes_first_by_its_capacity() {
        let gauges = [gauge(Health::Healthy, false, 5), gauge(Health::Healthy, false, 4)];
        assert_eq!(ordered(&gauges), [1, 0]);
        let wide = Gauge { capacity: 2, ..gauges[0] };
        assert_eq!(ordered(&[wide, gauges[1]]), [0, 1]);
    }

    #[test]
    fn suspects_come_last_even_in_the_own_zone_and_down_not_at_all() {
        let gauges = [gauge(Health::Down, true, 0), gauge(Health::Suspect, true, 0), gauge(Health::Healthy, false, 99)];
        assert_eq!(ordered(&gauges), [2, 1]);
        assert_eq!(ordered(&gauges[..1]), [0], "down is asked when nothing else is left");
    }

    #[test]
    fn members_that_are_alike_take_turns() {
        let alike = |_| gauge(Health::Healthy, false, 0);
        let firsts: std::collections::BTreeSet<_> =
            (0..MAX_MEMBERS).filter_map(|turn| order(0b11, turn, alike).first()).collect();
        assert_eq!(firsts.len(), 2);
    }

    #[test]
    fn a_big_batch_uses_both_zones_and_a_small_one_the_own() {
        let gauges = [gauge(Health::Healthy, true, 0), gauge(Health::Healthy, false, 0)];
        let big = plan(&[0b11; 256], CHUNK_ITEMS, |_| 0, 0, |member| gauges[member]);
        assert_eq!(big.len(), 4);
        assert_eq!(big.iter().filter(|part| part.first == Some(0)).count(), 2);
        let small = plan(&[0b11; 64], CHUNK_ITEMS, |_| 0, 0, |member| gauges[member]);
        assert_eq!(small.len(), 1);
        assert_eq!(small[0].first, Some(0));
    }

    #[test]
    fn neighbouring_keys_go_to_the_same_member_whatever_their_order_in_the_batch() {
        let alike = |_| gauge(Health::Healthy, false, 0);
        for turn in 0..4 {
            let parts = plan(&[0b11; 256], CHUNK_ITEMS, |item| item.reverse_bits(), turn, alike);
            let keys_of = |member: usize| -> Vec<u32> {
                let items = parts.iter().filter(|part| part.first == Some(member)).flat_map(|part| &part.items);
                items.map(|item| item.reverse_bits()).collect()
            };
            assert!(keys_of(0).iter().max() < keys_of(1).iter().min(), "turn {turn}");
            assert_eq!(keys_of(0).len(), 128);
        }
    }

    fn any_gauge() -> impl Strategy<Value = Gauge> {
        let health =
            prop_oneof![Just(Health::Healthy), Just(Health::Suspect), Just(Health::Down), Just(Health::Starting)];
        (health, any::<bool>(), 0..100_000_usize, 1..9_usize).prop_map(|(health, own, load, capacity)| Gauge {
            health,
            own,
            load,
            capacity,
        })
    }

    proptest! {
        #[test]
        fn the_order_holds_only_members_of_the_mask_each_once(
            gauges in prop::collection::vec(any_gauge(), 1..64), mask: u64, turn: usize,
        ) {
            let mask = mask & all(gauges.len());
            let order: Vec<usize> = order(mask, turn, |member| gauges[member]).iter().collect();
            let mut seen = 0;
            for member in &order {
                prop_assert_eq!(seen & bit(*member), 0);
                seen |= bit(*member);
            }
            prop_assert_eq!(seen & !mask, 0);
            prop_assert_eq!(order.is_empty(), mask == 0);
            let down = |member: &usize| matches!(gauges[*member].health, Health::Down | Health::Starting);
            prop_assert!(order.iter().all(down) || !order.iter().any(down));
            let left_out: Vec<usize> = bits(mask & !seen).collect();
            prop_assert!(left_out.iter().all(down), "only what is down may be left out");
        }

        #[test]
        fn a_plan_takes_each_item_once_to_a_member_that_holds_its_key(
            gauges in prop::collection::vec(any_gauge(), 1..5),
            masks in prop::collection::vec(0..16_u64, 0..1_000),
            most in 0..100_usize,
        ) {
            let masks: Vec<u64> = masks.iter().map(|mask| mask & all(gauges.len())).collect();
            let parts = plan(&masks, most, |item| item % 7, 0, |member| gauges[member]);
            let mut taken = vec![false; masks.len()];
            for part in &parts {
                prop_assert!(part.items.len() <= most.clamp(1, CHUNK_ITEMS) && !part.items.is_empty());
                for item in &part.items {
                    prop_assert!(!std::mem::replace(&mut taken[*item as usize], true));
                    prop_assert_eq!(masks[*item as usize], part.mask);
                }
                match part.first {
                    Some(member) => prop_assert_ne!(part.mask & bit(member), 0),
                    None => prop_assert_eq!(part.mask, 0),
                }
            }
            prop_assert!(taken.into_iter().all(|taken| taken));
        }
    }
}
