//! JSON as it is written: straight into a buffer, without a tree in between.

use std::borrow::Cow;

use model::limits::{CONTEXT_BYTES, KEY_REFERENCE_CHARS, POLICY_BYTES};

/// Longest string of a parameter, in bytes: policies and descriptions that are good are no longer.
const TEXT_BYTES: usize = POLICY_BYTES;
/// Longest list or object of a parameter, as JSON: the tags of a key, with every character escaped, are no longer.
const LIST_BYTES: usize = 8 * TEXT_BYTES;
/// Longest name of a key as a caller gives it, in bytes.
const NAME_BYTES: usize = 4 * KEY_REFERENCE_CHARS;

/// What is open while JSON is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    Object,
    Array,
}

impl Container {
    pub(super) const fn first(self) -> u8 {
        match self {
            Self::Object => b'{',
            Self::Array => b'[',
        }
    }

    pub(super) const fn last(self) -> u8 {
        match self {
            Self::Object => b'}',
            Self::Array => b']',
        }
    }
}

/// Where a record is written: into one buffer, or into several where it is too long for one.
pub(super) trait Out {
    /// The name of the next value, in an object, whatever stands in it.
    fn any_name(&mut self, name: &str);
    /// A string.
    fn text(&mut self, text: &str);
    /// A value that is JSON already.
    fn raw(&mut self, json: &[u8]);
    /// What comes until [`Out::close`] belongs to this.
    fn open(&mut self, what: Container);
    /// The end of what was opened last, and is this.
    fn close(&mut self, what: Container);

    /// A name that is written as it is: one of ours.
    fn name(&mut self, name: &'static str) {
        self.any_name(name);
    }

    fn number(&mut self, number: i64) {
        let mut digits = Vec::with_capacity(20);
        push_number(&mut digits, number);
        self.raw(&digits);
    }

    fn flag(&mut self, flag: bool) {
        self.raw(if flag { b"true" } else { b"false" });
    }

    fn named_text(&mut self, name: &'static str, text: &str) {
        self.name(name);
        self.text(text);
    }

    fn named_number(&mut self, name: &'static str, number: i64) {
        self.name(name);
        self.number(number);
    }
}

/// One buffer.
#[derive(Debug)]
pub(super) struct Line(pub(super) Vec<u8>);

impl Line {
    /// A further value needs a comma before it. What went before ends in one of these where it is the first: strings end
    /// in a quotation mark.
    fn comma(&mut self) {
        if !matches!(self.0.last(), None | Some(b'{' | b'[' | b':')) {
            self.0.push(b',');
        }
    }
}

impl Out for Line {
    fn any_name(&mut self, name: &str) {
        self.comma();
        push_text(&mut self.0, name);
        self.0.push(b':');
    }

    /// Each record has more than forty of them.
    fn name(&mut self, name: &'static str) {
        self.comma();
        push_plain(&mut self.0, name);
        self.0.push(b':');
    }

    fn text(&mut self, text: &str) {
        self.comma();
        push_text(&mut self.0, text);
    }

    fn raw(&mut self, json: &[u8]) {
        self.comma();
        self.0.extend_from_slice(json);
    }

    fn open(&mut self, what: Container) {
        self.comma();
        self.0.push(what.first());
    }

    fn close(&mut self, what: Container) {
        self.0.push(what.last());
    }

    fn number(&mut self, number: i64) {
        self.comma();
        push_number(&mut self.0, number);
    }
}

/// Whether a string is written otherwise than it is. All bytes are looked at whatever is found, many at once.
pub(super) fn needs_escape(text: &str) -> bool {
    let escaped = |found: bool, byte: &u8| found | (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\');
    text.as_bytes().iter().fold(false, escaped)
}

/// A string with its quotation marks.
pub(super) fn push_text(buffer: &mut Vec<u8>, text: &str) {
    // Most of what is written does not.
    if !needs_escape(text) {
        return push_plain(buffer, text);
    }
    // A Vec takes everything, and a string is always JSON.
    let _ = serde_json::to_writer(buffer, text);
}

/// The same of one that needs no escape.
fn push_plain(buffer: &mut Vec<u8>, text: &str) {
    buffer.reserve(text.len() + 3);
    buffer.push(b'"');
    buffer.extend_from_slice(text.as_bytes());
    buffer.push(b'"');
}

/// The bytes of a string between its quotation marks.
pub(super) fn escaped_len(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        control if control < ' ' => 6,
        other => other.len_utf8(),
    }
}

pub(super) fn push_number(buffer: &mut Vec<u8>, number: i64) {
    let (mut digits, mut at, mut left) = ([0_u8; 20], 20, number.unsigned_abs());
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if number < 0 {
        buffer.push(b'-');
    }
    buffer.extend_from_slice(&digits[at..]);
}

/// What stands in the place of something that is too long.
fn told(bytes: &[u8]) -> String {
    format!("{} bytes with SHA-256 {}", bytes.len(), sha256(bytes))
}

/// In hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// The name of a key as a record has it.
pub(super) fn named(name: &str) -> Cow<'_, str> {
    if name.len() > NAME_BYTES { told(name.as_bytes()).into() } else { name.into() }
}

/// A JSON value, of what is not written thousands of times a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Value>),
    /// An object.
    Object(Fields),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// The members of a JSON object, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(Cow<'static, str>, Value)>);

