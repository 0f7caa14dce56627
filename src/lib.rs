//! The daemon: built bottom-up from the crates of this workspace, which ARCHITECTURE.md describes.

#![forbid(unsafe_code)]

pub mod server;
