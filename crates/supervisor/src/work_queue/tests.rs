use std::io::{Read, Write};
use std::os::unix::net::UnixStream as Peer;
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;

use super::*;
use crate::socket::Socket;
use model::call_options::FlowId;
use model::id::{KeyId, KeyVersionId};
use model::secret::Secret;
use protocol::{DataKeyItem, FromWorker, Reply, Start, ToWorker, decode_frame, encode_frame};

/// A work queue whose workers, one session each, answer when the test says so, and the clock of all of them.
struct Bench {
    work: Arc<WorkQueue>,
    workers: Vec<Worker>,
    clock: Clock,
}

/// The other end of a worker's socket.
struct Worker {
    link: Option<Arc<Link>>,
    taken: Receiver<u16>,
    answer: Sender<usize>,
}

impl Worker {
    /// Waits for the next request; its length, by which the tests know it.
    fn next(&self) -> u16 {
        self.taken.recv_timeout(LONG).expect("the worker is given a request")
    }

    fn answer(&self) {
        self.answer_together(1);
    }

    /// So many answers, with one write.
    fn answer_together(&self, count: usize) {
        self.answer.send(count).unwrap();
    }
}

impl Bench {
    fn new(workers: u16, queue_items: usize) -> Self {
        let clock = Clock::manual();
        let settings =
            Settings { data_workers: workers, queue_items, hot_copies: true, ..Settings::of_a_test("a", "zone-a") };
        let work = Arc::new(WorkQueue::new(&settings, Arc::new(()), clock.clone()));
        let mut bench = Self { work, workers: Vec::new(), clock };
        for place in 0..usize::from(workers) {
            bench.start(place);
        }
        bench
    }

    fn start(&mut self, place: usize) {
        let (ours, theirs) = Peer::pair().unwrap();
        let (tell, taken) = channel();
        let (answer, orders) = channel();
        std::thread::spawn(move || serve(theirs, &tell, orders));
        let socket = Socket::over(ours).unwrap();
        let (link, _) = Link::open(socket, &Start::of_a_test(), self.clock.clone(), Arc::downgrade(&self.work));
        let link = Arc::new(link);
        self.work.serve(place, Some(Arc::clone(&link)));
        self.workers.insert(place, Worker { link: Some(link), taken, answer });
    }

    /// A request for so many bytes, by which the worker's end knows it.
    fn push(&self, name: u16, flow: &str, within: Duration) -> Result<oneshot::Receiver<Answer>, CallError> {
        let options = CallOptions { deadline: self.clock.now() + within, flow: FlowId::of(flow) };
        self.work.push(Arc::new(Op::Random { length: name }), options).map(|taken| taken.reply)
    }

    /// A request under so many keys, whose ids end with bytes from `first` on. The worker's end knows it by the name.
    fn push_under(&self, keys: u8, first: u8, name: u16) -> oneshot::Receiver<Answer> {
        let item = |at: u8| {
            let mut id = [7; 16];
            id[12] = first + at / (64 / keys) * (64 / keys);
            let key = KeyVersionId { key: KeyId::from_bytes(id), version: 1 };
            DataKeyItem { key, aad: Bytes::new(), length: name }
        };
        let items = (0..64).map(item).collect();
        let options = CallOptions { deadline: self.clock.now() + LONG, flow: FlowId::of("anna") };
        self.work.push(Arc::new(Op::GenerateDataKey(items)), options).unwrap().reply
    }

    /// Has the first worker be known to take so long for one request, and leaves nothing behind.
    async fn slow(&self, each: Duration) {
        let first = self.push(1, "anna", Duration::from_secs(60)).unwrap();
        assert_eq!(self.workers[0].next(), 1);
        self.clock.advance(each);
        self.workers[0].answer();
        assert!(matches!(first.await, Ok(Ok(Reply::Random(_)))));
        assert_eq!(self.work.gauge().items(), 0);
    }
}

