//! The worker's requests, strictly first in first out, read and carried out by the session threads.
//!
//! A session thread that has nothing to do waits for the parent's socket, reads from it itself, and carries out what it
//! has read. All that are idle wait at once and the kernel wakes one of them for what comes, so that nobody has to be
//! woken by this process but for the second of several requests that came together. Where none is idle, requests wait in
//! the socket; that the parent is gone is noticed by the watch thread then.
//!
//! The parent reckons from the order alone which requests are in hand, so no request ever overtakes another.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use super::wire::{Found, Inbox};
use crate::hsm::protocol::{Kind, Op};

/// How long session threads that are idle have to see the end of the parent for themselves.
const END: Duration = Duration::from_millis(100);

/// A request as it waits.
pub(super) struct Request {
    /// The parent's number for it.
    pub(super) id: u64,
    /// What to do.
    pub(super) op: Op,
}

/// See the module.
pub(super) struct Queue {
    /// Locked while somebody reads what has come, and never while anybody waits for it. Comes before `state`.
    inbox: Mutex<Inbox>,
    state: Mutex<State>,
    doorbell: Doorbell,
    /// For the watch thread.
    ended: Condvar,
}

struct State {
    /// Bounded by what one reading can give.
    waiting: VecDeque<Request>,
    closed: bool,
    /// Threads that wait at the doorbell, or are about to.
    idle: usize,
    /// What the threads have in hand.
    in_hand: Vec<Kind>,
}

impl Queue {
    /// Nothing was read.
    pub(super) fn new(inbox: Inbox) -> io::Result<Self> {
        let doorbell = Doorbell::at(inbox.stream())?;
        let state = State { waiting: VecDeque::new(), closed: false, idle: 0, in_hand: Vec::new() };
        Ok(Self { inbox: Mutex::new(inbox), state: Mutex::new(state), doorbell, ended: Condvar::new() })
    }

    /// The oldest request; waits where there is none. `finished` is what this thread had in hand before. `None` when
    /// there will be no more: what still waits then is not begun.
    pub(super) fn pop(&self, finished: Option<Kind>) -> Option<Request> {
        let mut state = self.lock();
        if let Some(kind) = finished
            && let Some(place) = state.in_hand.iter().position(|held| *held == kind)
        {
            state.in_hand.swap_remove(place);
        }
        loop {
            if state.closed {
                // Each one that leaves sends the next one.
                self.doorbell.ring();
                return None;
            }
            if let Some(request) = state.waiting.pop_front() {
                state.in_hand.push(request.op.kind());
                if state.idle > 0 && !state.waiting.is_empty() {
                    self.doorbell.ring();
                }
                return Some(request);
            }
            drop(state);
            let nothing = !self.read();
            state = self.lock();
            if nothing && state.waiting.is_empty() && !state.closed {
                state.idle += 1;
                drop(state);
                self.doorbell.wait();
                state = self.lock();
                state.idle -= 1;
            }
        }
    }

    /// Reads what has come; false if there was nothing.
    fn read(&self) -> bool {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let mut requests = VecDeque::new();
        let found = inbox.read(&mut requests);
        if found == Found::Nothing {
            return false;
        }
        let mut state = self.lock();
        state.waiting.append(&mut requests);
        match found {
            Found::End => self.end(&mut state),
            // The socket tells of what comes, not of what is left in it.
            Found::More if state.idle > 0 => self.doorbell.ring(),
            _ => {}
        }
        true
    }

    /// The watch thread: waits until there will be nothing more to read, and ends the queue where no session does.
    pub(super) fn watch(&self) {
        let stream = self.inbox.lock().unwrap_or_else(PoisonError::into_inner).stream().as_fd().try_clone_to_owned();
        if let Ok(stream) = stream {
            let mut ends = [PollFd::new(&stream, PollFlags::RDHUP)];
            while poll(&mut ends, None) == Err(Errno::INTR) {}
        }
        let state = self.lock();
        let wait = self.ended.wait_timeout_while(state, END, |state| !state.closed);
        let (mut state, _) = wait.unwrap_or_else(PoisonError::into_inner);
        self.end(&mut state);
    }

