//! Interfaces: wire shapes to use cases and back, one error map each.

pub mod grpc;