impl Fields {
    /// An object without members.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a further member.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: Value) -> Self {
        self.push(name, value);
        self
    }

    /// The same with a string.
    #[must_use]
    pub fn text(self, name: impl Into<Cow<'static, str>>, text: &str) -> Self {
        self.with(name, text.into())
    }

    /// The same with a string, unless it is empty.
    #[must_use]
    pub fn given(self, name: &'static str, text: &str) -> Self {
        if text.is_empty() { self } else { self.text(name, text) }
    }

    /// The same with a number.
    #[must_use]
    pub fn number(self, name: impl Into<Cow<'static, str>>, number: i64) -> Self {
        self.with(name, Value::Number(number))
    }

    /// The same with a flag.
    #[must_use]
    pub fn flag(self, name: impl Into<Cow<'static, str>>, flag: bool) -> Self {
        self.with(name, Value::Flag(flag))
    }

    /// A further member. The last one of a name counts.
    pub fn push(&mut self, name: impl Into<Cow<'static, str>>, value: Value) {
        let name = name.into();
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }

    /// The member of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Takes the member of this name away.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(at).1)
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same, where what is longer than a parameter may be is told by its length and SHA-256: a call that was refused for
    /// it is on record, and not what it sent.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self(self.0.into_iter().map(|(name, value)| (name, value.bounded())).collect())
    }

    pub(super) fn write_members(&self, out: &mut impl Out) {
        for (name, value) in &self.0 {
            out.any_name(name);
            value.write(out);
        }
    }

    pub(super) fn write(&self, out: &mut impl Out) {
        out.open(Container::Object);
        self.write_members(out);
        out.close(Container::Object);
    }
}

impl Value {
    /// Names with values that a caller has chosen, each name once: an object. Where they are more than an encryption context
    /// may be, they are refused, and a list of pairs in the record: names of any length would stand in each of its leaves.
    pub fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let pairs: Vec<(&str, &str)> = pairs.into_iter().collect();
        if pairs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > CONTEXT_BYTES {
            let pair = |(name, value): (&str, &str)| Self::List(vec![name.into(), value.into()]);
            return Self::List(pairs.into_iter().map(pair).collect());
        }
        let member = |(name, value): (&str, &str)| (Cow::Owned(name.to_owned()), Self::from(value));
        Self::Object(Fields(pairs.into_iter().map(member).collect()))
    }

    fn bounded(self) -> Self {
        match self {
            Self::Text(text) if text.len() > TEXT_BYTES => Self::Text(told(text.as_bytes())),
            Self::List(_) | Self::Object(_) => {
                let mut line = Line(Vec::new());
                self.write(&mut line);
                if line.0.len() > LIST_BYTES { Self::Text(told(&line.0)) } else { self }
            }
            short => short,
        }
    }

    pub(super) fn write(&self, out: &mut impl Out) {
        match self {
            Self::Null => out.raw(b"null"),
            Self::Flag(flag) => out.flag(*flag),
            Self::Number(number) => out.number(*number),
            Self::Text(text) => out.text(text),
            Self::List(values) => {
                out.open(Container::Array);
                values.iter().for_each(|value| value.write(out));
                out.close(Container::Array);
            }
            Self::Object(fields) => fields.write(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_longer_than_it_may_be_is_told_by_its_digest() {
        let (good, long) = ("p".repeat(TEXT_BYTES), "p".repeat(TEXT_BYTES + 1));
        let tag = |size: usize| Value::List(vec![Value::Object(Fields::new().text("tagValue", &"\u{1}".repeat(size)))]);
        let fields = Fields::new().text("policy", &good).number("days", 7).with("tags", tag(TEXT_BYTES));
        assert_eq!(fields.clone().bounded(), fields, "what may be so stays");
        let bounded = Fields::new().text("policy", &long).with("tags", tag(2 * TEXT_BYTES)).bounded();
        for (name, value) in &bounded.0 {
            let Value::Text(text) = value else { panic!("{name}") };
            assert!(text.contains(" bytes with SHA-256 ") && text.len() < 100, "{text}");
        }
        assert_eq!(
            bounded.get("policy"),
            Some(&Value::Text(format!("32769 bytes with SHA-256 {}", sha256(long.as_bytes()))))
        );
        assert_eq!(named("alias/a"), "alias/a");
        assert!(named(&long).len() < 100);
        assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    proptest! {
        #[test]
        fn any_string_is_written_as_every_reader_reads_it(text in any::<String>(), name in any::<String>(), number: i64) {
            let mut line = Line(Vec::new());
            Fields::new().text(name.clone(), &text).number("n\u{0}", number).write(&mut line);
            let read: serde_json::Value = serde_json::from_slice(&line.0).unwrap();
            prop_assert_eq!(read[name.as_str()].as_str(), Some(text.as_str()));
            prop_assert_eq!(read["n\u{0}"].as_i64(), Some(number));
        }

        #[test]
        fn the_length_of_what_is_escaped_is_known(text in any::<String>()) {
            let mut buffer = Vec::new();
            push_text(&mut buffer, &text);
            prop_assert_eq!(buffer.len(), 2 + text.chars().map(escaped_len).sum::<usize>());
        }
    }

    #[test]
    fn commas_stand_between_values_alone() {
        let list = vec![Value::Null, Value::List(Vec::new()), Value::Object(Fields::new()), Value::Flag(true)];
        let fields = Fields::new().text("a", ":").number("b", -7).with("c", Value::List(list)).flag("d", false);
        let mut line = Line(Vec::new());
        fields.write(&mut line);
        assert_eq!(String::from_utf8(line.0).unwrap(), r#"{"a":":","b":-7,"c":[null,[],{},true],"d":false}"#);
    }
}
