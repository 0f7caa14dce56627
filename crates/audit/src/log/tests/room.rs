//! A disk that becomes full: nothing of the reserve for anybody but what restricts, and it goes on when there is room.

use super::trouble::until_healed;
use super::*;
use rustix::io::Errno;

/// The file system gives no room for the journal, while this is so.
fn full(script: &Script) {
    script.fail(|act, _| matches!(act, Act::Allocate | Act::Create).then(|| Errno::NOSPC.into()));
}

#[test]
fn the_reserve_is_for_what_restricts() {
    let script = Arc::new(Script::default());
    let setup = Setup::new().with(&script);
    let log = setup.open();
    assert_eq!(log.state().reserve_bytes, 64 << 10);
    full(&script);
    let leaf = || Leaves::one(&[b'x'; 1_000]).expect("a leaf");
    let mut accepted = 0;
    let refused = loop {
        match log.append(leaf(), Class::Data).wait() {
            Ok(_) => accepted += 1,
            Err(why) => break why,
        }
    };
    // What was allocated before it became full is used, up to the reserve.
    assert_eq!(refused, NotAccepted::Trouble(Reason::NoSpace));
    assert_eq!(accepted, (256 << 10) / (1_000 + layout::FRAME));
    let state = log.state();
    assert_eq!(state.trouble.map(|trouble| trouble.reason), Some(Reason::NoSpace));
    assert_eq!(state.reserve_bytes, 64 << 10);
    assert_eq!(log.append(leaf(), Class::Control).wait(), Err(NotAccepted::Trouble(Reason::NoSpace)));
    let mut restricting = 0;
    let refused = loop {
        match log.append(leaf(), Class::Restricting).wait() {
            Ok(_) => restricting += 1,
            Err(why) => break why,
        }
        assert!(log.append(leaf(), Class::Data).wait().is_err());
    };
    assert_eq!(refused, NotAccepted::Trouble(Reason::NoSpace));
    let all = ((256 << 10) + (64 << 10)) / (1_000 + layout::FRAME);
    assert_eq!(accepted + restricting, all);
    script.pass();
    until("there is room", || log.state().accepting());
    until("the reserve is there again", || log.state().reserve_bytes == 64 << 10);
    assert_eq!(log.append(leaf(), Class::Data).wait().map(|position| position.first), Ok(all as u64));
    log.close();
    assert_eq!(contents(setup.directory()).len(), all + 1);
}

/// The reserve is there also when the log is opened while the disk is full.
#[test]
fn the_reserve_outlives_a_start_on_a_full_disk() {
    let script = Arc::new(Script::default());
    let setup = Setup::new().with(&script);
    let log = setup.open();
    fill(&log, 0..10);
    drop(log);
    // What the file system keeps for the file it gives again; nothing beyond.
    let least = 10_u64;
    full(&script);
    let log = setup.open();
    until("it is noticed", || data(&log, least) == Err(NotAccepted::Trouble(Reason::NoSpace)));
    script.pass();
    until("there is room", || log.state().accepting());
    fill(&log, 10..20);
    log.close();
    assert_eq!(contents(setup.directory()), records_of(0..20));
}

/// Where the file system can't keep room, what is free is what there is.
#[test]
fn a_file_system_without_reservation_is_asked_what_is_free() {
    let script = Arc::new(Script::default());
    let setup = Setup::new().with(&script);
    script.fail(|act, _| (act == Act::Allocate).then(|| Errno::OPNOTSUPP.into()));
    let log = setup.open();
    assert!(log.state().accepting());
    fill(&log, 0..2_000);
    log.close();
    assert_eq!(contents(setup.directory()), records_of(0..2_000));
}

