use std::fs;

use tempfile::TempDir;

use super::*;
use crate::layout;
use crate::note::LogKey;
use crate::test_support::Writer;

const ALL: Bounds = Bounds { records: usize::MAX, bytes: usize::MAX, looked_at: usize::MAX, read: usize::MAX };

/// Two of three are decryptions, a hundred a day.
fn record(number: u64) -> Vec<u8> {
    let name = if number.is_multiple_of(3) { "Encrypt" } else { "Decrypt" };
    let day = 1 + number / 100;
    format!(
        r#"{{"eventTime":"2026-11-{day:02}T12:00:00Z","eventName":"{name}","userIdentity":{{"arn":"arn:aws:iam::0:user/anna"}},"eventID":"event-{}"}}"#,
        number / 2
    )
    .into_bytes()
}

/// A log of so many records, of which the last ten stand in the journal.
fn log(count: u64) -> TempDir {
    let directory = TempDir::new().unwrap();
    let key = LogKey::from_seed("keys.example/audit", &[1; 32]).unwrap();
    let all: Vec<Vec<u8>> = (0..count).map(record).collect();
    let writer = Writer { directory: directory.path().to_owned(), key: &key, cosigner: &() };
    writer.log(&all, &[count - 10]);
    directory
}

/// All that page after page gives, and how many pages that takes.
fn pages(place: &Place, filter: &Filter, way: Way, end: u64, bounds: Bounds) -> (Vec<u64>, usize) {
    let (mut numbers, mut pages, mut next) = (Vec::new(), 0, Some(way));
    while let Some(way) = next {
        let found = look(place, filter, way, end, bounds).unwrap();
        assert!(found.records.len() <= bounds.records);
        for (number, bytes) in found.records {
            assert_eq!(bytes, record(number));
            numbers.push(number);
        }
        (pages, next) = (pages + 1, found.next);
    }
    (numbers, pages)
}

#[test]
fn pages_follow_each_other_without_gap_either_way() {
    let directory = log(710);
    let place = Place::new(directory.path());
    let filter = Filter { operation: Some("encrypt".to_owned()), ..Filter::default() };
    for end in [700, 701, 512, 1, 0] {
        let wanted: Vec<u64> = (0..end).filter(|number: &u64| number.is_multiple_of(3)).collect();
        let back: Vec<u64> = wanted.iter().rev().copied().collect();
        for bounds in [
            ALL,
            Bounds { records: 7, ..ALL },
            Bounds { bytes: 500, ..ALL },
            Bounds { looked_at: 10, ..ALL },
            Bounds { looked_at: 256, ..ALL },
            Bounds { read: 1, ..ALL },
        ] {
            assert_eq!(pages(&place, &filter, Way::On(0), end, bounds).0, wanted, "{end} {bounds:?}");
            assert_eq!(pages(&place, &filter, Way::back(end), end, bounds).0, back, "{end} {bounds:?}");
        }
    }
    // Each page ends with what it may look at, whether it has found anything or not.
    let none = Filter { operation: Some("Nothing".to_owned()), ..Filter::default() };
    let (found, count) = pages(&place, &none, Way::On(0), 700, Bounds { looked_at: 100, ..ALL });
    assert_eq!((found.len(), count), (0, 7));
    // What is behind the end is not there.
    assert_eq!(pages(&place, &Filter::default(), Way::back(9_999), 700, ALL).0.first(), Some(&699));
    assert_eq!(look(&place, &none, Way::On(700), 700, ALL).unwrap(), Found::default());
}

