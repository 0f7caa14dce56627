//! Sealed files come from anywhere. What reads as a header is exactly what such a header is written as.
#![no_main]

use client::seal::header::Header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    if let Ok(header) = Header::read(&mut rest) {
        let taken = bytes.len() - rest.len();
        assert_eq!(header.encode().unwrap(), &bytes[..taken]);
    }
});
