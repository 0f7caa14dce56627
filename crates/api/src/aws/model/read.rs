//! From a body to an input: types first, then constraints, as AWS does it.
//!
//! A value of another type ends it with AWS's SerializationException; what breaks a constraint is noted, and reading goes
//! on, for the ValidationException that names all of it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::facts::{Bounds, Model, Shape, ShapeId, StructureShape, TextShape};
use super::input::{Object, Value};
use super::json::{self, Kind, Unreadable};
use super::unknown;
use super::violations::{Constraint, Path, Shown, Violations, Within};

/// What SerializationException says of a list or an object where none may be.
const LIST: &str = "Start of list found where not expected";
const OBJECT: &str = "Start of structure or map found where not expected.";

/// Why a body is no request of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// AWS's SerializationException, with its message. Empty where AWS sends none.
    Serialization(String),
    /// AWS's ValidationException, with its message.
    Validation(String),
}

/// A value that is no JSON or of another type: the message, empty where AWS sends none.
pub(super) struct Mistyped(String);

impl From<Unreadable> for Mistyped {
    fn from(_: Unreadable) -> Self {
        Self(String::new())
    }
}

impl From<Mistyped> for Wrong {
    fn from(Mistyped(message): Mistyped) -> Self {
        Self::Serialization(message)
    }
}

/// Reads a whole body as what a shape says.
pub(super) fn request(model: &'static Model, input: ShapeId, operation: &str, body: &[u8]) -> Result<Object, Wrong> {
    // Some clients send nothing where there is nothing to say.
    let body = if body.is_empty() { b"{}" } else { body };
    let raw = json::document(body).map_err(Mistyped::from)?;
    let Some(Shape::Structure(shape)) = model.shape(input) else { return Err(Mistyped(String::new()).into()) };
    match json::kind(raw) {
        Kind::Object => {}
        Kind::List => return Err(Mistyped(LIST.to_owned()).into()),
        _ => return Err(Mistyped(String::new()).into()),
    }
    let mut reading = Reading { model, violations: Violations::default(), refused: None };
    let object = reading.structure(shape, raw, Path::Request)?;
    match (reading.refused, reading.violations.message()) {
        (Some(refused), _) => Err(Wrong::Validation(refused.message(operation))),
        (None, Some(message)) => Err(Wrong::Validation(message)),
        (None, None) => Ok(object),
    }
}

struct Reading {
    model: &'static Model,
    violations: Violations,
    /// The first member that the model does not know and that must not be ignored.
    refused: Option<unknown::Refused>,
}

impl Reading {
    fn structure(&mut self, shape: &'static StructureShape, raw: &RawValue, at: Path<'_>) -> Result<Object, Mistyped> {
        let mut given = BTreeMap::new();
        for (name, value) in json::members(raw)? {
            match shape.member(&name) {
                Some(member) => {
                    given.insert(member.name, value);
                }
                None => {
                    let refused = unknown::judge(&name, value, shape.narrows, matches!(at, Path::Request));
                    self.refused = self.refused.take().or(refused);
                }
            }
        }
        let mut members = BTreeMap::new();
        for member in &shape.members {
            let at = Path::Member(&at, &member.shown);
            match given.get(member.name).filter(|value| json::kind(value) != Kind::Null) {
                Some(value) => {
                    members.insert(member.name, self.value(member.shape, value, at)?);
                }
                None if member.required => self.violations.note(at, Shown::Null, &Constraint::NotNull),
                None => {}
            }
        }
        Ok(Object::new(members))
    }

    fn value(&mut self, shape: ShapeId, raw: &RawValue, at: Path<'_>) -> Result<Value, Mistyped> {
        let kind = json::kind(raw);
        match (self.model.shape(shape), kind) {
            (Some(Shape::Text(shape)), Kind::String) => {
                let text = json::text(raw)?;
                for constraint in shape.against(&text) {
                    self.violations.note(at, shape.shown(&text), &constraint);
                }
                Ok(Value::Text(text))
            }
            (Some(Shape::Blob(length)), Kind::String) => {
                let bytes = blob(raw)?;
                if let Some(constraint) = length.against_length(bytes.len()) {
                    self.violations.note(at, Shown::Withheld, &constraint);
                }
                Ok(Value::Blob(bytes))
            }
            (Some(Shape::Integer(range)), Kind::Number) => {
                let number = json::integer(raw).ok_or_else(|| mistyped(kind, "an Integer"))?;
                if let Some(constraint) = range.against(number) {
                    self.violations.note(at, Shown::Text(raw.get()), &constraint);
                }
                Ok(Value::Integer(number))
            }
            (Some(Shape::Boolean), Kind::True | Kind::False) => Ok(Value::Boolean(kind == Kind::True)),
            (Some(Shape::Timestamp), Kind::Number) => {
                Ok(Value::Timestamp(json::finite(raw).ok_or_else(|| mistyped(kind, "a Timestamp"))?))
            }
            (Some(Shape::List { length, element }), Kind::List) => self.list(*length, *element, raw, at),
            (Some(Shape::Map { value }), Kind::Object) => self.map(*value, raw, at),
            (Some(Shape::Structure(shape)), Kind::Object) => Ok(Value::Object(self.structure(shape, raw, at)?)),
            (Some(Shape::Text(_)), _) => Err(mistyped(kind, "a String")),
            (Some(Shape::Blob(_)), _) => Err(mistyped(kind, "a Blob")),
            (Some(Shape::Integer(_)), _) => Err(mistyped(kind, "an Integer")),
            // AWS's own words, in the one and in the other case.
            (Some(Shape::Boolean), Kind::String) => Err(mistyped(kind, "an Boolean")),
            (Some(Shape::Boolean), _) => Err(mistyped(kind, "a Boolean")),
            (Some(Shape::Timestamp), _) => Err(mistyped(kind, "a Timestamp")),
            (Some(Shape::List { .. }), _) => Err(misplaced(kind, "Expected list or null")),
            (Some(Shape::Map { .. }), _) => Err(misplaced(kind, "Expected map or null")),
            (Some(Shape::Structure(_)), _) => Err(misplaced(kind, "Expected null")),
            (None, _) => Err(Mistyped(String::new())),
        }
    }

