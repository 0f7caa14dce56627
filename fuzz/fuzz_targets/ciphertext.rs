//! Ciphertexts come from callers. Whatever parses must be exactly what is put together from its parts.
#![no_main]

use model::ciphertext::{Ciphertext, FORMAT, OVERHEAD_BYTES, assemble};
use model::limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|blob: &[u8]| {
    if let Ok(parsed) = Ciphertext::parse(blob) {
        assert_eq!(blob[0], FORMAT);
        assert!(parsed.key_version.version > 0);
        assert!(blob.len() > OVERHEAD_BYTES && blob.len() <= OVERHEAD_BYTES + limits::PLAINTEXT_BYTES);
        assert_eq!(assemble(parsed.key_version, &parsed.iv, parsed.sealed), blob);
    }
});
