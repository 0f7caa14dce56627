//! A stream that blocks, one that fails, one that does both in turn.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use super::*;

const LONG: Duration = Duration::from_secs(60);
const SMALL: Bounds = Bounds { lines: 4, bytes: 100, line: 50 };

fn tell(gap: &Gap) -> Vec<u8> {
    format!("({} missing)\n", gap.lines).into_bytes()
}

/// A stream that takes a write whenever the test lets it.
struct Gated {
    go: Receiver<()>,
    written: Sender<String>,
}

impl Write for Gated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.go.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
        self.written.send(String::from_utf8(bytes.to_vec()).unwrap()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream that fails while it is told to.
struct Failing {
    fails: Arc<AtomicBool>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Write for Failing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.fails.load(Ordering::Acquire) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.written.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn start(out: impl Write + Send + 'static, bounds: Bounds) -> Queue {
    Queue::start("log-test", Hand::new(out, tell), bounds, Clock::system())
}

/// Waits until the queue is so.
fn until(queue: &Queue, condition: impl Fn(&State) -> bool) {
    let end = queue.0.clock.now() + LONG;
    while !condition(&queue.0.lock()) {
        assert!(queue.0.clock.now() < end, "waited in vain: {:?}", queue.look());
        thread::yield_now();
    }
}

#[test]
fn who_pushes_never_waits_and_what_is_too_much_is_told_in_its_place() {
    let ((go, gate), (written, lines)) = (mpsc::channel(), mpsc::channel());
    let queue = start(Gated { go: gate, written }, SMALL);
    queue.push(b"0\n");
    until(&queue, |state| state.in_hand.is_some());
    // The one in hand counts.
    (1..9).for_each(|number| queue.push(format!("{number}\n").as_bytes()));
    let look = queue.look();
    assert_eq!((look.waiting, look.dropped, look.untold.map(|gap| gap.lines)), (4, 5, Some(5)));
    assert!(look.in_hand.is_some() && look.lost.is_some());
    assert!(!queue.flush(Duration::from_millis(1)), "nothing was written");

    // Two go out, so that there is room for two; then one is too much again.
    for _ in 0..2 {
        go.send(()).unwrap();
        lines.recv_timeout(LONG).unwrap();
    }
    until(&queue, |state| state.lines == 2);
    ["9\n", "10\n", "11\n"].iter().for_each(|line| queue.push(line.as_bytes()));
    (0..99).for_each(|_| go.send(()).unwrap());
    assert!(queue.flush(LONG));
    let rest: Vec<String> = (0..6).map(|_| lines.recv_timeout(LONG).unwrap()).collect();
    assert_eq!(rest, ["2\n", "3\n", "(5 missing)\n", "9\n", "10\n", "(1 missing)\n"]);
    until(&queue, |state| state.untold.is_none());
    let look = queue.look();
    assert_eq!((look.dropped, look.waiting, look.error), (6, 0, None));
}

#[test]
fn bytes_are_bounded_as_lines_are() {
    let ((_go, gate), (written, _lines)) = (mpsc::channel(), mpsc::channel());
    let queue = start(Gated { go: gate, written }, SMALL);
    queue.push(&[b'x'; 51]);
    assert_eq!((queue.look().waiting, queue.look().dropped), (0, 1), "too long for any queue");
    queue.push(&[b'x'; 50]);
    queue.push(&[b'x'; 50]);
    queue.push(b"\n");
    assert_eq!((queue.look().waiting, queue.look().dropped), (2, 2));
}

#[test]
fn last_words_have_room_and_are_not_waited_for_for_ever() {
    let ((go, gate), (written, lines)) = (mpsc::channel(), mpsc::channel());
    let queue = start(Gated { go: gate, written }, SMALL);
    (0..9).for_each(|_| queue.push(b"line\n"));
    queue.push_last(b"the end\n");
    assert!(!queue.flush(Duration::from_millis(1)));
    (0..99).for_each(|_| go.send(()).unwrap());
    assert!(queue.flush(LONG));
    let all: Vec<String> = (0..6).map(|_| lines.recv_timeout(LONG).unwrap()).collect();
    assert_eq!(all.last().unwrap(), "the end\n", "{all:?}");
}

#[test]
fn a_stream_that_fails_is_tried_again_and_told_by_itself() {
    let (fails, written) = (Arc::new(AtomicBool::new(true)), Arc::<Mutex<Vec<u8>>>::default());
    let queue = start(Failing { fails: Arc::clone(&fails), written: Arc::clone(&written) }, SMALL);
    for _ in 0..9 {
        queue.push(b"lost\n");
        assert!(queue.flush(LONG), "what is refused does not wait");
    }
    let look = queue.look();
    assert_eq!((look.dropped, look.untold.as_ref().map(|gap| gap.lines)), (9, Some(9)));
    assert_eq!(look.error, Some(io::Error::from(io::ErrorKind::StorageFull).to_string()));
    // No further line has to come.
    fails.store(false, Ordering::Release);
    until(&queue, |state| state.untold.is_none());
    let look = queue.look();
    assert_eq!((look.dropped, look.error), (9, None));
    queue.push(b"kept\n");
    assert!(queue.flush(LONG));
    assert_eq!(written.lock().unwrap().as_slice(), b"(9 missing)\nkept\n");
}

/// A stream that panics once.
struct Breaking(bool, Sender<String>);

impl Write for Breaking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(std::mem::replace(&mut self.0, true), "this thread breaks, as the test wants it to");
        self.1.send(String::from_utf8(bytes.to_vec()).unwrap()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_panic_in_the_thread_costs_a_line_and_nothing_else() {
    let (written, lines) = mpsc::channel();
    let queue = start(Breaking(false, written), SMALL);
    ["0\n", "1\n", "2\n"].iter().for_each(|line| queue.push(line.as_bytes()));
    assert!(queue.flush(LONG));
    let all: Vec<String> = (0..3).map(|_| lines.recv_timeout(LONG).unwrap()).collect();
    assert_eq!(all, ["(1 missing)\n", "1\n", "2\n"]);
    let look = queue.look();
    assert_eq!((look.dropped, look.waiting, look.untold, look.error), (1, 0, None, None));
    assert_eq!(queue.0.lock().bytes, 0);
}

#[test]
fn what_was_lost_elsewhere_is_counted() {
    let queue = start(io::sink(), SMALL);
    queue.count(7);
    let look = queue.look();
    assert_eq!((look.dropped, look.untold), (7, None));
    assert!(look.lost.is_some());
}
