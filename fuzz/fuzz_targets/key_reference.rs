//! Key references come from callers. What is accepted names one key or one alias, whose own
//! ARN leads back to it.
#![no_main]

use model::id::{KeyReference, Scope};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let scope = Scope { partition: "aws".into(), region: "eu-central-1".into(), account: "123456789012".into() };
    match scope.parse_key_reference(text) {
        Ok(KeyReference::Id(key)) => {
            assert_eq!(scope.parse_key_reference(&scope.key_arn(key)), Ok(KeyReference::Id(key)));
            assert!(text.to_ascii_lowercase().ends_with(&key.to_string()));
        }
        Ok(KeyReference::Alias(name)) => {
            assert!(text.ends_with(name.as_str()));
            assert_eq!(scope.parse_key_reference(&scope.alias_arn(name.as_str())), Ok(KeyReference::Alias(name)));
        }
        Err(_) => {}
    }
});
