//! Tampering by somebody who knows the format and makes anew all that he can make without the keys.

use super::*;

/// Sizes of the signed heads of the log of 600; ten more records are in the journal.
const HEADS: [u64; 6] = [0, 100, 256, 300, 512, 600];
const SIZE: u64 = 600;

/// What is done to the records that heads vouch for.
#[derive(Clone, Copy, Debug)]
enum Act {
    Flip,
    Delete,
    Reorder,
    Insert,
    Replace,
    Truncate,
}

const ACTS: [Act; 6] = [Act::Flip, Act::Delete, Act::Reorder, Act::Insert, Act::Replace, Act::Truncate];

impl Act {
    /// Does it at a record; false where it cannot be done there.
    fn to(self, records: &mut Vec<Vec<u8>>, at: usize) -> bool {
        match self {
            Self::Flip => records[at][3] ^= 1,
            Self::Delete => drop(records.remove(at)),
            Self::Reorder if at + 1 == records.len() => return false,
            Self::Reorder => records.swap(at, at + 1),
            Self::Insert => records.insert(at, b"{\"eventName\":\"Forged\"}".to_vec()),
            Self::Replace => records[at] = b"{\"eventName\":\"Other\"}".to_vec(),
            Self::Truncate => records.truncate(at),
        }
        true
    }

    /// What is to be found where the hashes of all records are known.
    fn exactly(self, at: u64, size: u64) -> Finding {
        match self {
            Self::Flip | Self::Replace => Finding::Altered { first: at, count: 1 },
            Self::Delete => Finding::Missing { first: at, count: 1 },
            Self::Reorder => Finding::Moved { number: at, at: at + 1 },
            Self::Insert => Finding::Inserted { before: at, count: 1 },
            Self::Truncate => Finding::Missing { first: at, count: size - at },
        }
    }

    /// What is to be found where only the signed heads can be believed.
    fn between_heads(self, at: u64, heads: &[u64]) -> Vec<Finding> {
        let size = *heads.last().unwrap();
        let first = heads.iter().copied().rfind(|head| *head <= at).unwrap();
        let end = heads.iter().copied().find(|head| *head > at).unwrap();
        let between = Finding::Between { first, end };
        match self {
            Self::Truncate if first == at => vec![Finding::Missing { first: at, count: size - at }],
            Self::Truncate => vec![between, Finding::Fewer { there: at, signed: size }],
            Self::Delete if first == size - 1 => vec![Finding::Missing { first, count: 1 }],
            Self::Delete => vec![between, Finding::Fewer { there: size - 1, signed: size }],
            _ => vec![between],
        }
    }
}

/// Each act at each record of these, by somebody who made anew what `forge` makes; and what is to be found.
fn everywhere(
    size: u64,
    heads: &[u64],
    places: impl Iterator<Item = usize> + Clone,
    forge: impl Fn(&Bench, &[Vec<u8>]),
    expected: impl Fn(Act, u64) -> Vec<Finding>,
) {
    let all = records(size + 10);
    let bench = Bench::new();
    bench.writer().log(&all, heads);
    for act in ACTS {
        for at in places.clone() {
            let mut forged = all[..size as usize].to_vec();
            if !act.to(&mut forged, at) {
                continue;
            }
            // What is not whole has its width in its name.
            bench.remove("tile/entries/002.p");
            bench.remove("tile/entries/039.p");
            if forged.len() < size as usize - 1 {
                bench.remove("tile/entries");
            }
            forge(&bench, &forged);
            assert_eq!(bench.findings(None), expected(act, at as u64), "{act:?} at {at}");
        }
    }
}

#[test]
fn where_bundles_are_made_anew_each_record_is_named() {
    let bundles = |bench: &Bench, forged: &[Vec<u8>]| bench.writer().bundles(forged, false);
    everywhere(SIZE, &HEADS, 0..SIZE as usize, bundles, |act, at| vec![act.exactly(at, SIZE)]);
}

fn tiles_too(bench: &Bench, forged: &[Vec<u8>]) {
    for narrow in ["tile/0/002.p", "tile/0/039.p", "tile/1/000.p", "tile/entries/002.p", "tile/entries/039.p"] {
        bench.remove(narrow);
    }
    if forged.len() < 599 || (601..9_999).contains(&forged.len()) {
        bench.remove("tile");
    }
    bench.writer().bundles(forged, false);
    bench.writer().tiles(forged, 0..64);
}

#[test]
fn where_tiles_are_made_anew_too_it_is_told_between_which_heads() {
    everywhere(SIZE, &HEADS, 0..SIZE as usize, tiles_too, |act, at| act.between_heads(at, &HEADS));
}

