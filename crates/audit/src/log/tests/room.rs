//! A disk that becomes full: nothing of the reserve for anybody but what restricts, and it goes on when there is room.

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
