//! JSON of requests, one level at a time: the text of each value stands in the body until it is known what it has to be.
//!
//! serde_json says what is JSON. Its strings are read here all the same: it unescapes them in a buffer that nobody wipes,
//! and what a request holds may be a plaintext or a password.

use std::borrow::Cow;
use std::fmt;

use memchr::memchr2;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// Deepest nesting of a body, in whatever members. The model's own needs four levels.
const DEPTH: usize = 32;

/// Most members of one object and elements of one list. An encryption context of 8 KiB has at most 1,000 pairs.
const ENTRIES: usize = 4096;

/// What a value's text begins as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    False,
    True,
    Number,
    String,
    List,
    Object,
}

/// The value's text is no JSON, or is beyond the bounds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// What a text is that serde_json has taken for a value.
pub(super) fn kind(raw: &RawValue) -> Kind {
    match raw.get().as_bytes().first() {
        Some(b'n') => Kind::Null,
        Some(b'f') => Kind::False,
        Some(b't') => Kind::True,
        Some(b'"') => Kind::String,
        Some(b'[') => Kind::List,
        Some(b'{') => Kind::Object,
        _ => Kind::Number,
    }
}

/// The value that a whole body is.
pub(super) fn document(body: &[u8]) -> Result<&RawValue, Unreadable> {
    if depth(body) > DEPTH {
        return Err(Unreadable);
    }
    serde_json::from_slice(body).map_err(|_| Unreadable)
}

/// The members of an object, in the order of the text, no name twice: parsers differ in which of two they take, and what
/// was authorized by one reader must be what another one does.
pub(super) fn members(raw: &RawValue) -> Result<Vec<(Cow<'_, str>, &RawValue)>, Unreadable> {
    let Members(members) = serde_json::from_str(raw.get()).map_err(|_| Unreadable)?;
    let mut names: Vec<&str> = members.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    match names.windows(2).any(|pair| matches!(pair, [one, other] if one == other)) {
        true => Err(Unreadable),
        false => Ok(members),
    }
}

/// The elements of a list.
pub(super) fn elements(raw: &RawValue) -> Result<Vec<&RawValue>, Unreadable> {
    let Elements(elements) = serde_json::from_str(raw.get()).map_err(|_| Unreadable)?;
    Ok(elements)
}

/// What a string says. A half of a surrogate pair is no character.
pub(super) fn text(raw: &RawValue) -> Result<Zeroizing<String>, Unreadable> {
    let quoted = raw.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or(Unreadable)?;
    // As long as it can become, so that it never moves and leaves a copy.
    let mut text = Zeroizing::new(String::with_capacity(quoted.len()));
    let mut rest = quoted;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        text.push_str(plain);
        let (letter, behind) = unescaped(escaped).ok_or(Unreadable)?;
        text.push(letter);
        rest = behind;
    }
    text.push_str(rest);
    Ok(text)
}

/// The character of what follows a backslash, and the text behind it.
fn unescaped(escaped: &str) -> Option<(char, &str)> {
    let mut letters = escaped.chars();
    let letter = match letters.next()? {
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => {
            let (unit, rest) = code_unit(letters.as_str())?;
            return match unit {
                0xD800..=0xDBFF => {
                    let (low, rest) = code_unit(rest.strip_prefix("\\u")?)?;
                    let pair = char::decode_utf16([unit, low]).next()?.ok()?;
                    Some((pair, rest))
                }
                _ => Some((char::from_u32(u32::from(unit))?, rest)),
            };
        }
        plain @ ('"' | '\\' | '/') => plain,
        _ => return None,
    };
    Some((letter, letters.as_str()))
}

fn code_unit(text: &str) -> Option<(u16, &str)> {
    let digits = text.get(..4).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    Some((u16::from_str_radix(digits, 16).ok()?, text.get(4..)?))
}

/// A number that is whole; one with a fraction is none. `1.0` and `1e2` are whole: JSON has one kind of number. What is
/// beyond all ranges stays beyond them.
pub(super) fn integer(raw: &RawValue) -> Option<i64> {
    if let Ok(whole) = raw.get().parse() {
        return Some(whole);
    }
    let number: f64 = raw.get().parse().ok()?;
    // A cast to an integer ends at its greatest and least.
    (number.is_infinite() || number.fract() == 0.0).then_some(number as i64)
}

