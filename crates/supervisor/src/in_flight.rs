//! Which requests a worker has in hand, since when, and whether one of them is past its limit.
//!
//! A worker takes requests in the order in which they were sent, into as many session threads as it has. So with N
//! sessions the N oldest unanswered requests are in hand, and the next one was taken when one of those was answered:
//! the kill limit can be counted from there without a message. Only that a key is searched for in the token, which takes
//! as long as the token holds objects, is told. No I/O and no clock in here; times come from outside.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::KillLimits;
use protocol::Kind;

impl KillLimits {
    /// The limit of a kind of operation.
    pub fn of(&self, kind: Kind) -> Duration {
        match kind {
            Kind::Crypto => self.crypto,
            Kind::Place => self.place,
            Kind::Generate => self.generate,
            Kind::Login => self.login,
        }
    }

    /// The shortest of all limits.
    pub fn shortest(&self) -> Duration {
        self.crypto.min(self.place).min(self.generate).min(self.login)
    }
}

/// Requests that were sent and are not answered, with what is to be done when they are.
pub struct InFlight<T> {
    sessions: usize,
    /// The id of the front of `slots`; ids are consecutive.
    first: u64,
    /// `None` where the answer came before that of an older request.
    slots: VecDeque<Option<(Kind, T)>>,
    /// The oldest request that no session has taken yet.
    waiting: u64,
    held: Vec<Held>,
}

/// A request that a session thread works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The request's number.
    pub id: u64,
    /// To which limit it belongs.
    pub kind: Kind,
    /// When it was taken, at the latest.
    pub since: Instant,
    /// It was prolonged.
    searching: bool,
}

impl<T> InFlight<T> {
    /// Nothing in hand, for a worker with this many session threads.
    pub fn new(sessions: u16) -> Self {
        let sessions = usize::from(sessions.max(1));
        Self { sessions, first: 0, slots: VecDeque::new(), waiting: 0, held: Vec::with_capacity(sessions) }
    }

    /// Notes a request that is sent now, after all others, and gives it its id.
    pub fn push(&mut self, now: Instant, kind: Kind, value: T) -> u64 {
        let id = self.end();
        self.slots.push_back(Some((kind, value)));
        self.take(now);
        id
    }

