//! SQLite: one file, one process.
//!
//! `session` speaks to it. [`lineage`] tells the file that was left here from one that was copied over it, [`copy`] makes
//! and looks through copies of it, [`migrations`] has its tables.

pub(crate) mod copy;
pub(crate) mod lineage;
mod migrations;
mod presence;
mod session;
#[cfg(test)]
mod trouble;

use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(test)]
use std::sync::{Mutex, atomic::AtomicU32};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use self::lineage::Lineage;
use self::presence::Presence;
use self::session::Sqlite;
#[cfg(test)]
use super::Distress;
use super::{Answer, Connection, Engine};
use crate::Error;

/// Only a backup or a curious operator can be in the way, and neither for long.
const BUSY: Duration = Duration::from_secs(5);
/// Pages of the write-ahead log after which it is taken over into the database: 1 MiB. The less is in the log, the less
/// the database still has to grow by when the disk is full.
const CHECKPOINT: &str = "256";

/// A database file that was judged.
pub(crate) struct Place {
    file: PathBuf,
    lineage: Arc<Lineage>,
    presence: Arc<Presence>,
    #[cfg(test)]
    distress: Mutex<trouble::Brought>,
    /// Pages that it may have while it has trouble; no bound where it is 0.
    #[cfg(test)]
    pages: AtomicU32,
}

impl Place {
    /// Judges the file, which must be there; an empty one is a new database.
    pub(crate) fn admit(file: &Path) -> Result<Self, Error> {
        let lineage = Lineage::admit(file)?;
        Ok(Self {
            file: file.to_owned(),
            presence: Arc::new(Presence::of(file, lineage.main())),
            lineage: Arc::new(lineage),
            #[cfg(test)]
            distress: Mutex::default(),
            #[cfg(test)]
            pages: AtomicU32::new(0),
        })
    }
}

impl Engine for Place {
    fn directory(&self) -> &Path {
        self.file.parent().unwrap_or(&self.file)
    }

    fn connect(&self) -> Answer<'_, Connection> {
        Box::pin(async move {
            let options = SqliteConnectOptions::new()
                .filename(&self.file)
                .foreign_keys(true)
                .journal_mode(SqliteJournalMode::Wal)
                // A key that was reported Enabled is still there after a power failure.
                .synchronous(SqliteSynchronous::Full)
                // What is removed is overwritten: escrow of destroyed keys, sealed PINs.
                .pragma("secure_delete", "ON")
                .pragma("wal_autocheckpoint", CHECKPOINT)
                .busy_timeout(BUSY)
                .disable_statement_logging();
            #[cfg(test)]
            let options = self.troubled(options);
            let ticket = Presence::admit(&self.presence)?;
            let database = options.connect().await?;
            Ok(Connection::new(Sqlite::open(database, Arc::clone(&self.lineage), ticket).await?))
        })
    }

    fn present(&self) -> BoxFuture<'_, bool> {
        Box::pin(async { Presence::looked(Arc::clone(&self.presence)).await.is_ok() })
    }

    fn closed(&self) {
        self.lineage.close();
    }

    #[cfg(test)]
    fn distress(&self, distress: Option<Distress>) -> Answer<'_, bool> {
        Box::pin(self.bring(distress))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::suite::{Made, suite};
    use crate::lock::make_private;

    async fn make() -> Made {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keystored.db");
        make_private(&file).unwrap();
        Made { engine: Arc::new(Place::admit(&file).unwrap()), _keep: Box::new(folder) }
    }

    suite!(make);
}
