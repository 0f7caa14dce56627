//! The worker's ends of the socket: frames in, coalesced replies out.
//!
//! Both directions carry plaintext, and the first frame a PIN: every buffer is wiped once its bytes are used.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use zeroize::{Zeroize, Zeroizing};

use model::lock::MutexExt as _;
use protocol::{self, Class, Fault, FromWorker, MAX_FRAME_BYTES, Op, Reply, ToWorker};

/// A request as it waits.
pub(super) struct Request {
    /// The parent's number for it.
    pub(super) id: u64,
    /// What to do.
    pub(super) op: Op,
}

/// What one read asks for, at first. Larger frames make the buffer grow up to the largest frame.
const READ_BYTES: usize = 128 << 10;
/// Encoded replies that wait for the parent to read; past this, session threads wait as well.
const UNSENT_BYTES: usize = 4 << 20;
/// A buffer that grew beyond this is given back after use.
const KEPT_BYTES: usize = 1 << 20;

/// What a reading without waiting came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No request that is whole.
    Nothing,
    /// Requests, and all that had come.
    All,
    /// Requests; there may be more at once.
    More,
    /// The parent has closed its direction, or sends what is no request.
    End,
}

/// Frames from the parent.
pub(super) struct Inbox {
    stream: UnixStream,
    /// Only the part from `start` to `end` is meant; everything else in it is zero.
    buffer: Zeroizing<Vec<u8>>,
    start: usize,
    end: usize,
}

impl Inbox {
    /// Reads from this socket.
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, buffer: Zeroizing::new(vec![0; READ_BYTES]), start: 0, end: 0 }
    }

    /// What it reads from.
    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Waits for the next message. `None` when the parent has closed the socket.
    pub(super) fn next(&mut self) -> io::Result<Option<ToWorker>> {
        loop {
            if let Some(message) = self.at_hand()? {
                return Ok(Some(message));
            }
            self.make_room();
            let read = match self.stream.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if read == 0 {
                return Ok(None);
            }
            self.end += read;
        }
    }

    /// Reads what has come, without waiting, and gives the requests that are whole.
    pub(super) fn read(&mut self, into: &mut VecDeque<Request>) -> Found {
        match self.try_read(into) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "the parent's socket failed");
                Found::End
            }
        }
    }

    fn try_read(&mut self, into: &mut VecDeque<Request>) -> io::Result<Found> {
        // What came together with the start.
        if self.give(into)? {
            return Ok(Found::More);
        }
        loop {
            self.make_room();
            let room = &mut self.buffer[self.end..];
            let asked = room.len();
            let read = match rustix::net::recv(&self.stream, room, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Ok(Found::End),
                Ok((read, _)) => read,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(Found::Nothing),
                Err(error) => return Err(error.into()),
            };
            self.end += read;
            match (self.give(into)?, read < asked) {
                (true, true) => return Ok(Found::All),
                (true, false) => return Ok(Found::More),
                (false, true) => return Ok(Found::Nothing),
                (false, false) => {}
            }
        }
    }

    /// Gives the requests that are whole; whether there were any.
    fn give(&mut self, into: &mut VecDeque<Request>) -> io::Result<bool> {
        while let Some(message) = self.at_hand()? {
            let ToWorker::Request { id, op } = message else {
                return Err(io::Error::other("the parent sent a second start message"));
            };
            into.push_back(Request { id, op });
        }
        Ok(!into.is_empty())
    }

    /// The next message, if it has come whole.
    fn at_hand(&mut self) -> io::Result<Option<ToWorker>> {
        let decoded = protocol::decode_frame(&self.buffer[self.start..self.end]).map_err(io::Error::other)?;
        Ok(decoded.map(|(message, taken)| {
            self.buffer[self.start..self.start + taken].zeroize();
            self.start += taken;
            message
        }))
    }

    /// Moves what is left to the front; makes the buffer larger when a frame fills it.
    fn make_room(&mut self) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            let (kept, used) = (self.end - self.start, self.end);
            self.buffer[kept..used].zeroize();
            (self.start, self.end) = (0, kept);
        }
        if self.end == self.buffer.len() {
            // decode_frame refuses longer frames, so this ends at the largest one with its prefix.
            let mut larger = Zeroizing::new(vec![0; (2 * self.buffer.len()).min(MAX_FRAME_BYTES + 4)]);
            larger[..self.end].copy_from_slice(&self.buffer[..self.end]);
            self.buffer = larger;
        } else if self.end == 0 && self.buffer.len() > KEPT_BYTES {
            self.buffer = Zeroizing::new(vec![0; READ_BYTES]);
        }
    }
}

/// Replies to the parent. Whoever finds the socket free writes for all; while one write is under way, the replies of
/// others gather for the next one.
pub(super) struct Outbox {
    stream: UnixStream,
    state: Mutex<Unsent>,
    /// For the writer thread: something was left to it.
    left: Condvar,
    /// For those that wait for room, or for the end of a write.
    written: Condvar,
}

