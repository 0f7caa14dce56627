//! Which members are asked, and in which order: pure functions over a snapshot.
//!
//! A single item goes to the daemon's own zone, else to the less busy of the healthy members; suspects are asked last,
//! as is who has too much to do, and what is down only when nothing else is left. A big batch is spread over all zones, because there the throughput
//! counts and not the way to the next zone.

use super::Health;
use protocol::{CHUNK_ITEMS, MANY_KEYS};

/// Most members of a cluster: the bits of [`super::PlacementMask`].
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
    /// It has said that it has too much to do.
    pub throttled: bool,
}

impl Gauge {
    /// Waiting items for each session thread, in sixteenths, so that small loads still differ.
    fn pressure(&self) -> u64 {
        (self.load as u64).saturating_mul(16) / self.capacity.max(1) as u64
    }

    /// Who of a lower class serves is asked before.
    pub(super) fn class(&self) -> u64 {
        match self.health {
            Health::Healthy if !self.throttled => 0,
            Health::Healthy | Health::Suspect => 1,
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

/// What an item's key has to do with where the item goes. Ordered by member first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lean<K> {
    /// Neighbours in this order go to the same member ...
    pub member: K,
    /// ... and neighbours in this one to the same worker of it.
    pub worker: u32,
}

/// Items with the members that hold their keys.
type Group<K> = (u64, Vec<(Lean<K>, u32)>);

/// Splits a batch into parts of at most `most` items. `masks` says for each item which members hold its key, `lean`
/// what follows from the key itself.
///
/// Over many batches each member sees the same share of the keys again, and each of its workers the same share of
/// those, where it gets as many parts: it has fewer copies to keep and to prove. So where there are many keys, each
/// member gets as many parts, and one may have `alike` items for each session more than another one and still count as
/// equally busy.
pub(super) fn plan<K: Ord + Copy>(
    masks: &[u64],
    most: usize,
    alike: usize,
    lean: impl Fn(u32) -> Lean<K>,
    turn: usize,
    gauge: impl Fn(usize) -> Gauge,
) -> Vec<Part> {
    let mut groups: Vec<Group<K>> = Vec::new();
    for (item, &mask) in masks.iter().enumerate() {
        let item = u32::try_from(item).unwrap_or(u32::MAX);
        let leaning = (lean(item), item);
        match groups.iter_mut().find(|(of, _)| *of == mask) {
            Some((_, items)) => items.push(leaning),
            None => groups.push((mask, vec![leaning])),
        }
    }
    let most = most.clamp(1, CHUNK_ITEMS);
    let spread = masks.len() > most;
    let mut given = [0_usize; MAX_MEMBERS];
    let mut parts = Vec::with_capacity(groups.len() + masks.len() / most);
    for (mask, mut items) in groups {
        items.sort_unstable();
        let keys = items.chunk_by(|(one, _), (next, _)| one == next).take(MANY_KEYS).count();
        let (forgiven, takers) = match spread && alike > 0 && keys == MANY_KEYS {
            true => forgiven(mask, alike, &gauge),
            false => (0, 1),
        };
        // Pieces of the same size: 65 items as 33 and 32 are done sooner than as 64 and 1.
        let pieces = items.len().div_ceil(most).next_multiple_of(takers);
        let size = items.len().div_ceil(pieces);
        // How many pieces each member gets is decided first; which ones follows from the keys in them.
        let choose = |piece: &[(Lean<K>, u32)]| {
            let seen = |member: usize| {
                let gauge = gauge(member);
                let load = gauge.load.saturating_sub(forgiven.saturating_mul(gauge.capacity));
                Gauge { load: load + given[member], own: gauge.own && !spread, ..gauge }
            };
            let first = order(mask, turn, seen).first();
            if let Some(member) = first {
                given[member] += piece.len();
            }
            first
        };
        let mut firsts: Vec<Option<usize>> = items.chunks(size).map(choose).collect();
        firsts.sort_unstable();
        let mut rest = &mut items[..];
        for same in firsts.chunk_by(|one, next| one == next) {
            let (mine, others) = rest.split_at_mut(rest.len().min(size * same.len()));
            rest = others;
            mine.sort_unstable_by_key(|(lean, item)| (lean.worker, lean.member, *item));
            parts.extend(mine.chunks(size).map(|piece| Part {
                first: same[0],
                mask,
                items: piece.iter().map(|(_, item)| *item).collect(),
            }));
        }
    }
    parts
}

/// How many items for each session have no say in where keys go, and how many healthy members there are to take them.
fn forgiven(mask: u64, alike: usize, gauge: impl Fn(usize) -> Gauge) -> (usize, usize) {
    let healthy = bits(mask).map(gauge).filter(|gauge| gauge.class() == 0);
    let waits = healthy.map(|gauge| gauge.load / gauge.capacity.max(1));
    let (least, count) = waits.fold((usize::MAX, 0), |(least, count), wait| (least.min(wait), count + 1));
    (least.saturating_add(alike), count.max(1))
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
        Gauge { health, own, load, capacity: 1, throttled: false }
    }

    const ALIKE: usize = 8 * CHUNK_ITEMS;

    /// Two orders that have nothing to do with each other, nor with the one of the batch.
    fn lean(item: u32) -> Lean<u32> {
        Lean { member: item.reverse_bits(), worker: item.wrapping_mul(0x9e37_79b9) }
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
    fn who_has_too_much_to_do_is_asked_after_the_others_and_not_left_out() {
        let own = gauge(Health::Healthy, true, 0);
        let gauges = [Gauge { throttled: true, ..own }, gauge(Health::Healthy, false, 90)];
        assert_eq!(ordered(&gauges), [1, 0]);
        assert_eq!(ordered(&[gauges[0], gauge(Health::Down, false, 0)]), [0]);
        assert_eq!(ordered(&[gauge(Health::Suspect, false, 0), gauges[0]]), [1, 0]);
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
        let big = plan(&[0b11; 256], CHUNK_ITEMS, ALIKE, lean, 0, |member| gauges[member]);
        assert_eq!(big.len(), 4);
        assert_eq!(big.iter().filter(|part| part.first == Some(0)).count(), 2);
        let small = plan(&[0b11; 64], CHUNK_ITEMS, ALIKE, lean, 0, |member| gauges[member]);
        assert_eq!(small.len(), 1);
        assert_eq!(small[0].first, Some(0));
    }

    #[test]
    fn neighbouring_keys_go_to_the_same_member_and_worker_whatever_their_order_in_the_batch() {
        let alike = |_| gauge(Health::Healthy, false, 0);
        for turn in 0..4 {
            let parts = plan(&[0b11; 256], CHUNK_ITEMS, ALIKE, lean, turn, alike);
            let keys_of = |parts: &[&Part], key: fn(&Lean<u32>) -> u32| -> Vec<u32> {
                parts.iter().flat_map(|part| &part.items).map(|item| key(&lean(*item))).collect()
            };
            let of: Vec<Vec<&Part>> =
                (0..2).map(|member| parts.iter().filter(|part| part.first == Some(member)).collect()).collect();
            let [one, other] = [&of[0], &of[1]].map(|parts| keys_of(parts, |lean| lean.member));
            assert_eq!((one.len(), other.len()), (128, 128));
            assert!(one.iter().max() < other.iter().min(), "turn {turn}");
            for parts in of {
                let [first, second] = [&parts[..1], &parts[1..]].map(|parts| keys_of(parts, |lean| lean.worker));
                assert!(first.iter().max() < second.iter().min(), "turn {turn}");
            }
        }
    }

    #[test]
    fn many_keys_stay_where_they_are_until_the_load_is_very_unlike() {
        let parts_of_first = |ahead: usize, alike: usize, keys: u32| {
            let gauges = [gauge(Health::Healthy, false, 5_000 + ahead), gauge(Health::Healthy, false, 5_000)];
            let parts = plan(&[0b11; 256], CHUNK_ITEMS, alike, |item| lean(item % keys), 0, |member| gauges[member]);
            parts.iter().filter(|part| part.first == Some(0)).count()
        };
        assert_eq!([0, 64, ALIKE].map(|ahead| parts_of_first(ahead, ALIKE, 256)), [2, 2, 2]);
        assert_eq!([ALIKE + 128, 100 * ALIKE].map(|ahead| parts_of_first(ahead, ALIKE, 256)), [1, 0]);
        assert_eq!([0, 128, 256].map(|ahead| parts_of_first(ahead, 0, 256)), [2, 1, 0], "no copies are kept");
        assert_eq!([0, 128, 256].map(|ahead| parts_of_first(ahead, ALIKE, 15)), [2, 1, 0], "few keys");
    }

    #[test]
    fn of_many_keys_each_member_gets_as_many_parts() {
        let alike = |_| gauge(Health::Healthy, false, 0);
        for (items, members) in [(65, 2), (192, 2), (300, 2), (65, 3), (128, 3), (256, 3)] {
            let parts = plan(&vec![all(members); items], CHUNK_ITEMS, ALIKE, lean, 0, alike);
            let counts: Vec<usize> =
                (0..members).map(|member| parts.iter().filter(|part| part.first == Some(member)).count()).collect();
            assert_eq!(counts, vec![items.div_ceil(CHUNK_ITEMS).div_ceil(members); members], "{items} items");
        }
    }

    fn any_gauge() -> impl Strategy<Value = Gauge> {
        let health =
            prop_oneof![Just(Health::Healthy), Just(Health::Suspect), Just(Health::Down), Just(Health::Starting)];
        (health, any::<bool>(), 0..100_000_usize, 1..9_usize, any::<bool>())
            .prop_map(|(health, own, load, capacity, throttled)| Gauge { health, own, load, capacity, throttled })
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
            alike in prop_oneof![Just(0), 0..1_000_usize, Just(usize::MAX)],
            keys in 1..100_u32,
        ) {
            let masks: Vec<u64> = masks.iter().map(|mask| mask & all(gauges.len())).collect();
            let parts = plan(&masks, most, alike, |item| lean(item % keys), 0, |member| gauges[member]);
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
