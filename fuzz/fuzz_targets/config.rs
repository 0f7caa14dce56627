//! A configuration may be anything; it is accepted or refused with a sentence, and never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let file = std::env::temp_dir().join(format!("keystored-fuzz-{}.toml", std::process::id()));
    std::fs::write(&file, text).unwrap();
    if let Err(error) = config::load(&file) {
        assert!(!error.message.is_empty());
        assert!(error.line.is_none_or(|line| line >= 1 && line <= text.lines().count() + 1));
    }
});
