//! The service over a real store and a cluster in memory.

mod bench;
mod data;
mod deletion;
mod disk;
mod fake;
mod keyring;
mod keys;
mod records;
mod rotation;
