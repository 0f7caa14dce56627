//! The facts of the model, read once from `model.json`: operations, and shapes whose names have become numbers.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use serde::Deserialize;

use super::pattern::Pattern;

/// What `scripts/aws-model.py` made of botocore's model.
const FILE: &str = include_str!("model.json");

/// Structures that narrow what a request allows. A member of theirs that nobody knows is a limit that nobody would keep,
/// so that the request is refused; of all others, AWS ignores what it does not know.
const NARROWING: &[&str] = &["GrantConstraints"];

/// Texts that let somebody do something, which the model does not mark: their values are in no message either.
const SECRET: &[&str] = &["GrantTokenType"];

/// The model. A file that cannot be read gives one without operations, which refuses everything; a test sees to it that
/// it can be.
pub(super) static MODEL: LazyLock<Model> = LazyLock::new(|| Model::load(FILE).unwrap_or_default());

/// Operations and the shapes that their requests have.
#[derive(Default)]
pub(super) struct Model {
    pub(super) operations: BTreeMap<&'static str, ModelOperation>,
    shapes: Vec<Shape>,
}

/// A shape's place in the model.
#[derive(Clone, Copy)]
pub(super) struct ShapeId(usize);

/// An operation of the model.
pub struct ModelOperation {
    pub(super) name: &'static str,
    pub(super) input: ShapeId,
    pub(super) has_output: bool,
    /// Names of the exceptions that it may end with, beside those that any operation may.
    pub(super) exceptions: Vec<&'static str>,
}

/// Least and greatest, of a value or of a length.
#[derive(Clone, Copy, Default, Deserialize)]
pub(super) struct Bounds {
    pub(super) min: Option<i64>,
    pub(super) max: Option<i64>,
}

/// What a value has to be.
pub(super) enum Shape {
    Text(TextShape),
    Blob(Bounds),
    Integer(Bounds),
    Boolean,
    /// Seconds since 1970.
    Timestamp,
    List {
        length: Bounds,
        element: ShapeId,
    },
    /// From texts. The model constrains neither keys nor how many there are, and values as their own shape does.
    Map {
        value: ShapeId,
    },
    Structure(StructureShape),
}

/// What a text has to be.
pub(super) struct TextShape {
    /// In characters.
    pub(super) length: Bounds,
    pub(super) pattern: Option<Pattern>,
    /// All that it may be, if that is a list.
    pub(super) values: Vec<&'static str>,
    /// Its value must not be shown.
    pub(super) secret: bool,
}

/// What an object has to be.
pub(super) struct StructureShape {
    /// In the model's order, which is the order of the checks.
    pub(super) members: Vec<Member>,
    /// See [`NARROWING`].
    pub(super) narrows: bool,
}

/// A member of an object.
pub(super) struct Member {
    pub(super) name: &'static str,
    /// As AWS names it in messages: `keyId` for `KeyId`.
    pub(super) shown: String,
    pub(super) shape: ShapeId,
    pub(super) required: bool,
}

impl Model {
    /// What a shape is.
    pub(super) fn shape(&self, id: ShapeId) -> Option<&Shape> {
        self.shapes.get(id.0)
    }

    fn load(text: &'static str) -> Result<Self, String> {
        let raw: RawModel = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let ids: HashMap<&str, ShapeId> = raw.shapes.keys().enumerate().map(|(i, name)| (*name, ShapeId(i))).collect();
        let id = |name: &str| ids.get(name).copied().ok_or_else(|| format!("there is no shape {name}"));
        let mut operations = BTreeMap::new();
        for (name, operation) in raw.operations {
            let input = id(operation.input)?;
            let RawOperation { output, errors, .. } = operation;
            operations.insert(name, ModelOperation { name, input, has_output: output.is_some(), exceptions: errors });
        }
        let shapes = raw.shapes.into_iter().map(|(name, shape)| shape.checked(name, &id)).collect::<Result<_, _>>()?;
        Ok(Self { operations, shapes })
    }
}

impl StructureShape {
    /// The member of this name, as it is written.
    pub(super) fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }
}

/// The file's form.
#[derive(Deserialize)]
struct RawModel {
    #[serde(borrow)]
    operations: BTreeMap<&'static str, RawOperation>,
    #[serde(borrow)]
    shapes: BTreeMap<&'static str, RawShape>,
}

#[derive(Deserialize)]
struct RawOperation {
    input: &'static str,
    output: Option<&'static str>,
    errors: Vec<&'static str>,
}

