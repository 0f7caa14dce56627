//! Documents name what there is: files and sections, targets of make, options of keystored, metrics, methods, exceptions.
//!
//! What they say of it is tried by the end-to-end tests; commands of keystorectl are looked at in `crates/cli`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use model::exception::Exception;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every document, by its path from the root.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["", "docs", "deploy", "softhsm-config", "tests/chaos-hsm", "tests/conformance"] {
        for entry in fs::read_dir(root().join(folder)).unwrap().map(Result::unwrap) {
            let path = Path::new(folder).join(entry.file_name());
            if path.extension().is_some_and(|ending| ending == "md") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 15, "{found:?}");
    found
}

/// Documents and what else people read as such.
fn texts() -> Vec<(PathBuf, String)> {
    let more = ["deploy/keystored.toml", "deploy/keystored.service"].map(PathBuf::from);
    documents().into_iter().chain(more).map(|path| (path.clone(), read(&path))).collect()
}

/// A text without what stands between its fences.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The names by which sections are linked to, as GitHub makes them of headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let prose = prose(text);
    let headings =
        prose.lines().filter_map(|line| line.strip_prefix('#').map(|rest| rest.trim_start_matches('#').trim()));
    let anchor = |heading: &str| {
        let kept =
            heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
        kept.replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// Words of these characters that begin so, without what a sentence has behind them.
fn words<'t>(text: &'t str, begins: &str, of: impl Fn(char) -> bool + Copy) -> Vec<&'t str> {
    let found = text.match_indices(begins).filter(|(at, _)| !text[..*at].ends_with(of));
    let word = |(at, _): (usize, &str)| {
        let rest = &text[at..];
        rest[..rest.find(|c: char| !of(c)).unwrap_or(rest.len())].trim_end_matches(['.', '-', '_', '/'])
    };
    found.map(word).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    for path in documents() {
        let text = read(&path);
        for link in prose(&text).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let there = root().join(&target);
            if !there.exists() || (!anchor.is_empty() && !anchors(&read(&target)).contains(anchor)) {
                wrong.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "these lead nowhere:\n{}", wrong.join("\n"));
}

