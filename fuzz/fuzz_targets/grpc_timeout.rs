//! The grpc-timeout header comes from callers. It is at most eight digits and a unit, and nothing overflows.
#![no_main]

use std::time::Duration;

use api::grpc::timeout;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|header: &[u8]| {
    if let Some(timeout) = timeout::parse(header) {
        assert!((2..=9).contains(&header.len()));
        assert!(header[..header.len() - 1].iter().all(u8::is_ascii_digit));
        assert!(timeout <= Duration::from_secs(99_999_999 * 3_600));
    }
});
