//! Directories of somebody who knows the format and wants whoever checks to hang, to run out of memory, or to believe.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;
use crate::files::{MOST_RECORDS, READ};
use crate::layout::FULL;

const SIZE: u64 = 600;

/// A log of 600 records with some heads, and ten more records in the journal.
fn log() -> Bench {
    let bench = Bench::new();
    bench.writer().log(&records(SIZE + 10), &[100, 512, SIZE]);
    bench
}

/// It cannot be read, or something is found: it is not verified. What is found.
#[track_caller]
fn refused(bench: &Bench, case: &str) -> Vec<Finding> {
    match bench.verify(None) {
        Err(Failure::Found(report)) => report.findings,
        Err(Failure::Unreadable(_)) => Vec::new(),
        other => panic!("{case}: {other:?}"),
    }
}

fn clear(path: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn pipes_folders_links_and_files_without_end_hold_nobody_up() {
    for name in [
        "checkpoint",
        "heads",
        "tile/0/001",
        "tile/0/002.p/88",
        "tile/1/000.p/2",
        "tile/entries/001",
        "tile/entries/002.p/88",
    ] {
        for planted in ["pipe", "folder", "link to itself", "link", "endless"] {
            let (bench, case) = (log(), format!("{planted} as {name}"));
            let (path, aside) = (bench.path().join(name), bench.path().join("aside"));
            fs::rename(&path, &aside).unwrap();
            match planted {
                "pipe" => mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap(),
                "folder" => fs::create_dir(&path).unwrap(),
                "link to itself" => symlink(&path, &path).unwrap(),
                // To what it was: also then nobody follows it.
                "link" => symlink(&aside, &path).unwrap(),
                _ => File::create(&path).unwrap().set_len(1 << 42).unwrap(),
            }
            refused(&bench, &case);
        }
    }
    // What no head is over may be lost, and vouches for nothing.
    let bench = log();
    let journal = bench.path().join("journal");
    clear(&journal);
    mknodat(CWD, &journal, FileType::Fifo, Mode::RUSR, 0).unwrap();
    assert_eq!(bench.verify(None).unwrap().behind, 0);
    clear(&journal);
    fs::create_dir(&journal).unwrap();
    let file = File::create(bench.path().join(layout::journal(SIZE))).unwrap();
    file.set_len(1 << 42).unwrap();
    let report = bench.verify(None).unwrap();
    assert_eq!((report.behind, report.torn), (0, 1 << 42));
}

/// With links among folders a few files would be bundles and tiles without end, and a head over all of them is quickly made by who
/// has the log's key.
#[test]
fn links_make_no_log_without_end() {
    let bench = log();
    for folder in ["tile/entries", "tile/0", "tile/1"] {
        for number in 0..1_000 {
            symlink(".", bench.path().join(folder).join(format!("x{number:03}"))).unwrap();
        }
    }
    assert!(bench.verify(None).is_ok(), "nobody looks at them");
    for size in [1 << 30, 1 << 40, MOST_RECORDS] {
        let endless = bench.writer().signed(Head { size, root: [7; 32] });
        assert!(matches!(bench.verify(Some(&endless)), Err(Failure::Found(_))), "kept elsewhere, of {size}");
        fs::write(bench.path().join("checkpoint"), endless.to_bytes()).unwrap();
        let found = refused(&bench, &size.to_string());
        assert!(found.contains(&Finding::Fewer { there: SIZE + 10, signed: size }), "{found:?}");
    }
    // A folder that is a link to the true one is none either.
    let bench = log();
    let (entries, aside) = (bench.path().join("tile/entries"), bench.path().join("aside"));
    fs::rename(&entries, &aside).unwrap();
    symlink(&aside, &entries).unwrap();
    assert_eq!(refused(&bench, "a folder"), [Finding::Missing { first: 0, count: SIZE }]);
}

#[test]
fn numbers_that_no_log_has_are_not_read() {
    for size in ["281474976710657", "9007199254740993", "18446744073709551615", "18446744073709551616", "0600", "-1"] {
        let bench = log();
        let path = bench.path().join("checkpoint");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("600", size, 1)).unwrap();
        assert_eq!(refused(&bench, size), [Finding::Unreadable { kept: Kept::Checkpoint, at: 0 }], "{size}");
    }
}

