//! A request while it is read.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::{BoxError, Metering};
use crate::entry::open_call::{Kind, OpenCall};
use crate::entry::sizes;

/// How long the rest of a request may take once it does not come at once. A request that is half read holds memory, and
/// the deadline of its call begins only when it has been read.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a request is not read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It took too long.
    Late,
    /// There is no room for it.
    Full,
}

/// A request's body whose bytes are counted.
pub struct Counted<B, M> {
    inner: B,
    open: Arc<OpenCall>,
    metering: M,
    seen: usize,
    taken: usize,
    /// Armed when something is awaited for the first time: most requests are there as a whole.
    patience: Option<Pin<Box<Sleep>>>,
}

impl<B, M> Counted<B, M> {
    pub(super) fn new(inner: B, open: Arc<OpenCall>, metering: M) -> Self {
        Self { inner, open, metering, seen: 0, taken: 0, patience: None }
    }

    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
        patience.as_mut().poll(cx).is_ready()
    }

    /// Counts so many bytes more; whether there is room for them. They stay counted until the answer is there.
    fn count(&mut self, bytes: usize) -> bool {
        self.seen += bytes;
        let needed = sizes::REQUEST_TIMES * self.seen.saturating_sub(sizes::FIRST_BYTES);
        let more = needed - self.taken;
        self.taken = needed;
        more == 0 || self.open.reserve(more)
    }
}

impl<B, M> Body for Counted<B, M>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
    M: Metering + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        // A stream has no end, and its room was reserved.
        let endless = self.open.kind() == Kind::Stream;
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            if !endless && self.is_late(cx) {
                return Poll::Ready(Some(Err(self.metering.unread(Unread::Late))));
            }
            return Poll::Pending;
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            if endless {
                self.open.progresses();
            } else if !self.count(data.len()) {
                return Poll::Ready(Some(Err(self.metering.unread(Unread::Full))));
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
