//! What the module plays of other HSMs, over real SoftHSM: each primitive, and the presets that combine them. Each test is
//! played in a process of its own, since SoftHSM has one configuration and one state in a process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, the parts that tests share too, and says what it did to the one that played it"
)]

mod calls;
mod gcm;
mod login;
mod presets;
mod rig;
mod templates;
mod topology;
mod wrap;