#[test]
fn heads_that_are_none_are_told_whatever_there_is_of_them() {
    let whole = |bench: &Bench| fs::metadata(bench.path().join("heads")).unwrap().len();
    let append = |bench: &Bench, bytes: &[u8]| {
        File::options().append(true).open(bench.path().join("heads")).unwrap().write_all(bytes).unwrap();
    };
    // A hole without end, at the end or before more heads; text without end; heads that are begun over and over.
    for (case, bytes, holes) in [
        ("a hole", Vec::new(), 1_u64 << 42),
        ("a hole before a head", Vec::new(), 100 << 20),
        ("zeros", vec![0; 70_000], 0),
        ("text", b"x\n".repeat(3 << 20), 0),
        ("begun heads", format!("{ORIGIN}\n").repeat(100_000).into_bytes(), 0),
        ("two begun heads", format!("{ORIGIN}\n7\n{ORIGIN}\n7\n").into_bytes(), 0),
    ] {
        let bench = log();
        let at = whole(&bench);
        append(&bench, &bytes);
        let file = File::options().write(true).open(bench.path().join("heads")).unwrap();
        file.set_len(at + bytes.len() as u64 + holes).unwrap();
        if case.ends_with("before a head") {
            append(&bench, &bench.writer().signed(head(&records(SIZE))).to_bytes());
        }
        assert_eq!(refused(&bench, case), [Finding::Unreadable { kept: Kept::Heads, at }], "{case}");
    }
    // One head many times is one head.
    let bench = log();
    append(&bench, &bench.writer().signed(head(&records(SIZE))).to_bytes().repeat(300));
    assert_eq!(bench.verify(None).unwrap().heads, 304);
}

#[test]
fn signatures_are_bounded_and_one_wrong_one_is_enough() {
    let bench = log();
    let path = bench.path().join("checkpoint");
    let text = fs::read_to_string(&path).unwrap();
    let (ours, token) = (text.lines().nth(4).unwrap(), text.lines().nth(5).unwrap());
    let with = |line: &str, times: usize| fs::write(&path, text.clone() + &format!("{line}\n").repeat(times)).unwrap();
    let name = |line: &str| line.split(' ').nth(1).unwrap().to_owned();
    // The same again says nothing new, and strangers' say nothing.
    for line in [ours.to_owned(), token.to_owned(), token.replacen(&name(token), "somebody", 1)] {
        with(&line, 90);
        assert!(bench.verify(None).is_ok(), "{line}");
        with(&line, 5_000);
        assert!(matches!(bench.verify(None), Err(Failure::Unreadable(_))), "{line}");
    }
    // The signature of another head, in the name of whoever has signed this one.
    let other = bench.writer().signed(head(&records(3))).to_bytes();
    let other = String::from_utf8(other).unwrap();
    for at in [4, 5] {
        let line = other.lines().nth(at).unwrap();
        with(line, 1);
        let wrong = Finding::WrongSignature { kept: Kept::Checkpoint, size: SIZE, by: name(line) };
        assert_eq!(refused(&bench, line), [wrong]);
    }
    // A line more in its text is not what was signed; nor is a text with an empty line a head.
    for (extension, expected) in [
        ("extension\n", None),
        ("extension\nanother\n", None),
        ("\u{2014} line\n", None),
        ("\n", Some(Finding::Unreadable { kept: Kept::Checkpoint, at: 0 })),
    ] {
        let (head, lines) = text.split_once("\n\n").unwrap();
        fs::write(&path, format!("{head}\n{extension}\n{lines}")).unwrap();
        let found = refused(&bench, extension);
        match expected {
            Some(expected) => assert_eq!(found, [expected], "{extension:?}"),
            None => assert!(!found.is_empty(), "{extension:?}"),
        }
    }
}

#[test]
fn names_that_no_log_has_are_passed_over_and_too_many_are_told() {
    let bench = log();
    let (partial, journal) = (bench.path().join("tile/entries/002.p"), bench.path().join("journal"));
    let bundle = fs::read(partial.join("88")).unwrap();
    for odd in ["+88", "088", "256", "0", "-1", "88 ", "4294967384", "\u{202e}88"] {
        fs::write(partial.join(odd), b"no bundle").unwrap();
        fs::write(journal.join(odd), b"no journal").unwrap();
    }
    for odd in ["99999999999999999999", "00000000000000000600.apart", "18446744073709551615"] {
        fs::write(journal.join(odd), b"no journal").unwrap();
    }
    assert!(bench.verify(None).is_ok());
    // A wider name with fewer records than it says, and a narrower one with more.
    fs::write(partial.join("200"), &bundle).unwrap();
    assert!(bench.verify(None).is_ok(), "the records are the true ones");
    fs::write(partial.join("200"), &bundle[..100]).unwrap();
    assert!(bench.verify(None).is_ok(), "so may a loss of power leave it beside the one that was signed");
    fs::remove_file(partial.join("88")).unwrap();
    fs::remove_dir_all(&journal).unwrap();
    assert!(!refused(&bench, "too few").is_empty());
    // The tile's length has to be that of its name.
    let bench = log();
    let tile = bench.path().join("tile/0/002.p");
    fs::rename(tile.join("88"), tile.join("87")).unwrap();
    assert_eq!(refused(&bench, "a tile"), [Finding::Tile { level: 0, index: 2, missing: true }]);

    let bench = log();
    let partial = bench.path().join("tile/entries/002.p");
    (0..1_100).for_each(|number| drop(File::create(partial.join(format!("n{number}"))).unwrap()));
    assert!(matches!(bench.verify(None), Err(Failure::Unreadable(_))));
    let bench = log();
    for number in 0..1_100 {
        File::create(bench.path().join(layout::journal(SIZE + number))).unwrap();
    }
    assert!(matches!(bench.verify(None), Err(Failure::Unreadable(_))));
}

