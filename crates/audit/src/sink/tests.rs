//! Sinks over real files and sockets, whose other sides go away and come back.

mod noted;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::*;

/// A log in memory: record `n` is `{"n":n}`; what is below `first` was moved away.
#[derive(Clone, Default)]
struct Records(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    first: u64,
    /// So often it goes on looking before it gives any.
    looking: u32,
    /// Bytes that each record has beside its number.
    padding: usize,
    broken: bool,
}

fn record(number: u64, padding: usize) -> Vec<u8> {
    format!(r#"{{"eventName":"E","n":{number},"padding":"{}"}}"#, "x".repeat(padding)).into_bytes()
}

impl Source for Records {
    fn read(&mut self, from: u64, end: u64) -> Result<Chunk, String> {
        let mut kept = self.0.lock().unwrap();
        if kept.broken {
            return Err("the log cannot be read".to_owned());
        }
        if kept.looking > 0 {
            kept.looking -= 1;
            return Ok(Chunk { first: from, records: Vec::new() });
        }
        let first = from.max(kept.first);
        let most = (CHUNK_BYTES / record(first, kept.padding).len()).max(1) as u64;
        let records = (first..end.min(first + most)).map(|number| record(number, kept.padding)).collect();
        Ok(Chunk { first, records })
    }
}

struct Bench {
    folder: tempfile::TempDir,
    clock: Clock,
    records: Records,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), clock: Clock::manual(), records: Records::default() }
    }

    fn sink(&self, outlet: impl Outlet + 'static) -> Sink {
        let directory = self.folder.path().to_owned();
        let directory = Box::new(move || crate::within::Directory::open(&directory));
        Sink::new(directory, "one", Box::new(self.records.clone()), Box::new(outlet), self.clock.clone())
    }

    fn lines(&self) -> JsonLines {
        JsonLines::new(self.folder.path().join("lines"))
    }

    fn written(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    fn syslog(&self, address: Address) -> Sink {
        self.sink(Syslog::new(address, self.clock.clone()))
    }

    /// What stands in the file with the position.
    fn kept(&self, sink: &str) -> Option<u64> {
        self.written(&format!("sinks/{sink}")).lines().nth(1).and_then(|number| number.parse().ok())
    }
}

fn expected(numbers: std::ops::Range<u64>) -> String {
    numbers.map(|number| String::from_utf8(record(number, 0)).unwrap() + "\n").collect()
}

/// Steps until there is nothing more to do.
fn drained(sink: &mut Sink, end: u64) {
    while sink.step(end) == Step::More {}
    assert_eq!(sink.standing().trouble, None);
}

/// The next frame of a stream: the number of its record.
fn frame(stream: &mut impl Read) -> Option<u64> {
    let mut length = String::new();
    loop {
        let mut byte = [0];
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        match byte {
            [b' '] => break,
            [digit] => length.push(char::from(digit)),
        }
    }
    let mut message = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut message).ok()?;
    Some(number_of(&message))
}

fn number_of(message: &[u8]) -> u64 {
    let text = std::str::from_utf8(message).unwrap();
    assert!(text.starts_with("<110>1 - ") && text.contains(" keystored ") && text.contains(" E [meta sequenceId="));
    let (_, rest) = text.split_once("\"n\":").unwrap();
    rest.split(',').next().unwrap().parse().unwrap()
}

#[test]
fn lines_are_the_records_and_go_on_where_they_were() {
    let bench = Bench::new();
    let mut sink = bench.sink(bench.lines());
    drained(&mut sink, 3);
    assert_eq!(bench.written("lines"), expected(0..3));
    assert_eq!(bench.kept("json"), None, "the position is written now and then");
    bench.clock.advance(KEEP);
    drained(&mut sink, 5);
    assert_eq!((bench.written("lines"), bench.kept("json")), (expected(0..5), Some(5)));
    drained(&mut sink, 6);
    sink.close().unwrap();
    assert_eq!(bench.kept("json"), Some(6));

    let mut sink = bench.sink(bench.lines());
    drained(&mut sink, 8);
    assert_eq!(bench.written("lines"), expected(0..8), "after a start nothing is missing and nothing twice");
    let standing = sink.standing();
    assert_eq!((standing.arrived, standing.sent, standing.missed), (8, 8, 0));
}

