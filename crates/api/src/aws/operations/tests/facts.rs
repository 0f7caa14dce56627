//! The model as data: what answers may look like, and the least that requests need.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

static MODEL: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../model/model.json")).unwrap_or_else(|error| panic!("model.json: {error}"))
});

/// The names of all operations.
pub(super) fn operations() -> Vec<&'static str> {
    MODEL["operations"].as_object().unwrap().keys().map(String::as_str).collect()
}

/// Asserts that an answer has the shape that the model has for it: no member that it does not know, each of its type and
/// within its constraints.
pub(super) fn conforms(operation: &str, answer: &Value) {
    match MODEL["operations"][operation]["output"].as_str() {
        Some(shape) => check(shape, answer, operation),
        None => assert!(answer.is_null(), "{operation} gives nothing: {answer}"),
    }
}

fn check(shape: &str, value: &Value, place: &str) {
    let facts = &MODEL["shapes"][shape];
    let within = |size: usize| {
        let bound = |name: &str| facts[name].as_u64().map(|bound| usize::try_from(bound).unwrap());
        assert!(bound("min").is_none_or(|min| size >= min), "{place}: {value} is too short");
        assert!(bound("max").is_none_or(|max| size <= max), "{place}: {value} is too long");
    };
    match facts["type"].as_str().unwrap() {
        "structure" => {
            let members = facts["members"].as_array().unwrap();
            let value = value.as_object().unwrap_or_else(|| panic!("{place}: {value} is no object"));
            for (name, member) in value {
                let known = members.iter().find(|known| known[0] == name.as_str());
                let known = known.unwrap_or_else(|| panic!("{place}: the model has no {name}"));
                check(known[1].as_str().unwrap(), member, &format!("{place}.{name}"));
            }
            for required in facts["required"].as_array().into_iter().flatten() {
                assert!(value.contains_key(required.as_str().unwrap()), "{place}: {required} is absent");
            }
        }
        "list" => {
            for element in value.as_array().unwrap_or_else(|| panic!("{place}: {value} is no list")) {
                check(facts["member"].as_str().unwrap(), element, place);
            }
        }
        "map" => {
            for (name, element) in value.as_object().unwrap_or_else(|| panic!("{place}: {value} is no map")) {
                check(facts["key"].as_str().unwrap(), &json!(name), place);
                check(facts["value"].as_str().unwrap(), element, place);
            }
        }
        "string" => {
            let text = value.as_str().unwrap_or_else(|| panic!("{place}: {value} is no text"));
            // AWS itself gives an empty name to grants without one.
            if !(shape == "GrantNameType" && text.is_empty()) {
                within(text.chars().count());
            }
            if let Some(values) = facts["enum"].as_array() {
                assert!(values.contains(value), "{place}: {value} is none of {values:?}");
            }
        }
        "blob" => within(STANDARD.decode(value.as_str().unwrap_or_else(|| panic!("{place}: {value}"))).unwrap().len()),
        "integer" => within(usize::try_from(value.as_u64().unwrap_or_else(|| panic!("{place}: {value}"))).unwrap()),
        "boolean" => assert!(value.is_boolean(), "{place}: {value} is no truth value"),
        "timestamp" => assert!(value.is_number(), "{place}: {value} is no time"),
        other => panic!("{place}: {other} is no type that answers have"),
    }
}

/// Whether a request may have this member.
pub(super) fn takes(operation: &str, member: &str) -> bool {
    let shape = MODEL["operations"][operation]["input"].as_str().unwrap();
    MODEL["shapes"][shape]["members"].as_array().unwrap().iter().any(|known| known[0] == member)
}

/// A request with the members that the model requires, and with these where it has them.
pub(super) fn least(operation: &str, known: &[(&str, &str)]) -> Value {
    let shape = MODEL["operations"][operation]["input"].as_str().unwrap();
    let mut asked = object(shape, known);
    for member in MODEL["shapes"][shape]["members"].as_array().unwrap() {
        if let Some((name, value)) = known.iter().find(|(name, _)| member[0] == *name) {
            asked.insert((*name).to_owned(), json!(value));
        }
    }
    Value::Object(asked)
}

fn object(shape: &str, known: &[(&str, &str)]) -> Map<String, Value> {
    let facts = &MODEL["shapes"][shape];
    let required = facts["required"].as_array().into_iter().flatten();
    let member = |name: &Value| {
        let name = name.as_str().unwrap();
        let members = facts["members"].as_array().unwrap();
        let shape = members.iter().find(|known| known[0] == name).unwrap()[1].as_str().unwrap();
        let value = known.iter().find(|(known, _)| *known == name).map(|(_, value)| json!(value));
        (name.to_owned(), value.unwrap_or_else(|| sample(shape, known)))
    };
    required.map(member).collect()
}

fn sample(shape: &str, known: &[(&str, &str)]) -> Value {
    let facts = &MODEL["shapes"][shape];
    let least = usize::try_from(facts["min"].as_u64().unwrap_or(1).max(1)).unwrap();
    match facts["type"].as_str().unwrap() {
        "structure" => Value::Object(object(shape, known)),
        "list" => json!([sample(facts["member"].as_str().unwrap(), known)]),
        "map" => json!({ "a": "b" }),
        "string" => match &facts["enum"][0] {
            Value::Null => json!("a".repeat(least)),
            first => first.clone(),
        },
        "blob" => json!(STANDARD.encode(vec![1; least])),
        "integer" => json!(least),
        "boolean" => json!(false),
        "timestamp" => json!(1_700_000_000),
        other => panic!("{other} is no type that requests have"),
    }
}
