//! What the tests share: daemons, zones, callers, tools, and waiting.

pub(crate) mod admission;
pub(crate) mod audit;
pub(crate) mod aws;
pub(crate) mod call;
pub(crate) mod chaos;
pub(crate) mod clients;
pub(crate) mod daemon;
pub(crate) mod disk;
pub(crate) mod faults;
pub(crate) mod habits;
pub(crate) mod history;
pub(crate) mod launch;
pub(crate) mod load;
pub(crate) mod manager;
pub(crate) mod other;
pub(crate) mod port;
mod prepared;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod strangers;
pub(crate) mod stream;
pub(crate) mod stream_load;
pub(crate) mod tool;
pub(crate) mod wait;
pub(crate) mod wire;
pub(crate) mod zone;

pub(crate) use call::{Caller, Failure};
pub(crate) use daemon::{Daemon, shared};

/// An encryption context of these pairs.
pub(crate) fn context(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Bytes that differ from place to place, and from seed to seed.
pub(crate) fn bytes(length: usize, seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed).wrapping_mul(2_654_435_761).wrapping_add(1);
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}
