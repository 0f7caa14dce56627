//! Logs that are as they should be.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use sha2::Sha256;

use super::super::tree::over;
use super::*;
use crate::layout::FULL;

#[test]
fn roots_are_those_of_another_implementation() {
    let mut theirs: MemoryBackedTree<Sha256, Vec<u8>> = MemoryBackedTree::new();
    let mut tree = tree::Tree::default();
    let all = records(5_000);
    for (number, record) in all.iter().enumerate() {
        if number <= 600 || number.is_multiple_of(631) {
            let root = theirs.root();
            assert_eq!(root.as_bytes().as_slice(), tree.root().0, "{number}");
            assert_eq!(head(&all[..number]).root, tree.root().0, "{number}");
        }
        theirs.push(record.clone());
        tree.push(0, tlog_tiles::tlog::record_hash(record), |_, _| {});
    }
    assert_eq!(tree.size(), 5_000);
}

#[test]
fn subtrees_make_the_same_root_as_their_records() {
    let leaves: Vec<_> = records(700).iter().map(|record| tlog_tiles::tlog::record_hash(record)).collect();
    let mut tree = tree::Tree::default();
    for whole in leaves.chunks(FULL as usize) {
        if whole.len() == FULL as usize {
            tree.push(8, over(whole), |level, _| assert_eq!(level, 1));
        } else {
            whole.iter().for_each(|leaf| tree.push(0, *leaf, |_, _| panic!("no subtree is whole")));
        }
    }
    assert_eq!(tree.root(), over(&leaves));
}

#[test]
fn sound_logs_of_every_size_are_sound() {
    for size in (0..=600).step_by(7).chain([255, 256, 257, 511, 512, 513]) {
        let bench = Bench::new();
        bench.writer().log(&records(size + 3), &[size / 2, size]);
        let mut last = (0, 0);
        let report =
            verify_at(&Place::new(bench.path()), &bench.keys(), None, &mut |done, of| last = (done, of)).unwrap();
        assert_eq!((report.head, report.behind, report.torn), (head(&records(size)), 3, 0), "{size}");
        assert_eq!(last, (size, size));
        assert_eq!(report.heads, 3);
        let [log, hsm] = &report.signers[..] else { panic!() };
        assert_eq!((log.heads, log.newest, &log.hsm), (3, Some(size), &None));
        assert_eq!((hsm.heads, hsm.newest), (3, Some(size)));
        assert_eq!(hsm.hsm, Some(("hsm-1".to_owned(), "zone-a".to_owned())));
    }
}

#[test]
fn a_log_of_three_levels_is_sound() {
    let bench = Bench::new();
    let all: Vec<Vec<u8>> = (0..66_000).map(|number| record(number, 0)).collect();
    bench.writer().log(&all, &[1_000, 65_536, 65_999]);
    assert_eq!(bench.verify(None).unwrap().head, head(&all[..65_999]));
    // A hash of the highest level is looked at too.
    let path = bench.path().join(layout::tile(2, 0, 1));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[3] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(bench.findings(None), [Finding::Tile { level: 2, index: 0, missing: false }]);
}

#[test]
fn compressed_and_archived_bundles_are_read() {
    let bench = Bench::new();
    let all = records(800);
    bench.writer().log(&all, &[800]);
    bench.remove("tile/entries");
    bench.writer().bundles(&all, true);
    assert!(bench.path().join("tile/entries/000.zst").exists());
    assert!(bench.verify(None).is_ok());
    let archive = Bench::new();
    std::fs::create_dir_all(archive.path().join("tile/entries")).unwrap();
    for name in ["tile/entries/000.zst", "tile/entries/001.zst"] {
        std::fs::rename(bench.path().join(name), archive.path().join(name)).unwrap();
    }
    assert_eq!(bench.findings(None), [Finding::Missing { first: 0, count: 512 }]);
    let place = Place::new(bench.path()).with_archive(Some(archive.path()));
    assert!(verify_at(&place, &bench.keys(), None, &mut |_, _| {}).is_ok());
}

