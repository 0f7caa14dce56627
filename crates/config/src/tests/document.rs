//! docs/hsms.md says what the data file and the code say, and each of its refusals is met by a test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::{GOOD, judge};
use crate::capabilities;
use model::profile::{Abilities, Need, Profile, Promise, Unsuitable, promises};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn document() -> String {
    fs::read_to_string(root().join("docs/hsms.md")).expect("it is there")
}

/// The document as its readers see it.
fn seen() -> String {
    without_comments(&document())
}

fn without_comments(text: &str) -> String {
    text.split("<!--").map(|part| part.split_once("-->").map_or(part, |(_, rest)| rest)).collect()
}

/// On one line, with single blanks, and nothing that is only for how it looks.
fn flat(text: &str) -> String {
    text.replace('`', "").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The lines of the table whose first line begins so, without the line of dashes; each as its cells.
fn table(text: &str, begins: &str) -> Vec<Vec<String>> {
    let lines = text.lines().skip_while(|line| !line.starts_with(begins)).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    lines.filter(|line| !line.starts_with("|---")).map(cells).collect()
}

/// The cells say "yes" where a promise holds with a profile, and "no" where it does not, for each promise and profile.
#[test]
fn the_table_of_promises_is_what_capabilities_come_to() {
    let text = seen();
    let rows = table(&text, "| # | Promise |");
    let names = Profile::ALL.map(|profile| format!("`{}`", profile.name()));
    assert_eq!(rows[0][2..], names, "a column for each profile");
    assert_eq!(rows.len(), 1 + Promise::ALL.len(), "a row for each promise");
    for (number, promise) in Promise::ALL.into_iter().enumerate() {
        let row = &rows[number + 1];
        assert_eq!((row[0].as_str(), flat(&row[1])), ((number + 1).to_string().as_str(), flat(promise.text())));
        for (profile, cell) in Profile::ALL.into_iter().zip(&row[2..]) {
            let known = capabilities(profile).expect("there");
            let holds = !promises(&known).iter().any(|broken| broken.promise == promise);
            assert_eq!(cell, if holds { "yes" } else { "**no**" }, "{promise:?} with {}", profile.name());
        }
    }
}

/// Why a promise does not hold stands below the table, in the words of `keystored check`, behind the promise's number.
#[test]
fn each_broken_promise_has_its_reason_in_the_document() {
    let text = seen();
    let reasons = reasons(&text);
    let mut met = BTreeSet::new();
    for broken in Profile::ALL.into_iter().flat_map(|profile| promises(&capabilities(profile).expect("there"))) {
        let place = Promise::ALL.iter().position(|promise| *promise == broken.promise).expect("one of all");
        assert!(
            reasons.get(&(place + 1)).is_some_and(|reason| reason.contains(&flat(broken.why))),
            "{}. is not: {}",
            place + 1,
            broken.why
        );
        met.insert(place + 1);
    }
    assert!(met.iter().eq(reasons.keys()), "reasons for what is broken alone: {met:?}, {reasons:#?}");
}

/// The entries of the list below the heading, by their numbers.
fn reasons(text: &str) -> BTreeMap<usize, String> {
    let (_, list) = text.split_once("\n### Why not\n").expect("the heading");
    let list = list.split("\n#").next().unwrap_or(list);
    let mut reasons: BTreeMap<usize, String> = BTreeMap::new();
    let mut last = None;
    for line in list.lines() {
        let entry = line.strip_prefix("- **").and_then(|line| line.split_once(".** "));
        let numbered = entry.and_then(|(number, rest)| Some((number.parse::<usize>().ok()?, rest)));
        if let Some((number, rest)) = numbered {
            last = Some(number);
            reasons.insert(number, flat(rest));
        } else if !line.starts_with(' ') {
            last = None;
        } else if let Some(reason) = last.and_then(|number| reasons.get_mut(&number)) {
            *reason = flat(&format!("{reason} {line}"));
        }
    }
    reasons
}

/// What keystored needs of a token, and the HSMs that are known not to have it.
#[test]
fn what_is_needed_and_who_does_not_have_it_is_listed() {
    let text = flat(&seen());
    for need in Need::ALL {
        for words in [need.name(), need.without()] {
            assert!(text.contains(&flat(words)), "{need:?}: {words}");
        }
    }
    for library in Unsuitable::ALL {
        for words in [library.name(), library.why()] {
            assert!(text.contains(&flat(words)), "{library:?}: {words}");
        }
    }
}

#[test]
fn where_a_profile_is_from_cannot_be_said_otherwise() {
    for text in ["capabilities.basis = \"measured\"", "capabilities.basis.from = \"measured\""] {
        let error = judge(&GOOD.replacen("kill.crypto_ms = 500", text, 1)).expect_err(text);
        assert!(error.message.contains("basis") || error.message.contains("invalid type"), "{text}: {error}");
        assert!(error.line.is_some(), "{error}");
    }
}

/// A profile whose vendor's numbers are hidden is not condemned for it, one that has the standard's is.
#[test]
fn no_profile_is_condemned_for_a_number_of_its_vendor_s() {
    for profile in Profile::ALL {
        let known = capabilities(profile).expect("there");
        let abilities = Abilities::of(&[], true, ("", ""), &known);
        let needed = Need::ALL.into_iter().filter(|need| need.is_one_of(&known));
        let vendors = needed.filter(|need| need.mechanism(&known).is_some_and(|(number, _)| number >> 31 == 1));
        assert!(vendors.eq(abilities.unclear.iter().copied()), "{}", profile.name());
    }
}

/// Words by which the document says that something is not had.
const REFUSALS: [&str; 6] = ["refused", "refuses", "left out", "does not hold", "cannot", "can't"];

/// A row of a table, an entry of a list, or a paragraph, with the number of its first line.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks: Vec<(usize, String)> = Vec::new();
    let (mut open, mut code) = (false, false);
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            code = !code;
        }
        let begins = line.starts_with("- ") || line.starts_with(['|', '#']);
        match blocks.last_mut() {
            _ if line.trim().is_empty() || code => open = false,
            Some((_, block)) if open && !begins => {
                block.push(' ');
                block.push_str(line);
            }
            _ => {
                blocks.push((number + 1, line.to_owned()));
                open = true;
            }
        }
    }
    blocks
}

