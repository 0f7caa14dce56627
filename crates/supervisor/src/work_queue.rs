//! What waits for the data workers of one HSM, and its way to them: who is next is decided here, and only as much is
//! handed to a worker as keeps it busy. The rest waits where it can still be overtaken, given up, or done by another
//! worker when one dies.
//!
//! A request that could only be answered after its deadline is turned away: at once when that can be foreseen, else
//! when its turn comes. So an HSM that is asked for more than it can do goes on doing as much as it can.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::oneshot;

use super::fair_queue::{FairQueue, Size};
use super::keys_in_use::KeysInUse;
use super::link::{Answer, Link, Pending, Request};
use super::load::{Bound, Gauge, Reservation};
use super::service_time::ServiceTime;
use super::{CallError, Settings, WrappedKeys};
use model::call_options::CallOptions;
use model::clock::Clock;
use model::id::KeyVersionId;
use protocol::{MANY_KEYS, Op};

/// Something must have waited for so long before anybody is turned away at once: a burst is over by then.
const STANDING: Duration = Duration::from_millis(100);

/// What is under many keys waits so long for the worker that has met them before, until another one does it that has
/// nothing of its own to do. Less than `hedge_after_ms` by default, after which another HSM is asked.
const PATIENCE: Duration = Duration::from_millis(20);

/// What the worker that has met a key before may have more to do than the least busy one, and is still given a single item
/// under that key: what a session does in so much time, and at most so many items for each session.
const ALIKE: (Duration, usize) = (Duration::from_micros(500), 4);

/// The requests that wait for an HSM's data workers.
pub(super) struct WorkQueue {
    /// The workers that take requests.
    links: Box<[ArcSwapOption<Link>]>,
    sessions: usize,
    hot_copies: bool,
    in_use: KeysInUse,
    wrapped_keys: Arc<dyn WrappedKeys>,
    gauge: Arc<Gauge>,
    service_time: ServiceTime,
    clock: Clock,
    waiting: Mutex<Queue>,
}

struct Queue {
    queue: FairQueue<Waiting>,
    /// Since when something waits all the time.
    since: Option<Instant>,
}

struct Waiting {
    request: Request,
    /// The place of the worker that does what is under the same keys; none where each does as well.
    usual: Option<usize>,
    since: Instant,
    deadline: Instant,
    fate: Arc<Fate>,
}

/// A request that was taken on.
pub(super) struct Taken {
    /// Where its answer comes.
    pub(super) reply: oneshot::Receiver<Answer>,
    /// Absent where a worker has it already.
    pub(super) fate: Option<Arc<Fate>>,
}

/// What becomes of a request that waits: a worker gets it, or its caller leaves before.
#[derive(Default)]
pub(super) struct Fate(AtomicBool);

