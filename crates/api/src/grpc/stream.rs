//! `CryptoService.Stream`: what has arrived is taken together as a window and processed as a batch.
//!
//! Under light load a window holds one request and is answered at once; under heavy load it fills by itself, so that
//! nothing has to wait for more to come. Bounds: [`WINDOW_ITEMS`] and [`WINDOW_BYTES`] a window, [`WINDOWS`] of a
//! stream in work, streams by setting and by principal ([`StreamSlots`]), and the bytes of what is in work and not fetched
//! ([`OpenCall`]). A caller that does not read its answers is not read either.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt, future};
use prost::Message;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, Streaming};

use super::stream_slots::{StreamSlot, StreamSlots};
use super::window::{Answered, Sent, answer, bytes_of};
use super::{entry, error};
use crate::entry::AdmittedStream;
use crate::entry::open_call::OpenCall;
use model::clock::Clock;
use model::limits;
use proto::v1::{StreamRequest, StreamResponse};
use service::Service;

/// Most requests of a window.
const WINDOW_ITEMS: usize = 256;
/// Largest message of a stream, in bytes: the longest plaintext or ciphertext with its context, with room to spare, so
/// that most oversized items still get an answer of their own.
pub(super) const MESSAGE_BYTES: usize = 64 << 10;
/// A window that has reached this many bytes takes no more; with the last message it stays within a batch's bound.
const WINDOW_BYTES: usize = limits::BATCH_BYTES - MESSAGE_BYTES;
/// Most windows of a stream in work.
const WINDOWS: usize = 4;

/// What a caller reads.
pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<StreamResponse, Status>> + Send>>;

type Answer = BoxFuture<'static, Result<Answered, Status>>;
/// A window's answers, and the bytes that were taken for them.
type Taken = (Result<Answered, Status>, usize);

/// Opens streams and keeps count of them.
pub(super) struct Streams {
    service: Service,
    stream_slots: StreamSlots,
    closing: CancellationToken,
}

/// Why a stream ends though its caller has not ended it.
pub(super) enum Ending {
    /// Its deadline has passed.
    Late,
    /// The daemon is being stopped.
    Closing,
    /// Others want to open one.
    MakesRoom,
}

impl Streams {
    /// At most `most` at once; all of them end when `closing` is cancelled.
    pub(super) fn new(service: Service, most: usize, closing: CancellationToken, clock: Clock) -> Self {
        Self { service, stream_slots: StreamSlots::new(most, clock), closing }
    }

    pub(super) fn open(
        &self,
        admitted: AdmittedStream,
        requests: Streaming<StreamRequest>,
    ) -> Result<Response<Answers>, Status> {
        let principal = admitted.principal().map_err(|refusal| error::refused(&refusal))?;
        let Some(slot) = self.stream_slots.take(&principal, admitted.open()) else {
            let message = "too many streams are open; close some, or wait and try again";
            return Err(error::status(&error::throttling(message)));
        };
        let ending = ending(admitted.remaining(), self.closing.clone(), slot.stream.leaves()).boxed();
        let (open, request_id) = (admitted.open().cloned(), Arc::clone(&admitted.request_id));
        let receipts = admitted.trace().wants_receipt();
        let (admitted, service) = (Arc::new(admitted), self.service.clone());
        let answer = move |window| answer(service.clone(), Arc::clone(&admitted), window).boxed();
        let answers: Answers = Windows::new(requests, answer, ending, open, receipts, Some(slot)).boxed();
        let mut response = Response::new(answers);
        entry::tag(response.metadata_mut(), &request_id);
        Ok(response)
    }
}

/// When a stream ends though its caller has not ended it, and why.
pub(super) async fn ending(
    remaining: Option<std::time::Duration>,
    closing: CancellationToken,
    leaves: impl Future<Output = ()>,
) -> Ending {
    let late = async {
        match remaining {
            Some(remaining) => tokio::time::sleep(remaining).await,
            None => future::pending().await,
        }
    };
    tokio::select! {
        () = late => Ending::Late,
        () = closing.cancelled() => Ending::Closing,
        () = leaves => Ending::MakesRoom,
    }
}