#[test]
fn what_came_after_the_last_head_is_counted_and_never_taken_for_tampering() {
    let bench = Bench::new();
    let all = records(700);
    bench.writer().log(&all, &[300]);
    // Bundles that were written before the head over them, and a journal that goes on behind them.
    bench.writer().bundles(&all[..600], false);
    bench.writer().tiles(&all[..600], 0..64);
    bench.remove("journal");
    bench.writer().journal(590, &all[590..]);
    let report = bench.verify(None).unwrap();
    assert_eq!((report.head.size, report.behind, report.torn), (300, 400, 0));
    // The end of it is torn, at any byte.
    let path = bench.path().join(layout::journal(590));
    let whole = std::fs::read(&path).unwrap();
    for end in (0..300).chain(whole.len() - 300..whole.len()) {
        std::fs::write(&path, &whole[..end]).unwrap();
        let report = bench.verify(None).unwrap();
        assert!((300..400).contains(&report.behind), "{end}");
    }
    // Somebody changed one: from there on nothing is read.
    let mut changed = whole;
    changed[40] ^= 1;
    std::fs::write(&path, &changed).unwrap();
    let report = bench.verify(None).unwrap();
    assert_eq!((report.behind, report.torn), (300, changed.len() as u64));
}

#[test]
fn a_head_kept_elsewhere_is_about_records_of_the_journal_too() {
    let bench = Bench::new();
    let all = records(700);
    bench.writer().log(&all, &[300]);
    let outside = bench.writer().signed(head(&all[..650]));
    let report = bench.verify(Some(&outside)).unwrap();
    assert_eq!((report.head.size, report.behind), (650, 50));
    let older = bench.writer().signed(head(&all[..3]));
    assert_eq!(bench.verify(Some(&older)).unwrap().head.size, 300);
}

#[test]
fn a_torn_last_head_is_no_finding() {
    let bench = Bench::new();
    bench.writer().log(&records(20), &[5, 10, 20]);
    let path = bench.path().join(layout::HEADS);
    let whole = std::fs::read(&path).unwrap();
    let last = bench.writer().signed(head(&records(20))).to_bytes().len();
    for end in whole.len() - last..whole.len() {
        std::fs::write(&path, &whole[..end]).unwrap();
        assert!(bench.verify(None).is_ok(), "{end}");
    }
}

/// A bundle gets its name when it is whole, and is on the disk when a head is over it: power may be lost in between. What is
/// under the head stands in the bundle that is not whole, and in the journal.
#[test]
fn a_bundle_that_a_loss_of_power_has_torn_is_no_finding_where_no_head_is_over_it() {
    let bench = Bench::new();
    let all = records(768);
    bench.writer().log(&all[..600], &[300, 520]);
    bench.writer().bundles(&all, false);
    let [torn, other] = [2, 1].map(|index| bench.path().join(layout::bundle(index, 256)));
    let (whole, signed) = (std::fs::read(&torn).unwrap(), std::fs::read(&other).unwrap());
    bench.remove("journal");
    for journal in [512..600, 520..600] {
        bench.writer().journal(journal.start as u64, &all[journal.clone()]);
        for end in [0, 1, 500, 4_096, whole.len() - 1] {
            for rest in [0, 3_000] {
                std::fs::write(&torn, [&whole[..end], &vec![0; rest]].concat()).unwrap();
                let case = format!("{journal:?} {end} {rest}");
                let report = bench.verify(None).unwrap_or_else(|error| panic!("{case}: {error}"));
                assert_eq!((report.head.size, report.findings), (520, Vec::new()), "{case}");
                // Whoever looks for records, or reads on, finds them as well.
                let place = Place::new(bench.path());
                let bounds = crate::look::Bounds { records: 9, bytes: 9_999, looked_at: 99, read: 99_999 };
                let found = crate::look::look(&place, &Default::default(), crate::look::Way::back(520), 520, bounds);
                assert_eq!(found.unwrap().records[0].1, all[519], "{case}");
                let mut read = Records::from(&place, 512).unwrap();
                (512..600).for_each(|number| assert_eq!(read.next().unwrap().unwrap().bytes, all[number], "{case}"));
            }
        }
        bench.remove("journal");
    }
    // The same of one that is not whole, and that no head is over either. Here there is nothing else that has what it had.
    bench.remove("tile/entries/002");
    let wider = bench.path().join(layout::bundle(2, 88));
    for end in [0, 1, 500, 4_096] {
        for rest in [0, 3_000] {
            std::fs::write(&wider, [&whole[..end], &vec![0; rest]].concat()).unwrap();
            let report = bench.verify(None).unwrap_or_else(|error| panic!("{end} {rest}: {error}"));
            assert_eq!((report.head.size, report.findings), (520, Vec::new()), "{end} {rest}");
        }
    }
    bench.remove("tile/entries/002.p/88");
    assert!(bench.verify(None).is_ok());
    // A head is over this one.
    std::fs::write(&other, &signed[..500]).unwrap();
    assert!(bench.findings(None).iter().any(Finding::is_of_records));
}
