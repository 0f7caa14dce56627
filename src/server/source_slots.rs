//! A bounded number of places that sources share, and who makes room when all of them are taken.
//!
//! A source's share binds only while others want places: one alone may have all of them. When all are taken, whoever
//! keeps us waiting makes room, and of those one of the source that has most places. So a source that takes places
//! without using them takes them from itself, however fast it comes.
//!
//! Pure: it is told the time, and hands back what was given to it for the place that was taken away.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::source::Source;

/// A place, as its holder names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id {
    pub(super) source: Source,
    number: u64,
}

/// What became of somebody who wants a place.
#[derive(Debug)]
pub(super) enum Entered<T> {
    /// There was room, or somebody made it: who, and what was given for that place.
    In(Id, Option<(Source, T)>),
    /// Nobody can be made to make room now; what was offered for the place is given back.
    Full(T),
}

/// The places.
#[derive(Debug)]
pub(super) struct SourceSlots<T> {
    most: usize,
    next: u64,
    taken: usize,
    /// Since when there was no place for somebody, and no room to speak of afterwards.
    full_since: Option<Instant>,
    sources: HashMap<Source, Share<T>>,
}

/// The places of one source. Never empty.
#[derive(Debug)]
struct Share<T> {
    places: BTreeMap<u64, Place<T>>,
    /// The same by the time at which they are overdue; without those that wait for us.
    overdue: BTreeSet<(Instant, u64)>,
}

#[derive(Debug)]
struct Place<T> {
    overdue_at: Option<Instant>,
    held: T,
}

impl<T> SourceSlots<T> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, next: 0, taken: 0, full_since: None, sources: HashMap::new() }
    }

    /// Takes a place for a newcomer, who is overdue from the beginning: nothing has been heard of it.
    ///
    /// Where all are taken, a place that is overdue is taken away from a source that has more than its share, or from
    /// the newcomer's own: from the one of them that has most. `pressed` says that a place of the source with most may
    /// be taken that is not overdue. A source never loses one to a source that has as many.
    pub(super) fn enter(&mut self, source: Source, held: T, now: Instant, pressed: bool) -> Entered<T> {
        let mut out = None;
        if self.taken >= self.most {
            let found = self.overdue(source, now).or_else(|| pressed.then(|| self.anyone(source)).flatten());
            let Some(found) = found else {
                self.full_since.get_or_insert(now);
                return Entered::Full(held);
            };
            out = self.leave(found).map(|held| (found.source, held));
        }
        let number = self.next;
        self.next += 1;
        let share = self.sources.entry(source).or_insert_with(Share::new);
        share.places.insert(number, Place { overdue_at: Some(now), held });
        share.overdue.insert((now, number));
        self.taken += 1;
        Entered::In(Id { source, number }, out)
    }

    /// Says when a place will be overdue: `None` while its holder waits for us and not we for it.
    pub(super) fn set_overdue(&mut self, id: Id, at: Option<Instant>) {
        let Some(share) = self.sources.get_mut(&id.source) else { return };
        let Some(place) = share.places.get_mut(&id.number) else { return };
        if let Some(was) = place.overdue_at {
            share.overdue.remove(&(was, id.number));
        }
        place.overdue_at = at;
        if let Some(at) = at {
            share.overdue.insert((at, id.number));
        }
    }

    /// Gives a place back. `None` says that it had been taken away.
    pub(super) fn leave(&mut self, id: Id) -> Option<T> {
        let share = self.sources.get_mut(&id.source)?;
        let place = share.places.remove(&id.number)?;
        if let Some(at) = place.overdue_at {
            share.overdue.remove(&(at, id.number));
        }
        if share.places.is_empty() {
            self.sources.remove(&id.source);
        }
        self.taken -= 1;
        // One place that becomes free for a moment is no room while others wait for it.
        if self.taken < self.most - self.most / 8 {
            self.full_since = None;
        }
        Some(place.held)
    }

    /// Takes the place that has been overdue for longest away from the source with most places, to free what it holds.
    pub(super) fn clear_one(&mut self, now: Instant) -> Option<(Source, T)> {
        let shares = self.sources.iter().filter(|(_, share)| share.due(now).is_some());
        let (&source, share) = shares.max_by_key(|(source, share)| (share.places.len(), **source))?;
        let number = share.due(now)?.1;
        self.leave(Id { source, number }).map(|held| (source, held))
    }

    /// For how long all places have been taken by those who wait for us.
    pub(super) fn full_for(&self, now: Instant) -> Duration {
        self.full_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// When the next place becomes overdue that is not yet.
    pub(super) fn next_overdue(&self, now: Instant) -> Option<Instant> {
        let after = |share: &Share<T>| share.overdue.range((now, u64::MAX)..).next().map(|(at, _)| *at);
        self.sources.values().filter_map(after).min()
    }

    /// How many places are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// An overdue place of the source with most places, of those with more than their share and the newcomer's own; the
    /// longest overdue where several have as many.
    fn overdue(&self, newcomer: Source, now: Instant) -> Option<Id> {
        let sources = self.sources.len() + usize::from(!self.sources.contains_key(&newcomer));
        let share_of_each = self.most / sources;
        let may = |source: Source, count: usize, share: &Share<T>| {
            share.due(now).is_some() && (source == newcomer || count > share_of_each)
        };
        let due = self.heaviest(newcomer, may).into_iter().filter_map(|(source, share)| {
            let (at, number) = share.due(now)?;
            Some((at, Id { source, number }))
        });
        due.min_by_key(|(at, id)| (*at, id.number)).map(|(_, id)| id)
    }

    /// A place of the source with most places, overdue or not: whoever will be overdue next, or else came last.
    fn anyone(&self, newcomer: Source) -> Option<Id> {
        let of = |(source, share): (Source, &Share<T>)| {
            let next = share.overdue.first().map(|(_, number)| *number);
            let number = next.or_else(|| share.places.last_key_value().map(|(number, _)| *number))?;
            Some(Id { source, number })
        };
        self.heaviest(newcomer, |_, _, _| true).into_iter().filter_map(of).max_by_key(|id| id.number)
    }

    /// Of the sources that `may`, those with most places, the newcomer's counted as if it were in; none that has fewer
    /// than the newcomer's.
    fn heaviest(&self, newcomer: Source, may: impl Fn(Source, usize, &Share<T>) -> bool) -> Vec<(Source, &Share<T>)> {
        let own = self.sources.get(&newcomer).map_or(0, |share| share.places.len()) + 1;
        let (mut most, mut found) = (own, Vec::new());
        for (&source, share) in &self.sources {
            let count = share.places.len() + usize::from(source == newcomer);
            if count < most || !may(source, count, share) {
                continue;
            }
            if count > most {
                most = count;
                found.clear();
            }
            found.push((source, share));
        }
        found
    }
}

