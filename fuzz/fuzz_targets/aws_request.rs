//! Bodies of AWS requests come from callers, read for every operation of the model. What is read is the same when it is
//! written anew, and has what the model requires; what is refused has a message of bounded length.
#![no_main]

use api::aws::model::{Wrong, operation, operations};
use libfuzzer_sys::fuzz_target;

/// Sixteen violations with a part of a value and a list of values each.
const MESSAGE_BYTES: usize = 64 * 1024;

fuzz_target!(|body: &[u8]| {
    for operation in operations() {
        match operation.read(body) {
            Ok(input) => {
                // The same members between other spaces are the same parameters.
                let spaced = [b" ", body, b"\n"].concat();
                if let Ok(again) = operation.read(&spaced) {
                    assert_eq!(input.canonical(), again.canonical());
                } else {
                    assert!(body.is_empty());
                }
            }
            Err(Wrong::Serialization(message)) => assert!(message.len() < 200),
            Err(Wrong::Validation(message)) => assert!(!message.is_empty() && message.len() < MESSAGE_BYTES),
        }
    }
    if let Ok(input) = operation("Encrypt").unwrap().read(body) {
        assert!((1..=2048).contains(&input.text("KeyId").unwrap().chars().count()));
        assert!((1..=4096).contains(&input.blob("Plaintext").unwrap().len()));
    }
    if let Ok(input) = operation("TagResource").unwrap().read(body) {
        for (key, value) in input.pairs("Tags").unwrap() {
            assert!((1..=128).contains(&key.chars().count()) && value.chars().count() <= 256);
        }
    }
});
