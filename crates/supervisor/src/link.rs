//! The socket to one worker: requests out, replies in, and the table of what is outstanding.
//!
//! One task writes and one reads. The writer takes whatever waits, numbers it, and sends it with one write; the reader
//! takes whatever is there and completes the callers. Buffers may hold PINs and plaintexts: what was written or decoded
//! is wiped at once, and a buffer that has to grow is wiped where it was.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::in_flight::{Held, InFlight};
use super::load::Reservation;
use super::socket::Socket;
use super::wire::{BUFFER_BYTES, Broken, Outgoing, read_all_replies, write_all_requests};
use super::work_queue::WorkQueue;
use super::wrapped_keys::AT_ONCE;
use super::{CallError, KillLimits};
use model::clock::Clock;
use model::id::KeyVersionId;
use model::lock::MutexExt as _;
use protocol::{Fault, FrameError, Op, Ready, Reply, Start, encode_frame};

/// A request in hand past its limit gets this much longer when its answer may lie unread in the socket, because this
/// process itself was held up.
pub(super) const GRACE: Duration = Duration::from_millis(10);

/// How many times its limit a worker may be busy while one of its threads runs or waits for a processor.
pub(super) const AT_WORK: u32 = 4;

/// What the worker said, apart from replies.
pub(super) enum Heard {
    /// It is ready.
    Ready(Box<Ready>),
    /// It could not start.
    Failed(Fault),
    /// It sent what is no message; the stream was given up.
    Garbled(FrameError),
}

/// The parent's end of the socket to one worker. Closed when it is dropped.
pub(super) struct Link {
    shared: Arc<Shared>,
}

/// What the link's two tasks and its owner share.
pub(super) struct Shared {
    pub(super) clock: Clock,
    requests: mpsc::UnboundedSender<Request>,
    table: Mutex<Table>,
    /// Requests that the worker carries out at once.
    pub(super) sessions: usize,
    /// Items of requests that were handed over and are not answered.
    pub(super) items: AtomicUsize,
    pub(super) closing: Notify,
    /// Something is outstanding, while nobody watched for the limits.
    pub(super) busy: Notify,
    /// A reply blamed the token.
    pub(super) suspicion: Notify,
    /// Something was done for a caller since this was last asked.
    pub(super) served: AtomicBool,
    /// The token has taken a PIN in a login of the worker's.
    pub(super) pin_taken: AtomicBool,
    /// Where more to do comes from after each answer, and what copies are made of; for data workers.
    pub(super) work: Weak<WorkQueue>,
    /// Room for copies that are being made.
    copies: Arc<Semaphore>,
}

/// What is outstanding, and who looks after it.
pub(super) struct Table {
    pub(super) in_flight: InFlight<Pending>,
    /// Somebody sleeps until the next limit.
    pub(super) watched: bool,
    /// No reply will come any more.
    pub(super) ended: bool,
}

/// A request on its way to the writer.
pub(super) struct Request {
    pub(super) op: Arc<Op>,
    pub(super) pending: Pending,
}

/// What comes of a request.
pub(super) type Answer = Result<Reply, CallError>;

/// What is to be done when the reply comes. Dropped without one, the caller learns that the worker died.
pub(super) struct Pending {
    pub(super) reply: oneshot::Sender<Answer>,
    /// Absent for the supervisor's own probes, and for copies.
    pub(super) reservation: Option<Reservation>,
    /// Of a copy that is being made, its place among them.
    pub(super) _copying: Option<OwnedSemaphorePermit>,
}

impl Pending {
    /// How many items.
    pub(super) fn items(&self) -> usize {
        self.reservation.as_ref().map_or(0, Reservation::items)
    }
}