/// A number that is not too large to be one.
pub(super) fn finite(raw: &RawValue) -> Option<f64> {
    raw.get().parse().ok().filter(|number: &f64| number.is_finite())
}

/// How deep the text is nested, as far as it is JSON.
fn depth(body: &[u8]) -> usize {
    let (mut now, mut deepest, mut at) = (0_usize, 0, 0);
    while let Some(byte) = body.get(at) {
        at += 1;
        match byte {
            b'"' => at = behind_string(body, at),
            b'[' | b'{' => {
                now += 1;
                deepest = deepest.max(now);
            }
            b']' | b'}' => now = now.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Where a string has ended whose first character is at `from`.
fn behind_string(body: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(found) = body.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found + 1;
        if body.get(at - 1) == Some(&b'"') {
            return at;
        }
        // What is behind a backslash ends nothing.
        at += 1;
    }
    body.len()
}

struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

struct Elements<'a>(Vec<&'a RawValue>);

/// A member's name: of the text itself, unless it has escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    if members.len() == ENTRIES {
                        return Err(A::Error::custom("too many members"));
                    }
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Elements<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = list.next_element()? {
                    if elements.len() == ENTRIES {
                        return Err(A::Error::custom("too many elements"));
                    }
                    elements.push(element);
                }
                Ok(Elements(elements))
            }
        }
        deserializer.deserialize_seq(Read)
    }
}

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn integers_are_whole_numbers() {
        for (text, whole) in [
            ("7", Some(7)),
            ("-0", Some(0)),
            ("7.0", Some(7)),
            ("1.5e1", Some(15)),
            ("1.5", None),
            ("-0.1", None),
            ("1e-1", None),
            ("99999999999", Some(99_999_999_999)),
            ("99999999999999999999", Some(i64::MAX)),
            ("-1e400", Some(i64::MIN)),
        ] {
            assert_eq!(integer(raw(text)), whole, "{text}");
        }
        assert_eq!(finite(raw("1.5e3")), Some(1500.0));
        assert_eq!(finite(raw("1e400")), None);
    }

    #[test]
    fn names_are_not_said_twice() {
        assert_eq!(members(raw(r#"{"a": 1, "b": 2, "a": 1}"#)).err(), Some(Unreadable));
        assert_eq!(members(raw(r#"{"a": 1, "\u0061": 1}"#)).err(), Some(Unreadable), "escaped");
        assert_eq!(members(raw(r#"{"a": 1, "A": 1}"#)).unwrap().len(), 2);
    }

    #[test]
    fn entries_and_depth_are_bounded() {
        let list = |count: usize| format!("[{}]", vec!["0"; count].join(","));
        assert_eq!(elements(raw(&list(ENTRIES))).unwrap().len(), ENTRIES);
        assert!(elements(raw(&list(ENTRIES + 1))).is_err());
        let object = |count: usize| {
            let members: Vec<_> = (0..count).map(|i| format!("\"{i}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert_eq!(members(raw(&object(ENTRIES))).unwrap().len(), ENTRIES);
        assert!(members(raw(&object(ENTRIES + 1))).is_err());
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(document(deep(DEPTH).as_bytes()).is_ok());
        assert!(document(deep(DEPTH + 1).as_bytes()).is_err());
        let quoted = format!("\"\\\"{}\"", deep(DEPTH + 1));
        assert!(document(quoted.as_bytes()).is_ok(), "brackets in a string are none");
    }

    #[test]
    fn half_a_pair_is_no_character() {
        for broken in [r#""\ud800""#, r#""\ud800\u0041""#, r#""\udc00""#, r#""\ud800x""#] {
            assert_eq!(text(raw(broken)).err(), Some(Unreadable), "{broken}");
        }
        assert_eq!(*text(raw(r#""\ud83d\ude00\/\"\\""#)).unwrap(), "😀/\"\\");
    }

    proptest! {
        /// Strings say what serde_json says that they say.
        #[test]
        fn strings_are_read_as_by_others(inner in r#"([a-z"/ é]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}|\\ud83d\\ude0[0-9]){0,12}"#) {
            let quoted = format!("\"{inner}\"");
            if let Ok(raw) = serde_json::from_str::<&RawValue>(&quoted) {
                let theirs = serde_json::from_str::<String>(&quoted).ok();
                prop_assert_eq!(text(raw).ok().map(|text| text.to_string()), theirs);
            }
        }
    }
}
