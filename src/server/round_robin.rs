//! Whose turn it is: a few at a time, and among those who wait each source as often as any other.
//!
//! Pure. A ticket is whatever wakes the one who waits.

use std::collections::{HashMap, VecDeque};

use super::source::Source;

/// A queue that has so many tickets is looked through for those whose holders have left.
const LOOK_THROUGH: usize = 64;

/// RoundRobin, and the queues for them.
#[derive(Debug)]
pub(super) struct RoundRobin<T> {
    free: usize,
    /// Sources with somebody waiting, in the order of their turns.
    order: VecDeque<Source>,
    waiting: HashMap<Source, Line<T>>,
}

/// The queue of one source.
#[derive(Debug)]
struct Line<T> {
    tickets: VecDeque<T>,
    /// It is looked through when it is so long.
    look_through: usize,
}

impl<T> Line<T> {
    const fn new() -> Self {
        Self { tickets: VecDeque::new(), look_through: LOOK_THROUGH }
    }

    /// Adds a ticket. Tickets of those who have left are thrown away before they are more than those who wait, so that
    /// a source whose connections come and go has a queue as long as its places, at each of which it looks once or
    /// twice.
    fn push(&mut self, ticket: T, left: impl Fn(&T) -> bool) {
        if self.tickets.len() >= self.look_through {
            self.tickets.retain(|ticket| !left(ticket));
            self.look_through = LOOK_THROUGH.max(2 * self.tickets.len());
        }
        self.tickets.push_back(ticket);
    }
}

impl<T> RoundRobin<T> {
    /// At most `at_once` have a turn at any time.
    pub(super) fn new(at_once: usize) -> Self {
        Self { free: at_once, order: VecDeque::new(), waiting: HashMap::new() }
    }

    /// Takes a turn at once, or stands in line with this ticket. The caller knows which tickets' holders have left.
    pub(super) fn ask(&mut self, source: Source, ticket: T, left: impl Fn(&T) -> bool) -> Option<T> {
        if self.free > 0 {
            self.free -= 1;
            return Some(ticket);
        }
        self.waiting
            .entry(source)
            .or_insert_with(|| {
                self.order.push_back(source);
                Line::new()
            })
            .push(ticket, left);
        None
    }

    /// A turn is over; who has the next one. It is the caller's to find out that a ticket's holder has left: then this
    /// is asked once more.
    pub(super) fn over(&mut self) -> Option<T> {
        let Some(source) = self.order.pop_front() else {
            self.free += 1;
            return None;
        };
        let line = &mut self.waiting.get_mut(&source)?.tickets;
        let ticket = line.pop_front();
        if line.is_empty() {
            self.waiting.remove(&source);
        } else {
            self.order.push_back(source);
        }
        ticket
    }

    /// How many wait.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.waiting.values().map(|line| line.tickets.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn source(number: u8) -> Source {
        Source::V4([127, 0, 0, number].into())
    }

    fn never(_: &i32) -> bool {
        false
    }

    #[test]
    fn sources_take_turns_however_many_one_has_in_line() {
        let mut turns = RoundRobin::new(2);
        assert_eq!(turns.ask(source(1), 0, never), Some(0));
        assert_eq!(turns.ask(source(1), 1, never), Some(1));
        for ticket in 2..100 {
            assert_eq!(turns.ask(source(1), ticket, never), None);
        }
        assert_eq!(turns.ask(source(2), 200, never), None);
        assert_eq!(turns.ask(source(2), 201, never), None);
        assert_eq!(turns.ask(source(3), 300, never), None);
        let next: Vec<_> = std::iter::repeat_with(|| turns.over().unwrap()).take(6).collect();
        assert_eq!(next, [2, 200, 300, 3, 201, 4]);
    }

    #[test]
    fn a_turn_that_nobody_waits_for_is_free() {
        let mut turns = RoundRobin::new(1);
        assert_eq!(turns.ask(source(1), 1, never), Some(1));
        assert_eq!(turns.ask(source(1), 2, never), None);
        assert_eq!(turns.over(), Some(2));
        assert_eq!(turns.over(), None);
        assert_eq!(turns.ask(source(2), 3, never), Some(3));
    }

    #[test]
    fn those_who_have_left_do_not_lengthen_the_queue() {
        let mut turns = RoundRobin::new(1);
        turns.ask(source(1), 0, |_| false);
        // Somebody else's ticket, so that the queue is never walked to its end.
        turns.ask(source(2), 0, |_| false);
        for ticket in 1..=100_000 {
            // Every thousandth stays.
            turns.ask(source(1), ticket, |ticket| ticket % 1_000 != 0);
            assert!(turns.waiting() <= 2 * (LOOK_THROUGH + 100), "{} after {ticket}", turns.waiting());
        }
        let mut stayed = std::iter::repeat_with(|| turns.over()).map_while(|ticket| ticket).collect::<Vec<_>>();
        stayed.retain(|ticket| ticket % 1_000 == 0);
        assert_eq!(stayed.len(), 101, "{stayed:?}");
    }

    proptest! {
        #[test]
        fn nobody_is_forgotten_and_no_more_than_allowed_have_a_turn(
            at_once in 1..4_usize,
            events in proptest::collection::vec(proptest::option::of(0..4_u8), 0..200),
        ) {
            let mut turns = RoundRobin::new(at_once);
            let (mut running, mut waiting) = (0_usize, 0_usize);
            for event in events {
                match event {
                    Some(from) => match turns.ask(source(from), (), |()| false) {
                        Some(()) => running += 1,
                        None => waiting += 1,
                    },
                    None if running > 0 => match turns.over() {
                        Some(()) => waiting -= 1,
                        None => running -= 1,
                    },
                    None => {}
                }
                prop_assert!(running <= at_once && (waiting == 0 || running == at_once));
                prop_assert_eq!(turns.waiting(), waiting);
            }
        }
    }
}
