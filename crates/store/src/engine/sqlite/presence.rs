//! Whether the files that are open are still those that bear the names.
//!
//! SQLite goes on in a file that somebody has moved or removed, and in a write-ahead log that has no name any more: it
//! commits what no later start will find. Whoever opens another connection then mixes an old index with a new log. So
//! each change looks first, and no connection is opened beside one whose log is gone.

use std::fs::{File, metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::super::{Fault, Told};
use super::lineage::{LOG, beside};
use crate::Error;
use model::lock::MutexExt as _;
use model::outage::Outage;

/// SQLITE_READONLY_DBMOVED, which says it best.
const MOVED: i32 = 1032;

/// Device and number of a file.
type Identity = (u64, u64);

pub(super) struct Presence {
    file: PathBuf,
    main: Option<Identity>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    connections: usize,
    /// Of the write-ahead log that they share.
    log: Option<Identity>,
}

/// Held by each connection, and dropped after it.
pub(super) struct Ticket(Arc<Presence>);

impl Presence {
    /// `main` is the file as it is open.
    pub(super) fn of(file: &Path, main: &File) -> Self {
        let main = main.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
        Self { file: file.to_owned(), main, open: Mutex::default() }
    }

    /// One more connection is about to be opened.
    pub(super) fn admit(presence: &Arc<Self>) -> Result<Ticket, Error> {
        presence.look()?;
        presence.open().connections += 1;
        Ok(Ticket(Arc::clone(presence)))
    }

    /// Looks where nobody else waits for the disk.
    pub(super) async fn looked(presence: Arc<Self>) -> Result<(), Error> {
        // On panic: as if nothing had been seen.
        tokio::task::spawn_blocking(move || presence.look()).await.unwrap_or(Ok(()))
    }

    /// The files have the names, as far as they had them.
    fn look(&self) -> Result<(), Error> {
        let log = self.open().log;
        let gone = |name: &Path, known: Option<Identity>| match identity(name) {
            Ok(found) => known.is_some_and(|known| known != found),
            // Other errors are SQLite's to find.
            Err(error) => known.is_some() && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        };
        for (name, known) in [(self.file.clone(), self.main), (beside(&self.file, LOG), log)] {
            if gone(&name, known) {
                let message = format!("{} was moved, removed or replaced while it was in use", name.display());
                return Err(Error::Engine(Fault { told: Told::Outage(Outage::Gone), code: MOVED, message }));
            }
        }
        Ok(())
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock_anyway()
    }
}

impl Ticket {
    /// The connection is open and has read: the log is there.
    pub(super) fn opened(&self) {
        let mut open = self.0.open();
        open.log = open.log.or_else(|| identity(&beside(&self.0.file, LOG)).ok());
    }

    pub(super) fn presence(&self) -> Arc<Presence> {
        Arc::clone(&self.0)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = self.0.open();
        open.connections -= 1;
        // With the last connection SQLite has taken the log over into the file, whether it had a name or not.
        if open.connections == 0 {
            open.log = None;
        }
    }
}

fn identity(name: &Path) -> io::Result<Identity> {
    metadata(name).map(|meta| (meta.dev(), meta.ino()))
}
