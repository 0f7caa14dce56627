//! What waits for an HSM, in an order that is fair to those who wait: start-time fair queueing.
//!
//! Each flow has a queue of its own. A request is marked with the amount of service, in items, after which its turn
//! comes: where the flow's last one ended, or now, whichever is later. The smallest mark is next. So a flow with one
//! request goes before the thousand that another has piled up, and two that both pile up get as much each, however
//! large their requests are. No I/O and no clock in here.

use std::collections::{BTreeMap, HashMap};

use super::load::Bound;
use model::call_options::FlowId;

/// Flows that are kept although nothing waits in them, for what they have had in advance.
const IDLE_FLOWS: usize = 256;

/// How many of those whose turn it is next are looked at for one that fits.
const NEAR: usize = 64;

/// How large a request is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// What it asks for, by which its turn comes. What has no items counts as one, so that a flow with something in it
    /// is never taken for an empty one.
    items: usize,
    bytes: usize,
}

impl Size {
    pub fn new(items: usize, bytes: usize) -> Self {
        Self { items: items.max(1), bytes }
    }

    fn of(self, bound: Bound) -> usize {
        match bound {
            Bound::Items => self.items,
            Bound::Bytes => self.bytes,
        }
    }
}

/// One of no bytes.
impl From<usize> for Size {
    fn from(items: usize) -> Self {
        Self::new(items, 0)
    }
}

/// Requests that wait, each with its flow.
pub struct FairQueue<T> {
    /// By mark, then by age.
    waiting: BTreeMap<(u64, u64), Waiting<T>>,
    flows: HashMap<FlowId, Flow>,
    /// The mark of the one whose turn it was last.
    now: u64,
    numbers: u64,
    items: usize,
    /// Flows in which something waits.
    active: usize,
}

struct Waiting<T> {
    flow: FlowId,
    size: Size,
    value: T,
}

#[derive(Default)]
struct Flow {
    /// Where its last request ends.
    end: u64,
    items: usize,
    bytes: usize,
}

impl Flow {
    fn holds(&self, bound: Bound) -> usize {
        match bound {
            Bound::Items => self.items,
            Bound::Bytes => self.bytes,
        }
    }
}

/// Nothing waits.
impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), flows: HashMap::new(), now: 0, numbers: 0, items: 0, active: 0 }
    }
}

impl<T> FairQueue<T> {
    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Items that wait.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Items that will have been taken before a request of this size of this flow has been, as things stand.
    pub fn ahead_of(&self, id: FlowId, items: usize) -> usize {
        let own = self.flows.get(&id).map_or(0, |flow| flow.items);
        let flows = self.active + usize::from(own == 0);
        // Each of the others is taken from as much as this one, and from none more than is there.
        (own + items).saturating_mul(flows).saturating_sub(items).min(self.items)
    }

    /// Adds a request.
    pub fn push(&mut self, id: FlowId, size: impl Into<Size>, value: T) {
        let size = size.into();
        if self.flows.len() > IDLE_FLOWS {
            self.flows.retain(|_, flow| flow.items > 0 || flow.end > self.now);
        }
        let flow = self.flows.entry(id).or_default();
        let mark = flow.end.max(self.now);
        flow.end = mark + size.items as u64;
        self.active += usize::from(flow.items == 0);
        flow.items += size.items;
        flow.bytes += size.bytes;
        self.items += size.items;
        self.numbers += 1;
        self.waiting.insert((mark, self.numbers), Waiting { flow: id, size, value });
    }