#[test]
fn where_a_head_is_made_up_too_it_is_seen_that_nobody_has_signed_it() {
    let key = LogKey::from_seed(ORIGIN, &[9; 32]).unwrap();
    let forge = |bench: &Bench, forged: &[Vec<u8>]| {
        tiles_too(bench, forged);
        let forger = Writer { directory: bench.path().to_owned(), key: &key, cosigner: &() };
        let heads = std::fs::read(bench.path().join(layout::HEADS)).unwrap();
        forger.heads(forged, &[forged.len() as u64]);
        std::fs::write(bench.path().join(layout::HEADS), heads).unwrap();
    };
    let places = (0..SIZE as usize).step_by(13);
    everywhere(SIZE, &HEADS, places, forge, |act, at| {
        let size = match act {
            Act::Delete => SIZE - 1,
            Act::Insert => SIZE + 1,
            Act::Truncate => at,
            _ => SIZE,
        };
        let unsigned = Finding::NotSigned { kept: Kept::Checkpoint, size };
        std::iter::once(unsigned).chain(act.between_heads(at, &HEADS)).collect()
    });
}

#[test]
fn a_head_that_was_changed_is_not_signed() {
    let bench = Bench::new();
    let all = records(SIZE);
    bench.writer().log(&all, &HEADS);
    let mut forged = all.clone();
    forged[310][0] ^= 1;
    tiles_too(&bench, &forged);
    let true_lines = bench.writer().signed(head(&all)).lines().to_vec();
    let mixed = Checkpoint::new(ORIGIN, head(&forged), true_lines).unwrap();
    std::fs::write(bench.path().join(layout::CHECKPOINT), mixed.to_bytes()).unwrap();
    let wrong = |by: &str| Finding::WrongSignature { kept: Kept::Checkpoint, size: SIZE, by: by.to_owned() };
    assert_eq!(
        bench.findings(None),
        [wrong(ORIGIN), wrong("hsm-1.keys.example"), Finding::Between { first: 300, end: 512 }]
    );
}

#[test]
fn samples_of_ten_thousand_are_found_too() {
    let heads = [1_000, 2_000, 5_000, 9_999, 10_000];
    let places = [0, 1, 254, 255, 256, 257, 1_000, 4_095, 4_096, 7_777, 9_727, 9_728, 9_998, 9_999];
    let bundles = |bench: &Bench, forged: &[Vec<u8>]| {
        bench.remove("tile/entries");
        bench.writer().bundles(forged, true);
    };
    everywhere(10_000, &heads, places.into_iter(), bundles, |act, at| vec![act.exactly(at, 10_000)]);
    let heads_and_none: Vec<u64> = std::iter::once(0).chain(heads).collect();
    let expected = |act: Act, at| act.between_heads(at, &heads_and_none);
    everywhere(10_000, &heads_and_none, places.into_iter(), tiles_too, expected);
}

#[test]
fn where_only_the_lowest_tiles_are_made_anew_it_is_told_among_which_records() {
    let all = records(SIZE);
    for at in (0..512).step_by(9) {
        let bench = Bench::new();
        bench.writer().log(&all, &[SIZE]);
        let mut forged = all.clone();
        forged[at][0] ^= 1;
        bench.writer().bundles(&forged, false);
        bench.writer().tiles(&forged, 0..1);
        let first = at as u64 / 256 * 256;
        assert_eq!(bench.findings(None), [Finding::Within { first, end: first + 256 }], "{at}");
    }
}

#[test]
fn a_bit_that_flips_in_a_bundle_is_found_at_its_record_even_in_a_length() {
    let all = records(SIZE);
    let bench = Bench::new();
    bench.writer().log(&all, &HEADS);
    let path = bench.path().join(layout::bundle(0, 256));
    let whole = std::fs::read(&path).unwrap();
    let mut at = 0;
    for (number, record) in all.iter().take(256).enumerate() {
        for (byte, bit) in [(at, 0x80), (at, 1), (at + 1, 1), (at + 1, 0x40), (at + 2, 1), (at + 1 + record.len(), 1)] {
            let mut flipped = whole.clone();
            flipped[byte] ^= bit;
            std::fs::write(&path, flipped).unwrap();
            let [Finding::Altered { first, count: 1 }] = bench.findings(None)[..] else {
                panic!("{number} {byte}: {:?}", bench.findings(None))
            };
            assert_eq!(first, number as u64, "{byte}");
        }
        at += 2 + record.len();
    }
}