/// A journal of which no bundles can be made grows to its bound and no further; the reserve is there for what restricts, and it
/// goes on by itself when bundles are made again.
#[test]
fn the_journal_has_a_bound() {
    let script = Arc::new(Script::default());
    let mut setup = Setup::new().with(&script);
    setup.settings.reserve_bytes = 20_000;
    setup.sizes.segment = 40_000;
    setup.sizes.journal_bytes = 400_000;
    // Much is read back from the journal.
    setup.sizes.recent_bytes = 50_000;
    let log = setup.open();
    script.fail(|act, path| (act == Act::Rename && path.starts_with("tile")).then(|| Errno::IO.into()));
    // All equally long: where one has no room, no other has.
    let append = |class| log.append(Leaves::one(&[b'x'; 100]).expect("a leaf"), class).wait();
    let refused = std::iter::repeat_with(|| append(Class::Data)).find_map(Result::err);
    let behind = NotAccepted::Trouble(Reason::Behind);
    assert_eq!(refused, Some(behind.clone()));
    assert_eq!(log.state().trouble.map(|trouble| trouble.reason), Some(Reason::Behind));
    assert_eq!(append(Class::Control), Err(behind.clone()));
    let size =
        || journal_files(setup.directory()).iter().map(|path| path.metadata().map_or(0, |it| it.len())).sum::<u64>();
    assert!((300_000..=380_000).contains(&size()), "{}", size());
    let before = size();
    assert!(append(Class::Restricting).is_ok());
    let last = std::iter::repeat_with(|| append(Class::Restricting)).find_map(Result::err);
    assert_eq!(last, Some(behind));
    assert!(size() > before + 15_000, "the reserve was used");
    assert!((345_000..=400_000).contains(&size()), "{}", size());
    let state = log.state();
    assert_eq!((state.head.size, state.bytes >= size()), (0, true));
    script.pass();
    until("it goes on", || log.state().accepting());
    let next = log.state().size;
    assert_eq!(append(Class::Data).map(|position| position.first), Ok(next));
    until("all is signed", || log.head().size == next + 1);
    until("the journal is trimmed", || size() < 100_000);
    log.close();
    assert_eq!(contents(setup.directory()).len() as u64, next + 1);
}

/// A journal that is one long file, as one that was made anew may be, does not stay for ever at its bound.
#[test]
fn a_long_file_of_the_journal_is_followed_by_another() {
    let mut setup = Setup::new();
    setup.settings.reserve_bytes = 1_000;
    drop(setup.open());
    let file = journal_files(setup.directory()).pop().expect("a file");
    let bytes: Vec<u8> =
        (0..3_000).flat_map(|number| Leaves::one(&record(number)).expect("a leaf").framed().to_vec()).collect();
    std::fs::write(file, &bytes).expect("written");
    setup.sizes.segment = 10_000;
    setup.sizes.journal_bytes = bytes.len() as u64;
    let log = setup.open();
    let mut number = 3_000;
    until("there is room for more than was allocated", || {
        number += u64::from(data(&log, number).is_ok());
        number == 4_000
    });
    log.close();
    assert_eq!(contents(setup.directory()), records_of(0..4_000));
}

/// Where a test has to be run again to have a file system of its own.
const ALONE: &str = "KEYSTORED_AUDIT_TEST_DISK";

/// A real file system of four megabytes, filled by somebody else: the log refuses what is not for the reserve, takes what is,
/// and goes on when there is room.
#[test]
fn a_real_disk_that_is_full() {
    let Some(disk) = std::env::var_os(ALONE).map(PathBuf::from) else {
        return crate::test_disk::again("log::tests::room::a_real_disk_that_is_full", ALONE);
    };
    let mut setup = Setup::at(&disk.join("audit"));
    setup.settings.reserve_bytes = 100 << 10;
    setup.settings.checkpoint_every = Duration::from_secs(3_600);
    let log = setup.open();
    until("the first head is signed", || log.state().signed_at.is_some());
    fill(&log, 0..100);
    let filler = disk.join("filler");
    // All but some pages, so that what others need is not there either.
    let mut file = std::fs::File::create(&filler).expect("a file");
    let full = std::iter::repeat_with(|| io::Write::write_all(&mut file, &[1; 4_096])).find_map(Result::err);
    drop(file);
    assert_eq!(full.map(|error| error.kind()), Some(io::ErrorKind::StorageFull));
    let refused = (100..).find_map(|number| data(&log, number).err());
    assert_eq!(refused, Some(NotAccepted::Trouble(Reason::NoSpace)));
    let state = log.state();
    assert_eq!(state.trouble.map(|trouble| trouble.reason), Some(Reason::NoSpace));
    assert_eq!(state.reserve_bytes, 100 << 10);
    assert_eq!(append(&log, 0, Class::Control), Err(NotAccepted::Trouble(Reason::NoSpace)));
    let restricting = append(&log, 7, Class::Restricting).expect("out of the reserve");
    std::fs::remove_file(&filler).expect("removed");
    until_healed(&log);
    let size = log.state().size;
    assert_eq!(data(&log, size).map(|position| position.first), Ok(size));
    log.close();
    let contents = contents(setup.directory());
    assert_eq!(contents.len() as u64, size + 1);
    assert_eq!(contents[restricting.first as usize], record(7));
}
