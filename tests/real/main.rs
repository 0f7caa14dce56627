//! Tests against real SoftHSM tokens, with the real programs over real TLS.
//!
//! Each daemon under test has a directory of its own with its own zones, and ports that the system chose. One test
//! binary, so that everything is linked once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and so do the parts that tests share"
)]

mod harness;

mod attributes;
mod backup;
mod bad_input;
mod ceremony;
mod chaos;
mod cluster;
mod crash;
mod ctl;
mod dev;
mod grpc;
mod idempotency;
mod identity;
mod key_stores;
mod kmsuser;
mod kryoptic;
mod limits;
mod members;
mod operators;
mod pages;
mod python;
mod removal;
mod resync;
mod roundtrip;
mod secrets;
mod server;
mod shutdown;
mod start;
mod supervisor;
mod tls;
mod top;
mod trouble;
mod worker;
mod zones;
