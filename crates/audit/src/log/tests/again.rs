//! A journal that was made anew, and a loss of power before the directory had forgotten the files that were there before.

use super::*;

const RECORDS: u64 = 40;

fn framed(numbers: std::ops::Range<u64>) -> Vec<u8> {
    numbers.flat_map(|number| Leaves::one(&record(number)).expect("a leaf").framed().to_vec()).collect()
}

/// It opens and has these, goes on, and opens again.
fn has(directory: &Path, size: u64, case: &str) {
    let setup = Setup::at(directory);
    let log = setup.try_open().unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(log.state().size, size, "{case}");
    fill(&log, size..size + 2);
    drop(log);
    let log = setup.try_open().unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(log.state().size, size + 2, "{case}");
    drop(log);
    assert_eq!(contents(directory), records_of(0..size + 2), "{case}");
}

/// The new file has everything; of those that it stands for, each is gone, whole, torn, empty, or full of nothing.
#[test]
fn what_comes_back_of_older_files_hides_nothing() {
    let stale = [10..20, 20..30, 30..RECORDS];
    let forms = |numbers: &std::ops::Range<u64>| {
        let whole = framed(numbers.clone());
        [None, Some(whole.clone()), Some(whole[..whole.len() - 150].to_vec()), Some(Vec::new()), Some(vec![0; 700])]
    };
    for case in 0..5_usize.pow(3) {
        let directory = quick_directory();
        let journal = directory.path().join(layout::JOURNAL);
        std::fs::create_dir(&journal).expect("a directory");
        std::fs::write(directory.path().join(layout::journal(0)), framed(0..RECORDS)).expect("written");
        for (at, numbers) in stale.iter().enumerate() {
            if let Some(bytes) = &forms(numbers)[case / 5_usize.pow(at as u32) % 5] {
                std::fs::write(directory.path().join(layout::journal(numbers.start)), bytes).expect("written");
            }
        }
        has(directory.path(), RECORDS, &format!("case {case}"));
    }
}

/// Files that say different things are no copies: nothing of the earlier one is put behind the later one.
#[test]
fn files_that_differ_are_not_mixed() {
    let directory = quick_directory();
    std::fs::create_dir(directory.path().join(layout::JOURNAL)).expect("a directory");
    let other = Leaves::one(b"something else").expect("a leaf");
    std::fs::write(directory.path().join(layout::journal(0)), framed(0..RECORDS)).expect("written");
    let later = [framed(10..12), other.framed().to_vec()].concat();
    std::fs::write(directory.path().join(layout::journal(10)), later).expect("written");
    let log = Setup::at(directory.path()).open();
    assert_eq!(log.state().size, 13);
    log.close();
    let mut expected = records_of(0..12);
    expected.push(b"something else".to_vec());
    assert_eq!(contents(directory.path()), expected);
}

/// The same with what the log itself does when a file of its journal is removed: any of those that it takes away after that
/// may be there again.
#[test]
fn a_loss_of_power_while_the_journal_is_made_anew_loses_nothing() {
    let script = Arc::new(Script::default());
    let directory = quick_directory();
    let mut setup = Setup::at(&directory.path().join("audit")).with(&script);
    setup.settings.reserve_bytes = 1_000;
    setup.settings.checkpoint_every = Duration::from_secs(3_600);
    setup.sizes.segment = 6_000;
    let asked = Arc::new(Asked::default());
    let acts = Arc::clone(&setup.acts);
    let opened = Log::prepare(setup.settings.clone(), setup.sizes, acts, key(), &asked, None);
    let (log, _tiles) = opened.expect("a log that opens");
    for number in 0..200 {
        assert!(data(&log, number).is_ok());
        if number % 10 == 9 {
            sync::round(&log.shared).expect("synced");
        }
    }
    let before = journal_files(setup.directory());
    assert!((4..=8).contains(&before.len()), "{before:?}");
    let kept: Vec<Vec<u8>> = before.iter().map(|path| std::fs::read(path).expect("read")).collect();
    // The second one is removed.
    std::fs::remove_file(&before[1]).expect("removed");
    let reason = sync::round(&log.shared).expect_err("noticed");
    assert_eq!(reason, Reason::JournalGone);
    log.shared.stop(reason.clone());
    heal::heal(&log.shared, &reason).expect("healed");
    assert_eq!(journal_files(setup.directory()), before[..2]);
    assert_eq!(log.state().groups.records, 200);
    let crashed = directory.path().join("crashed");
    for subset in 0..1_u32 << (before.len() - 2) {
        copied(setup.directory(), &crashed);
        for (at, path) in before.iter().enumerate().skip(2).filter(|(at, _)| subset >> (at - 2) & 1 == 1) {
            std::fs::write(crashed.join(layout::JOURNAL).join(path.file_name().expect("a name")), &kept[at])
                .expect("written");
        }
        has(&crashed, 200, &format!("subset {subset:b}"));
        std::fs::remove_dir_all(&crashed).expect("removed");
    }
}