/// A stream of answers that reads requests while it is read.
struct Windows<I, F> {
    /// Absent once nothing more is to be read.
    requests: Option<I>,
    answer: F,
    in_work: FuturesUnordered<BoxFuture<'static, Taken>>,
    answers: VecDeque<StreamResponse>,
    ending: Option<BoxFuture<'static, Ending>>,
    /// What is said when all is answered; absent: OK.
    last: Option<Status>,
    finished: bool,
    /// What is counted for the stream; what a window took is given back when its last answer has been handed on.
    open: Option<Arc<OpenCall>>,
    taken: usize,
    /// Whether answers say where their records stand.
    receipts: bool,
    /// One of the streams that may be open.
    slot: Option<StreamSlot>,
}

impl<I, F> Windows<I, F>
where
    I: Stream<Item = Result<StreamRequest, Status>> + Unpin,
    F: FnMut(Vec<Sent>) -> Answer + Unpin,
{
    fn new(
        requests: I,
        answer: F,
        ending: BoxFuture<'static, Ending>,
        open: Option<Arc<OpenCall>>,
        receipts: bool,
        slot: Option<StreamSlot>,
    ) -> Self {
        Self {
            requests: Some(requests),
            answer,
            in_work: FuturesUnordered::new(),
            answers: VecDeque::new(),
            ending: Some(ending),
            last: None,
            finished: false,
            open,
            taken: 0,
            receipts,
            slot,
        }
    }

    /// Takes so many bytes for a request; whether there is room for them.
    fn has_room_for(&self, bytes: usize) -> bool {
        self.open.as_ref().is_none_or(|open| open.reserve(bytes))
    }

    fn give_back(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        if let Some(open) = self.open.as_ref().filter(|_| taken > 0) {
            open.release(taken);
        }
    }

    /// Has a window answered.
    fn begin(&mut self, window: Vec<Sent>, taken: usize) {
        let answer = (self.answer)(window);
        self.in_work.push(answer.map(move |answers| (answers, taken)).boxed());
    }

    /// Takes what is there, and says how many bytes that takes. Nothing is lost by a `Pending`: what was taken before it
    /// is the window. What there is no room for is answered at once.
    fn take_window(&mut self, cx: &mut Context<'_>) -> (Vec<Sent>, usize) {
        let (mut window, mut bytes, mut taken) = (Vec::new(), 0, 0);
        while let Some(requests) = &mut self.requests {
            if window.len() + self.answers.len() >= WINDOW_ITEMS || bytes >= WINDOW_BYTES {
                break;
            }
            match requests.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(request))) => {
                    let takes = bytes_of(&request, self.receipts);
                    if self.has_room_for(takes) {
                        bytes += request.encoded_len();
                        taken += takes;
                        window.push(Sent::Request(request));
                    } else {
                        window.push(Sent::Full(request.number));
                    }
                }
                Poll::Ready(Some(Err(status))) => {
                    let status = error::of_reading(status);
                    window.push(Sent::Unreadable(error::validation(status.message())));
                    self.last = Some(status);
                    self.requests = None;
                }
                Poll::Ready(None) => self.requests = None,
                Poll::Pending => break,
            }
        }
        (window, taken)
    }

    fn finish(&mut self, status: Option<Status>) -> Poll<Option<Result<StreamResponse, Status>>> {
        self.finished = true;
        self.requests = None;
        self.in_work.clear();
        Poll::Ready(status.map(Err))
    }
}

