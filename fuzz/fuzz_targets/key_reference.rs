//! Key references come from callers. What is accepted names one key, and the key's own ARN leads back to it.
#![no_main]

use model::id::Scope;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let scope = Scope { partition: "aws".into(), region: "eu-central-1".into(), account: "123456789012".into() };
    if let Ok(key) = scope.parse_key_reference(text) {
        assert_eq!(scope.parse_key_reference(&scope.key_arn(key)), Ok(key));
        assert!(text.to_ascii_lowercase().ends_with(&key.to_string()));
    }
});