    /// Takes the request whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        self.pop_that(|_| true)
    }

    /// Takes the first request that `fits`, of those whose turn it is next. One that is left out for that keeps its
    /// turn.
    pub fn pop_that(&mut self, fits: impl Fn(&T) -> bool) -> Option<T> {
        let ((head, _), _) = self.waiting.first_key_value()?;
        self.now = self.now.max(*head);
        let at = self.waiting.iter().take(NEAR).find(|(_, waiting)| fits(&waiting.value)).map(|(at, _)| *at)?;
        let waiting = self.waiting.remove(&at)?;
        self.left(&waiting);
        if self.waiting.is_empty() {
            // Nobody competes: nobody has had anything at another's cost.
            self.flows.clear();
        }
        Some(waiting.value)
    }

    /// Takes out the newest request of the flow with most of what there is too much of, for one of `id`; `None` when
    /// that flow would not be the fuller one.
    pub(crate) fn displace(&mut self, id: FlowId, size: impl Into<Size>, bound: Bound) -> Option<T> {
        let own = self.flows.get(&id).map_or(0, |flow| flow.holds(bound));
        let (longest, flow) = self.flows.iter().max_by_key(|(_, flow)| flow.holds(bound))?;
        if *longest == id || flow.holds(bound) <= own + size.into().of(bound) {
            return None;
        }
        let longest = *longest;
        let at = self.waiting.iter().rev().find(|(_, waiting)| waiting.flow == longest).map(|(at, _)| *at)?;
        let waiting = self.waiting.remove(&at)?;
        self.left(&waiting);
        if let Some(flow) = self.flows.get_mut(&longest) {
            flow.end = at.0;
        }
        Some(waiting.value)
    }

    /// Takes out everything.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        (self.items, self.active) = (0, 0);
        self.flows.clear();
        std::mem::take(&mut self.waiting).into_values().map(|waiting| waiting.value)
    }

    fn left(&mut self, waiting: &Waiting<T>) {
        self.items -= waiting.size.items;
        if let Some(flow) = self.flows.get_mut(&waiting.flow) {
            flow.items -= waiting.size.items;
            flow.bytes -= waiting.size.bytes;
            self.active -= usize::from(flow.items == 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flow(number: u64) -> FlowId {
        FlowId::of(&number.to_string())
    }

    #[test]
    fn one_request_goes_before_what_another_has_piled_up() {
        let mut queue = FairQueue::default();
        (0..1_000).for_each(|number| queue.push(flow(1), 1, (1, number)));
        assert_eq!(queue.pop(), Some((1, 0)));
        assert_eq!(queue.ahead_of(flow(2), 1), 1, "at most one of the other's");
        assert_eq!(queue.ahead_of(flow(1), 1), 999);
        queue.push(flow(2), 1, (2, 0));
        let next = [queue.pop(), queue.pop()];
        assert!(next.contains(&Some((2, 0))), "{next:?}");
    }

    #[test]
    fn what_fits_goes_before_what_does_not_and_takes_nothing_from_others() {
        let mut queue = FairQueue::default();
        (0..100).for_each(|number| queue.push(flow(1), 1, (1, number)));
        assert_eq!(queue.pop_that(|(_, number)| *number == 5), Some((1, 5)));
        assert_eq!(queue.pop_that(|(_, number)| *number == 1 + NEAR), None, "that is too far away");
        queue.push(flow(2), 1, (2, 0));
        assert_eq!([queue.pop(), queue.pop()], [Some((1, 0)), Some((2, 0))], "as if the first had been taken");
        assert_eq!(queue.pop(), Some((1, 1)));
    }

    #[test]
    fn large_requests_are_no_advantage() {
        let mut queue = FairQueue::default();
        for _ in 0..100 {
            queue.push(flow(1), 64, (1, 64));
        }
        for _ in 0..6_400 {
            queue.push(flow(2), 1, (2, 1));
        }
        let mut had = [0_usize; 3];
        while had[1] + had[2] < 2_000 {
            let (whose, items) = queue.pop().unwrap();
            had[whose] += items;
        }
        assert!(had[1].abs_diff(had[2]) <= 64, "{had:?}");
    }

    #[test]
    fn where_it_is_full_the_longest_makes_room() {
        let mut queue = FairQueue::default();
        (0..10).for_each(|number| queue.push(flow(1), 1, (1, number)));
        assert_eq!(queue.displace(flow(1), 1, Bound::Items), None, "not for itself");
        assert_eq!(queue.displace(flow(2), 1, Bound::Items), Some((1, 9)));
        queue.push(flow(2), 8, (2, 0));
        assert_eq!(queue.displace(flow(2), 8, Bound::Items), None, "no longer than what would come");
        assert_eq!(queue.items(), 17);
        assert_eq!(queue.drain().count(), 10);
        assert!(queue.is_empty() && queue.items() == 0);
    }

    #[test]
    fn what_is_large_makes_room_although_it_is_little_to_do() {
        let mut queue = FairQueue::default();
        (0..100).for_each(|number| queue.push(flow(1), Size::new(1, 1), (1, number)));
        (0..3).for_each(|number| queue.push(flow(2), Size::new(1, 200), (2, number)));
        assert_eq!(queue.displace(flow(3), Size::new(1, 1), Bound::Items), Some((1, 99)));
        assert_eq!(queue.displace(flow(3), Size::new(1, 1), Bound::Bytes), Some((2, 2)));
        assert_eq!(queue.displace(flow(1), Size::new(1, 1), Bound::Bytes), Some((2, 1)));
        assert_eq!(queue.displace(flow(1), Size::new(1, 150), Bound::Bytes), None, "no fuller than what would come");
    }

    proptest! {
        /// Those that always have something waiting have had the same at any time, up to one request each.
        #[test]
        fn shares_are_equal(
            sizes in prop::collection::vec(1_usize..65, 2..6),
            transient in prop::collection::vec((10_u64..13, 1_usize..65), 0..300),
        ) {
            let mut queue = FairQueue::default();
            let mut had = vec![0_usize; sizes.len()];
            let at = |whose: usize| flow(whose as u64);
            for (whose, items) in sizes.iter().enumerate() {
                for _ in 0..3 {
                    queue.push(at(whose), *items, Some(whose));
                }
            }
            for (guest, items) in transient {
                queue.push(flow(guest), items, None);
                for _ in 0..2 {
                    if let Some(whose) = queue.pop().unwrap() {
                        had[whose] += sizes[whose];
                        queue.push(at(whose), sizes[whose], Some(whose));
                    }
                }
                let (least, most) = (had.iter().min().unwrap(), had.iter().max().unwrap());
                prop_assert!(most - least <= 2 * 64, "{had:?} of {sizes:?}");
            }
        }

        #[test]
        fn nothing_is_lost_and_the_counts_agree(
            steps in prop::collection::vec((0_u64..4, 0_usize..65, 0_u8..8), 0..300),
        ) {
            let mut queue = FairQueue::default();
            let mut inside = std::collections::BTreeMap::new();
            for (number, (whose, items, what)) in steps.into_iter().enumerate() {
                let out = match what {
                    0..=3 => {
                        queue.push(flow(whose), items, number);
                        inside.insert(number, (whose, items.max(1)));
                        None
                    }
                    4..=5 => queue.pop(),
                    6 => queue.pop_that(|number| number % 3 == 0),
                    _ => queue.displace(flow(whose), items, Bound::Items),
                };
                if let Some(out) = out {
                    prop_assert!(inside.remove(&out).is_some());
                }
                prop_assert_eq!(queue.items(), inside.values().map(|(_, items)| items).sum::<usize>());
                let flows: std::collections::BTreeSet<_> = inside.values().map(|(whose, _)| whose).collect();
                prop_assert_eq!(queue.active, flows.len());
                for whose in 0..4 {
                    prop_assert!(queue.ahead_of(flow(whose), 1) <= queue.items());
                }
            }
            let mut rest: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
            rest.sort_unstable();
            prop_assert_eq!(rest, inside.into_keys().collect::<Vec<_>>());
        }
    }
}
