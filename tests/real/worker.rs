//! The worker process against SoftHSM tokens, spoken to over its socket as the supervisor does.
//!
//! pkcs11-tool stands for everybody else who can reach the token.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod ceremony;
mod confined;
mod copies;
mod crypto;
mod examine;
mod in_place;
mod log_key;
mod objects;
mod other_use;
mod rig;
mod trouble;
mod wrapping;