/// What somebody has written there leaves no record out.
#[test]
fn a_position_ahead_of_the_log_is_none() {
    let bench = Bench::new();
    std::fs::create_dir(bench.folder.path().join("sinks")).unwrap();
    let says =
        |number: u64| std::fs::write(bench.folder.path().join("sinks/json"), format!("one\n{number}\n")).unwrap();
    for number in [4, u64::MAX] {
        says(number);
        std::fs::write(bench.folder.path().join("lines"), "").unwrap();
        let mut sink = bench.sink(bench.lines());
        drained(&mut sink, 3);
        drained(&mut sink, 5);
        sink.close().unwrap();
        assert_eq!((bench.written("lines"), bench.kept("json")), (expected(0..5), Some(5)));
    }
    // All of them have arrived.
    says(5);
    let mut sink = bench.sink(bench.lines());
    drained(&mut sink, 5);
    assert_eq!((bench.written("lines"), sink.standing().arrived), (expected(0..5), 5));
}

#[test]
fn the_file_may_be_renamed_and_removed() {
    let bench = Bench::new();
    let mut sink = bench.sink(bench.lines());
    drained(&mut sink, 2);
    let at = |name: &str| bench.folder.path().join(name);
    std::fs::rename(at("lines"), at("lines.1")).unwrap();
    drained(&mut sink, 4);
    assert_eq!((bench.written("lines.1"), bench.written("lines")), (expected(0..2), expected(2..4)));
    std::fs::write(at("lines"), "").unwrap();
    drained(&mut sink, 5);
    assert_eq!(bench.written("lines"), expected(4..5), "logrotate's copytruncate");
    std::fs::remove_file(at("lines")).unwrap();
    drained(&mut sink, 6);
    assert_eq!(bench.written("lines"), expected(5..6));
}

#[test]
fn what_cannot_be_written_is_written_when_it_can() {
    let bench = Bench::new();
    let place = bench.folder.path().join("not/there");
    let mut sink = bench.sink(JsonLines::new(place.clone()));
    assert_eq!(sink.step(3), Step::Failed);
    let standing = sink.standing();
    assert!(standing.trouble.is_some_and(|why| why.contains("not/there: cannot be written")));
    assert_eq!(standing.sent, 0);
    std::fs::create_dir(bench.folder.path().join("not")).unwrap();
    drained(&mut sink, 4);
    assert_eq!(bench.written("not/there"), expected(0..4));
    // What is no file would take everything and keep nothing.
    std::fs::remove_file(&place).unwrap();
    std::os::unix::fs::symlink("/dev/null", &place).unwrap();
    assert_eq!(sink.step(5), Step::Failed);
    std::fs::remove_file(&place).unwrap();
    // And what the log itself cannot give.
    bench.records.0.lock().unwrap().broken = true;
    assert_eq!(sink.step(5), Step::Failed);
    assert_eq!(sink.standing().trouble.as_deref(), Some("the log cannot be read"));
    bench.records.0.lock().unwrap().broken = false;
    drained(&mut sink, 5);
    assert_eq!(bench.written("not/there"), expected(4..5));
}

#[test]
fn records_that_were_moved_away_are_counted() {
    let bench = Bench::new();
    *bench.records.0.lock().unwrap() = Kept { first: 10, looking: 2, ..Kept::default() };
    let mut sink = bench.sink(bench.lines());
    drained(&mut sink, 12);
    assert_eq!((bench.written("lines"), sink.standing().missed), (expected(10..12), 10));
}

#[test]
fn a_receiver_that_comes_back_is_sent_what_it_missed() {
    let bench = Bench::new();
    // Bound and not listening, to the end: the system gives the port to nobody else while no receiver is there.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.set_reuseaddr(true).unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = held.local_addr().unwrap();
    let listener = TcpListener::bind(address).unwrap();
    let mut sink = bench.syslog(Address::Tcp(address.to_string()));
    drained(&mut sink, 3);
    let (mut stream, _) = listener.accept().unwrap();
    assert_eq!([frame(&mut stream), frame(&mut stream), frame(&mut stream)], [Some(0), Some(1), Some(2)]);
    bench.clock.advance(Duration::from_secs(36));
    drained(&mut sink, 4);
    assert_eq!((frame(&mut stream), bench.kept("syslog")), (Some(3), Some(3)), "after a while they count as arrived");

    // It goes away: what it may not have had is sent again to the next one.
    drop((stream, listener));
    let failed = |sink: &mut Sink| (0..1_000_000).any(|_| sink.step(6) == Step::Failed);
    assert!(failed(&mut sink), "it is noticed");
    assert_eq!(sink.standing().sent, 3);
    assert_eq!(sink.step(6), Step::Failed, "nobody is there");
    let listener = TcpListener::bind(address).unwrap();
    drained(&mut sink, 6);
    let (mut stream, _) = listener.accept().unwrap();
    assert_eq!([frame(&mut stream), frame(&mut stream), frame(&mut stream)], [Some(3), Some(4), Some(5)]);

    // The daemon is stopped, and started again.
    sink.close().unwrap();
    assert_eq!(bench.kept("syslog"), Some(3));
    let mut sink = bench.syslog(Address::Tcp(address.to_string()));
    drained(&mut sink, 7);
    let (mut stream, _) = listener.accept().unwrap();
    let again: Vec<_> = (3..7).map(|_| frame(&mut stream)).collect();
    assert_eq!(again, [3, 4, 5, 6].map(Some));
}

