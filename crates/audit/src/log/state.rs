//! How a log is, for readiness and metrics.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::note::Head;

/// How a log is at one moment.
#[derive(Clone, Debug)]
pub struct State {
    /// What is the matter, where something is. Records are accepted where nothing is; those of
    /// [`super::Class::Restricting`] also on a full disk and with a full journal, as long as the reserve lasts, and with
    /// [`Reason::Tiles`].
    pub trouble: Option<Trouble>,
    /// Records that were accepted.
    pub size: u64,
    /// Records that are on the disk.
    pub synced: u64,
    /// The newest signed head.
    pub head: Head,
    /// When that was signed, absent before the first.
    pub signed_at: Option<SystemTime>,
    /// Signatures under it: the log's own, and one of each zone that had an HSM to sign.
    pub signatures: usize,
    /// What all files of the log take up.
    pub bytes: u64,
    /// By how much that grows in a second, as far back as ten minutes.
    pub bytes_per_second: f64,
    /// What is free on the disk, absent where nobody knows.
    pub free_bytes: Option<u64>,
    /// When the disk is full, if it goes on like that. Absent where it does not grow.
    pub full_in: Option<Duration>,
    /// What is left of the room in the journal that is kept for restricting changes.
    pub reserve_bytes: u64,
    /// Closed bundles that are not compressed yet.
    pub uncompressed: u64,
    /// How many records the disk takes at once.
    pub groups: Groups,
}

/// How often the disk was made to take records, and how many: what a group commit comes to. Since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// How often.
    pub syncs: u64,
    /// Records in all of them.
    pub records: u64,
    /// Records the last time.
    pub last: u64,
}

impl Groups {
    /// So many were synced at once.
    pub(crate) const fn add(&mut self, records: u64) {
        if records > 0 {
            self.syncs += 1;
            self.records += records;
            self.last = records;
        }
    }
}

impl State {
    /// Records behind the newest head.
    #[must_use]
    pub const fn behind(&self) -> u64 {
        self.size.saturating_sub(self.head.size)
    }

    /// Whether records of all classes are accepted.
    #[must_use]
    pub const fn accepting(&self) -> bool {
        self.trouble.is_none()
    }
}

/// Why records are not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The kind of trouble, by which metrics count refusals.
    pub reason: Reason,
    /// Since when.
    pub since: SystemTime,
}

/// What is the matter with a log's files. Each passes by itself when its cause does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// No room, or a quota is used up. What is in the reserve is for restricting changes.
    #[error("the disk of the audit log is full")]
    NoSpace,
    /// The file system takes nothing.
    #[error("the file system of the audit log is read-only")]
    ReadOnly,
    /// The directory is not where it was.
    #[error("the directory of the audit log is gone")]
    DirectoryGone,
    /// Another directory is in its place, or another file system.
    #[error("another directory is where the audit log was")]
    DirectoryReplaced,
    /// A file of the journal was removed or moved.
    #[error("a file of the audit log's journal was removed")]
    JournalGone,
    /// A file of the journal is another one.
    #[error("a file of the audit log's journal was replaced")]
    JournalReplaced,
    /// A file of the journal was cut or written to by somebody else.
    #[error("a file of the audit log's journal was altered")]
    JournalAltered,
    /// Records that were accepted can't be read any more, here the first of them.
    #[error("record {0} of the audit log was accepted and is gone from the journal: put the journal's files back")]
    Lost(u64),
    /// A write failed.
    #[error("the audit log cannot be written: {0}")]
    Write(Arc<str>),
    /// The disk did not take what the kernel had.
    #[error("the audit log cannot be synced to the disk: {0}")]
    Sync(Arc<str>),
    /// Bundles, tiles or heads can't be written, for longer than a while.
    #[error("heads of the audit log cannot be made: {0}")]
    Tiles(Arc<str>),
    /// Records came faster than bundles can be made of them, for too long: the journal is as long as it may become, but for
    /// the reserve.
    #[error("the disk of the audit log is too slow: the journal is as long as it may become")]
    Behind,
}

impl Reason {
    /// Of an error while writing.
    pub(crate) fn write(error: &std::io::Error) -> Self {
        Self::common(error).unwrap_or_else(|| Self::Write(text(error)))
    }

    /// Of an error while syncing.
    pub(crate) fn sync(error: &std::io::Error) -> Self {
        Self::common(error).unwrap_or_else(|| Self::Sync(text(error)))
    }

    /// Of an error while making heads.
    pub(crate) fn tiles(error: &std::io::Error) -> Self {
        Self::common(error).unwrap_or_else(|| Self::Tiles(text(error)))
    }

    fn common(error: &std::io::Error) -> Option<Self> {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Some(Self::NoSpace),
            std::io::ErrorKind::ReadOnlyFilesystem => Some(Self::ReadOnly),
            _ => None,
        }
    }
}

fn text(error: &std::io::Error) -> Arc<str> {
    error.to_string().into()
}
