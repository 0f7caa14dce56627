//! Who calls, and what they may do. Pure; I/O and TLS are elsewhere.

#![forbid(unsafe_code)]

mod fold;
pub mod grant;
pub mod peer;
pub mod policy;
pub mod request;
