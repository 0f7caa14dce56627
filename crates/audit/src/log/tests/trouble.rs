//! Files that fail, and files that somebody takes away, under load: nothing is accepted that is not in the log in the end, and
//! it goes on by itself.

use super::*;
use rustix::io::Errno;

/// What was accepted, by number.
type Accepted = Vec<(u64, Vec<u8>)>;

/// Has some append all the while that `act` does something to the log, and until it accepts again after that; then checks that
/// all that was accepted is in the log where it was said to be, at once and after it was opened again.
fn under_load(setup: &Setup, act: impl FnOnce(&Log)) {
    let log = setup.open();
    let done = AtomicBool::new(false);
    let accepted: Vec<Accepted> = thread::scope(|scope| {
        let work = |by: u64, class: Class| {
            let (log, done) = (&log, &done);
            move || {
                let mut accepted = Vec::new();
                for number in 0.. {
                    if done.load(Ordering::SeqCst) {
                        break;
                    }
                    let record = format!("{by} {number} {}", "y".repeat(300)).into_bytes();
                    if let Ok(position) = log.append(Leaves::one(&record).expect("a leaf"), class).wait() {
                        accepted.push((position.first, record));
                    }
                }
                accepted
            }
        };
        let threads = [
            scope.spawn(work(0, Class::Data)),
            scope.spawn(work(1, Class::Data)),
            scope.spawn(work(2, Class::Control)),
            scope.spawn(work(3, Class::Restricting)),
        ];
        let end = SetAtEnd(&done);
        let size = log.state().size;
        until("some are in it", || log.state().size > size + 600);
        act(&log);
        until_healed(&log);
        let size = log.state().size;
        until("it goes on", || log.state().size > size + 600 && log.state().accepting());
        drop(end);
        threads.into_iter().map(|thread| thread.join().expect("a thread")).collect()
    });
    let size = log.state().size;
    log.close();
    drop(log);
    let check = |contents: &[Vec<u8>]| {
        for (first, record) in accepted.iter().flatten() {
            assert_eq!(&contents[*first as usize], record, "{first}");
        }
    };
    let found = contents(setup.directory());
    check(&found);
    assert_eq!(found.len() as u64, size);
    drop(setup.open());
    assert_eq!(contents(setup.directory()), found);
}

pub(super) fn until_healed(log: &Log) {
    let mut last = None;
    until("it has healed", || {
        let trouble = log.state().trouble.map(|trouble| trouble.reason);
        if trouble != last {
            println!("{trouble:?}");
        }
        last = trouble;
        last.is_none()
    });
}

fn troubled(log: &Log, reason: &Reason) {
    until("it is noticed", || log.state().trouble.is_some_and(|trouble| trouble.reason == *reason));
}

#[test]
fn a_journal_that_is_removed_is_written_again() {
    let setup = Setup::new();
    under_load(&setup, |_| {
        for _ in 0..5 {
            journal_files(setup.directory()).iter().for_each(|path| drop(std::fs::remove_file(path)));
        }
    });
}

#[test]
fn a_journal_whose_folder_is_removed_or_moved_is_written_again() {
    let setup = Setup::new();
    under_load(&setup, |log| {
        let _gone_meanwhile = std::fs::remove_dir_all(setup.directory().join(layout::JOURNAL));
        until("it is noticed", || !log.state().accepting() || setup.directory().join(layout::JOURNAL).exists());
        until("it has healed", || log.state().accepting());
        std::fs::rename(setup.directory().join(layout::JOURNAL), setup.directory().join("elsewhere")).expect("moved");
    });
}

#[test]
fn a_journal_that_is_replaced_or_emptied_is_written_again() {
    let setup = Setup::new();
    under_load(&setup, |_| {
        let last = journal_files(setup.directory()).pop().expect("a file");
        let copy = setup.directory().join("copy");
        std::fs::write(&copy, b"something else").expect("written");
        std::fs::rename(&copy, &last).expect("replaced");
    });
    under_load(&setup, |_| {
        let last = journal_files(setup.directory()).pop().expect("a file");
        drop(std::fs::File::create(last).expect("emptied"));
    });
}

/// Nothing is written into what is at the path of a directory that was moved away.
#[test]
fn a_directory_that_is_moved_away_is_waited_for() {
    let setup = Setup::new();
    let away = setup.directory().with_extension("away");
    under_load(&setup, |log| {
        std::fs::rename(setup.directory(), &away).expect("moved");
        troubled(log, &Reason::DirectoryGone);
        assert_eq!(data(log, 1), Err(NotAccepted::Trouble(Reason::DirectoryGone)));
        std::fs::create_dir(setup.directory()).expect("another");
        troubled(log, &Reason::DirectoryReplaced);
        assert!(files(setup.directory()).is_empty());
        std::fs::remove_dir(setup.directory()).expect("empty");
        std::fs::rename(&away, setup.directory()).expect("moved back");
    });
}

