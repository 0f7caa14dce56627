//! deploy/keystored.toml has every setting, and what it calls a default is one.

use super::judge;

const SAMPLE: &str = include_str!("../../../../deploy/keystored.toml");
/// The file's shape.
const SHAPE: &str = include_str!("../raw.rs");

/// Known only to be refused with a sentence that says what to write instead.
const REFUSED: [&str; 4] = ["name", "token_serial", "pin", "pin_file"];

#[test]
fn it_has_every_setting() {
    // Between the two it is said how one of them is read.
    let (first, rest) = SHAPE.split_once("/// By hand, so that").expect("it is there");
    let (_, last) = rest.split_once("pub(super) struct Kill {").expect("it is there");
    let fields = first.lines().chain(last.lines()).filter_map(|line| {
        let (field, _) = line.trim_start().strip_prefix("pub(super) ")?.split_once(": ")?;
        Some(field)
    });
    let fields: Vec<&str> = fields.filter(|field| !REFUSED.contains(field)).collect();
    assert!(fields.len() > 60, "{fields:?}");
    let words: Vec<&str> = SAMPLE.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let missing: Vec<&&str> = fields.iter().filter(|field| !words.contains(field)).collect();
    assert!(missing.is_empty(), "deploy/keystored.toml does not name {missing:?}");
}

/// The sample without some of its sections and lines.
fn without(sections: &[&str], lines: &[&str]) -> String {
    let mut left_out = false;
    let kept = SAMPLE.lines().filter(|line| {
        if line.starts_with('[') {
            left_out = sections.iter().any(|section| line.starts_with(section));
        }
        !left_out && !lines.iter().any(|setting| line.starts_with(&format!("{setting} = ")))
    });
    kept.collect::<Vec<_>>().join("\n")
}

#[test]
fn what_it_calls_a_default_is_one() {
    let sections = ["[ops]", "[limits]", "[audit]", "[log]", "[cluster.hsm.kill]", "[cluster.hsm.queue]"];
    let of_the_cluster = ["hedge_after_ms", "verify_wraps", "verify_unwraps", "pin_scope", "rotation", "login_tries"];
    let lines =
        [&["lock_dir", "partition", "operations", "required", "expires_after_s", "burst_s"][..], &of_the_cluster];
    let shorter = without(&sections, &lines.concat());
    assert!(shorter.lines().count() + 30 < SAMPLE.lines().count(), "little was left out:\n{shorter}");
    let [whole, rest] = [SAMPLE, &shorter].map(|text| judge(text).unwrap_or_else(|error| panic!("{error}\n{text}")));
    assert_eq!(format!("{whole:#?}"), format!("{rest:#?}"));
}