#[test]
fn a_slow_reader_holds_nobody_and_gets_everything() {
    let bench = Bench::new();
    bench.records.0.lock().unwrap().padding = 60_000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut sink = bench.syslog(Address::Tcp(listener.local_addr().unwrap().to_string()));
    let end = 300;
    // It takes nothing until the buffers of the kernel are full.
    let real = Clock::system();
    let before = real.now();
    let mut stuck = None;
    loop {
        assert_eq!(sink.step(end), Step::More);
        let sent = Some(sink.standing().sent);
        if std::mem::replace(&mut stuck, sent) == sent {
            break;
        }
    }
    assert!(stuck < Some(end) && real.now() - before < Duration::from_secs(60));
    let (mut stream, _) = listener.accept().unwrap();
    let reader = std::thread::spawn(move || (0..end).map(|_| frame(&mut stream)).collect::<Vec<_>>());
    drained(&mut sink, end);
    assert!(reader.join().unwrap().into_iter().eq((0..end).map(Some)), "each once, in their order");
}

#[test]
fn sockets_of_the_host_are_streams_or_datagrams() {
    let bench = Bench::new();
    let path = bench.folder.path().join("log");
    let listener = UnixListener::bind(&path).unwrap();
    let mut sink = bench.syslog(Address::Unix(path.clone()));
    drained(&mut sink, 2);
    let (mut stream, _) = listener.accept().unwrap();
    assert_eq!([frame(&mut stream), frame(&mut stream)], [Some(0), Some(1)]);
    stream.write_all(b"whatever it says").unwrap();
    bench.clock.advance(Duration::from_secs(36));
    drained(&mut sink, 2);
    sink.close().unwrap();

    drop((stream, listener));
    std::fs::remove_file(&path).unwrap();
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut sink = bench.syslog(Address::Unix(path.clone()));
    drained(&mut sink, 4);
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let mut message = [0; 1_024];
        let length = socket.recv(&mut message).unwrap();
        numbers.push(number_of(&message[..length]));
    }
    assert_eq!(numbers, [2, 3]);
    // One that is full is slow and not gone.
    let end = 2_000;
    assert_eq!([sink.step(end), sink.step(end)], [Step::More, Step::More]);
    assert_eq!(sink.standing().trouble, None);
    drop(socket);
    assert!((0..10).any(|_| sink.step(end) == Step::Failed));
    assert!(sink.standing().trouble.is_some_and(|why| why.starts_with("unix:")));
}

#[test]
fn a_connection_that_broke_off_in_the_middle_of_a_record_begins_with_a_whole_one() {
    let bench = Bench::new();
    bench.records.0.lock().unwrap().padding = 60_000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut sink = bench.syslog(Address::Tcp(listener.local_addr().unwrap().to_string()));
    assert_eq!([sink.step(200), sink.step(200)], [Step::More, Step::More]);
    let (stream, _): (TcpStream, _) = listener.accept().unwrap();
    drop(stream);
    assert!((0..1_000_000).any(|_| sink.step(200) == Step::Failed));
    assert_eq!(sink.step(200), Step::More);
    let (mut stream, _) = listener.accept().unwrap();
    let reader = std::thread::spawn(move || frame(&mut stream));
    while !reader.is_finished() {
        sink.step(200);
    }
    assert_eq!(reader.join().unwrap(), Some(0));
}

/// The process ended in the midst of a line: the next one finishes it, whichever record it was; what belongs to none goes.
#[test]
fn half_a_line_is_finished_and_never_another_one() {
    let line = |number: u64| expected(number..number + 1);
    for (half_of, length) in [(2, 5), (2, 30), (4, 30), (2, 0)] {
        let bench = Bench::new();
        let mut sink = bench.sink(bench.lines());
        drained(&mut sink, 2);
        sink.close().unwrap();
        let half = line(half_of)[..length].to_owned();
        std::fs::write(bench.folder.path().join("lines"), expected(0..2) + &half).unwrap();
        let mut sink = bench.sink(bench.lines());
        drained(&mut sink, 6);
        let written = bench.written("lines");
        assert!(written.starts_with(&(expected(0..2) + &half)), "nothing is taken back");
        let lines: Vec<String> = written.split_inclusive('\n').map(str::to_owned).collect();
        assert!(lines.iter().all(|written| (0..6).any(|number| *written == line(number))), "{written}");
        assert!((0..6).all(|number| lines.contains(&line(number))), "{written}");
        assert!(lines.len() <= 7);
    }
    let bench = Bench::new();
    std::fs::write(bench.folder.path().join("lines"), "somebody's line\n{\"of nobody").unwrap();
    let mut sink = bench.sink(bench.lines());
    drained(&mut sink, 2);
    assert_eq!(bench.written("lines"), "somebody's line\n".to_owned() + &expected(0..2));
}

