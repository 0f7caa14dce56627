//! Where connections are from being accepted to the end of their handshakes.
//!
//! Whoever comes gets a place here, and costs little until a whole ClientHello has come: then it waits for its turn,
//! which sources take one after the other, and only then is TLS computed. So strangers who send nothing take places
//! from nobody ([`SourceSlots`] decides), and those who send much take no more than their turns ([`RoundRobin`] decides).
//!
//! This file carries out what those two decide. What lets a place go: its end, its holder's, or a newcomer's.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::pressure::{Met, Pressure};
use super::round_robin::RoundRobin;
use super::source::Source;
use super::source_slots::{Entered, Id, SourceSlots};
use model::clock::Clock;
use model::lock::MutexExt as _;
use telemetry::metrics::{Listener, Metrics, Places, Refused};
use telemetry::sampled::{self, Line};

/// Connections whose handshake is not over: as many as may be open, since all clients may come at once after a restart,
/// within these bounds. One that has sent nothing costs a descriptor and some kilobytes, one that has sent all that it
/// may, up to 64 KiB more.
const PLACES: (usize, usize) = (1_024, 4_096);
/// So many even where the process may have few files.
const LEAST: usize = 128;
/// From when on a client that has its server's half of a handshake makes room for others, if it does not go on.
const PATIENCE: Duration = Duration::from_secs(1);
/// Where more connections than these are here, a client's time is [`LONGEST`] from being accepted.
const FEW: usize = 64;
const LONGEST: Duration = Duration::from_secs(20);
/// How long newcomers wait outside, in the kernel's backlog, for handshakes to be computed. A burst of clients is
/// served in that time; what lasts longer is a flood, and the source with most places makes slots.
const BURST: Duration = Duration::from_secs(5);

/// The places and the turns.
pub(super) struct PendingConnections {
    of: Listener,
    clock: Clock,
    metrics: Arc<Metrics>,
    pressure: Arc<Pressure>,
    slots: Mutex<SourceSlots<Hold>>,
    /// A place became free, or will be overdue at another time.
    changed: Notify,
    turns: Mutex<RoundRobin<oneshot::Sender<()>>>,
}

/// Dropped by whoever takes the place away.
type Hold = oneshot::Sender<Infallible>;

/// A place; dropping it gives it back.
pub(super) struct Place {
    pending: Arc<PendingConnections>,
    id: Id,
    since: Instant,
}

/// Resolves when the place is taken away.
pub(super) struct Taken(oneshot::Receiver<Infallible>);

/// A turn; dropping it gives it to the next one.
pub(super) struct Turn<'a>(&'a PendingConnections);

/// Somebody who waits for a turn. A turn that it was given and has not seen goes on to the next one.
struct Ticket<'a> {
    pending: &'a PendingConnections,
    turn: oneshot::Receiver<()>,
}

/// How many places there are where so many connections may be open, and the process may have so many files open, of
/// which no more than a quarter are for strangers.
pub(super) fn places(connections: usize, files: Option<u64>) -> usize {
    let files = files.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX);
    connections.clamp(PLACES.0, PLACES.1).min(files / 4).max(LEAST)
}

/// How many handshakes are computed at once: by half of the processors, since the others are for callers who are in.
pub(super) fn turns() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2)
}

impl PendingConnections {
    pub(super) fn new(
        of: Listener,
        places: usize,
        turns: usize,
        clock: Clock,
        metrics: Arc<Metrics>,
        pressure: Arc<Pressure>,
    ) -> Arc<Self> {
        let (slots, turns) = (Mutex::new(SourceSlots::new(places)), Mutex::new(RoundRobin::new(turns)));
        Arc::new(Self { of, clock, metrics, pressure, slots, changed: Notify::new(), turns })
    }

