//! keystored: a key service for PKCS#11 HSMs.
//!
//! The rooms of this crate and the order in which they may use each other are described in ARCHITECTURE.md and
//! checked by `tests/architecture.rs`. Nothing is re-exported here: a path says which room it leads into.

#![forbid(unsafe_code)]

pub mod api;
pub mod auth;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod config;
pub mod hsm;
pub mod model;
pub mod pki;
pub mod proto;
pub mod provision;
pub mod seal;
pub mod server;
pub mod service;
pub mod store;
pub mod telemetry;