impl<T> Share<T> {
    fn new() -> Self {
        Self { places: BTreeMap::new(), overdue: BTreeSet::new() }
    }

    /// The place that has been overdue for longest.
    fn due(&self, now: Instant) -> Option<(Instant, u64)> {
        self.overdue.first().copied().filter(|(at, _)| *at <= now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use model::clock::Clock;

    fn source(number: u8) -> Source {
        Source::V4([127, 0, 0, number].into())
    }

    fn entered<T: std::fmt::Debug>(entered: Entered<T>) -> (Id, Option<(Source, T)>) {
        match entered {
            Entered::In(id, out) => (id, out),
            Entered::Full(held) => panic!("no room for {held:?}"),
        }
    }

    /// A full room: so many places of each source, numbered from 0 in the order of arrival, all of them silent.
    fn full(counts: &[usize], clock: &Clock) -> (SourceSlots<usize>, Vec<Id>) {
        let mut slots = SourceSlots::new(counts.iter().sum());
        let mut ids = Vec::new();
        for (number, count) in counts.iter().enumerate() {
            for _ in 0..*count {
                let held = ids.len();
                let (id, out) = entered(slots.enter(source(u8::try_from(number).unwrap()), held, clock.now(), false));
                assert!(out.is_none());
                ids.push(id);
                clock.advance(Duration::from_millis(1));
            }
        }
        (slots, ids)
    }

    #[test]
    fn the_oldest_silent_one_of_the_greediest_source_makes_room() {
        let clock = Clock::manual();
        let (mut slots, ids) = full(&[2, 5, 1], &clock);
        let (_, out) = entered(slots.enter(source(9), 100, clock.now(), false));
        assert_eq!(out, Some((source(1), 2)));
        assert_eq!(slots.leave(ids[2]), None, "its place was taken away");
        // One that said something and waits for us does not make room; the next one does.
        slots.set_overdue(ids[3], None);
        let (_, out) = entered(slots.enter(source(9), 101, clock.now(), false));
        assert_eq!(out, Some((source(1), 4)));
        assert_eq!(slots.taken(), 8);
    }

    #[test]
    fn a_source_that_comes_on_and_on_takes_places_from_itself_alone() {
        let clock = Clock::manual();
        let (mut slots, _) = full(&[1, 7], &clock);
        for number in 0..100 {
            let (_, out) = entered(slots.enter(source(1), 100 + number, clock.now(), false));
            assert_eq!(out.unwrap().0, source(1));
        }
    }

    #[test]
    fn a_source_within_its_share_loses_nothing_to_another_one_that_holds_more() {
        let clock = Clock::manual();
        let (mut slots, ids) = full(&[1, 7], &clock);
        // Everything of the greedy one waits for us: nobody is pushed out at once, the silent one of the other neither.
        ids[1..].iter().for_each(|id| slots.set_overdue(*id, None));
        assert!(matches!(slots.enter(source(2), 100, clock.now(), false), Entered::Full(100)));
        assert_eq!(slots.full_for(clock.now()), Duration::ZERO);
        clock.advance(Duration::from_secs(5));
        assert_eq!(slots.full_for(clock.now()), Duration::from_secs(5));
        // When that has lasted for too long, who came last of the greedy one makes slots.
        let (_, out) = entered(slots.enter(source(2), 100, clock.now(), true));
        assert_eq!(out, Some((source(1), 7)));
        slots.leave(ids[1]).unwrap();
        slots.leave(ids[2]).unwrap();
        assert_eq!(slots.full_for(clock.now()), Duration::ZERO);
    }

    #[test]
    fn a_place_becomes_overdue_when_it_was_said_to() {
        let clock = Clock::manual();
        let (mut slots, ids) = full(&[2], &clock);
        let at = clock.now() + Duration::from_secs(1);
        ids.iter().for_each(|id| slots.set_overdue(*id, Some(at)));
        assert_eq!(slots.next_overdue(clock.now()), Some(at));
        assert!(matches!(slots.enter(source(1), 100, clock.now(), false), Entered::Full(_)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(slots.next_overdue(clock.now()), None);
        assert_eq!(entered(slots.enter(source(1), 100, clock.now(), false)).1, Some((source(0), 0)));
    }

    #[test]
    fn one_can_be_cleared_away_without_a_newcomer() {
        let clock = Clock::manual();
        let (mut slots, ids) = full(&[1, 3], &clock);
        assert_eq!(slots.clear_one(clock.now()), Some((source(1), 1)));
        ids.iter().for_each(|id| slots.set_overdue(*id, None));
        assert_eq!(slots.clear_one(clock.now()), None);
    }

    #[derive(Clone, Debug)]
    enum Event {
        Enter(u8, bool),
        Heard(usize),
        Owes(usize, u64),
        Leave(usize),
        Later(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0..4_u8, any::<bool>()).prop_map(|(source, pressed)| Event::Enter(source, pressed)),
            2 => any::<usize>().prop_map(Event::Heard),
            1 => (any::<usize>(), 0..20_u64).prop_map(|(place, after)| Event::Owes(place, after)),
            1 => any::<usize>().prop_map(Event::Leave),
            1 => (1..10_u64).prop_map(Event::Later),
        ]
    }

    proptest! {
        #[test]
        fn places_are_bounded_and_go_from_those_with_more_to_those_with_fewer(
            most in 1..9_usize,
            events in proptest::collection::vec(event(), 0..200),
        ) {
            let clock = Clock::manual();
            let mut slots = SourceSlots::new(most);
            // What is in the room, by what the test was told: place, and when it is overdue.
            let mut inside: Vec<(Id, Option<Instant>)> = Vec::new();
            let count = |inside: &[(Id, Option<Instant>)], of: Source| inside.iter().filter(|(id, _)| id.source == of).count();
            for (number, event) in events.into_iter().enumerate() {
                let now = clock.now();
                let pick = |place: usize| (!inside.is_empty()).then(|| place % inside.len());
                match event {
                    Event::Later(by) => clock.advance(Duration::from_millis(by)),
                    Event::Heard(place) => if let Some(at) = pick(place) {
                        slots.set_overdue(inside[at].0, None);
                        inside[at].1 = None;
                    },
                    Event::Owes(place, after) => if let Some(at) = pick(place) {
                        let when = now + Duration::from_millis(after);
                        slots.set_overdue(inside[at].0, Some(when));
                        inside[at].1 = Some(when);
                    },
                    Event::Leave(place) => if let Some(at) = pick(place) {
                        prop_assert!(slots.leave(inside.remove(at).0).is_some());
                    },
                    Event::Enter(from, pressed) => {
                        let from = source(from);
                        let own = count(&inside, from);
                        let due = |of: Source| inside.iter().any(|(id, at)| id.source == of && at.is_some_and(|at| at <= now));
                        match slots.enter(from, number, now, pressed) {
                            Entered::Full(back) => {
                                prop_assert_eq!(back, number);
                                prop_assert!(inside.len() == most && !pressed && !due(from));
                            }
                            Entered::In(id, None) => {
                                prop_assert!(inside.len() < most);
                                inside.push((id, Some(now)));
                            }
                            Entered::In(id, Some((of, _))) => {
                                prop_assert_eq!(inside.len(), most, "nobody makes room where there is some");
                                prop_assert!(of == from || count(&inside, of) > own);
                                prop_assert!(pressed || due(of));
                                let gone = inside.iter().position(|(id, _)| slots.set(*id).is_none());
                                let (gone, at) = inside.remove(gone.unwrap());
                                prop_assert_eq!(gone.source, of);
                                prop_assert!(pressed || at.is_some_and(|at| at <= now));
                                inside.push((id, Some(now)));
                            }
                        }
                    }
                }
                prop_assert_eq!(slots.taken(), inside.len());
                prop_assert!(inside.iter().all(|(id, at)| slots.set(*id) == Some(*at)));
            }
        }
    }

    impl<T> SourceSlots<T> {
        /// When a place is overdue, where it is still one.
        fn set(&self, id: Id) -> Option<Option<Instant>> {
            Some(self.sources.get(&id.source)?.places.get(&id.number)?.overdue_at)
        }
    }
}