    /// Takes a place, and waits for one where nobody can be made to make slots.
    pub(super) async fn enter(self: &Arc<Self>, source: Source) -> (Place, Taken) {
        let (mut hold, taken) = oneshot::channel();
        let mut waits = false;
        loop {
            let now = self.clock.now();
            let (entered, look_again) = self.with_slots(|slots| {
                let full_for = slots.full_for(now);
                let entered = slots.enter(source, hold, now, full_for >= BURST);
                let overdue = slots.next_overdue(now).map(|at| at.saturating_duration_since(now));
                let look_again = BURST.saturating_sub(full_for);
                (entered, overdue.map_or(look_again, |overdue| overdue.min(look_again)))
            });
            match entered {
                Entered::In(id, out) => {
                    if let Some((from, _)) = out {
                        self.made_room(from);
                    }
                    return (Place { pending: Arc::clone(self), id, since: now }, Taken(taken));
                }
                Entered::Full(back) => {
                    hold = back;
                    if !waits {
                        waits = true;
                        self.metrics.held_back();
                    }
                    self.pressure.met(Met::Handshake, &source);
                    // Late or not: looks again.
                    let _ = timeout(look_again.max(Duration::from_millis(1)), self.changed.notified()).await;
                }
            }
        }
    }

    /// Ends one connection that keeps us waiting, so that its descriptor can be used; whether there was one.
    pub(super) fn clear_one(&self) -> bool {
        let cleared = self.with_slots(|slots| slots.clear_one(self.clock.now()));
        cleared.inspect(|(from, _)| self.made_room(*from)).is_some()
    }

    fn made_room(&self, from: Source) {
        self.metrics.made_room(Places::Handshake);
        self.metrics.refused(Refused::MadeRoom);
        self.pressure.met(Met::Handshake, &from);
        if sampled::whole(Line::MadeRoom, &from) {
            tracing::info!(%from, "a connection that kept us waiting made room for another one");
        }
    }

    fn pass_turn_on(&self) {
        loop {
            let next = self.turns().over();
            // One that has left meanwhile takes no turn.
            match next.map(|ticket| ticket.send(())) {
                None | Some(Ok(())) => break,
                Some(Err(())) => {}
            }
        }
    }

    fn with_slots<T>(&self, act: impl FnOnce(&mut SourceSlots<Hold>) -> T) -> T {
        let mut slots = self.slots.lock_anyway();
        let done = act(&mut slots);
        self.metrics.handshakes_in_progress(self.of, slots.taken());
        done
    }

    fn turns(&self) -> MutexGuard<'_, RoundRobin<oneshot::Sender<()>>> {
        self.turns.lock_anyway()
    }
}

impl Place {
    /// The client has said what it has to say for now: it waits for us.
    pub(super) fn waits(&self) {
        self.pending.with_slots(|slots| slots.set_overdue(self.id, None));
    }

    /// It is the client's turn to say something. Until its time is over it makes room for nobody.
    pub(super) fn owes(&self) {
        let at = self.pending.clock.now() + PATIENCE;
        self.pending.with_slots(|slots| slots.set_overdue(self.id, Some(at)));
        self.pending.changed.notify_one();
    }

    /// Waits for what the client owes: so long where few are here, and longer where many are. Those who come together
    /// wait for each other, on their machine or on ours; a stranger among them makes room whatever its time.
    pub(super) async fn within<T>(&self, limit: Duration, owed: impl Future<Output = T>) -> Option<T> {
        let mut owed = pin!(owed);
        if let Ok(done) = timeout(limit, owed.as_mut()).await {
            return Some(done);
        }
        if self.pending.with_slots(|slots| slots.taken()) <= FEW {
            return None;
        }
        let left = (self.since + LONGEST).saturating_duration_since(self.pending.clock.now());
        timeout(left, owed).await.ok()
    }

    /// Waits until it is the turn of this place's source.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let pending = &*self.pending;
        let (ticket, turn) = oneshot::channel();
        let mine = pending.turns().ask(self.id.source, ticket, oneshot::Sender::is_closed);
        if mine.is_none() {
            pending.metrics.handshake_waits(true);
            let mut ticket = Ticket { pending, turn };
            // Whoever gives a turn sends something; what was asked for is dropped with the pending alone.
            let _ = (&mut ticket.turn).await;
            drop(ticket);
        }
        Turn(pending)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pending.with_slots(|slots| slots.leave(self.id));
        self.pending.changed.notify_one();
    }
}