#[derive(Deserialize)]
struct RawShape {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    bounds: Bounds,
    pattern: Option<String>,
    #[serde(rename = "enum", default)]
    values: Vec<&'static str>,
    #[serde(default)]
    sensitive: bool,
    #[cfg(test)]
    #[serde(default)]
    exception: bool,
    #[serde(default)]
    members: Vec<(&'static str, &'static str)>,
    #[serde(default)]
    required: Vec<&'static str>,
    member: Option<&'static str>,
    value: Option<&'static str>,
}

impl RawShape {
    fn checked(self, name: &str, id: &dyn Fn(&str) -> Result<ShapeId, String>) -> Result<Shape, String> {
        let of = |other: Option<&str>| id(other.ok_or_else(|| format!("{name} does not say of what it is"))?);
        Ok(match self.kind {
            "string" => Shape::Text(TextShape {
                length: self.bounds,
                pattern: self.pattern.map(Pattern::new).transpose()?,
                values: self.values,
                secret: self.sensitive || SECRET.contains(&name),
            }),
            "blob" => Shape::Blob(self.bounds),
            "integer" => Shape::Integer(self.bounds),
            "boolean" => Shape::Boolean,
            "timestamp" => Shape::Timestamp,
            "list" => Shape::List { length: self.bounds, element: of(self.member)? },
            "map" => Shape::Map { value: of(self.value)? },
            "structure" => {
                let member = |(name, shape): (&'static str, &'static str)| {
                    let required = self.required.contains(&name);
                    Ok(Member { name, shown: lower_camel(name), shape: id(shape)?, required })
                };
                let members = self.members.into_iter().map(member).collect::<Result<_, String>>()?;
                Shape::Structure(StructureShape { members, narrows: NARROWING.contains(&name) })
            }
            other => return Err(format!("{name} is of the unknown type {other}")),
        })
    }
}

/// `keyId` for `KeyId`: the first letter alone changes.
fn lower_camel(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_whole() {
        let model = Model::load(FILE).unwrap();
        assert_eq!(model.operations.len(), 56);
        let raw: RawModel = serde_json::from_str(FILE).unwrap();
        assert_eq!(raw.shapes.values().filter(|shape| shape.exception).count(), 48);
        let patterns = model.shapes.iter().filter(|shape| matches!(shape, Shape::Text(text) if text.pattern.is_some()));
        assert_eq!(patterns.count(), 20);
        for operation in model.operations.values() {
            assert!(matches!(model.shape(operation.input), Some(Shape::Structure(_))), "{}", operation.name);
            assert!(operation.exceptions.iter().all(|name| raw.shapes[name].exception), "{}", operation.name);
        }
        assert_eq!(MODEL.operations.len(), 56);
    }

    /// What is said by name here and not by the model has to be in it.
    #[test]
    fn shapes_that_are_named_here_exist() {
        let raw: RawModel = serde_json::from_str(FILE).unwrap();
        for name in NARROWING {
            assert_eq!(raw.shapes[name].kind, "structure", "{name}");
        }
        for name in SECRET {
            assert_eq!(raw.shapes[name].kind, "string", "{name}");
        }
    }

    /// Requests are read by recursion over shapes: what no shape can contain itself bounds.
    #[test]
    fn no_shape_contains_itself() {
        fn depth(model: &Model, id: ShapeId, left: usize) -> usize {
            assert!(left > 0, "a shape contains itself");
            let inner = |ids: &mut dyn Iterator<Item = ShapeId>| ids.map(|id| depth(model, id, left - 1)).max();
            1 + match model.shape(id).unwrap() {
                Shape::List { element, .. } => inner(&mut [*element].into_iter()),
                Shape::Map { value } => inner(&mut [*value].into_iter()),
                Shape::Structure(shape) => inner(&mut shape.members.iter().map(|member| member.shape)),
                _ => None,
            }
            .unwrap_or_default()
        }
        let model = Model::load(FILE).unwrap();
        let deepest = model.operations.values().map(|operation| depth(&model, operation.input, 16)).max();
        assert_eq!(deepest, Some(4), "CreateGrant, its constraints, a context in them, a value of that");
    }

    #[test]
    fn a_broken_file_is_an_error() {
        assert!(Model::load("{").is_err());
        let dangling = r#"{"operations": {}, "shapes": {"A": {"type": "list", "member": "B"}}}"#;
        assert_eq!(Model::load(dangling).err().unwrap(), "there is no shape B");
        let odd = r#"{"operations": {}, "shapes": {"A": {"type": "tuple"}}}"#;
        assert_eq!(Model::load(odd).err().unwrap(), "A is of the unknown type tuple");
        let pattern = r#"{"operations": {}, "shapes": {"A": {"type": "string", "pattern": "("}}}"#;
        assert!(Model::load(pattern).is_err());
    }
}
