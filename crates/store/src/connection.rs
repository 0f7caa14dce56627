//! Connections to the database file: how they are opened, how they are left, and what their errors mean.
//!
//! There are two. One makes the changes; one only reads, and holds the write-ahead log and its index in being
//! meanwhile: SQLite removes both with the last connection, and could make neither on a full disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};

use super::disk::try_writing;
use super::trouble::Trouble;
use super::{Error, Store};
use model::outage::Outage;

/// Only a backup or a curious operator can be in the way, and neither for long.
const BUSY: Duration = Duration::from_secs(5);
/// What a connection that is of no use any more gets to close itself.
const CLOSE: Duration = Duration::from_secs(5);
/// Pages of the write-ahead log after which it is taken over into the database: 1 MiB. The less is in the log, the less
/// the database still has to grow by when the disk is full.
const CHECKPOINT: &str = "256";

/// SQLite's primary result codes, as far as the machine is behind them.
mod code {
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const NOMEM: i32 = 7;
    pub(super) const READONLY: i32 = 8;
    pub(super) const IOERR: i32 = 10;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANTOPEN: i32 = 14;
}

/// Where the database is.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) file: PathBuf,
    /// Most pages that it may have; no bound where it is 0.
    #[cfg(test)]
    pub(super) pages: std::sync::atomic::AtomicU32,
}

impl Place {
    pub(super) fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            #[cfg(test)]
            pages: std::sync::atomic::AtomicU32::new(0),
        }
    }

    /// Its directory, whose disk it is that is full.
    pub(super) fn directory(&self) -> &Path {
        self.file.parent().unwrap_or(&self.file)
    }

    /// Opens a connection. The file must be there.
    pub(super) async fn open(&self) -> Result<SqliteConnection, Error> {
        let options = SqliteConnectOptions::new()
            .filename(&self.file)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A key that was reported Enabled is still there after a power failure.
            .synchronous(SqliteSynchronous::Full)
            .pragma("wal_autocheckpoint", CHECKPOINT)
            .busy_timeout(BUSY)
            .disable_statement_logging();
        #[cfg(test)]
        let options = match self.pages.load(std::sync::atomic::Ordering::Relaxed) {
            0 => options,
            pages => options.pragma("max_page_count", pages.to_string()),
        };
        Ok(options.connect().await?)
    }

    /// What the engine's error means: trouble of the machine, told by the result code and, where that leaves it open,
    /// by an attempt to write beside the database; or an error as it is.
    pub(super) async fn judged(&self, error: Error) -> Error {
        let Error::Engine { code, message } = error else { return error };
        let directory = self.directory().to_owned();
        let tried = match tells_by_itself(code) {
            Some(_) => None,
            // On panic: as if nothing had been tried.
            None => tokio::task::spawn_blocking(move || try_writing(&directory).err()).await.ok().flatten(),
        };
        match outage(code, tried.as_ref().and_then(Outage::of)) {
            Some(outage) => Error::Storage(Trouble { outage, place: self.directory().to_owned(), code }),
            None => Error::Database(message),
        }
    }
}

impl Store {
    /// Reads rows that no catalogue has. Takes no turn among the changes and needs no room on the disk.
    pub(super) async fn read<T, W>(&self, work: W) -> Result<T, Error>
    where
        W: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Error>>,
    {
        let inner = &self.inner;
        let mut reader = inner.reader.lock().await;
        let mut database = match reader.database.take() {
            Some(database) => database,
            None if reader.closed => return Err(Error::closed()),
            None => match inner.place.open().await {
                Ok(database) => database,
                Err(error) => return Err(inner.place.judged(error).await),
            },
        };
        match work(&mut database).await {
            Err(error @ Error::Engine { .. }) => {
                retire(database).await;
                Err(inner.place.judged(error).await)
            }
            outcome => {
                reader.database = Some(database);
                outcome
            }
        }
    }
}

/// Leaves a connection whose state nobody knows. What it had begun is rolled back.
pub(super) async fn retire(database: SqliteConnection) {
    match tokio::time::timeout(CLOSE, database.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the metadata that broke was left"),
        Err(_) => tracing::warn!("a connection to the metadata that broke does not close; the disk may hang"),
    }
}

/// What a result code says without anything being tried.
fn tells_by_itself(code: i32) -> Option<Outage> {
    match code & 0xff {
        code::FULL => Some(Outage::Full),
        code::BUSY | code::LOCKED => Some(Outage::InUse),
        code::NOMEM => Some(Outage::Memory),
        _ => None,
    }
}

/// What a result code says, together with what came of trying to write beside the database.
fn outage(code: i32, tried: Option<Outage>) -> Option<Outage> {
    tells_by_itself(code).or(match code & 0xff {
        code::IOERR => Some(tried.unwrap_or(Outage::Io)),
        code::READONLY => Some(tried.unwrap_or(Outage::ReadOnly)),
        // Without trouble of the machine's: a matter of permissions, which does not pass.
        code::CANTOPEN => tried,
        _ => None,
    })
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let message = error.to_string();
        match error.as_database_error().and_then(|error| error.code()?.parse().ok()) {
            Some(code) => Self::Engine { code, message },
            None => Self::Database(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_WRITE, SQLITE_CANTOPEN, SQLITE_READONLY, SQLITE_FULL, SQLITE_BUSY_SNAPSHOT,
    /// SQLITE_CONSTRAINT_UNIQUE, SQLITE_CORRUPT.
    const CODES: [i32; 8] = [4874, 778, 14, 8, 13, 517, 2067, 11];

    #[test]
    fn the_code_and_a_trial_tell_what_is_the_matter() {
        let none = CODES.map(|code| outage(code, None));
        let (io, only) = (Some(Outage::Io), Some(Outage::ReadOnly));
        assert_eq!(none, [io, io, None, only, Some(Outage::Full), Some(Outage::InUse), None, None]);
        let full = CODES.map(|code| outage(code, Some(Outage::Full)));
        let all = Some(Outage::Full);
        assert_eq!(full, [all, all, all, all, all, Some(Outage::InUse), None, None]);
        assert_eq!(outage(14, Some(Outage::Files)), Some(Outage::Files));
    }
}
