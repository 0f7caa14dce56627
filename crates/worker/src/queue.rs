//! The worker's requests, strictly first in first out, read and carried out by the session threads.
//!
//! A session thread that has nothing to do waits for the parent's socket, reads from it itself, and carries out what it
//! has read. All that are idle wait at once and the kernel wakes one of them for what comes, so that nobody has to be
//! woken by this process but for the second of several requests that came together. Where none is idle, requests wait
//! in the socket; that the parent is gone is noticed by the watch thread then.
//!
//! The parent reckons from the order alone which requests are in hand, so no request ever overtakes another.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use super::wire::{Found, Inbox, Request};
use model::lock::MutexExt as _;
use protocol::Kind;

/// What an event is of.
const SOCKET: u64 = 0;
const BELL: u64 = 1;

/// How long session threads that are idle have to see the end of the parent for themselves.
const END: Duration = Duration::from_millis(100);

/// The requests of one worker.
pub(super) struct Queue {
    /// Locked while somebody reads what has come, and never while anybody waits for it. Comes before `state`.
    inbox: Mutex<Inbox>,
    state: Mutex<State>,
    doorbell: Doorbell,
    /// For the watch thread.
    ended: Condvar,
}

struct State {
    /// Bounded by what one reading can give to each session.
    waiting: VecDeque<Request>,
    /// Readings that found something.
    readings: u64,
    /// The last reading may have left something in the socket, which does not tell of it again.
    unread: bool,
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
        let state =
            State { waiting: VecDeque::new(), readings: 0, unread: false, closed: false, idle: 0, in_hand: Vec::new() };
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
                if state.idle > 0 && (state.unread || !state.waiting.is_empty()) {
                    self.doorbell.ring();
                }
                return Some(request);
            }
            let before = state.readings;
            drop(state);
            self.read();
            state = self.lock();
            // Where another one has read meanwhile, this one was not yet known to be idle, so it was not called for
            // what that one has left.
            if state.readings == before && !state.closed {
                state.idle += 1;
                drop(state);
                if self.doorbell.wait() {
                    // The socket tells once. Whoever was told reads, even where something waits already.
                    self.read();
                }
                state = self.lock();
                state.idle -= 1;
            }
        }
    }

    /// Reads what has come.
    fn read(&self) {
        let mut inbox = self.inbox.lock_anyway();
        let mut requests = VecDeque::new();
        let found = inbox.read(&mut requests);
        let mut state = self.lock();
        state.readings += u64::from(found != Found::Nothing);
        state.unread = found == Found::More;
        state.waiting.append(&mut requests);
        if found == Found::End {
            self.end(&mut state);
        }
    }

    /// The watch thread: waits until there will be nothing more to read, and ends the queue where no session does.
    pub(super) fn watch(&self) {
        let stream = self.inbox.lock_anyway().stream().as_fd().try_clone_to_owned();
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

    /// The same for a thread that may hold the queue itself; `None` while somebody holds it.
    pub(super) fn in_hand_unless_held(&self) -> Option<Vec<Kind>> {
        match self.state.try_lock() {
            Ok(state) => Some(state.in_hand.clone()),
            Err(TryLockError::Poisoned(state)) => Some(state.into_inner().in_hand.clone()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    #[cfg(test)]
    pub(super) fn while_held<T>(&self, work: impl FnOnce() -> T) -> T {
        let _held = self.lock();
        work()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock_anyway()
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
        epoll::add(&epoll, stream, EventData::new_u64(SOCKET), once | EventFlags::RDHUP)?;
        epoll::add(&epoll, &bell, EventData::new_u64(BELL), once)?;
        Ok(Self { epoll, bell })
    }

    fn ring(&self) {
        // It is never read: each write counts as an arrival, and nobody lives to see the counter full.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// Whether it was the socket that told.
    fn wait(&self) -> bool {
        let mut events = [MaybeUninit::<Event>::uninit()];
        match epoll::wait(&self.epoll, &mut events, None) {
            Ok((events, _)) => events.iter().any(|event| event.data.u64() == SOCKET),
            // Woken for nothing, which harms nobody.
            Err(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write;
    use std::sync::mpsc::{Receiver, channel};
    use std::sync::{Arc, Barrier};
    use std::thread::{self, JoinHandle};

    use bytes::Bytes;

    use super::*;
    use model::id::{KeyId, KeyVersionId};
    use model::secret::Secret;
    use protocol::{EncryptItem, Op, ToWorker, encode_frame};

    /// The parent's end of the socket, and the queue at the other one.
    fn queue() -> (UnixStream, Arc<Queue>) {
        let (parent, child) = UnixStream::pair().unwrap();
        (parent, Arc::new(Queue::new(Inbox::new(child)).unwrap()))
    }

    fn next<T>(taken: &Receiver<T>) -> T {
        taken.recv_timeout(Duration::from_secs(60)).expect("a request is not taken")
    }

    /// So many sessions; what they take is told, and followed by `hold`.
    fn serve(
        queue: &Arc<Queue>,
        count: usize,
        hold: impl Fn() + Clone + Send + 'static,
    ) -> (Receiver<u64>, Vec<JoinHandle<()>>) {
        let (tell, taken) = channel();
        let session = |_| {
            let (queue, tell, hold) = (Arc::clone(queue), tell.clone(), hold.clone());
            thread::spawn(move || {
                let mut finished = None;
                while let Some(request) = queue.pop(finished) {
                    finished = Some(request.op.kind());
                    tell.send(request.id).unwrap();
                    hold();
                }
            })
        };
        (taken, (0..count).map(session).collect())
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
        let ids: BTreeSet<_> = (0..3).map(|_| next(&taken)).collect();
        assert_eq!(ids, BTreeSet::from([Some(0), Some(1), Some(2)]));
    }

    /// Bursts that come in pieces, with sessions that hold what they have until all of the burst is taken, as those do
    /// that are inside a module: nothing may stay in the socket beside an idle one.
    #[test]
    fn nothing_lies_in_the_socket_beside_an_idle_session() {
        const SESSIONS: usize = 4;
        let (mut parent, queue) = queue();
        let burst = Arc::new(Barrier::new(SESSIONS));
        let (taken, sessions) = serve(&queue, SESSIONS, move || {
            burst.wait();
        });
        for first in (0..20_000).step_by(SESSIONS) {
            send(&mut parent, &[first, first + 1]);
            send(&mut parent, &[first + 2]);
            send(&mut parent, &[first + 3]);
            let ids: BTreeSet<_> = (0..SESSIONS).map(|_| next(&taken)).collect();
            assert_eq!(ids, (first..first + SESSIONS as u64).collect());
        }
        drop(parent);
        sessions.into_iter().for_each(|session| session.join().unwrap());
    }

    #[test]
    fn frames_larger_than_one_reading_come_whole_and_wake_others() {
        let (mut parent, queue) = queue();
        let (taken, sessions) = serve(&queue, 3, || ());
        let plaintext = |bytes: usize| Secret::new(vec![7; bytes]);
        let version = KeyVersionId { key: KeyId::random(), version: 1 };
        let mut frames = Vec::new();
        for id in 0..40 {
            let sizes = [10, 300_000, 70_000, 64 << 10];
            let item = EncryptItem { key: version, aad: Bytes::new(), plaintext: plaintext(sizes[id % sizes.len()]) };
            encode_frame(&ToWorker::Request { id: id as u64, op: Op::Encrypt(vec![item]) }, &mut frames).unwrap();
        }
        let writer = thread::spawn(move || {
            parent.write_all(&frames).unwrap();
            parent
        });
        let ids: BTreeSet<_> = (0..40).map(|_| next(&taken)).collect();
        assert_eq!(ids.len(), 40);
        drop(writer.join().unwrap());
        sessions.into_iter().for_each(|session| session.join().unwrap());
    }

    #[test]
    fn every_request_is_taken_once_whoever_reads() {
        const REQUESTS: u64 = 20_000;
        let (mut parent, queue) = queue();
        let watch = thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.watch()
        });
        let (taken, sessions) = serve(&queue, 4, || ());
        let ids: Vec<u64> = (0..REQUESTS).collect();
        let mut seen = BTreeSet::new();
        // Each portion only when the last one was taken: whoever waits must be woken for it.
        for portion in ids.chunk_by(|_, next| next % 7 != 0) {
            send(&mut parent, portion);
            seen.extend(portion.iter().map(|_| next(&taken)));
        }
        assert_eq!(seen.len(), ids.len());
        drop(parent);
        sessions.into_iter().for_each(|session| session.join().unwrap());
        watch.join().unwrap();
    }
}
