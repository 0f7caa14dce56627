//! The service over a real store and a cluster in memory.

mod bench;
mod data;
mod fake;
mod keys;