#[test]
fn damaged_and_missing_files_are_named_and_the_rest_is_checked() {
    let all = records(SIZE);
    let bench = Bench::new();
    let write = || {
        bench.remove("tile");
        bench.writer().log(&all, &HEADS);
    };
    write();
    bench.remove("tile/0/001");
    assert_eq!(bench.findings(None), [Finding::Tile { level: 0, index: 1, missing: true }]);
    write();
    std::fs::write(bench.path().join("tile/0/000"), [0; 8_192]).unwrap();
    assert_eq!(bench.findings(None), [Finding::Tile { level: 0, index: 0, missing: false }]);
    write();
    std::fs::write(bench.path().join("tile/0/000"), [0; 8_191]).unwrap();
    assert_eq!(bench.findings(None), [Finding::Tile { level: 0, index: 0, missing: true }]);
    write();
    bench.remove("tile/1");
    assert_eq!(bench.findings(None), [Finding::Tile { level: 1, index: 0, missing: true }]);
    write();
    bench.remove("tile/entries/001");
    let mut forged = all.clone();
    forged[7][0] ^= 1;
    forged[599][0] ^= 1;
    bench.writer().bundles(&forged[..256], false);
    bench.writer().bundles(&forged, false);
    bench.remove("tile/entries/001");
    assert_eq!(
        bench.findings(None),
        [
            Finding::Altered { first: 7, count: 1 },
            Finding::Missing { first: 256, count: 256 },
            Finding::Altered { first: 599, count: 1 }
        ]
    );
    write();
    bench.remove("tile/entries/000");
    std::fs::write(bench.path().join("tile/entries/000.zst"), b"no zstd").unwrap();
    assert_eq!(bench.findings(None), [Finding::Bundle { first: 0, count: 256 }]);
    // Records and hashes of different bundles at once.
    write();
    let mut forged = all.clone();
    forged[3][0] ^= 1;
    bench.writer().bundles(&forged, false);
    bench.remove("tile/0/001");
    assert_eq!(
        bench.findings(None),
        [Finding::Altered { first: 3, count: 1 }, Finding::Tile { level: 0, index: 1, missing: true }]
    );
}

#[test]
fn several_acts_at_once_are_told_apart() {
    let all = records(SIZE);
    let bench = Bench::new();
    bench.writer().log(&all, &HEADS);
    let mut forged = all.clone();
    forged.drain(400..420);
    forged.swap(10, 300);
    forged[50] = b"other".to_vec();
    forged.insert(200, b"forged".to_vec());
    bench.writer().bundles(&forged, false);
    bench.remove("tile/entries/002.p/88");
    let mut found = bench.findings(None);
    found.sort_by_key(|finding| format!("{finding:?}"));
    assert_eq!(
        found,
        [
            Finding::Altered { first: 50, count: 1 },
            Finding::Inserted { before: 200, count: 1 },
            Finding::Missing { first: 400, count: 20 },
            Finding::Moved { number: 10, at: 300 },
            Finding::Moved { number: 300, at: 10 },
        ]
    );
}

#[test]
fn records_of_another_log_are_no_records_of_this_one() {
    let all = records(SIZE);
    let bench = Bench::new();
    bench.writer().log(&all, &HEADS);
    let others: Vec<Vec<u8>> = (1_000..1_600).map(|number| record(number, 80)).collect();
    let spliced: Vec<Vec<u8>> = all[..200].iter().chain(&others[..100]).chain(&all[300..]).cloned().collect();
    bench.writer().bundles(&spliced, false);
    assert_eq!(bench.findings(None), [Finding::Altered { first: 200, count: 100 }]);
    // The other log as a whole, with heads of its own.
    for (origin, seed) in [("other.example/audit", 1), (ORIGIN, 5)] {
        let key = LogKey::from_seed(origin, &[seed; 32]).unwrap();
        let other = Bench::new();
        Writer { directory: other.path().to_owned(), key: &key, cosigner: &() }.log(&others, &[SIZE]);
        let findings = other.findings(None);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings.iter().all(|finding| match finding {
            Finding::OtherLog { origin: other, .. } => other == origin,
            Finding::NotSigned { size, .. } => *size == SIZE && origin == ORIGIN,
            _ => false,
        }));
        // One head of it among those of this log.
        bench.writer().log(&all, &HEADS);
        let mut heads = std::fs::read(bench.path().join(layout::HEADS)).unwrap();
        heads.extend(std::fs::read(other.path().join(layout::HEADS)).unwrap());
        std::fs::write(bench.path().join(layout::HEADS), heads).unwrap();
        assert_eq!(bench.findings(None), findings[..1]);
    }
}