/// What is longer than any line was not written here: it stays as it is, and keeps nothing from going on.
#[test]
fn what_is_no_line_of_ours_gets_an_end_and_stays() {
    for length in [65_536, 65_537, 200_000] {
        for before in ["", "{}\n"] {
            let bench = Bench::new();
            let foreign = before.to_owned() + &"x".repeat(length);
            std::fs::write(bench.folder.path().join("lines"), &foreign).unwrap();
            let mut sink = bench.sink(bench.lines());
            drained(&mut sink, 2);
            drained(&mut sink, 4);
            assert!(bench.written("lines") == foreign + "\n" + &expected(0..4), "{length} {before:?}");
        }
    }
    // Moved away, it is left alone.
    let bench = Bench::new();
    let mut sink = bench.sink(bench.lines());
    drained(&mut sink, 2);
    let at = |name: &str| bench.folder.path().join(name);
    let foreign = "x".repeat(70_000);
    std::fs::File::options().append(true).open(at("lines")).unwrap().write_all(foreign.as_bytes()).unwrap();
    std::fs::rename(at("lines"), at("lines.1")).unwrap();
    drained(&mut sink, 3);
    assert!(bench.written("lines.1") == expected(0..2) + &foreign && bench.written("lines") == expected(2..3));
}

/// Where a test has to be run again to have a file system of its own.
const ALONE: &str = "KEYSTORED_AUDIT_TEST_DISK";

/// A real disk that is full in the midst of a line.
#[test]
fn a_full_disk_leaves_no_broken_line() {
    let Some(disk) = std::env::var_os(ALONE).map(PathBuf::from) else {
        return crate::test_disk::again("sink::tests::a_full_disk_leaves_no_broken_line", ALONE);
    };
    let bench = Bench::new();
    bench.records.0.lock().unwrap().padding = 1_000;
    let (file, filler) = (disk.join("lines"), disk.join("filler"));
    let expected: String = (0..900).map(|number| String::from_utf8(record(number, 1_000)).unwrap() + "\n").collect();
    let fill = || {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&filler).unwrap();
        while file.write_all(&[1; 4_096]).is_ok() {}
    };
    // Some pages are left.
    std::fs::write(disk.join("left"), [1; 40_960]).unwrap();
    fill();
    std::fs::remove_file(disk.join("left")).unwrap();
    let mut sink = bench.sink(JsonLines::new(file.clone()));
    assert_eq!(sink.step(900), Step::Failed);
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(written.len() > 30_000 && !written.ends_with('\n') && expected.starts_with(&written));
    let whole = written.lines().count() as u64 - 1;
    assert_eq!(sink.standing().arrived, whole, "what is whole is not sent again");
    assert_eq!(sink.step(900), Step::Failed);
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        written,
        "nothing is added to half a line, and nothing taken back"
    );
    // It is moved away as it is: then it ends with a line, and the rest goes into another one.
    let moved = disk.join("lines.1");
    std::fs::rename(&file, &moved).unwrap();
    std::fs::remove_file(&filler).unwrap();
    while sink.step(900) != Step::Idle {}
    let (before, after) = (std::fs::read_to_string(&moved).unwrap(), std::fs::read_to_string(&file).unwrap());
    assert_eq!(before.lines().count() as u64, whole);
    assert!(before.ends_with('\n'));
    assert_eq!(before + &after, expected);
    // And without that.
    std::fs::write(disk.join("left"), [1; 40_960]).unwrap();
    fill();
    std::fs::remove_file(disk.join("left")).unwrap();
    bench.records.0.lock().unwrap().padding = 900;
    assert_eq!(sink.step(1_000), Step::Failed);
    assert!(!std::fs::read_to_string(&file).unwrap().ends_with('\n'));
    std::fs::remove_file(&filler).unwrap();
    while sink.step(1_000) != Step::Idle {}
    let rest: String = (900..1_000).map(|number| String::from_utf8(record(number, 900)).unwrap() + "\n").collect();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), after + &rest);
}
