//! Records of what was done, in a Merkle log that anybody can check: C2SP's formats, so that tools of others read it.

#![forbid(unsafe_code)]

#[cfg(test)]
mod document;
/// What happened, as CloudTrail has it.
pub mod event;
/// The files of a log, and what is in them.
pub mod files;
/// The public keys that a log is checked by, and who vouches for them.
pub mod keys;
/// How the files of a log are named.
pub mod layout;
/// The writer of a log.
pub mod log;
/// Records that are looked for by what they say.
pub mod look;
/// Signed notes, the heads in them, and the keys that sign.
pub mod note;
/// Proofs that one record is in a log.
pub mod prove;
/// Records, one after the other.
pub mod read;
/// Records on their way elsewhere.
pub mod sink;
#[cfg(test)]
mod test_disk;
/// Writes logs as tests need them.
#[cfg(any(test, feature = "test-support"))]
pub mod test_support;
/// Checks a log from outside.
pub mod verify;
/// Paths within a log's directory, followed without leaving it.
pub mod within;