/// A log in bundles alone, of records of these days of November and one that says no time.
fn of_days(days: &[u64]) -> TempDir {
    let directory = TempDir::new().unwrap();
    let key = LogKey::from_seed("keys.example/audit", &[1; 32]).unwrap();
    let of = |day: &u64| format!(r#"{{"eventTime":"2026-11-{day:02}T12:00:00Z"}}"#).into_bytes();
    let all: Vec<Vec<u8>> = days.iter().map(of).collect();
    let writer = Writer { directory: directory.path().to_owned(), key: &key, cosigner: &() };
    writer.bundles(&all, false);
    directory
}

/// How many a look back since a day finds, page by page, and at how many it looks.
fn since(directory: &TempDir, end: u64, looked_at: usize) -> (usize, usize) {
    let (place, bounds) = (Place::new(directory.path()), Bounds { looked_at, ..ALL });
    let filter = Filter { since: time("2026-11-20"), ..Filter::default() };
    let (mut found, mut pages, mut next) = (0, 0, Some(Way::back(end)));
    while let Some(way) = next {
        let page = look(&place, &filter, way, end, bounds).unwrap();
        (found, pages, next) = (found + page.records.len(), pages + 1, page.next);
    }
    (found, pages * looked_at)
}

#[test]
fn a_look_back_ends_where_everything_is_older() {
    let older = usize::try_from(OLDER).unwrap();
    let days = [vec![1; 2 * older], vec![19; 300], vec![20; 100]].concat();
    let directory = of_days(&days);
    let end = days.len() as u64;
    for looked_at in [256, 1_000, usize::MAX / 8] {
        let (found, looked) = since(&directory, end, looked_at);
        assert_eq!(found, 100);
        // What is older in a row is counted from page to page.
        assert!(looked_at > days.len() || looked <= older + 400 + looked_at, "{looked}");
    }
    let filter = Filter { since: time("2026-11-20"), ..Filter::default() };
    let found =
        look(&Place::new(directory.path()), &filter, Way::back(end), end, Bounds { looked_at: older + 400, ..ALL });
    assert_eq!(found.unwrap().next, None, "it has ended with the last that has to be looked at");
}

/// The service's events that waited for a full disk, and a calendar that was put back by hours, hide nothing.
#[test]
fn what_was_recorded_late_hides_nothing_before_it() {
    let older = usize::try_from(OLDER).unwrap();
    // Recorded on the 20th: a change out of the reserve, and then, when there was room, what had waited since the 10th.
    let late = [vec![9; 500], vec![20], vec![10; older - 1], vec![20; 3]].concat();
    assert_eq!(since(&of_days(&late), late.len() as u64, 1_000).0, 4);
    // The calendar said the 20th on the 19th, until it was put right.
    let put_back = [vec![18; 500], vec![20; 5], vec![19; 2 * older], vec![20; 3]].concat();
    assert_eq!(since(&of_days(&put_back), put_back.len() as u64, 1_000).0, 8);
}

#[test]
fn what_was_moved_away_is_missed() {
    let directory = log(710);
    let place = Place::new(directory.path());
    fs::remove_file(directory.path().join(layout::bundle(1, 256))).unwrap();
    let missing = |way| match look(&place, &Filter::default(), way, 700, ALL) {
        Err(LookError::Missing(number)) => number,
        other => panic!("{other:?}"),
    };
    // What is there before it is given out first.
    for (way, first, next) in [(Way::On(3), 3, Way::On(256)), (Way::back(700), 699, Way::back(512))] {
        let found = look(&place, &Filter::default(), way, 700, ALL).unwrap();
        assert_eq!((found.records[0].0, found.next), (first, Some(next)));
        assert_eq!(missing(next), 256);
    }
    assert_eq!(pages(&place, &Filter::default(), Way::On(512), 700, ALL).0.len(), 188);
}

#[test]
fn what_is_no_record_of_ours_says_nothing() {
    let every = Filter::default();
    let one = Filter { operation: Some("Decrypt".to_owned()), ..Filter::default() };
    for record in [&b"\xff"[..], b"{}", b"[]", br#"{"eventName":5}"#, br#"{"eventName":null}"#] {
        assert!(every.wants(record) && !one.wants(record));
        assert_eq!(Facts::of(record).who(), "");
    }
    assert!(one.wants(br#"{"eventName":"decrypt","resources":null,"userIdentity":null}"#));
}