impl Fate {
    /// Decides it. False where the other one has.
    pub(super) fn decide(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

impl WorkQueue {
    /// Nothing waits, and no worker is there.
    pub(super) fn new(settings: &Settings, wrapped_keys: Arc<dyn WrappedKeys>, clock: Clock) -> Self {
        Self {
            links: (0..settings.data_workers).map(|_| ArcSwapOption::empty()).collect(),
            sessions: usize::from(settings.sessions.max(1)),
            hot_copies: settings.hot_copies,
            in_use: KeysInUse::default(),
            wrapped_keys,
            gauge: Arc::new(Gauge::new(settings.queue_items, settings.queue_bytes)),
            service_time: ServiceTime::default(),
            clock,
            waiting: Mutex::new(Queue { queue: FairQueue::default(), since: None }),
        }
    }

    /// Items and bytes that were taken on.
    pub(super) fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    /// What a worker makes a hot copy of a version by.
    pub(super) fn copy(&self, key: KeyVersionId) -> Op {
        Op::Copy { key, blob: self.wrapped_keys.of(key) }
    }

    /// The worker of a place takes requests from now on, or none.
    pub(super) fn serve(&self, place: usize, link: Option<Arc<Link>>) {
        let Some(slot) = self.links.get(place) else { return };
        let mut waiting = self.lock();
        slot.store(link);
        if self.links.iter().all(|link| link.load().is_none()) {
            // Nobody knows when there will be a worker again; another HSM may be asked meanwhile.
            waiting.since = None;
            let given_up: Vec<_> = waiting.queue.drain().collect();
            drop(waiting);
            drop(given_up);
        } else {
            self.hand_out(waiting);
        }
    }

    /// Every worker that takes requests.
    pub(super) fn links(&self) -> impl Iterator<Item = Arc<Link>> {
        self.links.iter().filter_map(ArcSwapOption::load_full)
    }

    /// When a request that came now would have its turn.
    pub(super) fn wait(&self) -> Duration {
        self.service_time.of(self.gauge.items(), self.sessions * self.links.len())
    }

    /// Items that one session does in a time.
    pub(super) fn items_in(&self, time: Duration) -> usize {
        self.service_time.items_in(time)
    }

    /// Takes on a request.
    pub(super) fn push(&self, op: Arc<Op>, options: CallOptions) -> Result<Taken, CallError> {
        let (items, bytes) = (op.items(), op.weight());
        let reservation = match self.gauge.reserve(items, bytes) {
            Ok(reservation) => reservation,
            Err(bound) => self.make_room(options, items, bytes, bound)?,
        };
        let (reply, receiver) = oneshot::channel();
        let request = Request { op, pending: Pending { reply, reservation: Some(reservation), _copying: None } };
        let usual = self.usual(&request.op);
        let mut waiting = self.lock();
        let least_busy = self.loads().min().ok_or(CallError::NotReady)?;
        let (had, place) = match usual {
            Some(place) => self.load(place).map_or(least_busy, |had| (had, place)),
            None => self.nearest(&request.op, least_busy),
        };
        if waiting.queue.is_empty() && self.is_room(had) {
            let link = self.link(place).ok_or(CallError::NotReady)?;
            drop(waiting);
            let forwarded = link.forward(request).map_err(|_| CallError::NotReady);
            return forwarded.map(|()| Taken { reply: receiver, fate: None });
        }
        let now = self.clock.now();
        let since = *waiting.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= STANDING && !self.is_room(had) {
            let workers = self.workers();
            let ahead = waiting.queue.ahead_of(options.flow, items) + had * workers;
            let wait = self.service_time.of(ahead, workers * self.sessions);
            if now + wait + self.service_time.of(items, 1) > options.deadline {
                return Err(CallError::WouldMissDeadline(wait));
            }
        }
        let fate = Arc::<Fate>::default();
        let new = Waiting { request, usual, since: now, deadline: options.deadline, fate: Arc::clone(&fate) };
        waiting.queue.push(options.flow, Size::new(items, bytes), new);
        self.hand_out(waiting);
        Ok(Taken { reply: receiver, fate: Some(fate) })
    }

    /// A worker has given answers, or has fewer requests for another reason: it takes more. `took`: how long sessions
    /// were busy with so many items.
    pub(super) fn answered(&self, items: usize, took: Duration) {
        if items > 0 {
            self.service_time.read(items, took);
        }
        self.hand_out(self.lock());
    }

    /// The queue is full. Whoever has least in it still gets in, at the cost of whoever has most.
    fn make_room(
        &self,
        options: CallOptions,
        items: usize,
        bytes: usize,
        mut bound: Bound,
    ) -> Result<Reservation, CallError> {
        let size = Size::new(items, bytes);
        loop {
            let mut waiting = self.lock();
            let displaced = waiting.queue.displace(options.flow, size, bound).ok_or(CallError::Busy)?;
            if waiting.queue.is_empty() {
                waiting.since = None;
            }
            drop(waiting);
            let Request { pending, .. } = displaced.request;
            drop(pending.reservation);
            let _ = pending.reply.send(Err(CallError::Busy));
            match self.gauge.reserve(items, bytes) {
                Ok(reservation) => return Ok(reservation),
                Err(other) => bound = other,
            }
        }
    }

    /// Hands requests to workers that have room for them.
    fn hand_out(&self, mut waiting: MutexGuard<'_, Queue>) {
        let (mut turned_away, mut lost) = (Vec::new(), Vec::new());
        let now = self.clock.now();
        while !waiting.queue.is_empty()
            && let Some((link, Waiting { request, deadline, fate, .. })) = self.next(&mut waiting.queue, now)
        {
            let left = deadline.saturating_duration_since(now);
            // Behind what the worker has already, one part of which waits for each session.
            let takes =
                self.service_time.of(link.items(), self.sessions) + self.service_time.of(request.pending.items(), 1);
            if request.pending.reply.is_closed() {
                // Its caller has its answer from another HSM, or has gone.
                lost.push(request);
            } else if left.is_zero() || left < takes {
                turned_away.push(request.pending);
            } else if !fate.decide() {
                // Its caller has left, and believes that no worker has had it.
                lost.push(request);
            } else if let Err(request) = link.forward(request) {
                // The worker has gone this moment; its caller learns that when this is dropped.
                lost.push(request);
            }
        }
        if waiting.queue.is_empty() {
            waiting.since = None;
        }
        drop(waiting);
        for Pending { reply, reservation, _copying: _ } in turned_away {
            drop(reservation);
            let _ = reply.send(Err(CallError::WouldMissDeadline(self.wait())));
        }
    }

    /// Somebody who has room, and what it is to do.
    fn next(&self, queue: &mut FairQueue<Waiting>, now: Instant) -> Option<(Arc<Link>, Waiting)> {
        let mut with_room: Vec<(usize, usize)> = self.loads().filter(|(items, _)| self.is_room(*items)).collect();
        with_room.sort_unstable();
        let mut own = |place: usize| {
            queue.pop_that(|waiting| waiting.usual.is_none_or(|usual| usual == place || self.load(usual).is_none()))
        };
        if let Some(found) = with_room.iter().find_map(|(_, place)| Some((self.link(*place)?, own(*place)?))) {
            return Some(found);
        }
        let (_, idle) = *with_room.first().filter(|(items, _)| *items < self.sessions)?;
        let link = self.link(idle)?;
        let overdue = queue.pop_that(|waiting| now.saturating_duration_since(waiting.since) >= PATIENCE)?;
        Some((link, overdue))
    }

    /// The place of the worker that is to do this, for having done what was under the same keys; `None` where that does
    /// not matter.
    fn usual(&self, op: &Op) -> Option<usize> {
        let items = op.items();
        if !self.hot_copies || items < MANY_KEYS || self.links.len() < 2 {
            return None;
        }
        let of_key = |item: usize| Some(self.place_of(op.key(item)?));
        // Items are sorted by their keys' spread, if they are sorted at all.
        let (place, last) = (of_key(items / 4)?, of_key(items * 3 / 4)?);
        let is_other_key = |item: &usize| op.key(*item) != op.key(item - 1);
        let suits = place == last && (1..items).filter(is_other_key).count() + 1 >= MANY_KEYS;
        suits.then_some(place)
    }

    /// Who does it, with the items that it has: whoever has least to do; of a single item, where many keys are in use,
    /// whoever has met its key before, as long as it has hardly more to do. Each worker then has fewer copies to keep, and
    /// meets a key often enough for a copy to be of use.
    fn nearest(&self, op: &Op, least_busy: (usize, usize)) -> (usize, usize) {
        if !self.hot_copies || op.items() != 1 || self.links.len() < 2 {
            return least_busy;
        }
        let Some(key) = op.key(0).filter(|key| self.in_use.note(*key)) else { return least_busy };
        let place = self.place_of(key);
        let alike = self.service_time.items_in(ALIKE.0).min(ALIKE.1 * self.sessions);
        match self.load(place) {
            Some(had) if had <= least_busy.0 + alike && self.is_room(had) => (had, place),
            _ => least_busy,
        }
    }

    /// The place of the worker that meets a key first.
    fn place_of(&self, key: KeyVersionId) -> usize {
        usize::try_from((u64::from(key.spread()) * self.links.len() as u64) >> u32::BITS).unwrap_or_default()
    }

    /// What each worker has that takes requests, with its place.
    fn loads(&self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.links.len()).filter_map(|place| Some((self.load(place)?, place)))
    }

    /// Items that the worker of a place has; `None` where it takes no requests. One that has ended is not withdrawn at
    /// the same moment.
    fn load(&self, place: usize) -> Option<usize> {
        self.links.get(place)?.load().as_ref().filter(|link| link.is_open()).map(|link| link.items())
    }

    fn link(&self, place: usize) -> Option<Arc<Link>> {
        self.links.get(place)?.load_full()
    }

    fn is_room(&self, items: usize) -> bool {
        items < self.service_time.window(self.sessions)
    }

    fn workers(&self) -> usize {
        self.links.iter().filter(|link| link.load().is_some()).count()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.waiting.lock().unwrap_or_else(|poisoned| {
            // A change of the queue has several steps, so it may be wrong now. Nothing in it can be trusted;
            // whoever waits in it learns that this HSM has lost the request, and another one is asked.
            let mut waiting = PoisonError::into_inner(poisoned);
            *waiting = Queue { queue: FairQueue::default(), since: None };
            self.waiting.clear_poison();
            waiting
        })
    }
}

#[cfg(test)]
mod tests;