    /// Notes that a request was answered; `None` when it was not outstanding.
    pub fn answer(&mut self, now: Instant, id: u64) -> Option<T> {
        let index = usize::try_from(id.checked_sub(self.first)?).ok()?;
        let (_, value) = self.slots.get_mut(index)?.take()?;
        if let Some(place) = self.held.iter().position(|held| held.id == id) {
            self.held.swap_remove(place);
        }
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
        }
        self.waiting = self.waiting.max(self.first);
        self.take(now);
        Some(value)
    }

    /// When a session took a request that is in hand; `None` where it was prolonged: what such a one takes says nothing of
    /// others.
    pub fn since(&self, id: u64) -> Option<Instant> {
        self.held.iter().find(|held| held.id == id && !held.searching).map(|held| held.since)
    }

    /// A request in hand has to search the token first, and has as long as one that places a key.
    pub fn prolong(&mut self, id: u64) {
        if let Some(held) = self.held.iter_mut().find(|held| held.id == id && held.kind == Kind::Crypto) {
            (held.kind, held.searching) = (Kind::Place, true);
        }
    }

    /// Takes everything out.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.held.clear();
        self.first = self.end();
        self.waiting = self.first;
        std::mem::take(&mut self.slots).into_iter().flatten().map(|(_, value)| value)
    }

    /// Nothing is outstanding.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// When the first of the requests in hand will be past its limit, if none of them is answered.
    pub fn earliest(&self, limits: &KillLimits) -> Option<Instant> {
        self.held.iter().map(|held| held.since + limits.of(held.kind)).min()
    }

    /// A request in hand that is past its limit.
    pub fn overdue(&self, now: Instant, limits: &KillLimits) -> Option<Held> {
        self.held.iter().find(|held| now.saturating_duration_since(held.since) > limits.of(held.kind)).copied()
    }

    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// Gives waiting requests to idle sessions.
    fn take(&mut self, now: Instant) {
        while self.held.len() < self.sessions && self.waiting < self.end() {
            let slot = usize::try_from(self.waiting - self.first).ok().and_then(|index| self.slots.get(index));
            if let Some(Some((kind, _))) = slot {
                self.held.push(Held { id: self.waiting, kind: *kind, since: now, searching: false });
            }
            self.waiting += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use model::clock::Clock;

    const LIMITS: KillLimits = KillLimits {
        crypto: Duration::from_millis(250),
        place: Duration::from_secs(5),
        generate: Duration::from_secs(30),
        login: Duration::from_secs(60),
    };

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_limit_counts_from_when_a_session_took_the_request() {
        let start = Clock::manual().now();
        let mut table = InFlight::new(1);
        let first = table.push(start, Kind::Crypto, 'a');
        let second = table.push(start, Kind::Crypto, 'b');
        assert_eq!(table.overdue(start + ms(250), &LIMITS), None);
        assert_eq!(table.overdue(start + ms(251), &LIMITS).map(|held| held.id), Some(first));

        assert_eq!(table.answer(start + ms(200), first), Some('a'));
        assert_eq!(table.overdue(start + ms(450), &LIMITS), None, "the second one was taken at 200 ms");
        assert_eq!(table.earliest(&LIMITS), Some(start + ms(450)));
        assert_eq!(table.overdue(start + ms(451), &LIMITS).map(|held| held.id), Some(second));
    }

    #[test]
    fn a_request_that_searches_the_token_has_longer_and_tells_no_time() {
        let start = Clock::manual().now();
        let mut table = InFlight::new(1);
        let (first, second) = (table.push(start, Kind::Crypto, 'a'), table.push(start, Kind::Crypto, 'b'));
        table.prolong(first);
        table.prolong(second);
        assert_eq!(table.overdue(start + ms(5_000), &LIMITS), None);
        assert_eq!(table.overdue(start + ms(5_001), &LIMITS).map(|held| held.kind), Some(Kind::Place));
        assert_eq!((table.since(first), table.answer(start + ms(400), first)), (None, Some('a')));
        assert_eq!(table.since(second), Some(start + ms(400)), "it was not in hand when it was said");
        assert!(table.overdue(start + ms(651), &LIMITS).is_some());
        // A login keeps its own limit.
        let mut table = InFlight::new(1);
        let login = table.push(start, Kind::Login, 'c');
        table.prolong(login);
        assert_eq!(table.overdue(start + ms(5_001), &LIMITS), None);
    }

    #[test]
    fn each_kind_has_its_own_limit_and_waiting_requests_have_none() {
        let start = Clock::manual().now();
        let mut table = InFlight::new(2);
        table.push(start, Kind::Generate, ());
        let quick = table.push(start, Kind::Crypto, ());
        table.push(start, Kind::Crypto, ());
        assert_eq!(table.overdue(start + ms(251), &LIMITS).map(|held| held.id), Some(quick));
        table.answer(start + ms(100), quick);
        assert_eq!(table.overdue(start + ms(300), &LIMITS), None);
    }

    #[test]
    fn an_answer_comes_once() {
        let start = Clock::manual().now();
        let mut table = InFlight::new(1);
        let id = table.push(start, Kind::Crypto, ());
        assert!(table.answer(start, id + 1).is_none());
        assert!(table.answer(start, id).is_some());
        assert!(table.answer(start, id).is_none());
        assert!(table.is_empty());
    }

    #[test]
    fn drained_requests_are_forgotten_and_their_ids_not_used_again() {
        let start = Clock::manual().now();
        let mut table = InFlight::new(1);
        let old = table.push(start, Kind::Crypto, 1);
        table.push(start, Kind::Crypto, 2);
        assert_eq!(table.drain().collect::<Vec<_>>(), [1, 2]);
        assert!(table.is_empty());
        assert_eq!(table.earliest(&LIMITS), None);
        assert!(table.push(start, Kind::Crypto, 3) > old + 1);
        assert!(table.answer(start, old).is_none());
    }

    /// A worker as it is meant to be: takes in order, answers in any order. The table must agree with it at each step.
    struct Worker {
        queue: VecDeque<u64>,
        busy: Vec<(u64, Instant)>,
        sessions: usize,
    }

    impl Worker {
        fn take(&mut self, now: Instant) {
            while self.busy.len() < self.sessions {
                let Some(id) = self.queue.pop_front() else { return };
                self.busy.push((id, now));
            }
        }
    }

    proptest! {
        #[test]
        fn the_table_knows_what_the_worker_has_in_hand(
            sessions in 1u16..5,
            steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>(), 0u64..400), 0..200),
        ) {
            let mut now = Clock::manual().now();
            let mut table = InFlight::new(sessions);
            let mut worker = Worker { queue: VecDeque::new(), busy: Vec::new(), sessions: sessions.into() };
            for (send, which, wait) in steps {
                now += ms(wait);
                if send || worker.busy.is_empty() {
                    worker.queue.push_back(table.push(now, Kind::Crypto, ()));
                } else {
                    let (id, _) = worker.busy.swap_remove(which.index(worker.busy.len()));
                    prop_assert!(table.answer(now, id).is_some());
                }
                worker.take(now);

                let mut seen: Vec<_> = table.held.iter().map(|held| (held.id, held.since)).collect();
                seen.sort_unstable();
                let mut real = worker.busy.clone();
                real.sort_unstable();
                prop_assert_eq!(&seen, &real);
                let late = real.iter().any(|(_, since)| now - *since > LIMITS.crypto);
                prop_assert_eq!(table.overdue(now, &LIMITS).is_some(), late);
                prop_assert_eq!(table.is_empty(), real.is_empty() && worker.queue.is_empty());
            }
        }

        #[test]
        fn answers_out_of_any_order_leave_nothing_behind(
            sessions in 1u16..5,
            order in Just((0u64..40).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let now = Clock::manual().now();
            let mut table = InFlight::new(sessions);
            for id in 0..40 {
                prop_assert_eq!(table.push(now, Kind::Crypto, id), id);
            }
            for id in order {
                prop_assert_eq!(table.answer(now, id), Some(id));
                prop_assert!(table.held.len() <= usize::from(sessions));
            }
            prop_assert!(table.is_empty() && table.held.is_empty());
            let id = table.push(now, Kind::Crypto, 40);
            prop_assert_eq!(id, 40);
            prop_assert_eq!(table.held.len(), 1);
        }
    }
}