#[test]
fn files_that_are_named_are_there() {
    let of_a_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let mut wrong = Vec::new();
    for (path, text) in texts() {
        for folder in
            ["docs/", "deploy/", "scripts/", "crates/", "tests/", "benches/", "proto/keystored/", "softhsm-config/"]
        {
            for named in words(&text, folder, of_a_path) {
                // Placeholders in capitals end what is a path.
                let named = named.split("/NAME").next().unwrap();
                if !root().join(named).exists() && !root().join(path.parent().unwrap()).join(named).exists() {
                    wrong.push(format!("{}: {named}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "these are not there:\n{}", wrong.join("\n"));
}

#[test]
fn targets_of_make_are_there() {
    let makefile = read(Path::new("Makefile"));
    let targets: BTreeSet<&str> =
        makefile.lines().filter_map(|line| line.split_once(": ")).map(|(name, _)| name).collect();
    let mut wrong = Vec::new();
    for (path, text) in texts() {
        let named = ["`make ", "$ make "].into_iter().flat_map(|before| text.split(before).skip(1));
        for rest in named.map(str::to_owned).collect::<Vec<_>>() {
            let target: String = rest.chars().take_while(|c| c.is_ascii_lowercase()).collect();
            if !target.is_empty() && !targets.contains(target.as_str()) {
                wrong.push(format!("{}: make {target}", path.display()));
            }
        }
    }
    assert!(targets.contains("demo") && wrong.is_empty(), "{targets:?} has not\n{}", wrong.join("\n"));
}

/// What a program says of itself.
fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_keystored")).args(arguments).arg("--help").output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn options_of_keystored_are_there() {
    let of_an_option = |c: char| c.is_ascii_lowercase() || c == '-';
    for command in ["serve", "dev", "check", "backup", "restore", "audit new-log"] {
        let shown = help(&command.split(' ').collect::<Vec<_>>());
        let there: BTreeSet<&str> = words(&shown, "--", of_an_option).into_iter().collect();
        let mut named = 0;
        for (path, text) in texts() {
            let text = text.replace("\\\n", " ");
            let called = format!("keystored {command} ");
            for (at, _) in text.match_indices(&called) {
                let (before, rest) = (&text[..at], &text[at + called.len()..]);
                // Up to the end of the code, which may stand on two lines, or of the line of a shell.
                let in_code = before.rsplit('\n').next().is_some_and(|line| line.matches('`').count() % 2 == 1);
                let ends = |c: char| "`|>;)&$#".contains(c) || (c == '\n' && !in_code);
                let end = rest.find(ends).unwrap_or(rest.len()).min(160);
                let end = (0..=end).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(0);
                for option in words(&rest[..end], "--", of_an_option) {
                    named += 1;
                    assert!(there.contains(option), "{}: keystored {command} has no {option}", path.display());
                }
            }
        }
        assert!(named > 0 || command == "dev", "no document names an option of keystored {command}");
    }
    // The codes that units and scripts go by.
    let codes = help(&[]);
    for code in ["  0   ", "  1   ", "  2   ", "  3   ", "  75  "] {
        assert!(codes.contains(code), "{code:?} is not in {codes}");
    }
}

/// What is behind a metric's name, by words of its type. Of this project are a histogram that is filled elsewhere, and a gauge
/// that is not always there.
const ENDINGS: [(&[&str], &[&str]); 3] = [
    (&["Counter"], &["_total"]),
    (&["Histogram", "Taken"], &["", "_bucket", "_count", "_sum"]),
    (&["Gauge", "gauge", "Maybe"], &[""]),
];

/// The endings of a metric that is declared so.
fn endings(declared: &str) -> Option<&'static [&'static str]> {
    let found = ENDINGS.iter().find(|(types, _)| types.iter().any(|of_a_type| declared.contains(of_a_type)));
    found.map(|(_, endings)| *endings)
}

/// The names by which metrics are told, read off where they are registered: one that has no value yet is not told.
fn metrics() -> BTreeSet<String> {
    let folder = Path::new("crates/telemetry/src/metrics");
    let further = fs::read_dir(root().join(folder)).unwrap().map(|entry| folder.join(entry.unwrap().file_name()));
    let mut told = BTreeSet::new();
    for file in further.chain([folder.with_extension("rs")]) {
        let text = read(&file);
        for call in text.split("register").skip(1) {
            let with_unit = call.starts_with("_with_unit(");
            if !with_unit && !call.starts_with('(') {
                continue;
            }
            let call = call.split(");").next().unwrap();
            let name = call.split('"').nth(1).unwrap();
            let unit = call.split("Unit::").nth(1).and_then(|rest| rest.split(',').next()).filter(|_| with_unit);
            let unit = unit.map(|unit| format!("_{}", unit.to_lowercase())).unwrap_or_default();
            let metric = call.rsplit_once(".clone()").unwrap().0;
            let metric = metric.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
            // Where it is made, or the field that it is.
            let begins = [format!("let {metric} = "), format!("{metric}: ")];
            let declared = text.lines().map(str::trim).filter(|line| begins.iter().any(|it| line.starts_with(it)));
            let of_it: BTreeSet<_> = declared.filter_map(endings).collect();
            assert_eq!(of_it.len(), 1, "{}: of which type is {name}? {of_it:?}", file.display());
            told.extend(of_it.into_iter().flatten().map(|ending| format!("keystored_{name}{unit}{ending}")));
        }
    }
    for (name, is_told) in [
        ("keystored_state_free_bytes", true),
        ("keystored_state_free_bytes_total", false),
        ("keystored_calls_total", true),
        ("keystored_calls", false),
        ("keystored_hsm_request_duration_seconds_bucket", true),
    ] {
        assert_eq!(told.contains(name), is_told, "{name} in {told:?}");
    }
    told
}

#[test]
fn metrics_that_are_named_are_told() {
    let told = metrics();
    let of_a_metric = |c: char| c.is_ascii_lowercase() || c == '_';
    let mut wrong = Vec::new();
    for (path, text) in texts() {
        for (at, _) in text.match_indices("keystored_") {
            let named = words(&text[at..], "keystored_", of_a_metric)[0];
            // What logs are filtered by is a crate, and its modules.
            let behind = &text[at + named.len()..];
            let of_a_log = behind.starts_with("::") || behind.starts_with('=');
            if !of_a_log && !told.contains(named) {
                wrong.push(format!("{}: {named}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "these are in no /metrics:\n{}", wrong.join("\n"));
}

/// The words of a text: Encrypt is not one of a text that has ReEncrypt alone.
fn whole_words(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect()
}

/// README lists what callers can call, and what they can be answered.
#[test]
fn methods_and_exceptions_are_in_the_readme() {
    let readme = read(Path::new("README.md"));
    for entry in fs::read_dir(root().join("proto/keystored/v1")).unwrap().map(Result::unwrap) {
        let proto = fs::read_to_string(entry.path()).unwrap();
        let word = |line: &str| line.split([' ', '(']).next().unwrap().to_owned();
        let service = proto.lines().find_map(|line| line.strip_prefix("service ").map(word)).unwrap();
        let row = readme.lines().find(|line| line.starts_with(&format!("| `{service}` |")));
        let row = row.unwrap_or_else(|| panic!("README.md has no row for {service}"));
        let listed = whole_words(row);
        for method in proto.lines().filter_map(|line| line.trim().strip_prefix("rpc ").map(word)) {
            // Told in words.
            let in_words = service == "AccessService" || method.starts_with("Batch") || method == "Stream";
            assert!(
                in_words || listed.contains(method.as_str()),
                "README.md's row for {service} does not have {method}"
            );
        }
    }
    let named = whole_words(&readme);
    let unnamed = Exception::ALL.iter().filter(|exception| !named.contains(exception.name()));
    assert_eq!(unnamed.map(|exception| exception.name()).collect::<Vec<_>>(), Vec::<&str>::new());
}
