//! An answer until it has left.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use zeroize::Zeroize;

use super::BoxError;
use crate::entry::open_call::{OpenCall, Part};

/// HTTP's library is given so much of an answer at once. What it has of one that is not fetched goes only with its
/// connection.
const PIECE: usize = 16 << 10;

/// The body of an answer.
pub struct Answer<B> {
    /// All of it, or nothing.
    data: BytesMut,
    trailers: Option<HeaderMap>,
    /// Where more comes from.
    rest: Option<B>,
    /// It is dropped after what is above.
    part: Option<Part>,
}

/// A piece of an answer in the hands of HTTP's library, which drops it when its bytes have been written. It is wiped
/// then: it may be a data key.
pub struct Piece {
    bytes: Held,
    at: usize,
    /// Bytes that are counted for it alone.
    counted: Option<(usize, Arc<OpenCall>)>,
    part: Option<Part>,
}

enum Held {
    Own(BytesMut),
    /// Whoever made it still writes behind it.
    Shared(Bytes),
}

impl<B> Answer<B> {
    /// One that only says that there is no room.
    pub(super) fn uncounted(body: B) -> Self {
        Self { data: BytesMut::new(), trailers: None, rest: Some(body), part: None }
    }
}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin> Answer<B> {
    /// One whose bytes are counted as they leave.
    pub(super) fn endless(body: B, open: &Arc<OpenCall>) -> Self {
        Self { data: BytesMut::new(), trailers: None, rest: Some(body), part: Some(open.part()) }
    }

    /// One that is there as a whole; absent where there is no room for it.
    pub(super) async fn whole(mut body: B, open: &Arc<OpenCall>) -> Option<Self> {
        let part = open.part();
        let (mut first, mut more, mut trailers) = (Bytes::new(), BytesMut::new(), None);
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            // Whoever made it has no errors but statuses, and those are trailers.
            let Ok(frame) = frame else { break };
            match frame.into_data() {
                Ok(data) if first.is_empty() => first = data,
                Ok(data) => more.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        // Now nobody else has the buffer.
        drop(body);
        let mut data = first.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        if !more.is_empty() {
            data.extend_from_slice(&more);
            more.zeroize();
        }
        if open.settle(data.len()) {
            return Some(Self { data, trailers, rest: None, part: Some(part) });
        }
        data.zeroize();
        None
    }
}

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        self.data.zeroize();
    }
}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin> Body for Answer<B> {
    type Data = Piece;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, BoxError>>> {
        let this = &mut *self;
        if !this.data.is_empty() {
            let bytes = Held::Own(this.data.split_to(PIECE.min(this.data.len())));
            return Poll::Ready(Some(Ok(Frame::data(Piece { bytes, at: 0, counted: None, part: this.part.clone() }))));
        }
        if let Some(trailers) = this.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let Some(rest) = &mut this.rest else { return Poll::Ready(None) };
        let frame = match Pin::new(rest).poll_frame(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        let piece = frame.map_data(|bytes| {
            let counted = this.part.as_ref().and_then(|part| {
                let open = part.call();
                open.progresses();
                // Where there is no room it is one piece, and what HTTP's queue takes, of each of the streams that may
                // be open: not more than others could be made to wait for.
                open.reserve(bytes.len()).then(|| (bytes.len(), Arc::clone(open)))
            });
            Piece { bytes: Held::Shared(bytes), at: 0, counted, part: this.part.clone() }
        });
        Poll::Ready(Some(Ok(piece)))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        // A length in the headers would be one more header, and gRPC's clients do without.
        SizeHint::default()
    }
}

impl Piece {
    fn all(&self) -> &[u8] {
        match &self.bytes {
            Held::Own(bytes) => bytes,
            Held::Shared(bytes) => bytes,
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.all().len() - self.at
    }

    fn chunk(&self) -> &[u8] {
        self.all().get(self.at..).unwrap_or_default()
    }

    fn advance(&mut self, count: usize) {
        self.at += count;
        debug_assert!(self.at <= self.all().len(), "advanced past the end");
        if let Some(part) = &self.part
            && self.remaining() > 0
        {
            // What ends is told of when it is dropped.
            part.progresses();
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Held::Own(bytes) = &mut self.bytes {
            bytes.zeroize();
        }
        if let Some((bytes, open)) = &self.counted {
            open.release(*bytes);
        }
    }
}
