use std::path::Path;

use audit::note::LogKey;
use audit::test_support::Writer;
use clap::{CommandFactory as _, Parser as _};
use serde_json::json;
use tempfile::TempDir;

use super::record::{Filter, Shown};
use crate::Arguments;

const KEY: &str = "arn:aws:kms:local:0:key/6c1f0d54-0000-4000-8000-000000000001";

fn record(number: u64, name: &str, code: Option<&str>) -> Vec<u8> {
    let mut record = json!({
        "eventTime": format!("2026-11-{:02}T12:00:00Z", 1 + number / 100),
        "eventName": name,
        "userIdentity": { "arn": "arn:aws:iam::0:user/anna" },
        "eventID": format!("event-{}", number / 2),
        "resources": [{ "ARN": KEY }],
    });
    if let Some(code) = code {
        record["errorCode"] = json!(code);
    }
    serde_json::to_vec(&record).unwrap()
}

fn log() -> TempDir {
    let directory = TempDir::new().unwrap();
    let key = LogKey::from_seed("keys.example/audit", &[1; 32]).unwrap();
    let all: Vec<Vec<u8>> = (0..1_010).map(|number| record(number, "Decrypt", None)).collect();
    let writer = Writer { directory: directory.path().to_owned(), key: &key, cosigner: &() };
    writer.log(&all, &[600, 1_000]);
    let keys = audit::keys::PublicKeys::new(key.verifier(), Vec::new(), Vec::new());
    std::fs::write(directory.path().join("keys.json"), keys.to_json().unwrap()).unwrap();
    directory
}

fn filter(arguments: &[&str]) -> Filter {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        filter: Filter,
    }
    Line::command().debug_assert();
    Line::try_parse_from(std::iter::once(&"tail").chain(arguments)).unwrap_or_else(|error| panic!("{error}")).filter
}

#[test]
fn records_are_chosen_by_what_they_say() {
    let done = record(7, "Decrypt", None);
    let denied = record(8, "Decrypt", Some("AccessDenied"));
    let failed = record(8, "Encrypt", Some("DisabledException"));
    for (arguments, wanted) in [
        (vec![], [true, true, true]),
        (vec!["--key", KEY], [true, true, true]),
        (vec!["--key", "6c1f0d54-0000-4000-8000-000000000001"], [true, true, true]),
        (vec!["--key", "000000000001"], [false, false, false]),
        (vec!["--principal", "user/anna"], [true, true, true]),
        (vec!["--principal", "anna"], [true, true, true]),
        (vec!["--principal", "na"], [false, false, false]),
        (vec!["--operation", "decrypt"], [true, true, false]),
        (vec!["--outcome", "ok"], [true, false, false]),
        (vec!["--outcome", "denied"], [false, true, false]),
        (vec!["--outcome", "failed"], [false, false, true]),
        (vec!["--since", "2026-11-01"], [true, true, true]),
        (vec!["--since", "2026-11-01T12:00:01Z"], [false, false, false]),
        (vec!["--until", "2026-11-01T12:00:00Z"], [false, false, false]),
        (vec!["--until", "2026-11-02"], [true, true, true]),
    ] {
        let filter = filter(&arguments).meant();
        assert_eq!([&done, &denied, &failed].map(|one| filter.wants(one)), wanted, "{arguments:?}");
    }
}

