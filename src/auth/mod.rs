//! Who calls, and what they may do. Pure; I/O and TLS are elsewhere.

pub mod peer;
pub mod rule;
