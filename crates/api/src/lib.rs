//! Interfaces: wire shapes to use cases and back, one error map each.

#![forbid(unsafe_code)]

pub mod aws;
pub mod entry;
pub mod grpc;
pub mod metered;
pub mod receipt;
pub mod recorded;
pub mod sigv4;