#[derive(Default)]
struct Unsent {
    bytes: Vec<u8>,
    /// An emptied buffer, kept for its room.
    spare: Vec<u8>,
    writing: bool,
    /// Threads that wait at `written`.
    patient: usize,
    broken: bool,
    closed: bool,
}

impl Outbox {
    /// Writes to this socket.
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, state: Mutex::default(), left: Condvar::new(), written: Condvar::new() }
    }

    /// Sends a message. With `busy` (more requests are waiting for this thread) the writer thread does it, so that
    /// replies gather and the thread goes on; otherwise this thread writes at once, which spares a wake-up.
    pub(super) fn send(&self, message: &FromWorker, busy: bool) {
        let mut state = self.lock();
        while state.bytes.len() > UNSENT_BYTES && !state.broken {
            state = self.wait_for_write(state);
        }
        if state.broken {
            return;
        }
        if let Err(error) = protocol::encode_frame(message, &mut state.bytes) {
            // The parent waits for an answer to this id, so it gets one that surely fits.
            if let FromWorker::Reply { id, .. } = message {
                let fault = Fault::own(Class::Refused, "reply", error.to_string());
                let reply = FromWorker::Reply { id: *id, reply: Reply::Failed(fault) };
                if protocol::encode_frame(&reply, &mut state.bytes).is_err() {
                    state.broken = true;
                }
            }
        }
        if state.writing {
            return;
        }
        if busy {
            self.left.notify_one();
        } else {
            drop(self.flush(state));
        }
    }

    /// The writer thread: writes what others leave to it, until [`Outbox::close`].
    pub(super) fn write_for_others(&self) {
        let mut state = self.lock();
        while !state.closed && !state.broken {
            // Whoever is writing writes all that there is.
            state = if state.writing || state.bytes.is_empty() {
                self.left.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.flush(state)
            };
        }
    }

    /// Ends the writer thread and writes what is left.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.left.notify_one();
        while state.writing {
            state = self.wait_for_write(state);
        }
        drop(self.flush(state));
    }

    /// Writes until nothing is left. The lock is not held while writing.
    fn flush<'a>(&'a self, mut state: MutexGuard<'a, Unsent>) -> MutexGuard<'a, Unsent> {
        state.writing = true;
        while !state.bytes.is_empty() && !state.broken {
            let spare = std::mem::take(&mut state.spare);
            let mut batch = std::mem::replace(&mut state.bytes, spare);
            drop(state);
            let written = (&self.stream).write_all(&batch);
            batch.as_mut_slice().zeroize();
            batch.clear();
            state = self.lock();
            // A parent that is gone is noticed by the reader; what was meant for it is of no use to anybody.
            state.broken |= written.is_err();
            if batch.capacity() <= KEPT_BYTES {
                state.spare = batch;
            }
        }
        state.writing = false;
        if state.patient > 0 {
            self.written.notify_all();
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, Unsent> {
        self.state.lock_anyway()
    }

    fn wait_for_write<'a>(&self, mut state: MutexGuard<'a, Unsent>) -> MutexGuard<'a, Unsent> {
        state.patient += 1;
        let mut state = self.written.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.patient -= 1;
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_arrive_whole_however_they_are_cut() {
        let (mut parent, child) = UnixStream::pair().unwrap();
        let mut frames = Vec::new();
        for id in 0..3 {
            let request = ToWorker::Request { id, op: Op::Random { length: 7 } };
            protocol::encode_frame(&request, &mut frames).unwrap();
        }
        let writer = std::thread::spawn(move || frames.iter().for_each(|byte| parent.write_all(&[*byte]).unwrap()));
        let mut inbox = Inbox::new(child);
        for expected in 0..3 {
            let Some(ToWorker::Request { id, .. }) = inbox.next().unwrap() else { panic!("no request") };
            assert_eq!(id, expected);
        }
        assert!(inbox.next().unwrap().is_none());
        assert!(inbox.buffer.iter().all(|byte| *byte == 0), "what was used is wiped");
        writer.join().unwrap();
    }

    #[test]
    fn replies_left_to_the_writer_are_sent_too() {
        let (parent, child) = UnixStream::pair().unwrap();
        let outbox = Outbox::new(child);
        std::thread::scope(|scope| {
            scope.spawn(|| outbox.write_for_others());
            for id in 0..100 {
                outbox.send(&FromWorker::Reply { id, reply: Reply::Done }, id % 3 != 0);
            }
            let mut received = Vec::new();
            let (mut ids, mut parent) = (Vec::new(), &parent);
            while ids.len() < 100 {
                let mut chunk = [0; 512];
                let read = parent.read(&mut chunk).unwrap();
                received.extend_from_slice(&chunk[..read]);
                while let Some((message, taken)) = protocol::decode_frame(&received).unwrap() {
                    let FromWorker::Reply { id, .. } = message else { panic!("no reply") };
                    ids.push(id);
                    received.drain(..taken);
                }
            }
            assert!(ids.is_sorted());
            outbox.close();
        });
    }
}
