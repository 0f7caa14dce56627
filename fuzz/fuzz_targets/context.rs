//! The context's encoding must be injective: what it was made of can be read back from it, and only that.
#![no_main]

use std::collections::BTreeMap;

use model::context::EncryptionContext;
use model::limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|pairs: Vec<(String, String)>| {
    let pairs: BTreeMap<String, String> = pairs.into_iter().collect();
    let bytes: usize = pairs.iter().map(|(key, value)| 4 + key.len() + value.len()).sum();
    let Ok(context) = EncryptionContext::new(pairs.clone()) else {
        assert!(bytes > limits::CONTEXT_BYTES);
        return;
    };
    let mut encoded = Vec::new();
    context.encode_into(&mut encoded);
    assert_eq!(encoded.len(), bytes);
    assert_eq!(context.encoded_len(), bytes);
    assert_eq!(read(&encoded), pairs.into_iter().collect::<Vec<_>>());
});

/// A reader that is written from the description of the format alone.
fn read(mut rest: &[u8]) -> Vec<(String, String)> {
    let mut part = || {
        let (length, tail) = rest.split_first_chunk::<2>()?;
        let (text, tail) = tail.split_at(u16::from_be_bytes(*length).into());
        rest = tail;
        Some(String::from_utf8(text.to_vec()).unwrap())
    };
    let mut pairs = Vec::new();
    while let Some(key) = part() {
        pairs.push((key, part().unwrap()));
    }
    pairs
}
