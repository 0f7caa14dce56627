//! The worker's requests, strictly first in first out, read and carried out by the session threads.
//!
//! A session thread that has nothing to do reads from the parent's socket itself: it carries out what it has read without
//! waking anybody, and leaves the reading to another one that is idle. Where none is, requests wait in the socket. When
//! nobody has looked there for a while, because every session is inside the module, the watch thread does, so that the end
//! of the parent is noticed.
//!
//! The parent reckons from the order alone which requests are in hand, so no request ever overtakes another.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::hsm::protocol::{Kind, Op};

/// How often the watch thread sees whether somebody has looked at the socket.
const WATCH: Duration = Duration::from_millis(100);

/// A request as it waits.
pub(super) struct Request {
    /// The parent's number for it.
    pub(super) id: u64,
    /// What to do.
    pub(super) op: Op,
}

/// Where requests come from.
pub(super) trait Source {
    /// Waits for a request and gives it with all others that have come whole. False when there will be none any more.
    fn read(&mut self, into: &mut VecDeque<Request>) -> bool;
}

/// See the module.
pub(super) struct Queue<S> {
    state: Mutex<State<S>>,
    /// For session threads: there is something to carry out, or to read.
    changed: Condvar,
    /// For the watch thread.
    ended: Condvar,
}

struct State<S> {
    /// Absent while somebody reads.
    source: Option<S>,
    /// Bounded by what one reading can give.
    waiting: VecDeque<Request>,
    /// Kept for its room.
    spare: VecDeque<Request>,
    closed: bool,
    /// Threads asleep in `pop`.
    idle: usize,
    /// How often somebody has begun to read.
    looks: u64,
    /// What the threads have in hand.
    in_hand: Vec<Kind>,
}

type Locked<'a, S> = MutexGuard<'a, State<S>>;