impl<I, F> Stream for Windows<I, F>
where
    I: Stream<Item = Result<StreamRequest, Status>> + Unpin,
    F: FnMut(Vec<Sent>) -> Answer + Unpin,
{
    type Item = Result<StreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.finished {
            return Poll::Ready(None);
        }
        loop {
            if let Some(answer) = this.answers.pop_front() {
                return Poll::Ready(Some(Ok(answer)));
            }
            this.give_back();
            match this.in_work.poll_next_unpin(cx) {
                Poll::Ready(Some((answers, taken))) => {
                    this.taken = taken;
                    match answers {
                        Ok(Answered { answers, of_the_last }) => {
                            this.answers = answers.into();
                            if let Some(last) = &mut this.last {
                                entry::tell(last.metadata_mut(), of_the_last);
                            }
                        }
                        // The caller is no longer welcome. What has reached a token is recorded without us.
                        Err(status) => return this.finish(Some(status)),
                    }
                    continue;
                }
                Poll::Ready(None) | Poll::Pending => {}
            }
            match this.ending.as_mut().map(|ending| ending.poll_unpin(cx)) {
                Some(Poll::Ready(Ending::Late)) => return this.finish(Some(error::status(&error::late()))),
                Some(Poll::Ready(Ending::Closing)) => {
                    this.ending = None;
                    this.requests = None;
                    this.last = Some(error::status(&error::closing()));
                }
                Some(Poll::Ready(Ending::MakesRoom)) => {
                    this.ending = None;
                    this.requests = None;
                    this.last = Some(error::status(&error::made_room()));
                }
                Some(Poll::Pending) | None => {}
            }
            if this.in_work.len() < WINDOWS {
                let (window, taken) = this.take_window(cx);
                if !window.is_empty() {
                    this.begin(window, taken);
                    continue;
                }
                if !this.answers.is_empty() {
                    continue;
                }
            }
            if let Some(slot) = &this.slot {
                slot.stream.is_in_work(!this.in_work.is_empty());
            }
            if this.requests.is_none() && this.in_work.is_empty() {
                let last = this.last.take();
                return this.finish(last);
            }
            return Poll::Pending;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::{mpsc, oneshot};
    use tokio_stream::wrappers::UnboundedReceiverStream;

    use super::super::window::number;
    use super::*;
    use proto::v1::stream_request::Request as Wanted;
    use proto::v1::stream_response::Result as Given;

    type Started = (Vec<u64>, oneshot::Sender<Result<Answered, Status>>);

    struct Bench {
        requests: mpsc::UnboundedSender<Result<StreamRequest, Status>>,
        end: Option<oneshot::Sender<Ending>>,
        started: Arc<Mutex<VecDeque<Started>>>,
        answers: Pin<Box<dyn Stream<Item = Result<StreamResponse, Status>> + Send>>,
    }

    impl Bench {
        fn new() -> Self {
            let (requests, receiver) = mpsc::unbounded_channel();
            let (end, ended) = oneshot::channel();
            let started: Arc<Mutex<VecDeque<Started>>> = Arc::default();
            let seen = Arc::clone(&started);
            let number = |sent: &Sent| match sent {
                Sent::Request(request) => Some(request.number),
                Sent::Full(number) => Some(*number),
                // It has no answer of its own.
                Sent::Unreadable(_) => None,
            };
            let answer = move |window: Vec<Sent>| {
                let (sender, receiver) = oneshot::channel();
                seen.lock().unwrap().push_back((window.iter().filter_map(number).collect(), sender));
                async { receiver.await.unwrap() }.boxed()
            };
            let ending = async { ended.await.unwrap() }.boxed();
            let answers =
                Windows::new(UnboundedReceiverStream::new(receiver), answer, ending, None, false, None).boxed();
            Self { requests, end: Some(end), started, answers }
        }

        fn ask(&self, numbers: std::ops::Range<u64>) {
            for number in numbers {
                self.requests.send(Ok(StreamRequest { number, request: None })).unwrap();
            }
        }

        fn poll(&mut self) -> Option<Option<Result<u64, tonic::Code>>> {
            let item = self.answers.next().now_or_never()?;
            Some(item.map(|item| item.map(|answer| answer.number).map_err(|status| status.code())))
        }

        fn start(&self) -> Started {
            self.started.lock().unwrap().pop_front().unwrap()
        }
    }

    fn answered((numbers, sender): Started) {
        let answers =
            numbers.into_iter().map(|number| StreamResponse { number, ..StreamResponse::default() }).collect();
        sender.send(Ok(Answered { answers, ..Answered::default() })).unwrap();
    }

    #[test]
    fn what_is_there_is_one_window_and_answers_come_in_any_order() {
        let mut bench = Bench::new();
        bench.ask(0..1);
        assert_eq!(bench.poll(), None);
        bench.ask(1..3);
        assert_eq!(bench.poll(), None);
        let (first, second) = (bench.start(), bench.start());
        assert_eq!((&first.0[..], &second.0[..]), (&[0][..], &[1, 2][..]));
        answered(second);
        assert_eq!([bench.poll(), bench.poll(), bench.poll()], [Some(Some(Ok(1))), Some(Some(Ok(2))), None]);
        answered(first);
        let Bench { requests, .. } = &mut bench;
        let (closed, _) = mpsc::unbounded_channel();
        drop(std::mem::replace(requests, closed));
        assert_eq!([bench.poll(), bench.poll()], [Some(Some(Ok(0))), Some(None)]);
    }

    #[test]
    fn windows_and_their_items_are_bounded() {
        let mut bench = Bench::new();
        bench.ask(0..5_000);
        assert_eq!(bench.poll(), None);
        let sizes: Vec<usize> = bench.started.lock().unwrap().iter().map(|(numbers, _)| numbers.len()).collect();
        assert_eq!(sizes, [WINDOW_ITEMS; WINDOWS]);
        answered(bench.start());
        // Read to the last answer of that window: only then a further one is taken.
        for number in 0..WINDOW_ITEMS as u64 {
            assert_eq!(bench.poll(), Some(Some(Ok(number))));
            assert_eq!(bench.started.lock().unwrap().len(), WINDOWS - 1);
        }
        assert_eq!(bench.poll(), None);
        assert_eq!(bench.started.lock().unwrap().len(), WINDOWS);
    }

    #[test]
    fn a_window_is_bounded_in_bytes() {
        let mut bench = Bench::new();
        let plaintext = vec![0; MESSAGE_BYTES / 2];
        for number in 0..100 {
            let encrypt = proto::v1::EncryptRequest { plaintext: plaintext.clone(), ..Default::default() };
            bench.requests.send(Ok(StreamRequest { number, request: Some(Wanted::Encrypt(encrypt)) })).unwrap();
        }
        assert_eq!(bench.poll(), None);
        let (numbers, _) = bench.start();
        assert!(numbers.len() * plaintext.len() <= limits::BATCH_BYTES, "{}", numbers.len());
    }

    #[test]
    fn what_was_taken_is_answered_before_the_end() {
        for (what, expected) in [("error", tonic::Code::InvalidArgument), ("closing", tonic::Code::Unavailable)] {
            let mut bench = Bench::new();
            bench.ask(0..1);
            match what {
                "error" => bench.requests.send(Err(Status::out_of_range("too large"))).unwrap(),
                _ => {
                    assert_eq!(bench.poll(), None);
                    bench.end.take().unwrap().send(Ending::Closing).ok().unwrap();
                }
            }
            assert_eq!(bench.poll(), None);
            answered(bench.start());
            assert_eq!([bench.poll(), bench.poll()], [Some(Some(Ok(0))), Some(Some(Err(expected)))], "{what}");
            assert_eq!(bench.poll(), Some(None));
        }
    }

    #[test]
    fn a_deadline_and_a_refused_caller_end_it_at_once() {
        let mut bench = Bench::new();
        bench.ask(0..1);
        assert_eq!(bench.poll(), None);
        bench.end.take().unwrap().send(Ending::Late).ok().unwrap();
        assert_eq!([bench.poll(), bench.poll()], [Some(Some(Err(tonic::Code::DeadlineExceeded))), Some(None)]);

        let mut bench = Bench::new();
        bench.ask(0..1);
        assert_eq!(bench.poll(), None);
        bench.start().1.send(Err(Status::unauthenticated("expired"))).unwrap();
        assert_eq!([bench.poll(), bench.poll()], [Some(Some(Err(tonic::Code::Unauthenticated))), Some(None)]);
    }

    #[test]
    fn an_error_of_the_window_is_each_items() {
        let mut answers = Vec::new();
        number::<()>(&mut answers, vec![3, 5], (Err(error::throttling("busy")), None), |()| unreachable!());
        let found: Vec<_> = answers
            .into_iter()
            .map(|answer| match answer.result {
                Some(Given::Error(error)) => (answer.number, error.reason, error.retryable),
                other => panic!("{other:?}"),
            })
            .collect();
        let reason = || "ThrottlingException".to_owned();
        assert_eq!(found, [(3, reason(), true), (5, reason(), true)]);
    }
}
