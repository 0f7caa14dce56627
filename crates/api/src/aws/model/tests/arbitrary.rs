//! Whatever comes: an input or a message of bounded length, and never a panic.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value};

use super::super::{Input, Wrong, operations};
use super::samples::File;

/// Longest message that a body can lead to: sixteen violations with a part of a value and a list of values each.
const MESSAGE_BYTES: usize = 64 * 1024;

fn judge(result: &Result<Input, Wrong>) {
    match result {
        Ok(input) => assert_eq!(input.canonical(), input.canonical()),
        Err(Wrong::Serialization(message)) => assert!(message.len() < 200, "{message}"),
        Err(Wrong::Validation(message)) => assert!(!message.is_empty() && message.len() < MESSAGE_BYTES),
    }
}

/// JSON of any form, with names and texts that the model knows among the others.
fn json() -> impl Strategy<Value = Value> {
    let text =
        prop_oneof![select(vec!["", "AES_256", "AA==", "k", "ENCRYPT_DECRYPT"]).prop_map(str::to_owned), ".{0,8}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    let names = vec!["KeyId", "Plaintext", "Tags", "TagKey", "TagValue", "Constraints", "Recipient", "DryRun", "Limit"];
    let name = prop_oneof![select(names).prop_map(str::to_owned), ".{0,4}"];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn any_operation() -> impl Strategy<Value = &'static super::super::ModelOperation> {
    select(operations().collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn any_bytes(operation in any_operation(), body in prop::collection::vec(any::<u8>(), 0..200)) {
        judge(&operation.read(&body));
    }

    #[test]
    fn any_json(operation in any_operation(), value in json()) {
        judge(&operation.read(value.to_string().as_bytes()));
    }

    /// A whole request with one member replaced: reading gets past what random JSON ends at.
    #[test]
    fn any_member(operation in any_operation(), which in any::<prop::sample::Index>(), value in json()) {
        let file = File::read();
        let (_, input) = file.operations().find(|(name, _)| *name == operation.name()).unwrap();
        let mut body = file.valid(input, true);
        let members = file.members(input);
        let (member, ..) = members[which.index(members.len())];
        body[member] = value;
        judge(&operation.read(body.to_string().as_bytes()));
    }

    /// A whole request with some bytes replaced.
    #[test]
    fn any_damage(
        operation in any_operation(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let file = File::read();
        let (_, input) = file.operations().find(|(name, _)| *name == operation.name()).unwrap();
        let mut body = file.valid(input, true).to_string().into_bytes();
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        judge(&operation.read(&body));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// What is bytes or a secret is in no message, whatever else is wrong.
    #[test]
    fn no_secret_is_repeated(secret in "[A-Za-z0-9]{6}Zq7", limit in any::<i64>(), broken in any::<bool>()) {
        let end = if broken { "!" } else { "" };
        for body in [
            serde_json::json!({"KeyId": "", "Plaintext": format!("{secret}{end}"), "GrantTokens": [secret.repeat(1000), ""]}),
            serde_json::json!({"CustomKeyStoreName": "", "KeyStorePassword": secret.repeat(5), "Limit": limit,
                "XksProxyAuthenticationCredential": {"AccessKeyId": secret, "RawSecretAccessKey": secret}}),
        ] {
            for operation in operations() {
                match operation.read(body.to_string().as_bytes()).err() {
                    Some(Wrong::Serialization(message) | Wrong::Validation(message)) => {
                        prop_assert!(!message.contains(&secret), "{}", message);
                    }
                    None => {}
                }
            }
        }
    }
}