impl<S: Source> Queue<S> {
    /// Nothing was read.
    pub(super) fn new(source: S) -> Self {
        let state = State {
            source: Some(source),
            waiting: VecDeque::new(),
            spare: VecDeque::new(),
            closed: false,
            idle: 0,
            looks: 0,
            in_hand: Vec::new(),
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), ended: Condvar::new() }
    }

    /// The oldest request; reads where none waits. `finished` is what this thread had in hand before. `None` when there
    /// will be no more: what still waits then is not begun.
    pub(super) fn pop(&self, finished: Option<Kind>) -> Option<Request> {
        let mut state = self.lock();
        if let Some(kind) = finished
            && let Some(place) = state.in_hand.iter().position(|held| *held == kind)
        {
            state.in_hand.swap_remove(place);
        }
        loop {
            if state.closed {
                return None;
            }
            if let Some(request) = state.waiting.pop_front() {
                state.in_hand.push(request.op.kind());
                // Another one goes on, with what waits or with reading.
                if state.idle > 0 && (!state.waiting.is_empty() || state.source.is_some()) {
                    self.changed.notify_one();
                }
                return Some(request);
            }
            state = match state.source.take() {
                Some(source) => self.read(state, source),
                None => {
                    state.idle += 1;
                    let mut state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.idle -= 1;
                    state
                }
            };
        }
    }

    /// The watch thread: reads where nobody else has for a while, until there will be nothing more to read.
    pub(super) fn watch(&self) {
        let mut state = self.lock();
        let mut seen = state.looks;
        while !state.closed {
            state = self.ended.wait_timeout(state, WATCH).unwrap_or_else(PoisonError::into_inner).0;
            let unseen = state.looks == seen && state.idle == 0;
            if unseen && let Some(source) = state.source.take() {
                state = self.read(state, source);
                // Sessions that have come back meanwhile are asleep.
                self.changed.notify_one();
            }
            seen = state.looks;
        }
    }

    /// Reads; the lock is not held meanwhile.
    fn read<'a>(&'a self, mut state: Locked<'a, S>, mut source: S) -> Locked<'a, S> {
        state.looks += 1;
        let mut found = std::mem::take(&mut state.spare);
        drop(state);
        let more = source.read(&mut found);
        let mut state = self.lock();
        if more {
            state.waiting.append(&mut found);
            state.source = Some(source);
            state.spare = found;
        } else {
            state.closed = true;
            state.waiting.clear();
            self.changed.notify_all();
            self.ended.notify_all();
        }
        state
    }

    /// Whether requests are waiting.
    pub(super) fn has_waiting(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    /// What the session threads have in hand now.
    pub(super) fn in_hand(&self) -> Vec<Kind> {
        self.lock().in_hand.clone()
    }

    fn lock(&self) -> Locked<'_, S> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;

    use super::*;

    /// Requests from the test, in portions.
    struct Portions(Receiver<Vec<u64>>);

    impl Source for Portions {
        fn read(&mut self, into: &mut VecDeque<Request>) -> bool {
            let portion = self.0.recv();
            let requests = portion.iter().flatten().map(|id| Request { id: *id, op: Op::Random { length: 1 } });
            into.extend(requests);
            portion.is_ok()
        }
    }

    fn queue() -> (Sender<Vec<u64>>, Arc<Queue<Portions>>) {
        let (sender, receiver) = channel();
        (sender, Arc::new(Queue::new(Portions(receiver))))
    }

    #[test]
    fn first_in_first_out_and_in_hand_is_known() {
        let (parent, queue) = queue();
        parent.send(vec![0, 1]).unwrap();
        parent.send(vec![2]).unwrap();
        assert_eq!(queue.pop(None).unwrap().id, 0);
        assert_eq!(queue.in_hand(), [Kind::Crypto]);
        assert!(queue.has_waiting());
        assert_eq!(queue.pop(Some(Kind::Crypto)).unwrap().id, 1);
        assert_eq!(queue.in_hand(), [Kind::Crypto]);
        assert!(!queue.has_waiting(), "the third is in the socket");
        assert_eq!(queue.pop(Some(Kind::Crypto)).unwrap().id, 2);
    }

    #[test]
    fn the_end_drops_what_waits_and_wakes_everybody() {
        let (parent, queue) = queue();
        let sleepers: Vec<_> = (0..3)
            .map(|_| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || queue.pop(None).is_none())
            })
            .collect();
        drop(parent);
        assert!(sleepers.into_iter().all(|sleeper| sleeper.join().unwrap()));
        queue.watch();
        assert!(queue.pop(None).is_none());
    }

    #[test]
    fn the_end_is_noticed_while_every_session_is_busy() {
        let (parent, queue) = queue();
        parent.send(vec![0]).unwrap();
        assert_eq!(queue.pop(None).unwrap().id, 0);
        drop(parent);
        // Nobody pops any more; this returns all the same.
        queue.watch();
        assert_eq!(queue.in_hand(), [Kind::Crypto]);
    }

    #[test]
    fn every_request_is_taken_once_whoever_reads() {
        const SESSIONS: usize = 4;
        const REQUESTS: u64 = 2_000;
        let (parent, queue) = queue();
        let watch = thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.watch()
        });
        let (tell, taken) = channel();
        let sessions: Vec<_> = (0..SESSIONS)
            .map(|_| {
                let (queue, tell) = (Arc::clone(&queue), tell.clone());
                thread::spawn(move || {
                    let mut finished = None;
                    while let Some(request) = queue.pop(finished) {
                        finished = Some(request.op.kind());
                        tell.send(request.id).unwrap();
                    }
                })
            })
            .collect();
        let ids: Vec<u64> = (0..REQUESTS).collect();
        for portion in ids.chunk_by(|_, next| next % 7 != 0) {
            parent.send(portion.to_vec()).unwrap();
        }
        let seen: BTreeSet<u64> = taken.iter().take(ids.len()).collect();
        assert_eq!(seen.len(), ids.len());
        drop(parent);
        sessions.into_iter().for_each(|session| session.join().unwrap());
        watch.join().unwrap();
    }
}