impl Link {
    /// Takes the socket and sends `Start`. What the worker says comes on the channel, which ends with the stream.
    pub(super) fn open(
        socket: Socket,
        start: &Start,
        clock: Clock,
        work: Weak<WorkQueue>,
    ) -> (Self, mpsc::Receiver<Heard>) {
        let Socket { reads, writes } = socket;
        let (requests, queue) = mpsc::unbounded_channel();
        // A worker says `Ready` or `Failed` once.
        let (heard, events) = mpsc::channel(4);
        let shared = Arc::new(Shared {
            clock,
            requests,
            table: Mutex::new(Table { in_flight: InFlight::new(start.sessions), watched: false, ended: false }),
            sessions: start.sessions.max(1).into(),
            items: AtomicUsize::new(0),
            closing: Notify::new(),
            busy: Notify::new(),
            suspicion: Notify::new(),
            served: AtomicBool::new(false),
            pin_taken: AtomicBool::new(false),
            work,
            copies: Arc::new(Semaphore::new(AT_ONCE)),
        });
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        let hello = encode_frame(&Outgoing::Start(start), &mut buffer);
        // On panic: its end of the socket is closed, so that the worker leaves and is replaced.
        tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                if hello.is_ok() {
                    write_all_requests(&shared, writes, queue, buffer).await;
                }
            }
        });
        // On panic: as at the end of the stream; whoever waits for a reply learns that the worker is lost.
        tokio::spawn({
            let ending = Ending(Arc::clone(&shared));
            async move {
                let shared = &ending.0;
                if let Err(Broken::Garbled(error)) = read_all_replies(shared, reads, &heard).await {
                    let _ = heard.send(Heard::Garbled(error)).await;
                }
            }
        });
        (Self { shared }, events)
    }

    /// Hands a request over, for the reply on the channel; an error on the channel means that the worker died. `None`
    /// when the link is closed: nothing was sent.
    ///
    /// The queue behind this is bounded by the reservations: each request holds one.
    pub(super) fn send(&self, op: Arc<Op>, reservation: Option<Reservation>) -> Option<oneshot::Receiver<Answer>> {
        let (reply, receiver) = oneshot::channel();
        self.forward(Request { op, pending: Pending { reply, reservation, _copying: None } }).ok()?;
        Some(receiver)
    }

    /// Hands over a request that somebody waits for already; gives it back when the link is closed.
    pub(super) fn forward(&self, request: Request) -> Result<(), Request> {
        let items = request.pending.items();
        self.shared.items.fetch_add(items, Ordering::Relaxed);
        self.shared.requests.send(request).map_err(|refused| {
            self.shared.items.fetch_sub(items, Ordering::Relaxed);
            refused.0
        })
    }

    /// Has the worker do something outside of the queue and waits for it; the limit of its kind bounds it.
    pub(super) async fn call(&self, op: Op) -> Answer {
        let reply = self.send(Arc::new(op), None).ok_or(CallError::NotReady)?;
        reply.await.unwrap_or(Err(CallError::WorkerLost))
    }

    /// It takes requests.
    pub(super) fn is_open(&self) -> bool {
        !self.shared.requests.is_closed()
    }

    /// Items that this worker has taken on.
    pub(super) fn items(&self) -> usize {
        self.shared.items.load(Ordering::Relaxed)
    }

    /// No longer takes requests, sends those that wait, then closes our direction of the socket. Replies still come in.
    pub(super) fn close(&self) {
        self.shared.closing.notify_one();
    }

    /// Waits until a reply blames the token.
    pub(super) async fn suspicion(&self) {
        self.shared.suspicion.notified().await;
    }

    /// Whether the token has taken a PIN in a login of the worker's, whatever came of the rest of that.
    pub(super) fn has_taken_pin(&self) -> bool {
        self.shared.pin_taken.load(Ordering::Relaxed)
    }

    /// Whether the worker has done something for a caller since this was last asked.
    pub(super) fn has_served(&self) -> bool {
        self.shared.served.swap(false, Ordering::Relaxed)
    }

    /// When what is in hand will be past its limit.
    pub(super) fn limit(&self, limits: &KillLimits) -> Option<std::time::Instant> {
        self.shared.table().in_flight.earliest(limits)
    }

    /// Waits until a request is in hand for longer than its limit. Costs nothing while nothing is outstanding, and
    /// wakes once per limit while something is. A worker that is `at_work`, and so neither sleeps nor is stopped, may
    /// only want for a processor: it has [`AT_WORK`] times as long.
    pub(super) async fn overdue(&self, limits: &KillLimits, at_work: impl Fn() -> bool) -> Held {
        let shared = &*self.shared;
        loop {
            let Some(earliest) = shared.watch(limits) else {
                shared.busy.notified().await;
                continue;
            };
            // Never longer than the shortest limit: a request with a shorter one may come meanwhile.
            sleep_until(earliest.min(shared.clock.now() + limits.shortest())).await;
            let Some(held) = shared.find_overdue(limits) else { continue };
            loop {
                sleep_until(shared.clock.now() + GRACE).await;
                let Some(again) = shared.find_overdue(limits).filter(|again| again.id == held.id) else { break };
                let busy_for = shared.clock.now().saturating_duration_since(again.since);
                if busy_for > limits.of(again.kind) * AT_WORK || !at_work() {
                    return again;
                }
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// Has the worker make the hot copy that it wants. It waits for none; where too much is under way already, it says
    /// again what it wants.
    pub(super) fn copy(&self, key: KeyVersionId) {
        let Some(work) = self.work.upgrade() else { return };
        let Ok(place) = Arc::clone(&self.copies).try_acquire_owned() else { return };
        // Nobody waits for the answer, which says nothing.
        let (reply, _) = oneshot::channel();
        let pending = Pending { reply, reservation: None, _copying: Some(place) };
        // Fails where the link is being closed.
        let _ = self.requests.send(Request { op: Arc::new(work.copy(key)), pending });
    }

    /// What is outstanding. Only the link's own tasks change it, and one that panics ends the link with its worker;
    /// what it leaves half changed is read for no longer than that.
    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock_anyway()
    }

    fn watch(&self, limits: &KillLimits) -> Option<std::time::Instant> {
        let mut table = self.table();
        let earliest = table.in_flight.earliest(limits);
        table.watched = earliest.is_some();
        earliest
    }

    fn find_overdue(&self, limits: &KillLimits) -> Option<Held> {
        let now = self.clock.now();
        self.table().in_flight.overdue(now, limits)
    }

    /// No reply will come any more: whoever waits learns it by its channel.
    fn end(&self) {
        let pending: Vec<Pending> = {
            let mut table = self.table();
            table.ended = true;
            table.in_flight.drain().collect()
        };
        drop(pending);
        self.closing.notify_one();
    }
}

/// Has the link end when it is dropped.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Sleeps until a time of the handed-down clock.
pub(super) async fn sleep_until(at: std::time::Instant) {
    tokio::time::sleep_until(tokio::time::Instant::from_std(at)).await;
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream as Peer;

    use super::*;
    use crate::load::Gauge;
    use model::secret::Secret;
    use protocol::{Class, FromWorker, ToWorker, decode_frame};

    const LIMITS: KillLimits = KillLimits {
        crypto: Duration::from_millis(50),
        place: Duration::from_secs(5),
        generate: Duration::from_secs(5),
        login: Duration::from_secs(5),
    };

    /// The other end of a link, on a thread of its own: answers what `reply` gives an answer to, until the link closes
    /// its direction.
    fn peer(mut reply: impl FnMut(u64, Op) -> Option<FromWorker> + Send + 'static) -> Socket {
        let (ours, mut theirs) = Peer::pair().unwrap();
        std::thread::spawn(move || {
            let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
            loop {
                let mut out = Vec::new();
                while let Some((message, length)) = decode_frame::<ToWorker>(&bytes).unwrap() {
                    bytes.drain(..length);
                    let answer = match message {
                        ToWorker::Start(start) => {
                            Some(FromWorker::Failed(Fault::own(Class::Login, "start", start.hsm.as_str())))
                        }
                        ToWorker::Request { id, op } => reply(id, op),
                    };
                    answer.iter().for_each(|answer| encode_frame(answer, &mut out).unwrap());
                }
                theirs.write_all(&out).unwrap();
                match theirs.read(&mut chunk).unwrap() {
                    0 => return,
                    read => bytes.extend_from_slice(&chunk[..read]),
                }
            }
        });
        Socket::over(ours).unwrap()
    }

    fn random(length: u16) -> Arc<Op> {
        Arc::new(Op::Random { length })
    }

    #[test]
    fn by_reference_or_by_value_the_frame_is_the_same() {
        let (mut by_value, mut by_reference) = (Vec::new(), Vec::new());
        encode_frame(&ToWorker::Start(Box::new(Start::of_a_test())), &mut by_value).unwrap();
        encode_frame(&ToWorker::Request { id: 7, op: Op::List }, &mut by_value).unwrap();
        encode_frame(&Outgoing::Start(&Start::of_a_test()), &mut by_reference).unwrap();
        encode_frame(&Outgoing::Request { id: 7, op: &Op::List }, &mut by_reference).unwrap();
        assert_eq!(by_value, by_reference);
    }

    #[tokio::test]
    async fn requests_are_answered_and_give_their_share_back() {
        let socket = peer(|id, op| {
            let Op::Random { length } = op else { panic!() };
            Some(FromWorker::Reply { id, reply: Reply::Random(Secret::new(vec![1; length.into()])) })
        });
        let (link, mut heard) = Link::open(socket, &Start::of_a_test(), Clock::system(), Weak::new());
        assert!(matches!(heard.recv().await, Some(Heard::Failed(fault)) if fault.detail.as_deref() == Some("a")));
        let gauge = Arc::new(Gauge::new(1000, 1_000_000));
        let replies: Vec<_> = (0..600).map(|n| link.send(random(n), gauge.reserve(1, 128).ok()).unwrap()).collect();
        for (length, reply) in replies.into_iter().enumerate() {
            let Ok(Reply::Random(secret)) = reply.await.unwrap() else { panic!() };
            assert_eq!(secret.len(), length);
        }
        assert_eq!((link.items(), gauge.items()), (0, 0));

        link.close();
        assert!(heard.recv().await.is_none(), "the worker leaves when the link is closed");
        assert!(link.send(random(1), None).is_none());
    }

    #[tokio::test]
    async fn a_reply_that_never_comes_is_overdue_and_lost_with_the_worker() {
        let socket = peer(|_, _| None);
        let (link, _heard) = Link::open(socket, &Start::of_a_test(), Clock::system(), Weak::new());
        let gauge = Arc::new(Gauge::new(10, 10_000));
        let reply = link.send(random(1), gauge.reserve(1, 128).ok()).unwrap();
        let began = Clock::system().now();
        let held = link.overdue(&LIMITS, || true).await;
        assert!(began.elapsed() > LIMITS.crypto * AT_WORK, "what is at work has longer, and not for ever");
        assert_eq!(link.overdue(&LIMITS, || false).await, held);
        assert_eq!(held.id, 0);
        assert_eq!(gauge.items(), 1, "an abandoned caller does not make the worker less busy");
        link.close();
        assert!(reply.await.is_err());
        gauge.emptied().await;
    }

    #[tokio::test]
    async fn a_reply_that_blames_the_token_raises_suspicion() {
        let fault =
            Fault { class: Class::Token, function: "C_EncryptInit".into(), code: 5, detail: None, at_source: false };
        let socket =
            peer(move |id, _| Some(FromWorker::Reply { id, reply: Reply::Encrypted(vec![Err(fault.clone())]) }));
        let (link, _heard) = Link::open(socket, &Start::of_a_test(), Clock::system(), Weak::new());
        let gauge = Arc::new(Gauge::new(10, 10_000));
        let reply = link.send(random(1), gauge.reserve(1, 128).ok()).unwrap();
        assert!(matches!(reply.await, Ok(Ok(Reply::Encrypted(_)))));
        link.suspicion().await;
    }

    /// What is in hand is lost, and what is known of its PIN is not.
    #[tokio::test]
    async fn a_worker_that_dies_after_its_token_has_taken_the_pin_has_said_so() {
        for takes in [false, true] {
            let socket = peer(move |_, _| takes.then_some(FromWorker::PinTaken));
            let (link, _heard) = Link::open(socket, &Start::of_a_test(), Clock::system(), Weak::new());
            let answer = link.send(Arc::new(Op::Login(Secret::new(b"pin".to_vec()))), None).unwrap();
            link.close();
            assert!(answer.await.is_err());
            assert_eq!(link.has_taken_pin(), takes);
        }
    }

    #[tokio::test]
    async fn nonsense_ends_the_link() {
        let (ours, mut theirs) = Peer::pair().unwrap();
        let socket = Socket::over(ours).unwrap();
        let (link, mut heard) = Link::open(socket, &Start::of_a_test(), Clock::system(), Weak::new());
        let reply = link.send(random(1), None).unwrap();
        theirs.write_all(&[3, 0, 0, 0, 99, 99, 99]).unwrap();
        assert!(matches!(heard.recv().await, Some(Heard::Garbled(FrameError::Malformed(_)))));
        assert!(reply.await.is_err());
        assert!(heard.recv().await.is_none());
    }
}
