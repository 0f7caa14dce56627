//! What those who read a log make of one that is written: while it is open, after trouble, and with bundles moved away.

use super::*;
use crate::files::Place;
use crate::keys::PublicKeys;
use crate::read::Records;
use crate::{prove, verify};

fn verified(place: &Place) -> verify::Report {
    let keys = PublicKeys::new(key().verifier(), Vec::new(), Vec::new()).check().expect("keys");
    verify::verify_at(place, &keys, None, &mut |_, _| {}).expect("a log that is as it was signed")
}

fn read(place: &Place, from: u64) -> Vec<Vec<u8>> {
    let mut records = Records::from(place, from).expect("records");
    std::iter::from_fn(|| records.next().expect("read").map(|record| record.bytes.to_vec())).collect()
}

/// Somebody follows the log and somebody else verifies it, all the while that records come, bundles are made and compressed,
/// and the journal is taken away: the one sees each record once and in order, the other finds nothing.
#[test]
fn a_log_is_read_and_verified_while_it_is_written() {
    let setup = Setup::new();
    let log = setup.open();
    let place = Place::new(setup.directory());
    let done = AtomicBool::new(false);
    let size = 20_000;
    thread::scope(|scope| {
        let end = SetAtEnd(&done);
        let follows = scope.spawn(|| {
            let mut records = Records::from(&place, 0).expect("records");
            let mut next = 0;
            until("all are read", || {
                while let Some(found) = records.next().expect("read") {
                    assert_eq!((found.number, found.bytes), (next, record(next).as_slice()));
                    next += 1;
                }
                next == size
            });
        });
        let verifies = scope.spawn(|| {
            until("a head is signed", || setup.directory().join(layout::CHECKPOINT).exists());
            let mut last = 0;
            while !done.load(Ordering::SeqCst) {
                let head = verified(&place).head.size;
                assert!(head >= last);
                last = head;
            }
        });
        fill(&log, 0..size);
        follows.join().expect("a thread");
        drop(end);
        verifies.join().expect("a thread");
    });
    log.close();
    let report = verified(&place);
    assert_eq!((report.head, report.behind, report.torn), (log.head(), 0, 0));
    assert_eq!(read(&place, 0), records_of(0..size));
}

/// After a crash and after trouble with the journal there is nothing to be found either, and each record can be proven.
#[test]
fn a_log_that_was_in_trouble_is_as_it_was_signed() {
    let setup = Setup::new();
    let log = setup.open();
    fill(&log, 0..700);
    for path in journal_files(setup.directory()) {
        std::fs::remove_file(path).expect("removed");
    }
    until("it is noticed", || data(&log, 700).is_err());
    until("it has healed", || log.state().accepting());
    let next = log.state().size;
    fill(&log, next..next + 100);
    let crashed = tempfile::tempdir().expect("a directory");
    copied(setup.directory(), crashed.path());
    drop(log);
    let setup = Setup::at(crashed.path());
    let log = setup.open();
    assert_eq!(log.state().size, next + 100);
    fill(&log, next + 100..next + 200);
    log.close();
    let to = tempfile::tempdir().expect("a directory");
    archive(setup.directory(), to.path(), 300).expect("moved");
    let place = Place::new(setup.directory()).with_archive(Some(to.path()));
    assert_eq!(verified(&place).head, log.head());
    assert_eq!(read(&place, 0), records_of(0..next + 200));
    for number in [0, 255, 256, next, next + 199] {
        prove::prove_at(&place, number).expect("a proof");
    }
}
