//! Requests made of the file itself, past the code that reads it.

use serde_json::{Map, Value, json};

/// The file, as JSON.
pub(super) struct File(Value);

/// A text for each pattern that a request has to match.
const MATCHING: &[(&str, &str)] = &[
    ("[0-9]{12}", "123456789012"),
    ("^[a-zA-Z0-9:/_-]+$", "alias/one"),
    ("^[a-f0-9]+$", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
    ("cluster-[2-7a-zA-Z]{11,16}", "cluster-abcdefghijk"),
    ("^arn:aws[a-z0-9-]*:[a-z0-9-]+:[a-z0-9-]*:[0-9]{12}:.+$", "arn:aws:s3:eu-west-1:123456789012:bucket"),
    ("^[a-zA-Z0-9:/_\\s.-]+$", "of 2026"),
    ("[\\u0020-\\u00FF]*", "marker"),
    ("[\\w]+", "default"),
    ("[\\u0009\\u000A\\u000D\\u0020-\\u00FF]+", "{}"),
    ("^[\\w+=,.@:/-]+$", "arn:aws:iam::123456789012:role/one"),
    ("^([a-z]+-){2,3}\\d+$", "eu-west-1"),
    ("^([A-Za-z0-9\\-]+)\\.([A-Za-z0-9\\-]+)(\\.[A-Za-z0-9\\-]+)+$", "one.amazonaws.com"),
    ("^[a-zA-Z0-9-_.]+$", "key-1_a.b"),
    ("^[A-Z2-7]+$", "ABCDEFGHIJKLMNOPQRST"),
    ("^[a-zA-Z0-9\\/+=]+$", "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ/+=0123"),
    ("^https://[a-zA-Z0-9.-]+$", "https://one.example"),
    ("^(/[a-zA-Z0-9\\/_-]+/kms/xks/v\\d{1,2})$|^(/kms/xks/v\\d{1,2})$", "/kms/xks/v1"),
    (
        "^(com|eu)\\.amazonaws\\.vpce\\.([a-z]+-){2,3}\\d+\\.vpce-svc-[0-9a-z]+$",
        "com.amazonaws.vpce.eu-west-1.vpce-svc-0a",
    ),
];

impl File {
    pub(super) fn read() -> Self {
        Self(serde_json::from_str(include_str!("../model.json")).unwrap())
    }

    pub(super) fn operations(&self) -> impl Iterator<Item = (&str, &str)> {
        let operations = self.0["operations"].as_object().unwrap();
        operations.iter().map(|(name, operation)| (name.as_str(), operation["input"].as_str().unwrap()))
    }

    pub(super) fn shape(&self, name: &str) -> &Value {
        let shape = &self.0["shapes"][name];
        assert!(shape.is_object(), "{name}");
        shape
    }

    /// Name, shape and whether it is required, of each member.
    pub(super) fn members(&self, name: &str) -> Vec<(&str, &str, bool)> {
        let shape = self.shape(name);
        let required: Vec<&str> =
            shape["required"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap()).collect();
        shape["members"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
            .map(|(name, shape)| (name, shape, required.contains(&name)))
            .collect()
    }

    /// A value that a shape allows: all members of a structure, or those alone that it requires.
    pub(super) fn valid(&self, name: &str, whole: bool) -> Value {
        let shape = self.shape(name);
        let least = shape["min"].as_u64().unwrap_or_default();
        match shape["type"].as_str().unwrap() {
            "string" => match (shape["enum"].get(0), shape["pattern"].as_str()) {
                (Some(first), _) => first.clone(),
                (None, Some(pattern)) => {
                    let found = MATCHING.iter().find(|(one, _)| *one == pattern);
                    let (_, text) = found.unwrap_or_else(|| panic!("MATCHING lacks a text for {pattern} of {name}"));
                    json!(text)
                }
                (None, None) => json!("x".repeat(usize::try_from(least.max(1)).unwrap())),
            },
            "blob" => json!("AAAA"),
            "integer" => json!(least),
            "boolean" => json!(true),
            "timestamp" => json!(1_500_000_000.25),
            "list" => json!([self.valid(shape["member"].as_str().unwrap(), whole)]),
            "map" => json!({"a": self.valid(shape["value"].as_str().unwrap(), whole), "": "b"}),
            "structure" => {
                let wanted = self.members(name).into_iter().filter(|(.., required)| whole || *required);
                wanted.map(|(name, shape, _)| (name.to_owned(), self.valid(shape, whole))).collect::<Map<_, _>>().into()
            }
            other => panic!("{name} is of the unknown type {other}"),
        }
    }
}

#[test]
fn minimal_and_whole_requests_of_every_operation_are_read() {
    let file = File::read();
    let mut count = 0;
    for (operation, input) in file.operations() {
        count += 1;
        for whole in [false, true] {
            let body = file.valid(input, whole);
            let read = super::operation(operation).unwrap().read(body.to_string().as_bytes());
            let read = read.unwrap_or_else(|wrong| panic!("{operation} {body}: {wrong:?}"));
            assert_eq!(read.operation(), operation);
            for (member, ..) in file.members(input) {
                assert_eq!(read.has(member), body.get(member).is_some(), "{operation} {member}");
            }
        }
    }
    assert_eq!(count, 56);
    assert_eq!(super::super::operations().count(), 56);
    assert!(super::operation("encrypt").is_none() && super::operation("").is_none());
}

#[test]
fn operations_know_their_answers_and_exceptions() {
    let with_output = super::super::operations().filter(|operation| operation.has_output()).count();
    assert_eq!(with_output, 42);
    let of = |name| super::operation(name).unwrap();
    assert!(of("Encrypt").has_output() && !of("TagResource").has_output());
    assert!(of("Encrypt").knows_exception("DisabledException") && !of("Encrypt").knows_exception("TagException"));
    assert_eq!(of("Sign").name(), "Sign");
}