    fn list(&mut self, length: Bounds, element: ShapeId, raw: &RawValue, at: Path<'_>) -> Result<Value, Mistyped> {
        let elements = json::elements(raw)?;
        let too = length.against_length(elements.len());
        let texts = match self.model.shape(element) {
            Some(Shape::Text(shape)) => Some(shape),
            _ => None,
        };
        let mut list = Vec::with_capacity(elements.len());
        let mut unfit = false;
        for (i, raw) in elements.into_iter().enumerate() {
            let at = Path::Element(&at, i + 1);
            match (json::kind(raw), texts) {
                // Left out, it would be another list than was sent.
                (Kind::Null, _) => self.violations.note(at, Shown::Null, &Constraint::NotNull),
                (Kind::String, Some(shape)) => {
                    let text = json::text(raw)?;
                    unfit |= shape.against(&text).next().is_some();
                    list.push(Value::Text(text));
                }
                _ => list.push(self.value(element, raw, at)?),
            }
        }
        if too.is_some() || unfit {
            let shown = texts.filter(|shape| !shape.secret).map(|_| shown_list(&list));
            let shown = shown.as_deref().map_or(Shown::Withheld, Shown::Text);
            if let Some(constraint) = too {
                self.violations.note(at, shown, &constraint);
            }
            if let Some(shape) = texts.filter(|_| unfit) {
                self.violations.note(at, shown, &Within { of: "Member", constraints: shape.constraints() });
            }
        }
        Ok(Value::List(list))
    }

    fn map(&mut self, value: ShapeId, raw: &RawValue, at: Path<'_>) -> Result<Value, Mistyped> {
        let mut map = Vec::new();
        let mut missing = false;
        for (key, raw) in json::members(raw)? {
            if json::kind(raw) == Kind::Null {
                missing = true;
            } else {
                map.push((Zeroizing::new(key.into_owned()), self.value(value, raw, at)?));
            }
        }
        if missing {
            // Left out, it would be another encryption context than was sent.
            let within = Within { of: "Map value", constraints: vec![Constraint::NotNull] };
            self.violations.note(at, Shown::Withheld, &within);
        }
        map.sort_unstable_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        Ok(Value::Map(map))
    }
}

impl TextShape {
    fn shown<'a>(&self, text: &'a str) -> Shown<'a> {
        if self.secret { Shown::Withheld } else { Shown::Text(text) }
    }
}

/// `[a, b]`, in as much as a message may repeat.
fn shown_list(list: &[Value]) -> String {
    let mut shown = String::from("[");
    for value in list {
        let Value::Text(text) = value else { continue };
        if shown.len() > 1 {
            shown.push_str(", ");
        }
        shown.push_str(text);
        if shown.len() > 4 * super::violations::SHOWN {
            break;
        }
    }
    shown.push(']');
    shown
}

/// Base64 as AWS takes it: the standard alphabet, padded, and nothing in the bits that stand for no byte. What was wrong
/// with it is said without a part of it, which AWS does not withhold.
fn blob(raw: &RawValue) -> Result<Zeroizing<Vec<u8>>, Mistyped> {
    let text = json::text(raw)?;
    let wrong = |why: &str| Mistyped(format!("STRING_VALUE can not be converted to a Blob: {why}"));
    if text.len() % 4 != 0 {
        let found = text.len();
        return Err(wrong(&format!("Base64 encoded length is expected a multiple of 4 bytes but found: {found}")));
    }
    let mut bytes = Zeroizing::new(vec![0; text.len() / 4 * 3]);
    let length = STANDARD.decode_slice(text.as_bytes(), &mut bytes).map_err(|_| wrong("Invalid Base64 character"))?;
    bytes.truncate(length);
    Ok(bytes)
}

fn mistyped(found: Kind, wanted: &str) -> Mistyped {
    let found = match found {
        Kind::Null => return Mistyped(String::new()),
        Kind::List => return Mistyped(LIST.to_owned()),
        Kind::Object => return Mistyped(OBJECT.to_owned()),
        Kind::False => "FALSE_VALUE",
        Kind::True => "TRUE_VALUE",
        Kind::Number => "NUMBER_VALUE",
        Kind::String => "STRING_VALUE",
    };
    Mistyped(format!("{found} can not be converted to {wanted}"))
}

/// Where a list, a map or an object has to be.
fn misplaced(found: Kind, otherwise: &str) -> Mistyped {
    match found {
        Kind::List | Kind::Object => mistyped(found, ""),
        _ => Mistyped(otherwise.to_owned()),
    }
}