/// The tests that a block names in comments: `<!-- test: FILE NAME -->`, several of them with commas between.
fn named(block: &str) -> Vec<(&str, &str)> {
    let comments = block.split("<!-- test: ").skip(1).filter_map(|rest| rest.split(" -->").next());
    comments.flat_map(|comment| comment.split(", ")).filter_map(|test| test.split_once(' ')).collect()
}

/// Every sentence that says that something is refused, left out or cannot be has the test beside it that tries it.
#[test]
fn each_refusal_names_a_test() {
    let text = document();
    for (line, block) in blocks(&text) {
        let said = without_comments(&block);
        let says = REFUSALS.iter().find(|word| said.contains(*word));
        let is_heading = block.starts_with('#');
        if let Some(word) = says.filter(|_| !is_heading) {
            assert!(
                !named(&block).is_empty(),
                "docs/hsms.md:{line} says {word:?}: name the test that tries it, as <!-- test: FILE NAME -->"
            );
        }
    }
}

#[test]
fn the_tests_that_hsms_md_names_are_there() {
    let text = document();
    let all = named(&text);
    assert!(all.len() > 15, "{all:?}");
    for (file, name) in all {
        let source = fs::read_to_string(root().join(file)).unwrap_or_default();
        let found =
            [format!("fn {name}("), format!("played!({name},")].iter().any(|made| source.contains(made.as_str()));
        assert!(found, "docs/hsms.md names {name} in {file}, which is no test");
    }
}
