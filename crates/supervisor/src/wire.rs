//! The two loops of a link: requests into frames and out, frames in and into replies.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;
use zeroize::Zeroize;

use super::bounded;
use super::inbox::Inbox;
use super::link::{Heard, Request, Shared};
use super::socket::{Reads, Writes};
use protocol::{Class, Fault, FrameError, FromWorker, Op, Reply, Start, encode_frame};
use telemetry::fault;
use telemetry::watchdog::Task;

/// Most requests that are numbered and encoded in one go.
const BATCH: usize = 256;
/// A write goes out when it has grown to this.
const WRITE_BYTES: usize = 128 << 10;
/// First size of the writer's buffer, and the size to which it returns after a large frame.
pub(super) const BUFFER_BYTES: usize = 64 << 10;

/// [`protocol::ToWorker`] by reference, so that a request can be sent to several workers without a copy.
#[derive(Serialize)]
pub(super) enum Outgoing<'a> {
    /// See there.
    Start(&'a Start),
    /// See there.
    Request { id: u64, op: &'a Op },
}

/// Why reading ended, where it was not the end of the stream.
pub(super) enum Broken {
    /// The socket failed; the worker's exit says why.
    Socket,
    /// What came is no message.
    Garbled(FrameError),
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Socket
    }
}

/// Sends what is in the buffer, then requests until the link is closed.
pub(super) async fn write_all_requests(
    shared: &Shared,
    mut socket: Writes,
    mut queue: mpsc::UnboundedReceiver<Request>,
    mut buffer: Vec<u8>,
) {
    if send(&mut socket, &mut buffer).await.is_err() {
        return;
    }
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let taken = tokio::select! {
            biased;
            taken = queue.recv_many(&mut batch, BATCH) => taken,
            () = shared.closing.notified() => {
                queue.close();
                continue;
            }
        };
        if taken == 0 {
            return;
        }
        fault::point(Task::Requests, "").await;
        // The worker has enough to do, and other callers are at work: let those that are about to send do so first, for
        // one write instead of many.
        let items = shared.items.load(Ordering::Relaxed);
        if taken < BATCH && items > 2 * taken && items > shared.sessions {
            tokio::task::yield_now().await;
            while batch.len() < BATCH
                && let Ok(request) = queue.try_recv()
            {
                batch.push(request);
            }
        }
        let mut requests = batch.drain(..).peekable();
        let mut dropped = false;
        while requests.peek().is_some() {
            dropped |= encode(shared, &mut requests, &mut buffer);
            if send(&mut socket, &mut buffer).await.is_err() {
                return;
            }
        }
        drop(requests);
        if dropped && let Some(work) = shared.work.upgrade() {
            // There is room for others, and no answer will tell.
            work.answered(0, Duration::ZERO);
        }
    }
}

/// Numbers and encodes requests until the buffer is full; whether some of them were not worth it.
fn encode(shared: &Shared, requests: &mut impl Iterator<Item = Request>, buffer: &mut Vec<u8>) -> bool {
    let now = shared.clock.now();
    let mut dropped = false;
    let mut table = shared.table();
    for Request { op, pending } in requests.by_ref() {
        if table.ended || (pending.reply.is_closed() && op.has_no_effect()) {
            shared.items.fetch_sub(pending.items(), Ordering::Relaxed);
            dropped = true;
            continue;
        }
        let id = table.in_flight.push(now, op.kind(), pending);
        if let Err(error) = encode_frame(&Outgoing::Request { id, op: &op }, buffer) {
            // Nothing of it is in the buffer, so the worker never hears of it.
            if let Some(pending) = table.in_flight.answer(now, id) {
                shared.items.fetch_sub(pending.items(), Ordering::Relaxed);
                dropped = true;
                let fault = Fault::own(Class::Request, "send", error.to_string());
                let _ = pending.reply.send(Ok(Reply::Failed(fault)));
            }
        }
        if buffer.len() >= WRITE_BYTES {
            break;
        }
    }
    if !table.watched && !table.in_flight.is_empty() {
        table.watched = true;
        shared.busy.notify_one();
    }
    dropped
}

async fn send(socket: &mut Writes, buffer: &mut Vec<u8>) -> io::Result<()> {
    let sent = socket.write_all(buffer).await;
    buffer.as_mut_slice().zeroize();
    buffer.clear();
    if buffer.capacity() > 16 * BUFFER_BYTES {
        *buffer = Vec::with_capacity(BUFFER_BYTES);
    }
    sent
}

/// Completes callers and passes on what else the worker says, until the end of the stream.
pub(super) async fn read_all_replies(
    shared: &Shared,
    mut socket: Reads,
    heard: &mpsc::Sender<Heard>,
) -> Result<(), Broken> {
    let mut inbox = Inbox::new();
    let mut replies = Vec::new();
    loop {
        // Full readings one after the other would leave nothing to others.
        tokio::task::coop::consume_budget().await;
        let room = inbox.room().map_err(Broken::Garbled)?;
        let read = socket.read(room).await?;
        if read == 0 {
            return Ok(());
        }
        inbox.filled(read);
        fault::point(Task::Replies, "").await;
        let mut words = None;
        let decoded = inbox.decode(|message| match message {
            FromWorker::Searching { id } => shared.table().in_flight.prolong(id),
            FromWorker::PinTaken => shared.pin_taken.store(true, Ordering::Relaxed),
            FromWorker::Wants { keys } => keys.into_iter().for_each(|key| shared.copy(key)),
            FromWorker::Reply { id, mut reply } => {
                bounded::reply(&mut reply);
                replies.push((id, reply));
            }
            FromWorker::Ready(ready) => words = Some(Heard::Ready(ready)),
            FromWorker::Failed(fault) => words = Some(Heard::Failed(fault)),
        });
        answer(shared, &mut replies);
        if let Some(words) = words {
            let _ = heard.send(words).await;
        }
        decoded.map_err(Broken::Garbled)?;
    }
}

/// Completes the callers.
fn answer(shared: &Shared, replies: &mut Vec<(u64, Reply)>) {
    if replies.is_empty() {
        return;
    }
    let mut answered = Vec::with_capacity(replies.len());
    // Of replies that come together the first has the time of all, so only their sum says something.
    let (mut items, mut took) = (0, Duration::ZERO);
    {
        let now = shared.clock.now();
        let mut table = shared.table();
        for (id, reply) in replies.drain(..) {
            let since = table.in_flight.since(id);
            let Some(pending) = table.in_flight.answer(now, id) else { continue };
            if let Some(since) = since.filter(|_| pending.items() > 0) {
                items += pending.items();
                took += now.saturating_duration_since(since);
            }
            answered.push((pending, reply));
        }
    }
    for (pending, reply) in &mut answered {
        if let Some(reservation) = pending.reservation.take() {
            shared.items.fetch_sub(reservation.items(), Ordering::Relaxed);
            if blames_token(reply) {
                shared.suspicion.notify_one();
            }
            if !shared.served.load(Ordering::Relaxed) && reply.did_something() {
                shared.served.store(true, Ordering::Relaxed);
            }
        }
    }
    // First the worker's next requests, for which it waits, and then those that wait for its answers.
    if let Some(work) = shared.work.upgrade() {
        work.answered(items, took);
    }
    for (pending, reply) in answered {
        let _ = pending.reply.send(Ok(reply));
    }
}

fn blames_token(reply: &Reply) -> bool {
    reply.first_fault(|fault| matches!(fault.class, Class::Token | Class::Incompatible)).is_some()
}
