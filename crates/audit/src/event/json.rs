//! JSON as it is written: straight into a buffer, without a tree in between.

use std::borrow::Cow;

use model::limits::CONTEXT_BYTES;

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
    /// The name of the next value, in an object.
    fn name(&mut self, name: &str);
    /// A string.
    fn text(&mut self, text: &str);
    /// A value that is JSON already.
    fn raw(&mut self, json: &[u8]);
    /// What comes until [`Out::close`] belongs to this.
    fn open(&mut self, what: Container);
    /// The end of what was opened last, and is this.
    fn close(&mut self, what: Container);

    fn number(&mut self, number: i64) {
        let mut digits = Vec::with_capacity(20);
        push_number(&mut digits, number);
        self.raw(&digits);
    }

    fn flag(&mut self, flag: bool) {
        self.raw(if flag { b"true" } else { b"false" });
    }

    fn named_text(&mut self, name: &str, text: &str) {
        self.name(name);
        self.text(text);
    }

    fn named_number(&mut self, name: &str, number: i64) {
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
    fn name(&mut self, name: &str) {
        self.comma();
        push_text(&mut self.0, name);
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
        buffer.reserve(text.len() + 2);
        buffer.push(b'"');
        buffer.extend_from_slice(text.as_bytes());
        buffer.push(b'"');
        return;
    }
    // A Vec takes everything, and a string is always JSON.
    let _ = serde_json::to_writer(buffer, text);
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
    /// None.
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

    pub(super) fn write_members(&self, out: &mut impl Out) {
        for (name, value) in &self.0 {
            out.name(name);
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
