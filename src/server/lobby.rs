//! Where connections are from being accepted to the end of their handshakes.
//!
//! Whoever comes gets a place here, and costs little until a whole ClientHello has come: then it waits for its turn,
//! which sources take one after the other, and only then is TLS computed. So strangers who send nothing take places from
//! nobody ([`Room`] decides), and those who send much take no more than their turns ([`Turns`] decides).
//!
//! This file carries out what those two decide. What lets a place go: its end, its holder's, or a newcomer's.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::pressure::{Met, Pressure};
use super::room::{Entered, Id, Room};
use super::source::Source;
use super::turns::Turns;
use crate::model::clock::Clock;
use crate::telemetry::metrics::{Metrics, Places, Refused};
use crate::telemetry::sampled::{self, Line};

/// Connections whose handshake is not over. One that has sent nothing costs a descriptor and some kilobytes.
pub(super) const PLACES: usize = 1_024;
/// From when on a client that has its server's half of a handshake makes room for others, if it does not go on.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long newcomers wait outside, in the kernel's backlog, for handshakes to be computed. A burst of clients is served
/// in that time; what lasts longer is a flood, and the source with most places makes room.
const BURST: Duration = Duration::from_secs(5);

/// The places and the turns.
pub(super) struct Lobby {
    clock: Clock,
    metrics: Arc<Metrics>,
    pressure: Arc<Pressure>,
    room: Mutex<Room<Hold>>,
    /// A place became free, or will be overdue at another time.
    changed: Notify,
    turns: Mutex<Turns<oneshot::Sender<()>>>,
}

/// Dropped by whoever takes the place away.
type Hold = oneshot::Sender<Infallible>;

/// A place; dropping it gives it back.
pub(super) struct Place {
    lobby: Arc<Lobby>,
    id: Id,
}

/// Resolves when the place is taken away.
pub(super) struct Taken(oneshot::Receiver<Infallible>);

/// A turn; dropping it gives it to the next one.
pub(super) struct Turn<'a>(&'a Lobby);

/// Somebody who waits for a turn. A turn that it was given and has not seen goes on to the next one.
struct Ticket<'a> {
    lobby: &'a Lobby,
    turn: oneshot::Receiver<()>,
}

impl Lobby {
    pub(super) fn new(clock: Clock, metrics: Arc<Metrics>, pressure: Arc<Pressure>) -> Arc<Self> {
        // Half of the processors for strangers: the others are for callers who are in.
        let at_once = std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2);
        let (room, turns) = (Mutex::new(Room::new(PLACES)), Mutex::new(Turns::new(at_once)));
        Arc::new(Self { clock, metrics, pressure, room, changed: Notify::new(), turns })
    }

    /// Takes a place, and waits for one where nobody can be made to make room.
    pub(super) async fn enter(self: &Arc<Self>, source: Source) -> (Place, Taken) {
        let (mut hold, taken) = oneshot::channel();
        loop {
            let now = self.clock.now();
            let (entered, look_again) = self.in_room(|room| {
                let full_for = room.full_for(now);
                let entered = room.enter(source, hold, now, full_for >= BURST);
                let overdue = room.next_overdue(now).map(|at| at.saturating_duration_since(now));
                let look_again = BURST.saturating_sub(full_for);
                (entered, overdue.map_or(look_again, |overdue| overdue.min(look_again)))
            });
            match entered {
                Entered::In(id, out) => {
                    if let Some((from, _)) = out {
                        self.made_room(from);
                    }
                    return (Place { lobby: Arc::clone(self), id }, Taken(taken));
                }
                Entered::Full(back) => {
                    hold = back;
                    self.metrics.held_back();
                    self.pressure.met(Met::Handshake, &source);
                    // Late or not: looks again.
                    let _ = timeout(look_again.max(Duration::from_millis(1)), self.changed.notified()).await;
                }
            }
        }
    }

    /// Ends one connection that keeps us waiting, so that its descriptor can be used; whether there was one.
    pub(super) fn clear_one(&self) -> bool {
        let cleared = self.in_room(|room| room.clear_one(self.clock.now()));
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

    fn in_room<T>(&self, act: impl FnOnce(&mut Room<Hold>) -> T) -> T {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let done = act(&mut room);
        self.metrics.handshakes_in_progress(room.taken());
        done
    }

    fn turns(&self) -> MutexGuard<'_, Turns<oneshot::Sender<()>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The client has said what it has to say for now: it waits for us.
    pub(super) fn waits(&self) {
        self.lobby.in_room(|room| room.set_overdue(self.id, None));
    }

    /// It is the client's turn to say something. Until its time is over it makes room for nobody.
    pub(super) fn owes(&self) {
        let at = self.lobby.clock.now() + PATIENCE;
        self.lobby.in_room(|room| room.set_overdue(self.id, Some(at)));
        self.lobby.changed.notify_one();
    }

    /// Waits until it is the turn of this place's source.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let lobby = &*self.lobby;
        let (ticket, turn) = oneshot::channel();
        let mine = lobby.turns().ask(self.id.source, ticket);
        if mine.is_none() {
            lobby.metrics.handshake_waits(true);
            let mut ticket = Ticket { lobby, turn };
            // Whoever gives a turn sends something; what was asked for is dropped with the lobby alone.
            let _ = (&mut ticket.turn).await;
            drop(ticket);
        }
        Turn(lobby)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lobby.in_room(|room| room.leave(self.id));
        self.lobby.changed.notify_one();
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
        self.lobby.metrics.handshake_waits(false);
        self.turn.close();
        if self.turn.try_recv().is_ok() {
            self.lobby.pass_turn_on();
        }
    }
}
