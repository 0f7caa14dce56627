//! Logs that are opened: what a crash has left is put in order, and what contradicts a signed head is not written to.

use super::*;

/// A log with so many records, closed.
fn closed(setup: &Setup, size: u64) -> Head {
    let log = setup.open();
    fill(&log, log.state().size..size);
    log.close();
    log.head()
}

/// The log opens, has these records, and goes on.
fn goes_on(setup: &Setup, size: u64) {
    let log = setup.open();
    assert_eq!(log.state().size, size);
    fill(&log, size..size + 3);
    log.close();
    drop(log);
    assert_eq!(contents(setup.directory()), records_of(0..size + 3));
}

/// It does not open, and nothing was changed.
fn refused(setup: &Setup) -> OpenError {
    let before = files(setup.directory());
    let error = setup.try_open().map(|_| ()).expect_err("refused");
    assert_eq!(files(setup.directory()), before);
    error
}

#[test]
fn a_log_goes_on_where_it_was_closed() {
    let setup = Setup::new();
    for size in [0, 1, 255, 256, 257, 511, 512, 1_000, 1_024] {
        let head = closed(&setup, size);
        assert_eq!(head.size, size);
        assert_eq!(checked_head(setup.directory()), head);
    }
    assert_eq!(contents(setup.directory()), records_of(0..1_024));
}

#[test]
fn one_process_has_it_open() {
    let setup = Setup::new();
    let log = setup.open();
    assert!(matches!(setup.try_open(), Err(OpenError::InUse(_))));
    drop(log);
    drop(setup.open());
}

/// Whatever part of the last records is there, those before are, and no part of one is taken for a record.
#[test]
fn torn_ends_are_cut_wherever_they_are_torn() {
    let (before, crashed) = (quick_directory(), quick_directory());
    let mut setup = Setup::at(&before.path().join("audit"));
    // Only what was closed is under a head.
    setup.settings.checkpoint_every = Duration::from_secs(3_600);
    closed(&setup, 260);
    let log = setup.open();
    until("a head is signed", || log.state().signed_at.is_some());
    fill(&log, 260..264);
    copied(setup.directory(), crashed.path());
    drop(log);
    let file = journal_files(crashed.path()).pop().expect("a file");
    let whole = std::fs::read(&file).expect("read");
    // Where each of the last records ends, and before the first of them.
    let mut ends = vec![whole.len()];
    for number in (260..264).rev() {
        ends.push(ends[ends.len() - 1] - record(number).len() - layout::FRAME);
    }
    for torn in ends[4]..=whole.len() {
        for garbage in [&[][..], &[0; 20], b"\x00\x05trash"] {
            std::fs::write(&file, [&whole[..torn], garbage].concat()).expect("written");
            let complete = 259 + ends.iter().filter(|end| **end <= torn).count() as u64;
            let setup = Setup::at(crashed.path());
            let asked = Arc::new(Asked::default());
            let opened = Log::prepare(setup.settings, setup.sizes, setup.acts, key(), &asked, None);
            let (log, _) = opened.expect("a log that opens");
            assert_eq!(log.state().size, complete, "{torn} {garbage:?}");
            let left = std::fs::read(&file).expect("read");
            assert_eq!(Some(left.len()), ends.iter().copied().find(|end| *end <= torn));
        }
    }
}

