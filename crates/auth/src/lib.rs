//! Who calls, and what they may do. Pure; I/O and TLS are elsewhere.

#![forbid(unsafe_code)]

pub mod peer;
pub mod request;
pub mod rule;
