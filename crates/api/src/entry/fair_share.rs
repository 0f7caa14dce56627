//! Open connections, or open streams: bounded in all, and whose makes room when there are as many as may be.
//!
//! A principal's share binds only while others want connections: one alone may have all of them. When all are taken,
//! the principal that has most gives one up to a principal that has fewer: the one that has been idle for longest, or,
//! where each is in use, the oldest. One that wants more than its own share gives up one of its own that nobody uses,
//! or is refused. Before all of that, what nobody uses and nobody has proven anything on makes room for anybody: names of
//! strangers are their addresses, of which one may have many.
//!
//! Pure: it says who is to leave, and others see to it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use auth::peer::Principal;

/// A principal that has its share already takes the place of one of its own connections that was idle for so long. One
/// that was idle for less may be about to be used.
pub const UNUSED: Duration = Duration::from_secs(10);

/// A connection or a stream, as far as its place goes.
pub trait Line {
    /// Since when no call has been open on it; `None` while one is.
    fn idle_since(&self) -> Option<Instant>;

    /// Whether somebody has proven on it who it is.
    fn is_proven(&self) -> bool {
        true
    }
}

/// A place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id {
    principal: Principal,
    number: u64,
}

/// What became of a new connection.
#[derive(Debug)]
pub enum Joined<L> {
    /// It has a place.
    In {
        /// Where it is.
        id: Id,
        /// This one made room: it is to finish what is open and leave.
        leaves: Option<(Principal, Arc<L>)>,
        /// This one has been leaving for longest while too many are: it is to end at once.
        ends: Option<Arc<L>>,
    },
    /// There is none for its principal.
    Refused,
}

/// The connections that are open.
#[derive(Debug)]
pub struct FairShare<L> {
    most: usize,
    most_leaving: usize,
    next: u64,
    open: usize,
    principals: HashMap<Principal, BTreeMap<u64, Arc<L>>>,
    /// Those that made room and have not gone yet, in the order in which they were told.
    leaving: VecDeque<(u64, Principal, Arc<L>)>,
}

impl<L: Line> FairShare<L> {
    /// At most `most` connections, and `most_leaving` more that make room.
    pub fn new(most: usize, most_leaving: usize) -> Self {
        Self { most, most_leaving, next: 0, open: 0, principals: HashMap::new(), leaving: VecDeque::new() }
    }

    /// Takes a place for a new connection.
    pub fn join(&mut self, principal: &Principal, line: Arc<L>, now: Instant) -> Joined<L> {
        let (mut leaves, mut ends) = (None, None);
        if self.open >= self.most {
            let Some(id) = self.who_makes_room(principal, now) else { return Joined::Refused };
            if let Some(line) = self.take(&id) {
                self.leaving.push_back((id.number, id.principal.clone(), line.clone()));
                leaves = Some((id.principal, line));
            }
            if self.leaving.len() > self.most_leaving {
                ends = self.leaving.pop_front().map(|(.., line)| line);
            }
        }
        let number = self.next;
        self.next += 1;
        self.open += 1;
        self.principals.entry(principal.clone()).or_default().insert(number, line);
        Joined::In { id: Id { principal: principal.clone(), number }, leaves, ends }
    }

    /// A connection has ended.
    pub fn leave(&mut self, id: &Id) {
        if self.take(id).is_none() {
            self.leaving.retain(|(number, ..)| *number != id.number);
        }
    }

    /// All that are open, and those that are leaving.
    pub fn all(&self) -> impl Iterator<Item = (Principal, Arc<L>)> {
        let of = |(principal, lines): (&Principal, &BTreeMap<u64, Arc<L>>)| {
            let principal = principal.clone();
            lines.values().map(move |line| (principal.clone(), line.clone())).collect::<Vec<_>>()
        };
        let leaving = self.leaving.iter().map(|(_, principal, line)| (principal.clone(), line.clone()));
        self.principals.iter().flat_map(of).chain(leaving)
    }

    fn take(&mut self, id: &Id) -> Option<Arc<L>> {
        let lines = self.principals.get_mut(&id.principal)?;
        let line = lines.remove(&id.number)?;
        if lines.is_empty() {
            self.principals.remove(&id.principal);
        }
        self.open -= 1;
        Some(line)
    }

