//! The writer of a log.
//!
//! A record goes into the journal first, by one write of whoever finds the pen free ([`append`]); who does not leaves it to
//! the one who has it. A thread has the disk sync what the kernel has and looks after the journal's files ([`sync`]); another
//! makes bundles, tiles and signed heads of what is synced ([`tiles`]); a third compresses closed bundles when nothing else
//! wants the processor ([`compress`]). A fourth touches no file, and ends the waiting of those for whom it all takes too long.
//!
//! **Invariants.** A record is accepted when the kernel has it, or the disk, as its class says. The number of a record that was
//! accepted never changes. A head is signed over synced records alone, when the bundles and tiles below it are synced too. The
//! journal keeps each record until a closed bundle that the newest head covers has it, so that it and the directory below the
//! newest head make all that may be missing. What fails is tried again by the thread whose task it is; until then nothing is accepted.

mod error;
mod leaves;
mod settings;
mod state;
mod waiting;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

pub use self::error::OpenError;
pub use self::leaves::{Class, EVENT_BYTES, Leaves, NoLeaf, NotAccepted, Position};
pub use self::settings::{Settings, Sync};
pub use self::state::{Reason, State, Trouble};
pub use self::waiting::Appending;
use crate::note::{Cosigner, Head, LogKey};

/// A log that is written to. One process has it open at a time. Dropping it closes it.
pub struct Log {
    synced: watch::Receiver<u64>,
}

impl Log {
    /// Opens the log, makes it where there is none, and puts in order what a crash has left. `known` is the newest head that
    /// is known from elsewhere (the database): a log that is behind it, or contradicts it, is not written to.
    ///
    /// Blocks while it reads the journal; a head over all that was found is signed before long.
    pub fn open(
        _settings: Settings,
        _key: LogKey,
        _cosigner: Arc<dyn Cosigner>,
        _known: Option<Head>,
    ) -> Result<Self, OpenError> {
        Err(OpenError::Start("not yet".to_owned()))
    }

    /// Appends the records of one event. They are written by this very call where nobody else is writing, so what this returns
    /// is then ready at once; otherwise it ends when they were accepted, or after ten seconds at the latest.
    pub fn append(&self, _leaves: Leaves, _class: Class) -> Appending {
        Appending::ready(Err(NotAccepted::Closed))
    }

    /// How the log is. Touches no file.
    #[must_use]
    pub fn state(&self) -> State {
        State {
            trouble: None,
            size: 0,
            synced: 0,
            head: self.head(),
            signed_at: None,
            signatures: 0,
            bytes: 0,
            bytes_per_second: 0.0,
            free_bytes: None,
            full_in: None,
            reserve_bytes: 0,
            uncompressed: 0,
        }
    }

    /// The newest head that was signed: what to keep elsewhere.
    #[must_use]
    pub fn head(&self) -> Head {
        Head::EMPTY
    }

    /// How many records are synced, as that grows: what those follow who pass records on ([`crate::read`] reads them).
    #[must_use]
    pub fn synced(&self) -> watch::Receiver<u64> {
        self.synced.clone()
    }

    /// Waits until the record of this number is synced, and says how many are. `None`: the log was closed before.
    pub async fn wait_beyond(&self, number: u64) -> Option<u64> {
        let mut synced = self.synced.clone();
        synced.wait_for(|size| *size > number).await.ok().map(|size| *size)
    }

    /// Takes no more records, signs a last head over all that were accepted, and ends the threads. Blocks, for some seconds
    /// where HSMs are slow to sign.
    pub fn close(&self) {}
}

/// What was moved away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Archived {
    /// How many bundles.
    pub bundles: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The first record that stayed.
    pub first_left: u64,
}

/// Moves closed bundles, except those that hold the newest `keep` records, to another directory, under the same names
/// (`tile/entries/…`). Tiles and heads stay, so that proofs do. Also while the log is open, by another process.
pub fn archive(_directory: &Path, _to: &Path, _keep: u64) -> std::io::Result<Archived> {
    Ok(Archived::default())
}

/// Whoever panicked held nothing that is half done: each lock is over whole steps.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