/// A copy that has the newest head is as good as the directory itself; any other is not.
#[test]
fn a_directory_that_is_put_back_as_a_copy_is_taken() {
    let mut setup = Setup::new();
    // One head, so that it is known which is the newest.
    setup.settings.checkpoint_every = Duration::from_secs(3_600);
    let away = setup.directory().with_extension("away");
    let log = setup.open();
    fill(&log, 0..700);
    until("a head is signed", || log.state().signed_at.is_some());
    until("all is synced", || log.state().synced == 700);
    std::fs::rename(setup.directory(), &away).expect("moved");
    troubled(&log, &Reason::DirectoryGone);
    let copy = setup.directory().with_extension("copy");
    copied(&away, &copy);
    let checkpoint = std::fs::read(copy.join(layout::CHECKPOINT)).expect("read");
    std::fs::write(copy.join(layout::CHECKPOINT), b"another").expect("written");
    std::fs::rename(&copy, setup.directory()).expect("put back");
    troubled(&log, &Reason::DirectoryReplaced);
    std::fs::write(setup.directory().join(layout::CHECKPOINT), checkpoint).expect("written");
    until("it has healed", || log.state().accepting());
    fill(&log, 700..710);
    log.close();
    assert_eq!(contents(setup.directory()), records_of(0..710));
}

/// The head that its file has is the one that a copy is known by, also where it is not sure to be on the disk.
#[test]
fn a_copy_with_a_head_that_has_just_got_its_name_is_taken() {
    let script = Arc::new(Script::default());
    let setup = Setup::new().with(&script);
    let away = setup.directory().with_extension("away");
    let log = setup.open();
    fill(&log, 0..10);
    until("a head is signed", || log.state().head.size == 10);
    let mut is_named = false;
    script.fail(move |act, path| {
        is_named |= act == Act::Rename && path == Path::new(layout::CHECKPOINT);
        let of_tiles = thread::current().name() == Some("audit-tiles");
        let fails = is_named && of_tiles && act == Act::Sync && path == Path::new("");
        fails.then(|| Errno::IO.into())
    });
    fill(&log, 10..20);
    until("the next one has its name", || {
        let text = std::fs::read_to_string(setup.directory().join(layout::CHECKPOINT)).unwrap_or_default();
        text.lines().nth(1).is_some_and(|size| size != "10")
    });
    assert_eq!(log.state().head.size, 10, "it does not count");
    std::fs::rename(setup.directory(), &away).expect("moved");
    troubled(&log, &Reason::DirectoryGone);
    let copy = setup.directory().with_extension("copy");
    copied(&away, &copy);
    std::fs::rename(&copy, setup.directory()).expect("put back");
    until("it has healed", || log.state().trouble.is_none_or(|trouble| matches!(trouble.reason, Reason::Tiles(_))));
    script.pass();
    until_healed(&log);
    fill(&log, 20..30);
    log.close();
    assert_eq!(contents(setup.directory()), records_of(0..30));
}

/// What is cut of a file of the journal that is not written to any more is missed as well: bundles may not have it yet.
#[test]
fn a_closed_file_of_the_journal_that_is_cut_is_written_again() {
    let mut setup = Setup::new();
    setup.settings.checkpoint_every = Duration::from_secs(3_600);
    setup.settings.reserve_bytes = 1_000;
    setup.sizes.segment = 16 << 10;
    let log = setup.open();
    fill(&log, 0..1_000);
    until("all is synced", || log.state().synced == 1_000);
    let files = journal_files(setup.directory());
    assert!(files.len() > 2, "{files:?}");
    let first = std::fs::File::options().write(true).open(&files[0]).expect("opened");
    first.set_len(first.metadata().expect("there").len() / 2).expect("cut");
    // As a crash at some moment after that would find it.
    until("all of it is there again", || {
        let crashed = quick_directory();
        copied(setup.directory(), crashed.path());
        Setup::at(crashed.path()).try_open().is_ok_and(|log| log.state().size == 1_000)
    });
    until_healed(&log);
    fill(&log, 1_000..1_010);
    log.close();
    drop(log);
    // Where the cut was noticed by the last look only, the head over all is the next one's.
    setup.open().close();
    assert!(contents(setup.directory()) == records_of(0..1_010), "not all records are there");
}

