//! Frames come from a process that runs a vendor's module. Whatever decodes must encode to something that decodes, and
//! nothing may be taken that was not there.
#![no_main]

use protocol::{FromWorker, ToWorker, decode_frame, encode_frame};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|bytes: &[u8]| {
    stable::<FromWorker>(bytes);
    stable::<ToWorker>(bytes);
});

fn stable<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(Some((message, taken))) = decode_frame::<T>(bytes) else { return };
    assert!((4..=bytes.len()).contains(&taken));
    let mut first = Vec::new();
    encode_frame(&message, &mut first).unwrap();
    let (again, all) = decode_frame::<T>(&first).unwrap().unwrap();
    assert_eq!(all, first.len());
    let mut second = Vec::new();
    encode_frame(&again, &mut second).unwrap();
    assert_eq!(first, second);
}
