//! Tests against real SoftHSM tokens, with the real programs over real TLS.
//!
//! Each daemon under test has a directory of its own with its own zones, and ports that the system chose. One test
//! binary, so that everything is linked once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and so do the parts that tests share"
)]

mod harness;

mod access;
mod aliases;
mod attributes;
mod audit;
mod aws;
mod backup;
mod bad_input;
mod ceremony;
mod certificates;
mod chaos;
mod cluster;
mod crash;
mod ctl;
mod ctl_access;
mod ctl_import;
mod ctl_names;
mod deletion;
mod dev;
mod disk;
mod documented;
mod files;
mod grpc;
mod host_certificate;
mod hostile;
mod hot_copies;
mod hsms;
mod http1;
mod idempotency;
mod identity;
mod in_place;
mod iv;
mod key_crash;
mod key_exchange;
mod key_stores;
mod kmsuser;
mod kryoptic;
mod limits;
mod locks;
mod log;
mod members;
mod operators;
mod pages;
mod personalities;
mod profiles;
mod python;
mod re_encrypt;
mod readiness;
mod records;
mod removal;
mod requests;
mod resync;
mod rewrap;
mod rotation;
mod roundtrip;
mod secrets;
mod self_test;
mod server;
mod shares;
mod shutdown;
mod start;
mod supervisor;
mod systemd;
mod tasks;
mod tls;
mod top;
mod trouble;
mod unfetched;
mod values;
mod worker;
mod wrapping_key;
mod zones;
