//! Values as policies and requests write them, read once more, by the plainest definition that there is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use crate::keys::{Class, DATES};

/// What stands for a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    /// `${*}` and its like.
    Sign,
    /// The key has this value, or is absent and this is the default.
    Value(String),
    /// The key is absent, and there is no default.
    Missing,
}

/// A variable and its place in a text.
pub(super) struct Found {
    pub(super) at: Range<usize>,
    pub(super) value: Variable,
}

/// The variables of a text.
pub(super) fn variables(text: &str, keys: &BTreeMap<String, Vec<String>>) -> Vec<Found> {
    let mut all = Vec::new();
    let mut from = 0;
    while let Some(start) = text[from..].find("${").map(|at| from + at) {
        let end = start + text[start..].find('}').expect("variables that are drawn end") + 1;
        let inside = &text[start + 2..end - 1];
        let (name, default) =
            inside.split_once(", ").map_or((inside, None), |(name, rest)| (name, Some(rest.trim_matches('\''))));
        let value = match (inside, keys.get(&name.to_ascii_lowercase()).map(Vec::as_slice), default) {
            ("*" | "?" | "$", ..) => Variable::Sign,
            (_, Some([value]), _) => Variable::Value(value.clone()),
            (_, _, Some(default)) => Variable::Value(default.to_owned()),
            _ => Variable::Missing,
        };
        all.push(Found { at: start..end, value });
        from = end;
    }
    all
}

/// A text with the values of some variables in their places, in which no sign has a meaning.
pub(super) fn substituted(text: &str, all: &[Found], which: impl Fn(&Variable) -> bool) -> String {
    let (mut out, mut done) = (String::new(), 0);
    for Found { at, value } in all.iter().filter(|one| which(&one.value)) {
        out.push_str(&text[done..at.start]);
        if let Variable::Value(value) = value {
            for c in value.chars() {
                match c {
                    '*' | '?' | '$' => out.extend(["${", c.encode_utf8(&mut [0; 4]), "}"]),
                    c => out.push(c),
                }
            }
        }
        done = at.end;
    }
    out + &text[done..]
}

/// Whether an operator for values of a class reads a value of a request.
pub(crate) fn is_read(class: Class, text: &str) -> bool {
    match class {
        Class::Text | Class::Flag | Class::Bytes | Class::Presence => true,
        Class::Number => {
            let legal = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
            text.bytes().all(legal) && text.parse::<f64>().is_ok()
        }
        Class::Moment => moment(text).is_some(),
        Class::Address => text.parse::<IpAddr>().is_ok(),
        Class::Arn => text.starts_with("arn:") && text.matches(':').count() >= 5,
    }
}

/// Milliseconds since 1970 of a moment that is drawn.
fn moment(text: &str) -> Option<i64> {
    let known = DATES.iter().find(|(date, _)| *date == text).map(|(_, moment)| *moment);
    known.or_else(|| is_epoch(text).then(|| text.parse::<i64>().ok()).flatten().map(|seconds| seconds * 1_000))
}

/// Whether a moment is a number of seconds.
pub(super) fn is_epoch(text: &str) -> bool {
    (5..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A moment as a number of seconds, or as a date with a time.
pub(super) fn rewritten(text: &str, as_epoch: bool) -> Option<String> {
    let moment = moment(text)?;
    let date = DATES.iter().find(|(date, other)| *other == moment && date.len() == "2026-11-29T12:00:00Z".len());
    if as_epoch { Some((moment / 1_000).to_string()) } else { date.map(|(date, _)| (*date).to_owned()) }
}

/// Networks as the oracle reads them well: with their bits, in the usual form, and not all addresses at once.
pub(super) fn networks(text: &str) -> Vec<String> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().expect("addresses that are drawn are addresses");
    match (address, bits) {
        (IpAddr::V4(_), Some("0")) => vec!["0.0.0.0/1".to_owned(), "128.0.0.0/1".to_owned()],
        (address, Some(bits)) => vec![format!("{address}/{bits}")],
        (address, None) => vec![format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })],
    }
}

/// Whether a pattern is all of a text.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let (mut pattern_chars, mut text_chars) = (pattern.chars(), text.chars());
    match (pattern_chars.next(), text_chars.next()) {
        (None, first) => first.is_none(),
        (Some('*'), first) => {
            glob(pattern_chars.as_str(), text) || first.is_some() && glob(pattern, text_chars.as_str())
        }
        (Some(_), None) => false,
        (Some(one), Some(other)) => (one == '?' || one == other) && glob(pattern_chars.as_str(), text_chars.as_str()),
    }
}