/// Records are what they were; what stands behind them in a bundle was not signed.
#[test]
fn what_stands_behind_the_records_of_a_bundle_is_told() {
    let all = records(SIZE);
    for (size, name) in [(SIZE, "tile/entries/000"), (SIZE, "tile/entries/002.p/88"), (512, "tile/entries/001")] {
        for behind in [&b"x"[..], b"\0", b"\0\0", b"\0\x01x", b"\xff\xff", &[0; 10_000]] {
            let bench = Bench::new();
            bench.writer().log(&all[..size as usize], &[size]);
            let path = bench.path().join(name);
            let whole = fs::read(&path).unwrap();
            fs::write(&path, [&whole[..], behind].concat()).unwrap();
            // A whole record more in a bundle that is not full yet may be the next one.
            let is_next = name.contains(".p/") && [&b"\0\0"[..], b"\0\x01x", &[0; 10_000]].contains(&behind);
            match bench.verify(None) {
                Ok(report) => assert!(is_next && report.behind > 0, "{name} {behind:?}: {report:?}"),
                Err(Failure::Found(report)) => assert!(!report.findings.is_empty()),
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn compressed_bundles_take_no_more_room_than_bundles_have() {
    let all = records(512);
    // Of two gigabytes; of as much as a bundle may have; and many of them, none of which has an end of a record.
    let bomb = |bytes: usize, with: u8| zstd::bulk::compress(&vec![with; bytes], 1).unwrap();
    let frames = bomb(16 << 20, 0).repeat(128);
    for (case, bytes) in
        [("frames", frames), ("zeros", bomb(16 << 20, 0)), ("ones", bomb(16 << 20, 1)), ("nothing", bomb(0, 0))]
    {
        let bench = Bench::new();
        bench.writer().log(&all, &[512]);
        for index in 0..2 {
            fs::remove_file(bench.path().join(layout::bundle(index, FULL as u32))).unwrap();
            fs::write(bench.path().join(format!("tile/entries/00{index}.zst")), &bytes).unwrap();
        }
        let found = refused(&bench, case);
        assert!(found.iter().any(Finding::is_of_records), "{case}: {found:?}");
    }
}

/// Whichever of two copies is read: that there are two is told.
#[test]
fn an_archive_that_says_something_else_is_told() {
    let all = records(SIZE);
    let mut others = all.clone();
    others[300] = b"another".to_vec();
    for compressed in [false, true] {
        let (bench, archive) = (Bench::new(), Bench::new());
        bench.writer().log(&all, &[SIZE]);
        let place = Place::new(bench.path()).with_archive(Some(archive.path()));
        let verify = || verify_at(&place, &bench.keys(), None, &mut |_, _| {});
        archive.writer().bundles(&all[..512], compressed);
        assert!(verify().is_ok(), "the same, in whichever form");
        archive.remove("tile");
        archive.writer().bundles(&others[..512], compressed);
        match verify() {
            Err(Failure::Found(report)) => assert_eq!(report.findings, [Finding::Copies { first: 256, count: 256 }]),
            other => panic!("{other:?}"),
        }
    }
}

/// Nothing but a journal, of which each record is read once for each time that all are gone through.
#[test]
fn a_log_whose_records_are_all_in_its_journal_is_read() {
    let all = records(20_000);
    let bench = Bench::new();
    bench.writer().tiles(&all, 0..64);
    bench.writer().heads(&all, &[20_000]);
    bench.writer().journal(0, &all);
    assert!(bench.verify(None).is_ok());
    // Written again from the middle on, with what stands in both.
    bench.writer().journal(9_000, &all[9_000..]);
    assert!(bench.verify(None).is_ok());
    let mut others = all.clone();
    others[15_000] = b"another".to_vec();
    bench.writer().journal(9_000, &others[9_000..]);
    assert_eq!(refused(&bench, "altered"), [Finding::Altered { first: 15_000, count: 1 }]);
}

/// However the journal's files are named and whatever is missing behind them: none is read again for each bundle.
#[test]
fn a_long_journal_is_read_a_few_times_and_not_for_each_bundle() {
    let all = records(20_000);
    let bench = Bench::new();
    bench.writer().tiles(&all, 0..64);
    bench.writer().heads(&all, &[20_000]);
    bench.writer().journal(0, &all);
    let length = fs::metadata(bench.path().join(layout::journal(0))).unwrap().len();
    let times = || READ.replace(0) / length;
    READ.set(0);
    assert!(bench.verify(None).is_ok());
    assert!((1..=3).contains(&times()));
    // Files without records, of which each would be the newest.
    for first in (1..20_000).step_by(100) {
        bench.writer().journal(first, &[]);
    }
    assert!(bench.verify(None).is_ok());
    assert!((1..=3).contains(&times()));
    // Most of what is signed is missing: all that is known of it is where the one file ends.
    let bench = Bench::new();
    bench.writer().tiles(&all, 0..64);
    bench.writer().heads(&all, &[20_000]);
    bench.writer().journal(0, &all[..5_000]);
    let length = fs::metadata(bench.path().join(layout::journal(0))).unwrap().len();
    let found = refused(&bench, "missing");
    assert!(matches!(found.first(), Some(Finding::Missing { first: 5_000, .. })), "{found:?}");
    let times = READ.replace(0) / length;
    assert!((1..=12).contains(&times), "{times}");
    // Tiles that are not true: the records themselves say what they are, each asked for more than once.
    let bench = Bench::new();
    let mut others = all.clone();
    (0..20_000).step_by(200).for_each(|at| others[at] = b"another".to_vec());
    bench.writer().tiles(&others, 0..64);
    bench.writer().heads(&all, &[20_000]);
    bench.writer().journal(0, &all);
    let length = fs::metadata(bench.path().join(layout::journal(0))).unwrap().len();
    assert!(refused(&bench, "tiles").iter().all(|finding| !finding.is_of_records()));
    let times = READ.replace(0) / length;
    assert!((1..=15).contains(&times), "{times}");
}

/// Copies of what a long file has, or what differs from it, in many files that begin behind it: for none of them it is read again
/// from its beginning.
#[test]
fn a_long_file_is_compared_once_with_many_that_begin_behind_it() {
    let all: Vec<Vec<u8>> = (0..10_000).map(|number| record(number, 1_000)).collect();
    for differ in [false, true] {
        let bench = Bench::new();
        bench.writer().tiles(&all, 0..64);
        bench.writer().heads(&all, &[10_000]);
        bench.writer().journal(0, &all);
        let length = fs::metadata(bench.path().join(layout::journal(0))).unwrap().len();
        for first in (1..10_000_usize).step_by(100) {
            let second = if differ { b"another".to_vec() } else { all[first + 1].clone() };
            bench.writer().journal(first as u64, &[all[first].clone(), second]);
        }
        READ.set(0);
        let verified = bench.verify(None);
        let times = READ.replace(0) / length;
        assert!((1..=if differ { 20 } else { 8 }).contains(&times), "{differ}: {times}");
        assert!(differ || verified.is_ok(), "{verified:?}");
    }
}

/// Pieces of a journal with gaps between them: what is before a gap is not read again for what is behind it.
#[test]
fn a_journal_in_many_pieces_is_read_a_few_times() {
    let all: Vec<Vec<u8>> = (0..40_960).map(|number| record(number, 600)).collect();
    let bench = Bench::new();
    bench.writer().tiles(&all, 0..64);
    bench.writer().heads(&all, &[40_960]);
    let mut bytes = 0;
    for first in (0..40_960_usize).step_by(512) {
        bench.writer().journal(first as u64, &all[first..first + 200]);
        bytes += fs::metadata(bench.path().join(layout::journal(first as u64))).unwrap().len();
    }
    READ.set(0);
    let found = refused(&bench, "pieces");
    let times = READ.replace(0) / bytes;
    for missing in [Finding::Missing { first: 200, count: 56 }, Finding::Missing { first: 256, count: 256 }] {
        assert!(found.contains(&missing), "{found:?}");
    }
    assert!((1..=12).contains(&times), "{times}");
}

/// Whether a damaged bundle is there depends on how many records are wanted of it: the same are, wherever that is asked.
#[test]
fn an_empty_bundle_beside_a_part_of_its_records_holds_nobody_up() {
    let bench = Bench::new();
    let all = records(600);
    bench.writer().log(&all, &[300, 600]);
    bench.remove("journal");
    bench.writer().journal(256, &all[256..257]);
    fs::write(bench.path().join("tile/entries/001"), b"").unwrap();
    assert!(bench.findings(None).iter().any(Finding::is_of_records));
}