impl Taken {
    /// Resolves when the place is taken away, for nothing else.
    pub(super) async fn away(self) {
        let _ = self.0.await;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.pass_turn_on();
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.pending.metrics.handshake_waits(false);
        self.turn.close();
        if self.turn.try_recv().is_ok() {
            self.pending.pass_turn_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn source(number: u8) -> Source {
        Source::V4([127, 0, 0, number].into())
    }

    fn pending(places: usize, turns: usize) -> (Arc<PendingConnections>, Clock) {
        let clock = Clock::manual();
        let pressure = Arc::new(Pressure::new(clock.clone()));
        (
            PendingConnections::new(Listener::Grpc, places, turns, clock.clone(), Arc::new(Metrics::new()), pressure),
            clock,
        )
    }

    #[test]
    fn places_are_as_many_as_connections_and_no_more_than_a_quarter_of_the_files() {
        let all = [None, Some(u64::MAX), Some(4_096), Some(1_024), Some(0)].map(|files| places(1_024, files));
        assert_eq!(all, [1_024, 1_024, 1_024, 256, 128]);
        assert_eq!([1, 2_000, 65_536].map(|connections| places(connections, None)), [1_024, 2_000, 4_096]);
    }

    #[tokio::test]
    async fn a_silent_one_makes_room_and_is_told() {
        let (pending, _) = pending(2, 1);
        let (first, first_taken) = pending.enter(source(1)).await;
        let (_second, second_taken) = pending.enter(source(1)).await;
        let (_third, _) = pending.enter(source(2)).await;
        first_taken.away().await;
        assert!(second_taken.away().now_or_never().is_none());
        // What has been taken away is not given back.
        drop(first);
        assert_eq!(pending.with_slots(|slots| slots.taken()), 2);
    }

    #[tokio::test]
    async fn who_finds_all_places_in_use_waits_for_one() {
        let (pending, clock) = pending(2, 1);
        let ((first, _), (second, _)) = (pending.enter(source(1)).await, pending.enter(source(1)).await);
        first.waits();
        second.waits();
        let mut third = Box::pin(pending.enter(source(2)));
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        let (third, _) = timeout(LONGEST, third).await.unwrap();
        third.waits();
        // When it has lasted for long, the source with most has to make slots.
        let (fourth, _) = {
            let mut fourth = Box::pin(pending.enter(source(1)));
            assert!(fourth.as_mut().now_or_never().is_none());
            clock.advance(BURST);
            third.owes();
            timeout(LONGEST, fourth).await.unwrap()
        };
        assert_eq!(fourth.id.source, source(1));
        assert_eq!(pending.with_slots(|slots| slots.taken()), 2);
    }

    #[tokio::test]
    async fn where_many_come_together_they_have_more_time() {
        let (pending, _) = pending(FEW + 2, 1);
        let mut places = Vec::new();
        for _ in 0..FEW {
            places.push(pending.enter(source(1)).await);
        }
        let limit = Duration::from_millis(1);
        let (place, _) = places.pop().unwrap();
        assert_eq!(place.within(limit, std::future::pending::<()>()).await, None, "few");
        places.push(pending.enter(source(1)).await);
        let more = timeout(20 * limit, place.within(limit, std::future::pending::<()>()));
        assert!(more.await.is_err(), "many");
        let late = async { timeout(5 * limit, std::future::pending::<()>()).await.is_err() };
        assert_eq!(place.within(limit, late).await, Some(true));
    }

    #[tokio::test]
    async fn a_turn_goes_on_to_somebody_who_still_waits() {
        let (pending, _) = pending(9, 1);
        let (mut places, mut turns) = (Vec::new(), Vec::new());
        for number in 0..4 {
            places.push(pending.enter(source(number)).await.0);
        }
        for place in &places {
            turns.push(Box::pin(place.turn()));
        }
        let mut turns = turns.into_iter();
        let (mut first, mut second) = (turns.next().unwrap(), turns.next().unwrap());
        let (mut third, mut fourth) = (turns.next().unwrap(), turns.next().unwrap());
        let turn = first.as_mut().now_or_never().unwrap();
        for waiting in [&mut second, &mut third, &mut fourth] {
            assert!(waiting.as_mut().now_or_never().is_none());
        }
        // The second one leaves while it waits, the third one when it has been given the turn and has not seen it.
        drop(second);
        drop(turn);
        drop(third);
        drop(fourth.await);
        assert!(places[0].turn().now_or_never().is_some(), "the turn is free");
    }
}