    /// The line that has been idle for longest of those on which nobody has proven anything.
    fn idle_stranger(&self) -> Option<Id> {
        let all = self.principals.iter().flat_map(|(principal, lines)| lines.iter().map(move |line| (principal, line)));
        let strangers = all.filter(|(_, (_, line))| !line.is_proven());
        let idle = strangers.filter_map(|(principal, (number, line))| Some((line.idle_since()?, *number, principal)));
        idle.min_by_key(|(since, number, _)| (*since, *number))
            .map(|(_, number, principal)| Id { principal: principal.clone(), number })
    }

    fn who_makes_room(&self, newcomer: &Principal, now: Instant) -> Option<Id> {
        if let Some(stranger) = self.idle_stranger() {
            return Some(stranger);
        }
        let own = self.principals.get(newcomer);
        let own_count = own.map_or(0, BTreeMap::len);
        let heaviest = self.principals.iter().max_by_key(|(_, lines)| lines.len());
        let found = match heaviest {
            // By two, so that two principals do not push each other's connections out in turn.
            Some((principal, lines)) if lines.len() >= own_count + 2 && principal != newcomer => {
                let longest = idle(lines).map(|(_, number)| number);
                Some((principal, longest.or_else(|| lines.keys().next().copied())?))
            }
            _ => {
                let (since, number) = idle(own?)?;
                (now.saturating_duration_since(since) >= UNUSED).then_some((newcomer, number))
            }
        };
        found.map(|(principal, number)| Id { principal: principal.clone(), number })
    }
}