    fn end(&self, state: &mut State) {
        state.closed = true;
        state.waiting.clear();
        self.ended.notify_all();
        self.doorbell.ring();
    }

    /// Whether requests are waiting.
    pub(super) fn has_waiting(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    /// What the session threads have in hand now.
    pub(super) fn in_hand(&self) -> Vec<Kind> {
        self.lock().in_hand.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where idle threads wait: something comes to the socket, or somebody rings. One of them is woken for each; where none
/// waits, the next one does not have to.
///
/// Only for what comes: a thread that waits inside read(2) is woken by each answer that the parent takes out as well.
struct Doorbell {
    epoll: OwnedFd,
    bell: OwnedFd,
}

impl Doorbell {
    fn at(stream: &UnixStream) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Once for each arrival, or all idle threads would be woken until one of them has read.
        let once = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, stream, EventData::new_u64(0), once | EventFlags::RDHUP)?;
        epoll::add(&epoll, &bell, EventData::new_u64(1), once)?;
        Ok(Self { epoll, bell })
    }

    fn ring(&self) {
        // A counter that is full has rung.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    fn wait(&self) {
        let mut event = [MaybeUninit::<Event>::uninit()];
        // An error wakes for nothing, which harms nobody.
        let _ = epoll::wait(&self.epoll, &mut event, None);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write;
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;
    use crate::hsm::protocol::{ToWorker, encode_frame};

    /// The parent's end of the socket, and the queue at the other one.
    fn queue() -> (UnixStream, Arc<Queue>) {
        let (parent, child) = UnixStream::pair().unwrap();
        (parent, Arc::new(Queue::new(Inbox::new(child)).unwrap()))
    }

    /// Requests with these numbers, sent at once.
    fn send(parent: &mut UnixStream, ids: &[u64]) {
        let mut frames = Vec::new();
        for id in ids {
            encode_frame(&ToWorker::Request { id: *id, op: Op::Random { length: 1 } }, &mut frames).unwrap();
        }
        parent.write_all(&frames).unwrap();
    }

    #[test]
    fn first_in_first_out_and_in_hand_is_known() {
        let (mut parent, queue) = queue();
        send(&mut parent, &[0, 1]);
        assert_eq!(queue.pop(None).unwrap().id, 0);
        assert_eq!(queue.in_hand(), [Kind::Crypto]);
        assert!(queue.has_waiting());
        send(&mut parent, &[2]);
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
        let (mut parent, queue) = queue();
        send(&mut parent, &[0, 1]);
        assert_eq!(queue.pop(None).unwrap().id, 0);
        drop(parent);
        // Nobody pops any more; this returns all the same.
        queue.watch();
        assert_eq!(queue.in_hand(), [Kind::Crypto]);
        assert!(queue.pop(Some(Kind::Crypto)).is_none(), "what waited is not begun");
    }

    #[test]
    fn several_that_come_together_are_taken_by_several() {
        let (mut parent, queue) = queue();
        let (tell, taken) = channel();
        for _ in 0..3 {
            let (queue, tell) = (Arc::clone(&queue), tell.clone());
            // Takes one and never comes back, as a session does that hangs.
            thread::spawn(move || tell.send(queue.pop(None).map(|request| request.id)));
        }
        let all_wait = || queue.lock().idle == 3;
        assert!((0..10_000_000).any(|_| {
            thread::yield_now();
            all_wait()
        }));
        send(&mut parent, &[0, 1, 2]);
        let ids: BTreeSet<_> = taken.iter().take(3).collect();
        assert_eq!(ids, BTreeSet::from([Some(0), Some(1), Some(2)]));
    }

    #[test]
    fn every_request_is_taken_once_whoever_reads() {
        const SESSIONS: usize = 4;
        const REQUESTS: u64 = 20_000;
        let (mut parent, queue) = queue();
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
        let mut seen = BTreeSet::new();
        // Each portion only when the last one was taken: whoever waits must be woken for it.
        for portion in ids.chunk_by(|_, next| next % 7 != 0) {
            send(&mut parent, portion);
            seen.extend(taken.iter().take(portion.len()));
        }
        assert_eq!(seen.len(), ids.len());
        drop(parent);
        sessions.into_iter().for_each(|session| session.join().unwrap());
        watch.join().unwrap();
    }
}
