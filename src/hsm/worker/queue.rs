//! The worker's one request queue: bounded, strictly first in first out, taken from by every session thread.
//!
//! The parent reckons from the order alone which requests are in hand, so no request ever overtakes another.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::hsm::protocol::{Kind, Op};

/// Most requests that wait. The parent's own bound is lower in items; past this the worker stops reading.
const REQUESTS: usize = 4_096;
/// Most bytes that waiting requests hold.
const BYTES: usize = 64 << 20;
/// How often a full queue looks whether the parent is still there.
const LOOK_ROUND: Duration = Duration::from_secs(1);

/// A request as it waits.
pub(super) struct Request {
    /// The parent's number for it.
    pub(super) id: u64,
    /// What to do.
    pub(super) op: Op,
}

/// See the module.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Request>,
    bytes: usize,
    closed: bool,
    /// Threads asleep in `pop`.
    idle: usize,
    /// What the threads have in hand.
    in_hand: Vec<Kind>,
}

impl Queue {
    /// Adds a request; waits while the queue is full. False when the queue is closed, or is full while `orphaned`.
    pub(super) fn push(&self, request: Request, orphaned: impl Fn() -> bool) -> bool {
        let weight = request.op.weight();
        let mut state = self.lock();
        // A request heavier than the whole bound gets through when nothing else waits.
        while !state.closed
            && (state.waiting.len() >= REQUESTS || (state.bytes + weight > BYTES && !state.waiting.is_empty()))
        {
            if orphaned() {
                return false;
            }
            let waited = self.freed.wait_timeout(state, LOOK_ROUND).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
        }
        if state.closed {
            return false;
        }
        state.bytes += weight;
        state.waiting.push_back(request);
        if state.idle > 0 {
            self.filled.notify_one();
        }
        true
    }

    /// Takes the oldest request. `finished` is what this thread had in
    /// hand before. `None` when the queue is closed: what still waits is not begun.
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
                state.bytes = state.bytes.saturating_sub(request.op.weight());
                state.in_hand.push(request.op.kind());
                self.freed.notify_one();
                return Some(request);
            }
            state.idle += 1;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// Whether requests are waiting.
    pub(super) fn has_waiting(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    /// No request is begun from now on; what waits is dropped.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.bytes = 0;
        state.waiting.clear();
        self.filled.notify_all();
        self.freed.notify_all();
    }

    /// What the session threads have in hand now.
    pub(super) fn in_hand(&self) -> Vec<Kind> {
        self.lock().in_hand.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    fn request(id: u64) -> Request {
        Request { id, op: Op::Random { length: 1 } }
    }

    #[test]
    fn first_in_first_out_and_in_hand_is_known() {
        let queue = Queue::default();
        for id in 0..3 {
            assert!(queue.push(request(id), || false));
        }
        assert_eq!(queue.pop(None).unwrap().id, 0);
        assert_eq!(queue.in_hand(), [Kind::Crypto]);
        assert_eq!(queue.pop(Some(Kind::Crypto)).unwrap().id, 1);
        assert_eq!(queue.in_hand(), [Kind::Crypto]);
        assert!(queue.has_waiting());
    }

    #[test]
    fn closing_drops_what_waits_and_wakes_everybody() {
        let queue = Arc::new(Queue::default());
        let sleeper = thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.pop(None).is_none()
        });
        queue.close();
        assert!(sleeper.join().unwrap());
        assert!(!queue.push(request(1), || false));
        assert!(queue.pop(None).is_none());
    }

    #[test]
    fn a_full_queue_refuses_an_orphan() {
        let queue = Queue::default();
        for id in 0..REQUESTS as u64 {
            assert!(queue.push(request(id), || true));
        }
        assert!(!queue.push(request(0), || true));
    }
}
