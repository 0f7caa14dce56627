//! HTTP/2 as the gRPC listener speaks it: every bound of it.

use std::time::Duration;

use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// Calls open at once on one connection.
const STREAMS: u32 = 256;
/// Windows: one stream can bring the largest message without waiting for the round trip of a window update.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const FRAME_BYTES: u32 = 64 << 10;
const SEND_BUFFER: usize = 1 << 20;
const HEADER_LIST_BYTES: u32 = 16 << 10;
/// A silent connection is asked whether it lives, and left when it does not answer.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// For a connection.
pub(super) fn settings() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        // Calls whose deadlines pass are reset by their clients, many at once where an HSM hangs: no reason to end the
        // connection, on which others wait. What a client can make of it is bounded by its streams.
        .max_pending_accept_reset_streams(STREAMS as usize)
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