/// Tells of each request and answers as many of the oldest as each order says, until the socket is closed.
fn serve(mut socket: Peer, tell: &Sender<u16>, orders: Receiver<usize>) {
    let (number, numbers) = channel();
    let mut answers = socket.try_clone().unwrap();
    let answering = std::thread::spawn(move || {
        while let Ok(count) = orders.recv() {
            let mut out = Vec::new();
            for id in numbers.iter().take(count) {
                let reply = Reply::Random(Secret::new(Vec::new()));
                encode_frame(&FromWorker::Reply { id, reply }, &mut out).unwrap();
            }
            if answers.write_all(&out).is_err() {
                return;
            }
        }
    });
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4_096]);
    while let Ok(read @ 1..) = socket.read(&mut chunk) {
        bytes.extend_from_slice(&chunk[..read]);
        while let Some((message, length)) = decode_frame::<ToWorker>(&bytes).unwrap() {
            bytes.drain(..length);
            let (id, name) = match message {
                ToWorker::Request { id, op: Op::Random { length } } => (id, length),
                ToWorker::Request { id, op: Op::GenerateDataKey(items) } => (id, items[0].length),
                _ => continue,
            };
            number.send(id).unwrap();
            let _ = tell.send(name);
        }
    }
    drop(number);
    answering.join().unwrap();
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_gets_what_keeps_it_busy_and_the_rest_waits_in_a_fair_order() {
    let bench = Bench::new(1, 1_000);
    bench.slow(Duration::from_millis(10)).await;
    let mut replies: Vec<_> = (10..20).map(|name| bench.push(name, "anna", LONG).unwrap()).collect();
    replies.push(bench.push(100, "bert", LONG).unwrap());
    let mut order = Vec::new();
    for _ in 0..11 {
        order.push(bench.workers[0].next());
        bench.workers[0].answer();
    }
    // One in the session, one next to it; what bert asks for comes before the eight others of anna.
    assert!(order.iter().position(|name| *name == 100).unwrap() <= 3, "{order:?}");
    for reply in replies {
        assert!(matches!(reply.await, Ok(Ok(_))));
    }
    assert_eq!(bench.work.gauge().items(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_make_its_deadline_is_turned_away_at_once_or_when_its_turn_comes() {
    let bench = Bench::new(1, 1_000);
    bench.slow(Duration::from_millis(10)).await;
    let soon = Duration::from_millis(45);
    let in_flight = [bench.push(10, "anna", LONG).unwrap(), bench.push(11, "anna", LONG).unwrap()];
    let burst = bench.push(20, "anna", Duration::from_millis(1)).unwrap();
    bench.clock.advance(STANDING);
    let waiting = bench.push(12, "bert", soon).unwrap();
    let refused = bench.push(13, "anna", soon).err();
    assert!(
        matches!(refused, Some(CallError::WouldMissDeadline(wait)) if wait >= Duration::from_millis(30)),
        "{refused:?}"
    );
    assert!(bench.push(13, "anna", 3 * soon).is_ok(), "who waits longer is let in");
    assert_eq!([bench.workers[0].next(), bench.workers[0].next()], [10, 11]);
    // It is slower than it was.
    bench.clock.advance(Duration::from_millis(40));
    bench.workers[0].answer();
    for turned_away in [burst, waiting] {
        let turned_away = turned_away.await.unwrap();
        assert!(matches!(turned_away, Err(CallError::WouldMissDeadline(_))), "{turned_away:?}");
    }
    bench.workers[0].answer();
    for reply in in_flight {
        assert!(matches!(reply.await, Ok(Ok(_))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_hsm_is_asked_however_slow_it_was() {
    let bench = Bench::new(1, 1_000);
    bench.slow(Duration::from_secs(5)).await;
    let reply = bench.push(7, "anna", Duration::from_millis(50)).unwrap();
    assert_eq!(bench.workers[0].next(), 7);
    bench.workers[0].answer();
    assert!(matches!(reply.await, Ok(Ok(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_queue_is_full_whoever_has_most_in_it_makes_room() {
    let bench = Bench::new(1, 10);
    bench.slow(Duration::from_millis(10)).await;
    let mut anna: Vec<_> = (10..20).map(|name| bench.push(name, "anna", LONG).unwrap()).collect();
    assert!(matches!(bench.push(20, "anna", LONG), Err(CallError::Busy)));
    let bert = bench.push(100, "bert", LONG).unwrap();
    assert!(matches!(anna.pop().unwrap().await, Ok(Err(CallError::Busy))), "the newest of the longest");
    for _ in 0..10 {
        bench.workers[0].next();
        bench.workers[0].answer();
    }
    for reply in anna.into_iter().chain([bert]) {
        assert!(matches!(reply.await, Ok(Ok(_))));
    }
    assert_eq!(bench.work.gauge().items(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_outlives_a_worker_and_not_the_last_one() {
    let mut bench = Bench::new(2, 1_000);
    bench.slow(Duration::from_millis(10)).await;
    let in_flight: Vec<_> = (10..14).map(|name| bench.push(name, "anna", LONG).unwrap()).collect();
    let waiting = [bench.push(14, "anna", LONG).unwrap(), bench.push(15, "anna", LONG).unwrap()];
    bench.work.serve(0, None);
    // The other one gets what waited, once it has answered.
    for _ in 0..2 {
        bench.workers[1].next();
        bench.workers[1].answer();
    }
    let mut waiting = waiting.into_iter();
    assert_eq!(bench.workers[1].next(), 14);
    bench.workers[1].answer();
    assert!(matches!(waiting.next().unwrap().await, Ok(Ok(_))));
    let behind: Vec<_> = (20..25).map(|name| bench.push(name, "anna", LONG).unwrap()).collect();
    bench.work.serve(1, None);
    assert!(matches!(bench.push(30, "anna", LONG), Err(CallError::NotReady)));
    let given_up = behind.into_iter().next_back().unwrap().await;
    assert!(given_up.is_err(), "nobody knows when there will be a worker: {given_up:?}");
    for worker in &mut bench.workers {
        worker.link = None;
    }
    drop(in_flight);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_before_a_worker_has_the_request_knows_that_none_will() {
    let bench = Bench::new(1, 1_000);
    bench.slow(Duration::from_millis(10)).await;
    let options = CallOptions { deadline: bench.clock.now() + LONG, flow: FlowId::of("anna") };
    let push = |name| bench.work.push(Arc::new(Op::Random { length: name }), options).unwrap();
    let in_flight = [push(10), push(11)];
    assert!(in_flight.iter().all(|taken| taken.fate.is_none()), "the worker has them");
    let [leaves, stays] = [push(12), push(13)];
    assert!(leaves.fate.as_ref().unwrap().decide(), "it left first");
    for name in [10, 11] {
        assert_eq!(bench.workers[0].next(), name);
        bench.workers[0].answer();
    }
    // Its reply is still open, as it is for a moment when its caller's deadline passes.
    assert_eq!(bench.workers[0].next(), 13, "nobody carries out what its caller believes undone");
    assert!(!stays.fate.as_ref().unwrap().decide(), "the worker has it");
    bench.workers[0].answer();
    assert!(matches!(stays.reply.await, Ok(Ok(_))));
    assert!(leaves.reply.await.is_err());
    for taken in in_flight {
        assert!(matches!(taken.reply.await, Ok(Ok(_))));
    }
    assert_eq!(bench.work.gauge().items(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_come_together_say_how_long_each_took() {
    let bench = Bench::new(1, 1_000);
    let each = Duration::from_micros(100);
    bench.slow(each).await;
    for _ in 0..50 {
        let replies: Vec<_> = (10..18).map(|name| bench.push(name, "anna", LONG).unwrap()).collect();
        for name in 10..18 {
            assert_eq!(bench.workers[0].next(), name);
        }
        bench.clock.advance(each * 8);
        bench.workers[0].answer_together(8);
        for reply in replies {
            assert!(matches!(reply.await, Ok(Ok(_))));
        }
    }
    let service_time = bench.work.service_time.of(1, 1);
    assert!((each / 2..each * 2).contains(&service_time), "{service_time:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_any_more_is_in_nobodys_way() {
    let bench = Bench::new(1, 1_000);
    bench.slow(Duration::from_millis(10)).await;
    let in_flight = [bench.push(10, "anna", LONG).unwrap(), bench.push(11, "anna", LONG).unwrap()];
    for given_up in 20..25 {
        drop(bench.push(given_up, "anna", LONG).unwrap());
    }
    let waiting = bench.push(30, "anna", LONG).unwrap();
    assert_eq!([bench.workers[0].next(), bench.workers[0].next()], [10, 11]);
    bench.workers[0].answer();
    assert_eq!(bench.workers[0].next(), 30);
    (0..2).for_each(|_| bench.workers[0].answer());
    for reply in in_flight.into_iter().chain([waiting]) {
        assert!(matches!(reply.await, Ok(Ok(_))));
    }
    assert_eq!(bench.work.gauge().items(), 0);
}

/// A fault while the queue was being changed: nobody knows what it holds, so it begins anew, and nobody waits for
/// ever.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_panic_in_its_queue_it_begins_anew() {
    let bench = Bench::new(1, 1_000);
    bench.slow(Duration::from_millis(10)).await;
    let waiting: Vec<_> = (10..20).map(|name| bench.push(name, "anna", LONG).unwrap()).collect();
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _lanes = bench.work.waiting.lock().unwrap();
        panic!("as a fault would");
    }));
    assert!(broken.is_err());
    let next = bench.push(30, "anna", LONG).unwrap();
    bench.workers[0].answer();
    bench.workers[0].answer();
    bench.workers[0].answer();
    let mut lost = 0;
    for reply in waiting {
        lost += usize::from(tokio::time::timeout(LONG, reply).await.expect("it is told").is_err());
    }
    assert!(lost >= 7, "those that waited are asked for elsewhere: {lost}");
    assert!(matches!(next.await, Ok(Ok(Reply::Random(_)))));
    assert_eq!(bench.work.gauge().items(), 0);
}

/// Where the last four bytes begin of ids that the first of two workers sees, and of those that the second one sees.
const LOW: u8 = 0x20;
const HIGH: u8 = 0xa0;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_many_keys_goes_to_the_worker_that_had_them() {
    let bench = Bench::new(2, 10_000);
    let mut replies = Vec::new();
    for name in 0..4 {
        replies.push(bench.push_under(64, HIGH, 100 + name));
        replies.push(bench.push_under(64, LOW, name));
    }
    for name in 0..4 {
        for (worker, name) in bench.workers.iter().zip([name, 100 + name]) {
            assert_eq!(worker.next(), name);
            worker.answer();
        }
    }
    for reply in replies {
        reply.await.unwrap().unwrap();
    }
    assert_eq!(bench.work.gauge().items(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_few_keys_or_under_all_goes_to_whoever_is_idle() {
    for (keys, first) in [(1, LOW), (8, LOW), (64, 0x60)] {
        let bench = Bench::new(2, 10_000);
        let replies = [bench.push_under(keys, first, 1), bench.push_under(keys, first, 2)];
        let mut taken = [bench.workers[0].next(), bench.workers[1].next()];
        taken.sort_unstable();
        assert_eq!(taken, [1, 2], "{keys} keys from {first} on");
        bench.workers.iter().for_each(Worker::answer);
        for reply in replies {
            reply.await.unwrap().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_nothing_to_do_helps_with_what_has_waited_long() {
    let bench = Bench::new(2, 10_000);
    // The first has 64 items, which is all that it is given before its service_time is known.
    let replies = [1, 2, 3].map(|name| bench.push_under(64, LOW, name));
    let other = bench.push_under(64, HIGH, 100);
    assert_eq!(bench.workers[1].next(), 100);
    bench.clock.advance(PATIENCE - Duration::from_millis(1));
    bench.workers[1].answer();
    other.await.unwrap().unwrap();
    assert!(bench.workers[1].taken.try_recv().is_err(), "not yet");
    bench.clock.advance(Duration::from_millis(1));
    // Something has to happen for anybody to look.
    let next = bench.push_under(64, HIGH, 101);
    for name in [101, 2, 3] {
        assert_eq!(bench.workers[1].next(), name);
        bench.clock.advance(PATIENCE);
        bench.workers[1].answer();
    }
    assert_eq!(bench.workers[0].next(), 1);
    bench.workers[0].answer();
    for reply in replies.into_iter().chain([next]) {
        reply.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_worker_that_has_gone_goes_to_another() {
    let mut bench = Bench::new(2, 10_000);
    let in_flight = bench.push_under(64, LOW, 1);
    assert_eq!(bench.workers[0].next(), 1);
    let waits = bench.push_under(64, LOW, 2);
    bench.work.serve(0, None);
    assert_eq!(bench.workers[1].next(), 2);
    bench.workers[1].answer();
    waits.await.unwrap().unwrap();
    let later = bench.push_under(64, LOW, 3);
    assert_eq!(bench.workers[1].next(), 3);
    bench.workers[1].answer();
    later.await.unwrap().unwrap();
    bench.workers[0].link = None;
    drop(in_flight);
}

/// A single item under a key whose id ends with bytes from this one on.
fn push_one(bench: &Bench, last: u8, name: u16) -> oneshot::Receiver<Answer> {
    let mut id = [7; 16];
    id[12] = last;
    let key = KeyVersionId { key: KeyId::from_bytes(id), version: 1 };
    let options = CallOptions { deadline: bench.clock.now() + LONG, flow: FlowId::of("anna") };
    let item = DataKeyItem { key, aad: Bytes::new(), length: name };
    bench.work.push(Arc::new(Op::GenerateDataKey(vec![item])), options).unwrap().reply
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_keys_single_items_go_to_the_worker_that_knows_their_key_while_it_has_hardly_more_to_do() {
    let bench = Bench::new(2, 1_000);
    let first = push_one(&bench, 200, 1);
    assert_eq!(bench.workers[0].next(), 1, "few keys are in use, and both are idle");
    bench.workers[0].answer();
    assert!(matches!(first.await, Ok(Ok(_))));
    for at in 0..1_024_u32 {
        let mut id = [7; 16];
        // In no order: the newest of them have to be spread.
        id[12..].copy_from_slice(&at.wrapping_mul(0x9e37_79b9).to_be_bytes());
        bench.work.in_use.note(KeyVersionId { key: KeyId::from_bytes(id), version: 1 });
    }
    // Nobody answers meanwhile: what the second worker may have more than the first one, and one further item.
    let most = u16::try_from(ALIKE.1).unwrap() + 1;
    let mut replies: Vec<_> = (0..=most).map(|at| push_one(&bench, 200, 10 + at)).collect();
    assert_eq!(bench.workers[0].next(), 10 + most, "the other one has noticeably less to do");
    for at in 0..most {
        assert_eq!(bench.workers[1].next(), 10 + at);
        bench.workers[1].answer();
    }
    bench.workers[0].answer();
    replies.push(push_one(&bench, 100, 50));
    assert_eq!(bench.workers[0].next(), 50, "another key's worker");
    bench.workers[0].answer();
    for reply in replies {
        assert!(matches!(reply.await, Ok(Ok(_))));
    }
}