/// The line that has been idle for longest, and since when.
fn idle<L: Line>(lines: &BTreeMap<u64, Arc<L>>) -> Option<(Instant, u64)> {
    lines.iter().filter_map(|(number, line)| Some((line.idle_since()?, *number))).min()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;
    use model::clock::Clock;

    /// A connection that a test uses, or not, and whether somebody has proven on it who it is.
    #[derive(Clone, Debug)]
    struct Wire(usize, Arc<Mutex<Option<Instant>>>, bool);

    impl Line for Wire {
        fn idle_since(&self) -> Option<Instant> {
            *self.1.lock().unwrap()
        }

        fn is_proven(&self) -> bool {
            self.2
        }
    }

    struct Hall {
        fair_share: FairShare<Wire>,
        clock: Clock,
        wires: Vec<(Id, Wire)>,
    }

    impl Hall {
        fn new(most: usize, most_leaving: usize) -> Self {
            Self { fair_share: FairShare::new(most, most_leaving), clock: Clock::manual(), wires: Vec::new() }
        }

        /// A new connection of this principal, idle; who leaves and who ends. A millisecond later it is over.
        fn join(&mut self, name: &str) -> Option<(Option<usize>, Option<usize>)> {
            let proven = !name.starts_with("source:");
            let wire = Wire(self.wires.len(), Arc::new(Mutex::new(Some(self.clock.now()))), proven);
            let joined = self.fair_share.join(&Principal::new(name), Arc::new(wire.clone()), self.clock.now());
            self.clock.advance(Duration::from_millis(1));
            let Joined::In { id, leaves, ends } = joined else { return None };
            self.wires.push((id, wire));
            Some((leaves.map(|(_, wire)| wire.0), ends.map(|wire| wire.0)))
        }

        fn fill(&mut self, name: &str, count: usize) {
            (0..count).for_each(|_| assert_eq!(self.join(name), Some((None, None))));
        }

        fn in_use(&self, wire: usize) {
            *self.wires[wire].1.1.lock().unwrap() = None;
        }
    }

    #[test]
    fn whoever_has_most_gives_up_what_was_idle_for_longest() {
        let mut hall = Hall::new(8, 8);
        hall.fill("cn:a", 6);
        hall.fill("cn:b", 2);
        hall.in_use(0);
        assert_eq!(hall.join("cn:c"), Some((Some(1), None)));
        assert_eq!(hall.join("cn:b"), Some((Some(2), None)));
        // 4 of a, 3 of b, 1 of c: one more of b would only have a want one back.
        assert_eq!(hall.join("cn:b"), None);
        assert_eq!(hall.join("cn:c"), Some((Some(3), None)));
    }

    #[test]
    fn where_each_is_in_use_the_oldest_leaves() {
        let mut hall = Hall::new(4, 4);
        hall.fill("cn:a", 4);
        (0..4).for_each(|wire| hall.in_use(wire));
        assert_eq!(hall.join("cn:b"), Some((Some(0), None)));
        assert_eq!(hall.join("cn:a"), None, "a has more than anybody");
    }

    #[test]
    fn strangers_that_call_nothing_shut_nobody_out_from_however_many_addresses() {
        let mut hall = Hall::new(8, 8);
        (0..6).for_each(|number| hall.fill(&format!("source:{number}"), 1));
        hall.fill("cn:a", 2);
        hall.in_use(0);
        // Whoever has one line, or as many as others, gets one more all the same: the stranger that came first leaves.
        assert_eq!(hall.join("cn:b"), Some((Some(1), None)));
        assert_eq!(hall.join("source:7"), Some((Some(2), None)));
        (3..6).for_each(|left| assert_eq!(hall.join("cn:a"), Some((Some(left), None))));
        // What is in use stays until it is none.
        hall.in_use(9);
        assert_eq!(hall.join("source:8"), Some((Some(6), None)), "a has most");
    }

    #[test]
    fn one_that_has_its_share_gives_up_what_it_does_not_use() {
        let mut hall = Hall::new(4, 4);
        hall.fill("cn:a", 4);
        hall.in_use(0);
        assert_eq!(hall.join("cn:a"), None, "they may be about to be used");
        hall.clock.advance(UNUSED);
        assert_eq!(hall.join("cn:a"), Some((Some(1), None)));
    }

    #[test]
    fn those_that_leave_are_bounded_too() {
        let mut hall = Hall::new(4, 2);
        hall.fill("cn:a", 4);
        assert_eq!(hall.join("cn:b"), Some((Some(0), None)));
        assert_eq!(hall.join("cn:c"), Some((Some(1), None)));
        // The first one that was told to leave has not gone: it is not waited for any longer.
        assert_eq!(hall.join("cn:d"), Some((Some(2), Some(0))));
        let gone = hall.wires[1].0.clone();
        hall.fair_share.leave(&gone);
        assert_eq!(hall.fair_share.leaving.len(), 1);
        assert_eq!(hall.fair_share.open, 4);
    }

    proptest! {
        #[test]
        fn connections_are_bounded_and_every_principal_gets_one(
            (most, most_leaving) in (1..7_usize, 0..3_usize),
            events in proptest::collection::vec((0..4_usize, 0..3_u8, any::<prop::sample::Index>()), 0..150),
        ) {
            let mut hall = Hall::new(most, most_leaving);
            let names = ["cn:a", "cn:b", "cn:c", "cn:d"];
            let mut open: Vec<usize> = Vec::new();
            for (name, event, any) in events {
                match event {
                    0 if !open.is_empty() => {
                        let wire = open.remove(any.index(open.len()));
                        let id = hall.wires[wire].0.clone();
                        hall.fair_share.leave(&id);
                    }
                    1 if !open.is_empty() => hall.in_use(open[any.index(open.len())]),
                    _ => {
                        let of = |wire: &usize| hall.wires[*wire].0.principal.as_str().to_owned();
                        let has = |name: &str| open.iter().filter(|wire| of(wire) == name).count();
                        let (own, heaviest) = (has(names[name]), names.map(has).into_iter().max().unwrap());
                        match hall.join(names[name]) {
                            None => prop_assert!(open.len() == most && own + 2 > heaviest),
                            Some((leaves, ends)) => {
                                prop_assert_eq!(leaves.is_some(), open.len() == most);
                                if let Some(wire) = leaves {
                                    let place = open.iter().position(|one| *one == wire);
                                    prop_assert!(place.is_some(), "somebody open leaves");
                                    open.remove(place.unwrap());
                                }
                                prop_assert!(ends.is_none() || leaves.is_some());
                                open.push(hall.wires.len() - 1);
                            }
                        }
                    }
                }
                prop_assert_eq!(hall.fair_share.open, open.len());
                prop_assert!(open.len() <= most && hall.fair_share.leaving.len() <= most_leaving);
            }
        }
    }
}
