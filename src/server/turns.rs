//! Whose turn it is: a few at a time, and among those who wait each source as often as any other.
//!
//! Pure. A ticket is whatever wakes the one who waits.

use std::collections::{HashMap, VecDeque};

use super::source::Source;

/// Turns, and the queues for them.
#[derive(Debug)]
pub(super) struct Turns<T> {
    free: usize,
    /// Sources with somebody waiting, in the order of their turns.
    order: VecDeque<Source>,
    waiting: HashMap<Source, VecDeque<T>>,
}

impl<T> Turns<T> {
    /// At most `at_once` have a turn at any time.
    pub(super) fn new(at_once: usize) -> Self {
        Self { free: at_once, order: VecDeque::new(), waiting: HashMap::new() }
    }

    /// Takes a turn at once, or stands in line with this ticket.
    pub(super) fn ask(&mut self, source: Source, ticket: T) -> Option<T> {
        if self.free > 0 {
            self.free -= 1;
            return Some(ticket);
        }
        self.waiting
            .entry(source)
            .or_insert_with(|| {
                self.order.push_back(source);
                VecDeque::new()
            })
            .push_back(ticket);
        None
    }

    /// A turn is over; who has the next one. It is the caller's to find out that a ticket's holder has left: then this is
    /// asked once more.
    pub(super) fn over(&mut self) -> Option<T> {
        let Some(source) = self.order.pop_front() else {
            self.free += 1;
            return None;
        };
        let line = self.waiting.get_mut(&source)?;
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
        self.waiting.values().map(VecDeque::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn source(number: u8) -> Source {
        Source::V4([127, 0, 0, number].into())
    }

    #[test]
    fn sources_take_turns_however_many_one_has_in_line() {
        let mut turns = Turns::new(2);
        assert_eq!(turns.ask(source(1), 0), Some(0));
        assert_eq!(turns.ask(source(1), 1), Some(1));
        for ticket in 2..100 {
            assert_eq!(turns.ask(source(1), ticket), None);
        }
        assert_eq!(turns.ask(source(2), 200), None);
        assert_eq!(turns.ask(source(2), 201), None);
        assert_eq!(turns.ask(source(3), 300), None);
        let next: Vec<_> = std::iter::repeat_with(|| turns.over().unwrap()).take(6).collect();
        assert_eq!(next, [2, 200, 300, 3, 201, 4]);
    }

    #[test]
    fn a_turn_that_nobody_waits_for_is_free() {
        let mut turns = Turns::new(1);
        assert_eq!(turns.ask(source(1), 1), Some(1));
        assert_eq!(turns.ask(source(1), 2), None);
        assert_eq!(turns.over(), Some(2));
        assert_eq!(turns.over(), None);
        assert_eq!(turns.ask(source(2), 3), Some(3));
    }

    proptest! {
        #[test]
        fn nobody_is_forgotten_and_no_more_than_allowed_have_a_turn(
            at_once in 1..4_usize,
            events in proptest::collection::vec(proptest::option::of(0..4_u8), 0..200),
        ) {
            let mut turns = Turns::new(at_once);
            let (mut running, mut waiting) = (0_usize, 0_usize);
            for event in events {
                match event {
                    Some(from) => match turns.ask(source(from), ()) {
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
