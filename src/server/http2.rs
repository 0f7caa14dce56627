//! HTTP/2 as the gRPC listener speaks it: every bound of it, and the tasks of its streams.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use hyper::rt::Executor;
use hyper::server::conn::http2::{self, Builder};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};

use super::protocol::{Caller, Connection, Protocol, Routes, Stream};
use api::entry::ledger::Ledger;
use api::entry::open_call::OpenCall;
use api::entry::sizes;

/// Calls open at once on one connection.
const STREAMS: u32 = 256;
/// What a client may send on a stream before somebody takes it: reserved for each stream that may not be read at once
/// ([`sizes::STREAM`]), so it cannot be large. Others are read as they come, and the window moves with it: at a round
/// trip of a millisecond that is 256 MB a second.
#[expect(clippy::cast_possible_truncation, reason = "it is 256 KiB")]
const STREAM_WINDOW: u32 = sizes::STREAM_WINDOW as u32;
/// Likewise over all streams of a connection.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// HTTP/2's least, which TLS's records have too: a frame that has come in part is held for every connection.
const FRAME_BYTES: u32 = 16 << 10;
/// What a stream's answer may have in HTTP/2's own queue.
const SEND_BUFFER: usize = 64 << 10;
/// One call's headers: what gRPC's libraries take by default. What they take in memory is counted for the call.
const HEADER_LIST_BYTES: u32 = 8 << 10;
/// A silent connection is asked whether it lives, and left when it does not answer.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// gRPC's calls, over HTTP/2.
pub(super) struct Http2<R> {
    pub(super) routes: R,
}

impl<R: Routes> Protocol for Http2<R> {
    fn serve(&self, stream: Stream, caller: Caller) -> Pin<Box<dyn Connection>> {
        let tasks = Tasks { ledger: Arc::clone(&caller.ledger) };
        let routes = self.routes.clone();
        let service = service_fn(move |request| caller.ask(&routes, request));
        Box::pin(settings(tasks).serve_connection(TokioIo::new(stream), service))
    }
}

impl<S, B> Connection for http2::Connection<TokioIo<Stream>, S, Tasks>
where
    S: HttpService<hyper::body::Incoming, ResBody = B, Future: Send + 'static> + Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>, Data: Send> + Send + 'static,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        http2::Connection::graceful_shutdown(self);
    }
}

/// Gives each stream of a connection its task, which ends when its call is cut off: whatever it waits for, and also
/// where HTTP/2 does not ask for more of an answer because its client takes nothing.
#[derive(Clone)]
pub(super) struct Tasks {
    ledger: Arc<Ledger>,
}

impl<F: Future<Output: Send + 'static> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        match self.ledger.begun() {
            // On panic: the stream is reset; its client gets an error.
            Some(call) => drop(tokio::spawn(Cuttable { task: Some(Box::pin(task)), call })),
            // The connection ends: what it still brings is not worth a task.
            None if self.ledger.is_over() => {}
            None => {
                // It only says that there is no room, which takes no waiting; many tasks that do would themselves take
                // room until their turn comes.
                let mut task = Box::pin(task);
                if task.as_mut().now_or_never().is_none() {
                    // On panic: likewise.
                    tokio::spawn(task);
                }
            }
        }
    }
}

/// A task that ends when its call is cut off.
struct Cuttable<F> {
    task: Option<Pin<Box<F>>>,
    call: Arc<OpenCall>,
}

impl<F: Future> Future for Cuttable<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let cut = self.call.is_cut(cx);
        // Dropped, a stream is reset by HTTP/2.
        match self.task.as_mut().filter(|_| !cut).map(|task| task.as_mut().poll(cx)) {
            Some(Poll::Pending) => Poll::Pending,
            Some(Poll::Ready(_)) | None => Poll::Ready(()),
        }
    }
}

/// For a connection.
fn settings(tasks: Tasks) -> Builder<Tasks> {
    let mut builder = Builder::new(tasks);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        // Calls whose deadlines pass are reset by their clients, many at once where an HSM hangs: no reason to end the
        // connection, on which others wait. What a client can make of it is bounded by its streams.
        .max_pending_accept_reset_streams(STREAMS as usize)
        // A stream that is begun beyond that many is an entry in HTTP/2's tables until its reset has been written, which
        // nobody counts: a client that goes on for as long again does not heed what it is told, and its connection ends.
        .max_local_error_reset_streams(STREAMS as usize)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST_BYTES)
        .keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        // gRPC has no use for it.
        .auto_date_header(false);
    builder
}