/// A byte of a record that is signed is another one: that is not a torn end.
#[test]
fn what_is_signed_and_was_altered_is_not_cut() {
    let setup = Setup::new();
    let head = closed(&setup, 300);
    let file = journal_files(setup.directory()).pop().expect("a file");
    let bundle = setup.directory().join(layout::bundle(1, 44));
    let bytes = std::fs::read(&bundle).expect("read");
    let mut other = bytes.clone();
    let last = other.len() - 2;
    other[last] ^= 1;
    let journal = std::fs::read(&file).expect("read");
    // The journal alone is enough, and so is the bundle.
    std::fs::write(&bundle, &other).expect("written");
    drop(setup.open());
    std::fs::write(&bundle, &bytes).expect("written");
    let mut broken = journal;
    let last = broken.len() - 2;
    broken[last] ^= 1;
    let file = journal_files(setup.directory()).pop().expect("a file");
    std::fs::write(&file, &broken).expect("written");
    drop(setup.open());
    assert_eq!(checked_head(setup.directory()), head);
    // Neither: the end is missing.
    let file = journal_files(setup.directory()).pop().expect("a file");
    std::fs::remove_file(&file).expect("removed");
    for kept in journal_files(setup.directory()) {
        std::fs::remove_file(kept).expect("removed");
    }
    std::fs::write(&bundle, &other).expect("written");
    assert!(matches!(refused(&setup), OpenError::Contradicts { size: 300 }));
    std::fs::remove_file(&bundle).expect("removed");
    assert!(matches!(refused(&setup), OpenError::Behind { found: 256, known: 300 }));
    std::fs::write(&bundle, &bytes).expect("written");
    goes_on(&setup, 300);
}

/// Another record with a right hash in the journal is found by the root that was signed.
#[test]
fn a_journal_that_was_written_anew_contradicts_the_head() {
    let setup = Setup::new();
    closed(&setup, 300);
    let file = journal_files(setup.directory()).pop().expect("a file");
    let bytes = std::fs::read(&file).expect("read");
    let first = Leaves::one(&record(299)).expect("a leaf");
    let other = Leaves::one(&[b'z'; 40]).expect("a leaf");
    let forged = [&bytes[..bytes.len() - first.framed().len()], other.framed()].concat();
    std::fs::write(&file, forged).expect("written");
    assert!(matches!(refused(&setup), OpenError::Contradicts { size: 300 }));
}

#[test]
fn what_can_be_made_of_the_rest_is_made_anew() {
    let setup = Setup::new();
    // A tile of the second level and more.
    closed(&setup, 300);
    let removals: [&[PathBuf]; 4] = [
        &[PathBuf::from("journal")],
        &[PathBuf::from("tile/0"), PathBuf::from("tile/1")],
        &[layout::tile(1, 0, 1), layout::tile(0, 1, 44), layout::bundle(1, 44)],
        &[PathBuf::from("heads")],
    ];
    let mut size = 300;
    for removed in removals {
        for path in removed {
            let path = setup.directory().join(path);
            if path.is_dir() {
                std::fs::remove_dir_all(path).expect("removed");
            } else {
                let _there_or_not = std::fs::remove_file(path);
            }
        }
        let log = setup.open();
        assert_eq!(log.state().size, size);
        fill(&log, size..size + 1);
        size += 1;
        log.close();
        drop(log);
        let head = head_of(setup.directory());
        assert_eq!(head.size, size);
        assert_eq!(bundled(&raw(setup.directory()), size), records_of(0..size));
    }
}

fn head_of(directory: &Path) -> Head {
    let bytes = std::fs::read(directory.join(layout::CHECKPOINT)).expect("a checkpoint");
    Checkpoint::from_bytes(&bytes).expect("a head").head()
}

/// Without a checkpoint, the newest of the heads that were signed before is the newest.
#[test]
fn heads_stand_in_for_the_checkpoint() {
    let setup = Setup::new();
    let old = closed(&setup, 300);
    let checkpoint = std::fs::read(setup.directory().join(layout::CHECKPOINT)).expect("read");
    let head = closed(&setup, 700);
    std::fs::remove_file(setup.directory().join(layout::CHECKPOINT)).expect("removed");
    drop(setup.open());
    assert_eq!(checked_head(setup.directory()), head);
    // An old one, in a log that is as long as before.
    std::fs::write(setup.directory().join(layout::CHECKPOINT), checkpoint).expect("written");
    drop(setup.open());
    assert_eq!(checked_head(setup.directory()), head);
    assert!(old.size < head.size);
}

