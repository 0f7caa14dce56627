//! What the writer of the log writes is what is checked here.

use std::sync::Arc;

use model::clock::Clock;

use super::*;
use crate::log::{Class, Leaves, Log, Settings};
use crate::prove::{check, prove};
use crate::read::Records;

#[test]
fn a_log_that_was_written_is_as_it_was_signed() {
    let bench = Bench::new();
    let directory = bench.path().join("audit");
    let token = Token(LogKey::from_seed("hsm-1.keys.example", &[2; 32]).unwrap());
    let token: Arc<dyn Cosigner> = Arc::new(token);
    let mut written = 0;
    let mut known = None;
    for count in [0, 1, 300, 256, 40] {
        let settings = Settings::new(directory.clone(), ORIGIN.to_owned(), Clock::system());
        let key = LogKey::from_seed(ORIGIN, &[1; 32]).unwrap();
        let log = Log::open(settings, key, Arc::clone(&token), known).unwrap();
        for number in written..written + count {
            let leaves = Leaves::one(&record(number, 300)).unwrap();
            assert_eq!(log.append(leaves, Class::Data).wait().unwrap().first, number);
        }
        written += count;
        log.close();
        known = Some(log.head());
        drop(log);
        let report = verify_at(&Place::new(&directory), &bench.keys(), None, &mut |_, _| {}).unwrap();
        assert_eq!((report.head.size, report.behind, report.torn), (written, 0, 0));
        let [own, hsm] = &report.signers[..] else { panic!() };
        assert_eq!((own.newest, hsm.newest), (Some(written), Some(written)));
        for number in [0, written / 2, written.saturating_sub(1)].into_iter().filter(|number| *number < written) {
            let proof = prove(&directory, number).unwrap();
            assert_eq!(check(proof.as_bytes(), &bench.keys(), None).unwrap().record, record(number, 300));
        }
    }
    let mut records = Records::from(&Place::new(&directory), 0).unwrap();
    while let Some(found) = records.next().unwrap() {
        assert_eq!(found.bytes, record(found.number, 300));
    }
    assert_eq!(records.number(), written);
    let archive = directory.with_file_name("archive");
    assert!(crate::log::archive(&directory, &archive, 0).is_ok());
    let place = Place::new(&directory).with_archive(Some(&archive));
    assert!(verify_at(&place, &bench.keys(), None, &mut |_, _| {}).is_ok());
}
