//! What is appended, where it then stands, and why it may not be taken.

use aws_lc_rs::digest;

use super::state::Reason;
use crate::layout::{FRAME, RECORD_BYTES};

/// Most bytes of one event, in all of its leaves.
pub const EVENT_BYTES: usize = 8 << 20;

/// The records of one event: they stand one after the other in the log. Hashed as they are put in, by the caller.
#[derive(Clone, Debug, Default)]
pub struct Leaves {
    /// As they stand in the journal.
    framed: Vec<u8>,
    /// One for each.
    hashes: Hashes,
}

/// Nearly every event has one leaf, which needs no memory of its own here.
#[derive(Clone, Debug, Default)]
struct Hashes {
    first: Option<[u8; 32]>,
    more: Vec<[u8; 32]>,
}

/// Why something is no leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoLeaf {
    /// A record has at most [`RECORD_BYTES`], and at least one.
    #[error("a record has 1 to {RECORD_BYTES} bytes, not {0}")]
    Size(usize),
    /// All leaves of an event have at most [`EVENT_BYTES`].
    #[error("the records of one event have more than {EVENT_BYTES} bytes")]
    Event,
}

impl Leaves {
    /// Without any.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One leaf.
    pub fn one(record: &[u8]) -> Result<Self, NoLeaf> {
        let mut leaves = Self { framed: Vec::with_capacity(record.len() + FRAME), hashes: Hashes::default() };
        leaves.push(record)?;
        Ok(leaves)
    }

    /// One more.
    pub fn push(&mut self, record: &[u8]) -> Result<(), NoLeaf> {
        let length = u16::try_from(record.len()).ok().filter(|length| *length > 0).ok_or(NoLeaf::Size(record.len()))?;
        if self.framed.len() + record.len() + FRAME > EVENT_BYTES {
            return Err(NoLeaf::Event);
        }
        let hash = record_hash(record);
        self.framed.extend_from_slice(&length.to_be_bytes());
        self.framed.extend(hash.iter().take(FRAME - 2));
        self.framed.extend_from_slice(record);
        match self.hashes.first {
            None => self.hashes.first = Some(hash),
            Some(_) => self.hashes.more.push(hash),
        }
        Ok(())
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u32 {
        // Each takes more than ten of at most EVENT_BYTES.
        u32::try_from(self.hashes.more.len()).unwrap_or(u32::MAX - 1) + u32::from(self.hashes.first.is_some())
    }

    /// As they stand in the journal.
    pub(crate) fn framed(&self) -> &[u8] {
        &self.framed
    }

    /// The leaf hashes, in order.
    pub(crate) fn hashes(&self) -> impl Iterator<Item = [u8; 32]> {
        self.hashes.first.iter().chain(&self.hashes.more).copied()
    }
}

/// The hash of a leaf (RFC 6962, 2.1).
pub(crate) fn record_hash(record: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[0]);
    context.update(record);
    finished(context)
}

/// The hash of a node over two.
pub(crate) fn node_hash(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[1]);
    context.update(left);
    context.update(right);
    finished(context)
}

fn finished(context: digest::Context) -> [u8; 32] {
    // SHA-256 has 32 bytes.
    context.finish().as_ref().try_into().unwrap_or_default()
}

/// How much depends on a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A use of a key. Accepted when the kernel has it, where [`super::Sync::Interval`] says so.
    Data,
    /// What an operator does, and what changes something. On the disk before it is accepted; waits a while for a log in trouble.
    Control,
    /// The same, of what takes the use of keys away: goes through on a full disk, out of the reserve.
    Restricting,
}

/// Where the leaves of an event stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The number of the first.
    pub first: u64,
    /// How many there are.
    pub count: u32,
}

/// Why a record was not accepted. Nothing is given out that depends on it; every one of these may pass, except `Closed`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// The log can't be written to.
    #[error("{0}")]
    Trouble(Reason),
    /// As many as may wait do so.
    #[error("the disk of the audit log is too slow: too many records wait for it")]
    Busy,
    /// It waited for as long as a record may. It may turn up in the log nevertheless, as one of a call without an answer.
    #[error("the disk of the audit log did not answer in time")]
    TimedOut,
    /// The same of one that the kernel has: it stands in the log when the disk answers, and would stand there twice if it was
    /// appended again.
    #[error("the disk of the audit log did not answer in time")]
    Unsynced,
    /// An event without any record.
    #[error("an event without a record")]
    Empty,
    /// The log was closed.
    #[error("the audit log is closed")]
    Closed,
}
