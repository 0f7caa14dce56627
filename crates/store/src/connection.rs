//! Which connections there are, how they are left, and what their failures mean.
//!
//! There are two. One makes the changes; one only reads, and holds the write-ahead log and its index in being
//! meanwhile: SQLite removes both with the last connection, and could make neither on a full disk.

use std::path::Path;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::disk::try_writing;
use super::engine::{Connection, Told};
use super::trouble::Trouble;
use super::{Error, Inner, Store};
use model::outage::Outage;

/// What a connection that is of no use any more gets to close itself.
const CLOSE: Duration = Duration::from_secs(5);

impl Store {
    /// Reads rows that no catalogue has. Takes no turn among the changes and needs no room on the disk.
    pub(super) async fn read<T, W>(&self, work: W) -> Result<T, Error>
    where
        W: for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, Error>>,
    {
        let inner = &self.inner;
        let mut reader = inner.reader.lock().await;
        let mut database = match reader.database.take() {
            Some(database) => database,
            None if reader.closed => return Err(Error::closed()),
            None => match inner.engine.connect().await {
                Ok(database) => database,
                Err(error) => return Err(inner.judged(error).await),
            },
        };
        match work(&mut database).await {
            Err(error @ Error::Engine(_)) => {
                retire(database).await;
                Err(inner.judged(error).await)
            }
            outcome => {
                reader.database = Some(database);
                outcome
            }
        }
    }
}

impl Inner {
    /// Closes the connection that reads; whoever reads next opens another one.
    pub(super) async fn leave_reader(&self) {
        let mut reader = self.reader.lock().await;
        if let Some(database) = reader.database.take() {
            retire(database).await;
        }
    }

    pub(super) async fn judged(&self, error: Error) -> Error {
        judged(self.engine.directory(), error).await
    }
}

/// What the engine's error means: trouble of the machine, told by the engine and, where that leaves it open, by an
/// attempt to write beside the database; or an error as it is.
pub(super) async fn judged(directory: &Path, error: Error) -> Error {
    let Error::Engine(fault) = error else { return error };
    let place = directory.to_owned();
    let tried = match fault.told {
        // On panic: as if nothing had been tried.
        Told::Look(_) => tokio::task::spawn_blocking(move || try_writing(&place).err()).await.ok().flatten(),
        Told::Outage(_) | Told::Nothing => None,
    };
    match fault.told.outage(tried.as_ref().and_then(Outage::of)) {
        Some(outage) => Error::Storage(Trouble { outage, place: directory.to_owned(), code: fault.code }),
        None => Error::Database(fault.message),
    }
}

/// Leaves a connection whose state nobody knows. What it had begun is rolled back.
pub(super) async fn retire(database: Connection) {
    match tokio::time::timeout(CLOSE, database.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the metadata that broke was left"),
        Err(_) => tracing::warn!("a connection to the metadata that broke does not close; the disk may hang"),
    }
}
