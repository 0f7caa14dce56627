//! JSON with the place of each value in its text, and no name twice in an object.
//!
//! serde_json reads it; a value's raw text is a part of the whole text, and so says where it stands. Each level is read
//! anew, which [`DEPTH`] bounds.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Deepest nesting. A policy needs five levels.
const DEPTH: usize = 12;

/// A value and the bytes of the text that it takes.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// From its first byte to behind its last.
    pub(super) span: Range<usize>,
    /// The value, without its place.
    pub(super) value: Value,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number as it is written.
    Number(String),
    /// A string, its escapes read.
    Text(String),
    /// An array.
    Array(Vec<Node>),
    /// An object, in the order of the text.
    Object(Vec<(String, Node)>),
}

/// Why a text is not read, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// Where reading ended.
    pub(super) at: usize,
    /// What is wrong there, for whoever wrote the policy.
    pub(super) why: String,
}

/// Reads a whole text.
pub(super) fn parse(text: &str) -> Result<Node, Unreadable> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| unreadable(text, 0, text, &error))?;
    node(text, raw.get(), DEPTH)
}

/// The line of a byte, from 1.
pub(super) fn line(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// serde_json counts lines and columns of the part that it was given.
fn unreadable(part: &str, start: usize, whole: &str, error: &serde_json::Error) -> Unreadable {
    let before: usize = part.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let at = (start + before + error.column().saturating_sub(1)).min(whole.len());
    // The end of its sentence counts from the part's beginning, and would mislead.
    let why = error.to_string();
    let why = why.split(" at line ").next().unwrap_or_default().to_owned();
    Unreadable { at, why }
}

fn node(whole: &str, part: &str, depth: usize) -> Result<Node, Unreadable> {
    // `part` is a piece of `whole`: serde_json borrows.
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    let wrong = |error: serde_json::Error| unreadable(part, start, whole, &error);
    if depth == 0 {
        return Err(Unreadable { at: start, why: format!("more than {DEPTH} levels deep") });
    }
    let value = match part.as_bytes().first() {
        Some(b'{') => {
            let Members(members) = serde_json::from_str(part).map_err(wrong)?;
            let member = |(name, raw): (String, &RawValue)| Ok((name, node(whole, raw.get(), depth - 1)?));
            Value::Object(members.into_iter().map(member).collect::<Result<_, _>>()?)
        }
        Some(b'[') => {
            let Items(items) = serde_json::from_str(part).map_err(wrong)?;
            Value::Array(items.into_iter().map(|raw| node(whole, raw.get(), depth - 1)).collect::<Result<_, _>>()?)
        }
        Some(b'"') => Value::Text(serde_json::from_str(part).map_err(wrong)?),
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'n') => Value::Null,
        _ => Value::Number(part.to_owned()),
    };
    Ok(Node { span: start..start + part.len(), value })
}

struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut members, mut seen) = (Vec::new(), std::collections::BTreeSet::new());
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!("the name {name:?} stands twice in one object")));
                    }
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Reader)
    }
}

struct Items<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Items<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(item) = items.next_element()? {
                    all.push(item);
                }
                Ok(Items(all))
            }
        }
        from.deserialize_seq(Reader)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spans(text: &str, node: &Node, out: &mut Vec<String>) {
        out.push(text[node.span.clone()].to_owned());
        match &node.value {
            Value::Array(items) => items.iter().for_each(|item| spans(text, item, out)),
            Value::Object(members) => members.iter().for_each(|(_, value)| spans(text, value, out)),
            _ => {}
        }
    }

    #[test]
    fn each_value_knows_its_part_of_the_text() {
        let text = " { \"a\" : [ 1 , \"zwölf\\n\" ] , \"b\":{\"c\":null , \"d\": true},\"e\":-1.50e1 } ";
        let mut found = Vec::new();
        spans(text, &parse(text).unwrap(), &mut found);
        assert_eq!(found[0], text.trim());
        let rest =
            ["[ 1 , \"zwölf\\n\" ]", "1", "\"zwölf\\n\"", "{\"c\":null , \"d\": true}", "null", "true", "-1.50e1"];
        assert_eq!(found[1..], rest);
    }

    #[test]
    fn a_name_twice_depth_and_nonsense_are_refused_where_they_stand() {
        let at = |text: &str| parse(text).map(|_| ()).unwrap_err();
        let twice = at("{\n \"a\": {\"b\": 1,\n \"b\": 2}}");
        assert!(twice.why.contains("\"b\" stands twice"), "{twice:?}");
        assert_eq!(line("{\n \"a\": {\"b\": 1,\n \"b\": 2}}", twice.at), 3);
        let same = at("{\"\\u0061\": 1, \"a\": 2}");
        assert!(same.why.contains("twice"), "{same:?}");
        let deep = format!("{}1{}", "[".repeat(12), "]".repeat(12));
        assert!(at(&deep).why.contains("levels deep"));
        for nonsense in ["", "{", "{\"a\":}", "[1,]", "{} {}", "\"\\ud800\"", "nul", "{'a':1}", "01", "\u{feff}{}"] {
            assert!(parse(nonsense).is_err(), "{nonsense}");
        }
        assert!(parse(&"[".repeat(100_000)).is_err(), "no stack is needed to say no");
    }

    fn plain(node: &Node) -> serde_json::Value {
        match &node.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(is) => (*is).into(),
            Value::Number(text) => serde_json::from_str(text).unwrap(),
            Value::Text(text) => text.clone().into(),
            Value::Array(items) => items.iter().map(plain).collect(),
            Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
        }
    }

    fn values() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "[ -~é\\n\"]{0,8}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map("[a-c\"é]{0,3}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_serde_json_reads_is_read_alike(value in values(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            prop_assert_eq!(plain(&parse(&text).unwrap()), value);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]{}\":,a0 \\\\ué\\n-]{0,40}") {
            let ours = parse(&text).is_ok();
            prop_assert!(!ours || serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }
}