#[test]
fn a_record_is_one_line_whatever_it_is() {
    let shown = Shown::new(8, &record(8, "Decrypt", Some("AccessDenied")));
    assert_eq!(
        shown.line(),
        format!("8  2026-11-01T12:00:00Z  Decrypt  AccessDenied  arn:aws:iam::0:user/anna  {KEY}")
    );
    assert_eq!(Shown::new(3, b"\xff no JSON").line(), "3  -  -  ok  -  -");
    let service = Shown::new(1, br#"{"eventName":"DeleteKey","userIdentity":{"invokedBy":"AWS Internal"}}"#);
    assert_eq!(service.line(), "1  -  DeleteKey  ok  AWS Internal  -");
    let administrator = br#"{"eventName":"CreateKey","userIdentity":{"type":"Unknown","principalId":"cn:ops"}}"#;
    assert_eq!(Shown::new(2, administrator).line(), "2  -  CreateKey  ok  cn:ops  -");
    assert!(filter(&["--principal", "cn:ops"]).meant().wants(administrator));
}

#[test]
fn times_are_told_as_records_have_them() {
    for wrong in ["now", "2026-11-3", "2026/11/30", "2026-11-30T12:00:00+01:00", "2026-11-30T12:00:00Zx"] {
        let line = ["keystorectl", "audit", "tail", ".", "--since", wrong];
        assert!(Arguments::try_parse_from(line).is_err(), "{wrong}");
    }
}

#[test]
fn a_directory_is_named_or_the_service_is_asked() {
    let parses = |words: &[&str]| {
        let line = ["keystorectl", "audit"].iter().chain(words);
        Arguments::try_parse_from(line).is_ok()
    };
    for verb in ["head", "keys", "tail"] {
        assert!(parses(&[verb]) && parses(&[verb, "dir"]) && parses(&[verb, "dir", "--archive", "other"]), "{verb}");
        assert!(!parses(&[verb, "--archive", "other"]), "{verb}: the service knows no archive");
    }
    for verb in ["show", "prove"] {
        assert!(parses(&[verb, "5"]) && parses(&[verb, "dir", "5"]) && !parses(&[verb]), "{verb}");
        assert!(!parses(&[verb, "5", "--archive", "other"]), "{verb}");
    }
    assert!(!parses(&["prove", "dir"]) && !parses(&["prove", "5", "dir"]), "a number stands last");
    assert!(parses(&["verify", "--keys", "k", "--checkpoint", "h"]));
}

/// What the program ends with.
fn ends_with(arguments: &[&str]) -> String {
    let line = ["keystorectl", "--json", "audit"].iter().chain(arguments).map(|word| (*word).into()).collect();
    format!("{:?}", crate::run(line, model::clock::Clock::system()))
}

fn code(code: u8) -> String {
    format!("{:?}", std::process::ExitCode::from(code))
}

#[test]
fn verbs_end_as_others_do() {
    let log = log();
    let at = |name: &str| log.path().join(name).to_str().unwrap().to_owned();
    let (directory, keys) = (at(""), at("keys.json"));
    std::fs::write(log.path().join("proof"), audit::prove::prove(log.path(), 5).unwrap()).unwrap();
    std::fs::copy(log.path().join("checkpoint"), log.path().join("kept")).unwrap();
    let good: [&[&str]; 9] = [
        &["verify", &directory, "--keys", &keys],
        &["verify", &directory, "--keys", &keys, "--checkpoint", &at("kept")],
        &["head", &directory],
        &["prove", &directory, "999"],
        &["check-proof", &at("proof"), "--keys", &keys],
        &["tail", &directory, "-n", "3"],
        &["show", &directory, "1009"],
        &["show", &directory, "event-3"],
        &["keys", &directory],
    ];
    for line in good {
        assert_eq!(ends_with(line), code(0), "{line:?}");
    }
    // What is moved away is found where it is said to be.
    let archive = TempDir::new().unwrap();
    let to = archive.path().to_str().unwrap();
    let writer_key = LogKey::from_seed("keys.example/audit", &[1; 32]).unwrap();
    let all: Vec<Vec<u8>> = (0..1_000).map(|number| record(number, "Decrypt", None)).collect();
    std::fs::remove_dir_all(log.path().join("tile/entries")).unwrap();
    Writer { directory: log.path().to_owned(), key: &writer_key, cosigner: &() }.bundles(&all, true);
    assert_eq!(ends_with(&["archive", &directory, to, "--keep", "300"]), code(0));
    assert!(archive.path().join("tile/entries/001.zst").exists() && !log.path().join("tile/entries/001.zst").exists());
    assert_eq!(ends_with(&["verify", &directory, "--keys", &keys]), code(5));
    assert_eq!(ends_with(&["verify", &directory, "--keys", &keys, "--archive", to]), code(0));
    assert_eq!(ends_with(&["show", &directory, "3", "--archive", to]), code(0));
    // What is shown is all that was asked for, or that is told.
    assert_eq!(ends_with(&["tail", &directory, "-n", "3"]), code(0));
    assert_eq!(ends_with(&["tail", &directory, "-n", "900"]), code(5));
    assert_eq!(ends_with(&["tail", &directory, "-n", "900", "--archive", to]), code(0));
    assert_eq!(ends_with(&["tail", &directory, "--operation", "Encrypt"]), code(5));
    let path = log.path().join("tile/entries/003.p/232");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[9] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let bad: [&[&str]; 7] = [
        &["verify", &directory, "--keys", &keys],
        &["verify", &directory, "--keys", &at("nothing")],
        &["prove", &directory, "1000"],
        &["check-proof", &keys, "--keys", &keys],
        &["show", &directory, "1010"],
        &["show", &directory, "event-9999"],
        &["head", &at("nothing")],
    ];
    for line in bad {
        assert_eq!(ends_with(line), code(5), "{line:?}");
    }
}

#[test]
fn the_last_records_are_found_from_the_end() {
    let log = log();
    let place = audit::files::Place::new(log.path());
    assert_eq!(super::tail::end(&place).unwrap(), 1_010);
    let numbers = |arguments: &[&str], most| -> Vec<u64> {
        let (filter, mut numbers) = (filter(arguments).meant(), Vec::new());
        let (first, missing) = super::tail::beginning(&place, 1_010, &filter, most).unwrap();
        assert!(missing.is_none(), "{missing:?}");
        super::tail::each(&place, &filter, first..1_010, |record| {
            numbers.push(record.number);
            Ok(())
        })
        .unwrap();
        numbers
    };
    assert_eq!(numbers(&[], usize::MAX), (0..1_010).collect::<Vec<_>>());
    assert!(numbers(&["--operation", "Encrypt"], 3).is_empty() && numbers(&[], 0).is_empty());
    assert_eq!(numbers(&[], 3), [1_007, 1_008, 1_009]);
    assert_eq!(numbers(&["--since", "2026-11-10"], usize::MAX), (900..1_010).collect::<Vec<_>>());
    assert_eq!(numbers(&["--until", "2026-11-02"], 2), [98, 99]);
    let event = super::show::event(&place, "event-128").unwrap();
    assert_eq!(event.iter().map(|record| record.number).collect::<Vec<_>>(), [256, 257]);
    let across: Vec<u64> = super::show::event(&place, "event-500").unwrap().iter().map(|one| one.number).collect();
    assert_eq!(across, [1_000, 1_001]);
    assert!(super::tail::end(&audit::files::Place::new(Path::new("/nowhere"))).is_ok_and(|end| end == 0));
    // What is before a bundle that was moved away is not shown, and that is told.
    std::fs::remove_file(log.path().join("tile/entries/001")).unwrap();
    let all = super::tail::beginning(&place, 1_010, &filter(&[]).meant(), usize::MAX).unwrap();
    assert!(matches!(all, (512, Some(audit::look::LookError::Missing(256)))), "{all:?}");
    assert_eq!(numbers(&[], 5), (1_005..1_010).collect::<Vec<_>>());
}

/// A log in which everything is of one event is nothing that the daemon has written.
#[test]
fn an_event_has_no_more_records_than_an_event_may_have() {
    let directory = TempDir::new().unwrap();
    let key = LogKey::from_seed("keys.example/audit", &[1; 32]).unwrap();
    let filler = "x".repeat(60_000);
    let one = serde_json::to_vec(&json!({ "eventID": "event-1", "requestParameters": filler })).unwrap();
    let writer = Writer { directory: directory.path().to_owned(), key: &key, cosigner: &() };
    let show = |records: usize| {
        writer.journal(0, &vec![one.clone(); records]);
        super::show::event(&audit::files::Place::new(directory.path()), "event-1").map(|found| found.len())
    };
    assert_eq!(show(130).unwrap(), 130);
    assert!(show(200).is_err());
}
