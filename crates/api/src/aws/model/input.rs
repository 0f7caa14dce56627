//! What a request holds, once the model has nothing against it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use zeroize::Zeroizing;

/// A request's members: those that the model knows, of its types and within its constraints, and none that is null. What
/// the model requires is there, an enum has one of the model's values, a blob is decoded.
///
/// Texts and blobs are wiped when it is dropped, and none of them is ever shown.
pub struct Input {
    operation: &'static str,
    members: Object,
}

/// The members of a request, or of an object in it. By a name that has no such member in the model, or one of another
/// type than asked for, there is nothing.
pub struct Object(BTreeMap<&'static str, Value>);

/// A value of one of the model's types.
pub(super) enum Value {
    Text(Zeroizing<String>),
    Blob(Zeroizing<Vec<u8>>),
    Integer(i64),
    Boolean(bool),
    Timestamp(f64),
    List(Vec<Value>),
    /// By key, no key twice.
    Map(Vec<(Zeroizing<String>, Value)>),
    Object(Object),
}

impl Input {
    pub(super) fn new(operation: &'static str, members: Object) -> Self {
        Self { operation, members }
    }

    /// The name of the operation that was asked for.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Takes a blob out, for whoever wipes it then. It is not there a second time.
    pub fn take_blob(&mut self, member: &str) -> Option<Zeroizing<Vec<u8>>> {
        let Value::Blob(bytes) = self.members.0.get_mut(member)? else { return None };
        let taken = std::mem::take(bytes);
        self.members.0.remove(member);
        Some(taken)
    }

    /// The parameters as bytes, the same for the same parameters, whatever the order and the spacing of the body, and
    /// others for others: what a digest is made over. They hold what the request holds, secrets too.
    #[must_use]
    pub fn canonical(&self) -> Zeroizing<Vec<u8>> {
        let mut size = Size(0);
        self.members.encode(&mut size);
        // Of the right size at once: growing would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(size.0));
        self.members.encode(&mut *bytes);
        bytes
    }
}

impl Deref for Input {
    type Target = Object;

    fn deref(&self) -> &Object {
        &self.members
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("operation", &self.operation).finish_non_exhaustive()
    }
}

impl Object {
    pub(super) fn new(members: BTreeMap<&'static str, Value>) -> Self {
        Self(members)
    }

    /// Whether the member is there.
    #[must_use]
    pub fn has(&self, member: &str) -> bool {
        self.0.contains_key(member)
    }

    /// A string or an enum.
    #[must_use]
    pub fn text(&self, member: &str) -> Option<&str> {
        match self.0.get(member)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A blob, decoded.
    #[must_use]
    pub fn blob(&self, member: &str) -> Option<&[u8]> {
        match self.0.get(member)? {
            Value::Blob(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A whole number.
    #[must_use]
    pub fn integer(&self, member: &str) -> Option<i64> {
        match self.0.get(member)? {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// A truth value.
    #[must_use]
    pub fn boolean(&self, member: &str) -> Option<bool> {
        match self.0.get(member)? {
            Value::Boolean(truth) => Some(*truth),
            _ => None,
        }
    }

    /// Seconds since 1970, finite.
    #[must_use]
    pub fn timestamp(&self, member: &str) -> Option<f64> {
        match self.0.get(member)? {
            Value::Timestamp(seconds) => Some(*seconds),
            _ => None,
        }
    }

    /// A list of strings or of an enum's values, as it was sent. The copies are wiped by nobody, as those of the others
    /// that give texts away: what the model marks as a secret is no part of a list or a map.
    #[must_use]
    pub fn list_of_texts(&self, member: &str) -> Option<Vec<String>> {
        let Value::List(list) = self.0.get(member)? else { return None };
        list.iter().map(Value::copied).collect()
    }

    /// A map of strings, as an encryption context.
    #[must_use]
    pub fn map_of_texts(&self, member: &str) -> Option<BTreeMap<String, String>> {
        let Value::Map(map) = self.0.get(member)? else { return None };
        map.iter().map(|(key, value)| Some((key.to_string(), value.copied()?))).collect()
    }

    /// Tags: `TagKey` and `TagValue` of each, in the order of the request, those that are said twice too.
    #[must_use]
    pub fn pairs(&self, member: &str) -> Option<Vec<(String, String)>> {
        let Value::List(list) = self.0.get(member)? else { return None };
        let pair = |element: &Value| match element {
            Value::Object(tag) => Some((tag.text("TagKey")?.to_owned(), tag.text("TagValue")?.to_owned())),
            _ => None,
        };
        list.iter().map(pair).collect()
    }

    /// An object in it.
    #[must_use]
    pub fn object(&self, member: &str) -> Option<&Object> {
        match self.0.get(member)? {
            Value::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Each part says of what kind and how long it is, so that no two inputs have the same bytes.
    fn encode(&self, out: &mut impl Sink) {
        out.head(b'o', self.0.len());
        for (name, value) in &self.0 {
            out.bytes(b'n', name.as_bytes());
            value.encode(out);
        }
    }
}

impl Value {
    fn copied(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.to_string()),
            _ => None,
        }
    }

    fn encode(&self, out: &mut impl Sink) {
        match self {
            Self::Text(text) => out.bytes(b't', text.as_bytes()),
            Self::Blob(bytes) => out.bytes(b'b', bytes),
            Self::Integer(number) => out.bytes(b'i', &number.to_be_bytes()),
            Self::Boolean(truth) => out.bytes(b'f', &[u8::from(*truth)]),
            Self::Timestamp(seconds) => out.bytes(b's', &seconds.to_be_bytes()),
            Self::List(list) => {
                out.head(b'l', list.len());
                list.iter().for_each(|value| value.encode(out));
            }
            Self::Map(map) => {
                out.head(b'm', map.len());
                for (key, value) in map {
                    out.bytes(b't', key.as_bytes());
                    value.encode(out);
                }
            }
            Self::Object(object) => object.encode(out),
        }
    }
}

/// Where an encoding goes.
trait Sink {
    fn put(&mut self, bytes: &[u8]);

    fn head(&mut self, kind: u8, length: usize) {
        self.put(&[kind]);
        self.put(&(length as u64).to_be_bytes());
    }

    fn bytes(&mut self, kind: u8, bytes: &[u8]) {
        self.head(kind, bytes.len());
        self.put(bytes);
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// How many bytes an encoding takes.
struct Size(usize);

impl Sink for Size {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}
