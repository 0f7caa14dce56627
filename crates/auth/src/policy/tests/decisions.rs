//! Decisions, each with its reason: `golden/decisions/*.txt` says in its first lines how to read it.

use super::world::{Case, Given, arn, grant};

const FILES: &[(&str, &str)] = &[
    ("principals", include_str!("../golden/decisions/principals.txt")),
    ("elements", include_str!("../golden/decisions/elements.txt")),
    ("operators", include_str!("../golden/decisions/operators.txt")),
    ("sets", include_str!("../golden/decisions/sets.txt")),
    ("variables", include_str!("../golden/decisions/variables.txt")),
    ("keys", include_str!("../golden/decisions/keys.txt")),
    ("grants", include_str!("../golden/decisions/grants.txt")),
    ("attacks", include_str!("../golden/decisions/attacks.txt")),
];

/// What is asked and what has to be said, with its case and its line.
pub(super) struct Asked {
    pub(super) place: String,
    pub(super) case: Case,
    pub(super) given: Given,
    pub(super) verdict: String,
}

/// Every decision of the files.
pub(super) fn all() -> Vec<Asked> {
    FILES.iter().flat_map(|(name, text)| read(name, text)).collect()
}

fn read(name: &str, text: &str) -> Vec<Asked> {
    let (mut case, mut title, mut all) = (Case::default(), String::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "" | "#" => {}
            "==" => (case, title) = (Case::default(), rest.to_owned()),
            "key" => case.key.push(statement(rest, true)),
            "own" => case.own.push(statement(rest, false)),
            "grant" => case.grants.push(grant(rest)),
            "ask" => {
                let (asked, verdict) =
                    rest.split_once("=>").unwrap_or_else(|| panic!("{name}:{}: no verdict", index + 1));
                let (place, verdict) = (format!("{name}.txt:{} {title}: {line}", index + 1), verdict.trim().to_owned());
                all.push(Asked { place, case: case.clone(), given: Given::parse(asked), verdict });
            }
            _ => panic!("{name}:{}: {line}", index + 1),
        }
    }
    all
}

/// A statement: JSON, or `EFFECT [WHOM] ACTIONS RESOURCES [CONDITION]` for short.
fn statement(line: &str, of_key: bool) -> String {
    let line = line.trim();
    if line.starts_with('{') {
        return line.to_owned();
    }
    let (plain, condition) = line.find(" {").map_or((line, None), |at| (&line[..at], Some(&line[at..])));
    let mut words = plain.split_whitespace();
    let mut members = vec![format!("\"Effect\": \"{}\"", words.next().unwrap())];
    let json = |text: &str| serde_json::Value::from(text).to_string();
    let list = |text: &str, each: &dyn Fn(&str) -> String| {
        let all: Vec<_> = text.split(',').map(|one| json(&each(one))).collect();
        if all.len() == 1 { all[0].clone() } else { format!("[{}]", all.join(", ")) }
    };
    let mut element = |name: &str, word: &str, value: &dyn Fn(&str) -> String| match word.strip_prefix('!') {
        _ if word == "-" => {}
        Some(word) => members.push(format!("\"Not{name}\": {}", value(word))),
        None => members.push(format!("\"{name}\": {}", value(word))),
    };
    if of_key {
        let whom = words.next().unwrap();
        let named = |one: &str| if one.starts_with("arn:") || one.len() == 12 { one.to_owned() } else { arn(one) };
        let aws = |word: &str| format!("{{\"AWS\": {}}}", list(word, &named));
        element("Principal", whom, &|word| if word == "*" { "\"*\"".to_owned() } else { aws(word) });
    }
    let same = |one: &str| one.to_owned();
    element("Action", words.next().unwrap(), &|word| list(word, &same));
    let resource = |one: &str| match one {
        "key" => super::world::KEY.to_owned(),
        "*" => "*".to_owned(),
        other if other.starts_with("arn:") => other.to_owned(),
        other => format!("arn:aws:kms:eu-central-1:111122223333:{other}"),
    };
    element("Resource", words.next().unwrap(), &|word| list(word, &resource));
    assert_eq!(words.next(), None, "{line}");
    members.extend(condition.map(|condition| format!("\"Condition\": {condition}")));
    format!("{{{}}}", members.join(", "))
}

#[test]
fn each_decision_is_what_the_file_says() {
    let all = all();
    let decided = all.iter().map(|asked| (asked, asked.case.decide(&asked.given)));
    let wrong: Vec<_> = decided.filter(|(asked, is)| asked.verdict != *is).collect();
    let shown: Vec<_> = wrong.iter().map(|(asked, is)| format!("{}\n    is: {is}", asked.place)).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), shown.join("\n"));
    assert!(all.len() >= 300, "{}", all.len());
}