/// What is known from elsewhere: a log that has less, or something else, is not written to.
#[test]
fn a_head_that_is_known_from_elsewhere_is_kept_to() {
    let mut setup = Setup::new();
    let heads: Vec<Head> = [10, 256, 300, 600].into_iter().map(|size| closed(&setup, size)).collect();
    for known in &heads {
        setup.known = Some(*known);
        drop(setup.open());
    }
    for known in &heads {
        setup.known = Some(Head { size: known.size, root: [9; 32] });
        assert!(matches!(refused(&setup), OpenError::Contradicts { size } if size == known.size));
    }
    setup.known = Some(Head { size: 601, root: [9; 32] });
    assert!(matches!(refused(&setup), OpenError::Behind { found: 600, known: 601 }));
    setup.known = Some(Head::EMPTY);
    drop(setup.open());
    let mut empty = Setup::new();
    empty.known = Some(heads[0]);
    assert!(matches!(empty.try_open(), Err(OpenError::Behind { found: 0, known: 10 })));
    empty.known = None;
    closed(&empty, 0);
}

#[test]
fn another_logs_directory_is_not_written_to() {
    let setup = Setup::new();
    closed(&setup, 10);
    let mut other = Setup::at(setup.directory());
    let open = |setup: &Setup, key: LogKey| {
        Log::open_with(setup.settings.clone(), setup.sizes, Arc::new(()), key, Arc::new(()), None).map(|_| ())
    };
    let before = files(setup.directory());
    let foreign = LogKey::from_seed(ORIGIN, &[8; 32]).expect("a key");
    assert!(matches!(open(&other, foreign), Err(OpenError::Foreign { .. })));
    other.settings.origin = "another.example/audit".to_owned();
    let named = LogKey::from_seed("another.example/audit", &[7; 32]).expect("a key");
    assert!(matches!(open(&other, named), Err(OpenError::Foreign { .. })));
    let checkpoint = setup.directory().join(layout::CHECKPOINT);
    let bytes = std::fs::read(&checkpoint).expect("read");
    for wrong in [b"not a head".to_vec(), Vec::new(), bytes[..bytes.len() - 3].to_vec()] {
        std::fs::write(&checkpoint, wrong).expect("written");
        assert!(matches!(setup.try_open(), Err(OpenError::Foreign { .. })));
    }
    std::fs::write(&checkpoint, bytes).expect("written");
    assert_eq!(files(setup.directory()), before);
    goes_on(&setup, 10);
}

/// A file of the journal whose beginning is not on the disk is put aside, and no record behind the gap gets another number.
#[test]
fn what_does_not_follow_is_put_aside() {
    let setup = Setup::new();
    closed(&setup, 10);
    let stray = setup.directory().join(layout::journal(12));
    std::fs::write(&stray, Leaves::one(&record(12)).expect("a leaf").framed()).expect("written");
    goes_on(&setup, 10);
    assert!(stray.with_extension("apart").exists());
}

/// A number that is written otherwise than in the name of a file of the journal is in the name of somebody's file.
#[test]
fn other_names_beside_those_of_the_journal_are_passed_over() {
    let setup = Setup::new();
    closed(&setup, 10);
    for name in ["+0000000000000000007", "+0000000000000000010", "10", "x"] {
        std::fs::write(setup.directory().join(layout::JOURNAL).join(name), b"somebody's").expect("written");
    }
    goes_on(&setup, 10);
}

/// Every sentence says what to do.
#[test]
fn refusals_say_what_to_do() {
    let path = PathBuf::from("/var/lib/keystored/audit");
    for (error, words) in [
        (OpenError::Behind { found: 3, known: 5 }, "Put the whole log back"),
        (OpenError::Contradicts { size: 5 }, "keystorectl audit verify"),
        (OpenError::Missing(path.clone()), "Put it back"),
        (OpenError::Foreign { path: path.clone(), why: "its signature is wrong".to_owned() }, "Put the right"),
        (OpenError::InUse(path), "another process"),
    ] {
        assert!(error.to_string().contains(words), "{error}");
    }
}
