//! What a log is opened with.

use std::path::PathBuf;
use std::time::Duration;

use model::clock::Clock;

/// What a log is opened with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it lies; made where it is not there. Of one log, and of one process at a time.
    pub directory: PathBuf,
    /// The log's name, as it stands in each head. It never changes.
    pub origin: String,
    /// When records are on the disk.
    pub sync: Sync,
    /// Room that is kept in the journal for [`super::Class::Restricting`].
    pub reserve_bytes: u64,
    /// How far apart heads are while records come.
    pub checkpoint_every: Duration,
    /// How far apart they are otherwise.
    pub idle_checkpoint_every: Duration,
    /// Where the time comes from.
    pub clock: Clock,
}

impl Settings {
    /// The usual settings of a log of this name.
    #[must_use]
    pub fn new(directory: PathBuf, origin: String, clock: Clock) -> Self {
        Self {
            directory,
            origin,
            sync: Sync::Interval(Duration::from_millis(100)),
            reserve_bytes: 8 << 20,
            checkpoint_every: Duration::from_secs(1),
            idle_checkpoint_every: Duration::from_secs(60),
            clock,
        }
    }
}

/// When records of [`super::Class::Data`] are on the disk. All others are there before they count as accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// At the latest after this time. They are accepted when the kernel has them: what a crash of the process leaves, and what
    /// a loss of power may take.
    Interval(Duration),
    /// Before they are accepted.
    Always,
}

/// Sizes that nobody sets, except tests, which would have to write much otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// A file of the journal is followed by the next when it has grown to this.
    pub(crate) segment: u64,
    /// Most appends that wait for their turn to be written, and most of their bytes.
    pub(crate) queue: (usize, usize),
    /// Most appends that wait for the disk.
    pub(crate) unsynced: usize,
    /// Most bytes that are kept in memory because the disk may not have them yet.
    pub(crate) unsynced_bytes: usize,
    /// Most bytes that are kept in memory for the tiles; what is beyond is read from the journal.
    pub(crate) recent_bytes: usize,
    /// Most bytes of the journal's files: beyond, tiles are hopelessly behind.
    pub(crate) journal_bytes: u64,
    /// How long an append waits.
    pub(crate) wait: Duration,
    /// How far apart the heads are that are kept in the file of heads.
    pub(crate) heads_apart: Duration,
    /// A write that takes longer has callers leave writing to the sync thread for a while.
    pub(crate) slow_write: Duration,
    /// How long heads may fail before that is trouble of the log.
    pub(crate) tiles_grace: Duration,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            segment: 32 << 20,
            queue: (16_384, 64 << 20),
            unsynced: 65_536,
            unsynced_bytes: 64 << 20,
            recent_bytes: 64 << 20,
            journal_bytes: 4 << 30,
            wait: Duration::from_secs(10),
            heads_apart: Duration::from_secs(60),
            slow_write: Duration::from_millis(50),
            tiles_grace: Duration::from_secs(30),
        }
    }
}