/// After a sync that failed, nothing is believed that the kernel says it has: it is written again to another file.
#[test]
fn what_a_failed_sync_may_have_lost_is_written_again() {
    let script = Arc::new(Script::default());
    let mut setup = Setup::new().with(&script);
    setup.settings.sync = Sync::Interval(Duration::from_secs(3_600));
    let log = setup.open();
    fill(&log, 0..10);
    assert!(append(&log, 10, Class::Control).is_ok());
    fill(&log, 11..20);
    let first = journal_files(setup.directory()).pop().expect("a file");
    let mut failures = 3;
    script.fail(move |act, path| {
        let fails = act == Act::Sync && path.starts_with(layout::JOURNAL) && failures > 0;
        failures -= u32::from(fails);
        fails.then(|| Errno::IO.into())
    });
    // Waits through it.
    assert_eq!(append(&log, 20, Class::Control).map(|position| position.first), Ok(20));
    until("it has healed", || log.state().accepting());
    let files = journal_files(setup.directory());
    assert_eq!(files.len(), 2);
    assert!(files[1].ends_with("00000000000000000011"));
    let kept: usize = (0..11).map(|number| record(number).len() + layout::FRAME).sum();
    assert_eq!(std::fs::metadata(first).expect("there").len() as usize, kept, "what was not synced is cut off");
    fill(&log, 21..30);
    log.close();
    assert_eq!(contents(setup.directory()), records_of(0..30));
}

#[test]
fn writes_that_fail_are_told_and_tried_again() {
    for (errno, reason) in [
        (Errno::ROFS, Reason::ReadOnly),
        (Errno::NOSPC, Reason::NoSpace),
        (Errno::DQUOT, Reason::NoSpace),
        (Errno::IO, Reason::write(&Errno::IO.into())),
    ] {
        let script = Arc::new(Script::default());
        let setup = Setup::new().with(&script);
        under_load(&setup, |log| {
            script.fail(move |act, _| if act == Act::Look { None } else { os_error(errno) });
            troubled(log, &reason);
            let state = log.state();
            assert!(!state.accepting());
            assert_eq!(data(log, 1), Err(NotAccepted::Trouble(reason.clone())));
            script.pass();
        });
    }
}

/// A write that fails in its midst leaves nothing of itself.
#[test]
fn writes_may_be_short_and_fail_in_the_midst() {
    let script = Arc::new(Script::default());
    script.short.store(true, Ordering::SeqCst);
    let setup = Setup::new().with(&script);
    under_load(&setup, |log| {
        let mut count = 0;
        script.fail(move |act, path| {
            count += u32::from(act == Act::Write && path.starts_with(layout::JOURNAL));
            (count % 50 == 49).then(|| Errno::NOSPC.into())
        });
        until("it failed", || !log.state().accepting());
        script.pass();
    });
}

/// Bundles and heads may fail for a while; then nothing but what restricts is accepted.
#[test]
fn heads_that_cannot_be_made_are_trouble_after_a_while() {
    let script = Arc::new(Script::default());
    let mut setup = Setup::new().with(&script);
    setup.sizes.tiles_grace = Duration::ZERO;
    let log = setup.open();
    fill(&log, 0..300);
    script.fail(|act, path| (act == Act::Rename && path.starts_with("tile")).then(|| Errno::IO.into()));
    let reason = Reason::tiles(&Errno::IO.into());
    until("it is noticed", || {
        let _told = data(&log, 300);
        log.state().trouble.is_some_and(|trouble| trouble.reason == reason)
    });
    assert_eq!(data(&log, 0), Err(NotAccepted::Trouble(reason.clone())));
    assert_eq!(append(&log, 0, Class::Control), Err(NotAccepted::Trouble(reason)));
    let restricting = append(&log, 7, Class::Restricting).expect("accepted");
    script.pass();
    until("it has healed", || log.state().accepting());
    let size = log.state().size;
    log.close();
    let contents = contents(setup.directory());
    assert_eq!(contents.len() as u64, size);
    assert_eq!(contents[restricting.first as usize], record(7));
}

/// What memory does not keep any more is made into bundles from the journal, over several of its files.
#[test]
fn what_memory_does_not_keep_comes_from_the_journal() {
    let script = Arc::new(Script::default());
    let mut setup = Setup::new().with(&script);
    setup.sizes.recent_bytes = 10_000;
    setup.sizes.segment = 20_000;
    let log = setup.open();
    script.fail(|act, path| (act == Act::Rename && path.starts_with("tile")).then(|| Errno::IO.into()));
    fill(&log, 0..3_000);
    until("all is synced", || log.state().synced == 3_000);
    assert!(locked(&log.shared.recent).first() > 2_000);
    assert!(journal_files(setup.directory()).len() > 10);
    script.pass();
    until("a head is signed", || log.head().size == 3_000);
    until("the journal is trimmed", || journal_files(setup.directory()).len() <= 5);
    log.close();
    assert_eq!(contents(setup.directory()), records_of(0..3_000));
}