#[test]
fn two_heads_of_one_size_are_a_fork() {
    let all = records(SIZE);
    let mut others = all.clone();
    others[450][0] ^= 1;
    let bench = Bench::new();
    bench.writer().log(&all, &HEADS);
    let outside = bench.writer().signed(head(&others));
    assert_eq!(bench.findings(Some(&outside)), [Finding::Fork { size: SIZE }]);
    // A head of fewer records that the newer ones do not know.
    let outside = bench.writer().signed(head(&others[..500]));
    assert_eq!(bench.findings(Some(&outside)), [Finding::Contradiction { size: 500 }]);
    let before = bench.writer().signed(head(&others[..450]));
    assert!(bench.verify(Some(&before)).is_ok());
    // Both kept in the log itself.
    let mut heads = std::fs::read(bench.path().join(layout::HEADS)).unwrap();
    heads.extend(bench.writer().signed(head(&others)).to_bytes());
    std::fs::write(bench.path().join(layout::HEADS), heads).unwrap();
    assert_eq!(bench.findings(None), [Finding::Fork { size: SIZE }]);
}

/// A log that was set back to how it was, with its heads: nothing is wrong with it as such.
#[test]
fn what_was_taken_away_with_its_heads_only_a_head_kept_elsewhere_can_tell() {
    let all = records(SIZE);
    let kept = Bench::new();
    let outside = kept.writer().signed(head(&all));
    for size in HEADS {
        let bench = Bench::new();
        let heads: Vec<u64> = HEADS.into_iter().filter(|head| *head <= size).collect();
        bench.writer().log(&all[..size as usize], &heads);
        assert_eq!(bench.verify(None).unwrap().head.size, size);
        let expected = match size {
            SIZE => vec![],
            _ => vec![Finding::Missing { first: size, count: SIZE - size }],
        };
        assert_eq!(bench.findings(Some(&outside)), expected, "{size}");
        // Others were recorded since: it is not the same log any more.
        let others: Vec<Vec<u8>> =
            (0..700).map(|number| record(number + u64::from(number >= size) * 10_000, 80)).collect();
        let mut forged = all[..size as usize].to_vec();
        forged.extend(others[size as usize..].iter().cloned());
        bench.writer().log(&forged, &[&heads[..], &[700]].concat());
        let found = bench.findings(Some(&outside));
        let expected = if size == SIZE { vec![] } else { vec![Finding::Contradiction { size: SIZE }] };
        assert_eq!(found, expected, "{size}");
    }
}

#[test]
fn tampering_behind_the_last_head_is_nothing_that_files_can_tell() {
    let all = records(SIZE + 10);
    for act in ACTS {
        for at in SIZE as usize..SIZE as usize + 10 {
            let bench = Bench::new();
            bench.writer().log(&all, &HEADS);
            let mut forged = all.clone();
            if !act.to(&mut forged, at) {
                continue;
            }
            bench.writer().journal(SIZE, &forged[SIZE as usize..]);
            let report = bench.verify(None).unwrap();
            assert_eq!(report.behind, forged.len() as u64 - SIZE, "{act:?} at {at}");
            // A head that was signed before and kept elsewhere sees it.
            let outside = bench.writer().signed(head(&all));
            let end = SIZE + 10;
            let expected = match act {
                Act::Truncate if at as u64 == SIZE => vec![Finding::Missing { first: SIZE, count: 10 }],
                Act::Truncate | Act::Delete => vec![
                    Finding::Between { first: SIZE, end },
                    Finding::Fewer { there: forged.len() as u64, signed: end },
                ],
                _ => vec![Finding::Between { first: SIZE, end }],
            };
            assert_eq!(bench.findings(Some(&outside)), expected, "{act:?} at {at}");
        }
    }
}

#[test]
fn without_a_checkpoint_the_heads_are_believed_and_it_is_said() {
    let all = records(SIZE);
    let bench = Bench::new();
    bench.writer().log(&all, &HEADS);
    bench.remove("checkpoint");
    assert_eq!(bench.findings(None), [Finding::NoCheckpoint]);
    std::fs::write(bench.path().join("checkpoint"), "nothing").unwrap();
    assert_eq!(bench.findings(None), [Finding::Unreadable { kept: Kept::Checkpoint, at: 0 }]);
    // A head in the midst of the others cannot be read: those after it can.
    bench.writer().log(&all, &HEADS);
    let path = bench.path().join(layout::HEADS);
    let mut heads = std::fs::read(&path).unwrap();
    let first = bench.writer().signed(head(&all[..0])).to_bytes().len();
    heads[first + ORIGIN.len() + 1] = b'x';
    std::fs::write(&path, heads).unwrap();
    assert_eq!(bench.findings(None), [Finding::Unreadable { kept: Kept::Heads, at: first as u64 }]);
    assert!(matches!(bench.verify(None), Err(Failure::Found(report)) if report.heads == 6));
}
