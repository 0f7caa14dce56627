use std::fs;

use tempfile::TempDir;

use super::*;
use crate::files::READ;
use crate::note::LogKey;
use crate::test_support::{Writer, record, records};

fn with(run: impl FnOnce(&TempDir, &Writer<'_>)) {
    let directory = TempDir::new().unwrap();
    let key = LogKey::from_seed("keys.example/audit", &[1; 32]).unwrap();
    let writer = Writer { directory: directory.path().to_owned(), key: &key, cosigner: &() };
    run(&directory, &writer);
}

/// Reads on as far as there is something; each is what was written.
fn read_on(records: &mut Records, all: &[Vec<u8>]) -> u64 {
    loop {
        let number = records.number();
        match records.next().unwrap() {
            Some(record) => assert_eq!((record.number, record.bytes), (number, &*all[number as usize])),
            None => return number,
        }
    }
}

#[test]
fn records_are_read_from_any_one_on_wherever_they_are() {
    with(|directory, writer| {
        let all = records(700);
        writer.bundles(&all[..512], true);
        writer.bundles(&all[..600], false);
        fs::remove_file(directory.path().join(layout::bundle(0, 256))).unwrap();
        writer.journal(590, &all[590..650]);
        writer.journal(650, &all[650..]);
        let place = Place::new(directory.path());
        for from in [0, 1, 255, 256, 511, 512, 589, 590, 599, 600, 649, 650, 699, 700, 701] {
            let mut records = Records::from(&place, from).unwrap();
            assert_eq!(read_on(&mut records, &all), from.max(700), "{from}");
        }
        let mut records = Records::from(&place, 699).unwrap();
        assert_eq!(read_on(&mut records, &all), 700);
        records.seek(3);
        assert_eq!(read_on(&mut records, &all), 700);
    });
}

#[test]
fn whoever_follows_sees_what_comes_also_when_it_moves_into_bundles() {
    with(|directory, writer| {
        let all = records(900);
        let place = Place::new(directory.path());
        let mut records = Records::from(&place, 0).unwrap();
        assert_eq!(read_on(&mut records, &all), 0);
        writer.journal(0, &all[..10]);
        assert_eq!(read_on(&mut records, &all), 10);
        // The same file goes on, torn for a moment.
        writer.journal(0, &all[..300]);
        let path = directory.path().join(layout::journal(0));
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        assert_eq!(read_on(&mut records, &all), 299);
        fs::write(&path, &whole).unwrap();
        assert_eq!(read_on(&mut records, &all), 300);
        // It is taken away, and what comes is in bundles and in another file.
        writer.bundles(&all[..400], false);
        writer.journal(400, &all[400..500]);
        fs::remove_file(&path).unwrap();
        assert_eq!(read_on(&mut records, &all), 500);
        // All of it is in bundles before anybody looked.
        writer.bundles(&all, false);
        fs::remove_dir_all(directory.path().join("journal")).unwrap();
        assert_eq!(read_on(&mut records, &all), 900);
    });
}

/// A journal that was written again has everything; what a loss of power has brought back of the files that it stands for is gone,
/// whole, torn, empty, or full of nothing, as where the log is opened.
#[test]
fn what_comes_back_of_older_files_hides_nothing() {
    let all = records(40);
    let stale = [10..20, 20..30, 30..40_usize];
    for case in 0..5_usize.pow(3) {
        with(|directory, writer| {
            writer.journal(0, &all);
            for (at, numbers) in stale.iter().enumerate() {
                writer.journal(numbers.start as u64, &all[numbers.clone()]);
                let path = directory.path().join(layout::journal(numbers.start as u64));
                let whole = fs::read(&path).unwrap();
                match case / 5_usize.pow(at as u32) % 5 {
                    0 => fs::remove_file(&path).unwrap(),
                    1 => {}
                    2 => fs::write(&path, &whole[..whole.len() / 2]).unwrap(),
                    3 => fs::write(&path, []).unwrap(),
                    _ => fs::write(&path, [0; 700]).unwrap(),
                }
            }
            let place = Place::new(directory.path());
            for from in [0, 5, 10, 15, 20, 21, 29, 30, 35, 39, 40] {
                let mut records = Records::from(&place, from).unwrap();
                assert_eq!(read_on(&mut records, &all), 40, "case {case} from {from}");
            }
            let mut bundles = Bundles::new(&place).unwrap();
            assert_eq!(bundles.load(0, 40).unwrap().unwrap().len(), 40, "case {case}");
        });
    }
}

/// Files that say different things are no copies: nothing of the earlier one is put behind the later one.
#[test]
fn files_that_differ_are_not_mixed() {
    with(|directory, writer| {
        let (all, other) = (records(40), b"something else".to_vec());
        writer.journal(0, &all);
        writer.journal(10, &[all[10].clone(), other.clone()]);
        let place = Place::new(directory.path());
        let mut records = Records::from(&place, 10).unwrap();
        assert_eq!(records.next().unwrap().unwrap().bytes, all[10]);
        assert_eq!(records.next().unwrap().unwrap().bytes, other);
        assert_eq!(records.next().unwrap(), None);
        // It goes on where it was.
        writer.journal(10, &[all[10].clone(), other.clone(), all[12].clone()]);
        assert_eq!(records.next().unwrap().unwrap().number, 12);
        assert_eq!(records.next().unwrap(), None);
    });
}

#[test]
fn what_lies_in_the_journals_folder_and_is_none_is_left_alone() {
    with(|directory, writer| {
        let all = records(3);
        writer.journal(0, &all);
        for name in ["7", "00000000000000000000.tmp", "x"] {
            fs::write(directory.path().join("journal").join(name), "no journal").unwrap();
        }
        fs::create_dir(directory.path().join(layout::journal(2))).unwrap();
        let error = Records::from(&Place::new(directory.path()), 2).unwrap().next().unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    });
}

/// Each file ends a little behind the one that begins after it: when one has ended, the others are not read from their beginnings.
#[test]
fn files_of_which_one_ends_after_the_other_are_read_a_few_times() {
    with(|directory, writer| {
        let all: Vec<Vec<u8>> = (0..1_000).map(|number| record(number, 1_000)).collect();
        let mut bytes = 0;
        for first in 0..30 {
            writer.journal(first as u64, &all[first..1_000 - first]);
            bytes += fs::metadata(directory.path().join(layout::journal(first as u64))).unwrap().len();
        }
        READ.set(0);
        let mut records = Records::from(&Place::new(directory.path()), 500).unwrap();
        assert_eq!(read_on(&mut records, &all), 1_000);
        let times = READ.replace(0) / bytes;
        assert!((1..=8).contains(&times), "{times}");
    });
}
