//! Every constraint of the model that a request can break is broken, one by one, and named in AWS's words.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::samples::File;
use super::validation;

/// Values that break one constraint each, and what AWS says of it.
struct Broken {
    value: Value,
    /// Where it stands, as messages say it; empty for the value itself.
    path: String,
    constraint: String,
    /// The constraint is the elements', which are named together.
    of_elements: bool,
}

/// Letters that are in none of the patterns.
const NOWHERE: &str = "\0";

fn broken(file: &File, name: &str, found: &mut BTreeSet<String>) -> Vec<Broken> {
    let shape = file.shape(name);
    let (min, max) = (shape["min"].as_i64(), shape["max"].as_i64());
    let mut all = Vec::new();
    let mut here = |value: Value, kind: &str, constraint: String| {
        found.insert(format!("{name} {kind}"));
        all.push(Broken { value, path: String::new(), constraint, of_elements: false });
    };
    let times = |text: &str, count: i64| text.repeat(usize::try_from(count).unwrap());
    let longer = |max| format!("Member must have length less than or equal to {max}");
    let shorter = |min| format!("Member must have length greater than or equal to {min}");
    match shape["type"].as_str().unwrap() {
        "string" => {
            if let Some(max) = max {
                here(json!(times("a", max + 1)), "max", longer(max));
            }
            if let Some(min) = min.filter(|min| *min > 0) {
                here(json!(times("a", min - 1)), "min", shorter(min));
            }
            if let Some(pattern) = shape["pattern"].as_str() {
                let text = times(NOWHERE, min.unwrap_or_default().max(1));
                here(json!(text), "pattern", format!("Member must satisfy regular expression pattern: {pattern}"));
            }
            if let Some(values) = shape["enum"].as_array() {
                let values: Vec<&str> = values.iter().map(|value| value.as_str().unwrap()).collect();
                let constraint = format!("Member must satisfy enum value set: [{}]", values.join(", "));
                for value in ["NO_SUCH_VALUE", "", &values[0].to_lowercase().replace('_', "-")] {
                    here(json!(value), "enum", constraint.clone());
                }
            }
        }
        "blob" => {
            let (min, max) = (min.unwrap(), max.unwrap());
            // Base64 of three bytes each, and of none.
            here(json!(times("AAAA", max / 3 + 1)), "max", longer(max));
            here(json!(""), "min", shorter(min));
        }
        "integer" => {
            let (min, max) = (min.unwrap(), max.unwrap());
            here(json!(max + 1), "max", format!("Member must have value less than or equal to {max}"));
            here(json!(min - 1), "min", format!("Member must have value greater than or equal to {min}"));
        }
        "list" => {
            let element = shape["member"].as_str().unwrap();
            let valid = file.valid(element, false);
            if let Some(max) = max {
                here(json!(vec![valid.clone(); usize::try_from(max + 1).unwrap()]), "max", longer(max));
            }
            if let Some(min) = min.filter(|min| *min > 0) {
                here(json!(vec![valid.clone(); usize::try_from(min - 1).unwrap()]), "min", shorter(min));
            }
            let of_texts = file.shape(element)["type"] == "string";
            for inner in broken(file, element, found) {
                let path = if of_texts { String::new() } else { format!(".2.member{}", inner.path) };
                let value = json!([valid, inner.value]);
                all.push(Broken { value, path, of_elements: of_texts, ..inner });
            }
        }
        "structure" => {
            for (member, of, required) in file.members(name) {
                let shown = format!(".{}{}", member[..1].to_lowercase(), &member[1..]);
                let base = file.valid(name, false);
                if required {
                    found.insert(format!("{name}.{member}"));
                    for absent in [None, Some(Value::Null)] {
                        let mut value = base.clone();
                        value.as_object_mut().unwrap().remove(member);
                        if let Some(null) = absent {
                            value[member] = null;
                        }
                        let constraint = "Member must not be null".to_owned();
                        all.push(Broken { value, path: shown.clone(), constraint, of_elements: false });
                    }
                }
                for inner in broken(file, of, found) {
                    let mut value = base.clone();
                    value[member] = inner.value;
                    all.push(Broken { value, path: format!("{shown}{}", inner.path), ..inner });
                }
            }
        }
        "map" => {
            assert!(
                broken(file, shape["value"].as_str().unwrap(), found).is_empty(),
                "{name}: values have constraints now"
            );
            assert!(
                broken(file, shape["key"].as_str().unwrap(), found).is_empty(),
                "{name}: keys have constraints now"
            );
            assert!(min.is_none() && max.is_none(), "{name} has bounds now");
        }
        _ => {}
    }
    all
}

#[test]
fn every_constraint_is_enforced_and_named() {
    let file = File::read();
    let mut found = BTreeSet::new();
    let mut count = 0;
    for (operation, input) in file.operations() {
        for broken in broken(&file, input, &mut found) {
            count += 1;
            let body = broken.value.to_string();
            let message = validation(operation, &body);
            let path = broken.path.trim_start_matches('.');
            let clause = message.split("; ").find(|clause| {
                clause.contains(&format!(" at '{path}' failed to satisfy constraint: "))
                    && clause.contains(&broken.constraint)
            });
            let clause = clause.unwrap_or_else(|| panic!("{operation} {path} {}: {message}", broken.constraint));
            assert_eq!(clause.contains("Member must satisfy constraint: ["), broken.of_elements, "{message}");
        }
    }
    // By kind: what the model has, and a request can break.
    let kinds = |kind: &str| found.iter().filter(|one| one.ends_with(kind)).count();
    assert_eq!((kinds(" pattern"), kinds(" enum")), (19, 23), "{found:#?}");
    assert!(count > 500, "{count}");
}
