//! An open connection, as those who share places see it: whether it is in use, and whether it is to leave.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use api::entry::fair_share::Line;
use api::entry::ledger::{Ledger, Swept};
use model::clock::Clock;

/// With so many bytes an HTTP/2 client begins, whoever it is (RFC 9113, 3.4).
const PREFACE_BYTES: usize = 24;

/// What a connection is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Stay,
    /// Finish what is open and leave.
    Leave,
    /// Leave at once.
    End,
}

/// What the connection's task and the others know of it.
pub(super) struct Wire {
    clock: Clock,
    opened: Instant,
    calls: AtomicUsize,
    /// When the last call ended, in nanoseconds from `opened`.
    used: AtomicU64,
    greeted: AtomicBool,
    told: watch::Sender<Told>,
    ledger: Arc<Ledger>,
}

impl Wire {
    pub(super) fn new(clock: Clock, ledger: Arc<Ledger>) -> Arc<Self> {
        let (opened, told) = (clock.now(), watch::Sender::new(Told::Stay));
        let (calls, used) = (AtomicUsize::new(0), AtomicU64::new(0));
        Arc::new(Self { clock, opened, calls, used, greeted: AtomicBool::new(false), told, ledger })
    }

    /// Has the connection let go of what is not fetched; what was done about it.
    pub(super) fn sweep(&self) -> Swept {
        let swept = self.ledger.sweep();
        if swept.ends {
            self.tell(Told::End);
        }
        swept
    }

    pub(super) fn tell(&self, what: Told) {
        self.told.send_replace(what);
    }

    pub(super) fn listen(&self) -> watch::Receiver<Told> {
        self.told.subscribe()
    }

    /// A call begins, and is open until what this returns is dropped.
    pub(super) fn call(self: &Arc<Self>) -> InUse {
        self.calls.fetch_add(1, Ordering::Relaxed);
        InUse(Arc::clone(self))
    }

    /// What is left of `within` for the client to begin with HTTP/2; `None` when it has begun.
    pub(super) fn greeting_due(&self, within: Duration) -> Option<Duration> {
        let left = (self.opened + within).saturating_duration_since(self.clock.now());
        (!self.greeted.load(Ordering::Relaxed)).then_some(left)
    }
}

impl Line for Wire {
    fn idle_since(&self) -> Option<Instant> {
        let idle = self.calls.load(Ordering::Relaxed) == 0;
        idle.then(|| self.opened + Duration::from_nanos(self.used.load(Ordering::Relaxed)))
    }

    fn is_proven(&self) -> bool {
        self.ledger.is_proven()
    }
}

/// An open call.
pub(super) struct InUse(Arc<Wire>);

impl Drop for InUse {
    fn drop(&mut self) {
        let Self(wire) = self;
        let used = wire.clock.now().saturating_duration_since(wire.opened).as_nanos();
        wire.used.store(u64::try_from(used).unwrap_or(u64::MAX), Ordering::Relaxed);
        wire.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer, whose call is open until it has been sent.
pub(super) struct Answered<B> {
    body: B,
    _in_use: InUse,
}

impl<B> Answered<B> {
    pub(super) fn new(body: B, in_use: InUse) -> Self {
        Self { body, _in_use: in_use }
    }
}

impl<B: Body + Unpin> Body for Answered<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that notices when its client has begun, and when all has been written.
pub(super) struct Watched<S> {
    stream: S,
    missing: usize,
    wire: Arc<Wire>,
    ledger: Arc<Ledger>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, wire: &Arc<Wire>, ledger: &Arc<Ledger>) -> Self {
        Self { stream, missing: PREFACE_BYTES, wire: Arc::clone(wire), ledger: Arc::clone(ledger) }
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) if bytes > 0 => self.ledger.wrote(),
            Poll::Ready(_) => {}
            Poll::Pending => self.ledger.blocked(),
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.missing > 0 {
            self.missing = self.missing.saturating_sub(buf.filled().len() - before);
            if self.missing == 0 {
                self.wire.greeted.store(true, Ordering::Relaxed);
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        match flushed {
            Poll::Ready(_) => self.ledger.flushed(),
            Poll::Pending => self.ledger.blocked(),
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use api::entry::budget::Budget;
    use auth::peer::Principal;

    fn wire(clock: &Clock) -> Arc<Wire> {
        let account = Budget::new(1 << 20, clock.clone()).account(&Principal::new("cn:a"));
        Wire::new(clock.clone(), Ledger::new(account))
    }

    #[test]
    fn a_connection_is_in_use_while_a_call_is_open() {
        let clock = Clock::manual();
        let wire = wire(&clock);
        assert_eq!(wire.idle_since(), Some(clock.now()));
        let (first, second) = (wire.call(), wire.call());
        clock.advance(Duration::from_secs(1));
        drop(first);
        assert_eq!(wire.idle_since(), None);
        clock.advance(Duration::from_secs(1));
        drop(second);
        let last = clock.now();
        clock.advance(Duration::from_secs(1));
        assert_eq!(wire.idle_since(), Some(last));
    }

    #[tokio::test]
    async fn a_client_has_begun_when_it_has_sent_as_much_as_every_client_sends() {
        let wire = wire(&Clock::manual());
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = Watched::new(server, &wire, &wire.ledger);
        let within = Duration::from_secs(5);
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r").await.unwrap();
        server.read_exact(&mut [0; PREFACE_BYTES - 1]).await.unwrap();
        assert_eq!(wire.greeting_due(within), Some(within));
        client.write_all(b"\n").await.unwrap();
        server.read_u8().await.unwrap();
        assert_eq!(wire.greeting_due(within), None);
    }
}
