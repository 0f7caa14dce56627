//! The one way to change metadata: a transaction, the rows read back, the commit, the catalogue.
//!
//! A connection is used again only when it is known how it stands: after a begin, a commit or a rollback that failed,
//! or a statement that the machine let down, another one takes its place. What a commit came to that failed is read
//! back from the database before anything else is decided.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;

use super::connection::retire;
use super::lineage::{Lineage, Step};
use super::reserve::Purpose;
use super::{Catalogue, Error, Inner, Key, KeyStore, Store, Writer, lineage, load};
use model::id::{KeyId, KeyStoreId, KeyVersionId};
use model::outage::Outage;

/// What a change has changed, as far as the catalogue shows it.
pub(super) enum Touched {
    /// Nothing that it shows.
    Nothing,
    /// A key, its versions or its placements.
    Key(KeyId),
    /// A key that is gone, with versions that a token may still hold.
    Destroyed(KeyId, Vec<KeyVersionId>),
    /// A key store.
    KeyStore(KeyStoreId),
}

/// Rows of a change as they will be once it is committed.
enum Fresh {
    Nothing,
    Key(KeyId, Option<Key>),
    Destroyed(KeyId, Vec<KeyVersionId>),
    KeyStore(KeyStoreId, Option<KeyStore>),
}

/// What became of a transaction.
enum Came<T> {
    /// It is in the database.
    Committed(T, u64, Fresh),
    /// It is not, and the connection is as it was.
    Undone(Error),
    /// It is not, and nobody knows how the connection stands.
    Broken(Error),
    /// Nobody knows whether it is in the database. If so, then with this revision, unless it shows in no catalogue.
    InDoubt(Error, T, Option<u64>),
}

impl Store {
    /// Runs `work` in a transaction and shows what it touched in the catalogue once it is committed. Whoever waits may
    /// leave: the change runs in a task of its own, so that the catalogue never falls behind the database.
    ///
    /// A panic in it ends the change alone: whoever waits is told, and the next change has another connection.
    pub(super) async fn change<T, W>(&self, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<(T, Touched), Error>> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        // On panic: whoever waits gets an error; the transaction is rolled back, and the connection replaced.
        ended(tokio::spawn(async move {
            let mut turn = inner.turn(Purpose::Ordinary).await?;
            inner.attempt(&mut turn, work).await
        }))
        .await
    }

    /// The same for what must work on a full disk: where there is no room, it is tried again with a part of the
    /// reserve.
    pub(super) async fn change_from_reserve<T, W>(&self, purpose: Purpose, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: for<'c> Fn(&'c mut SqliteConnection) -> BoxFuture<'c, Result<(T, Touched), Error>> + Send + Sync + 'static,
    {
        let inner = Arc::clone(&self.inner);
        // On panic: as above.
        ended(tokio::spawn(async move {
            let mut turn = inner.turn(purpose).await?;
            loop {
                match inner.attempt(&mut turn, |database| work(database)).await {
                    Err(Error::Storage(trouble)) if trouble.outage == Outage::Full && inner.release(purpose) => {}
                    outcome => return outcome,
                }
            }
        }))
        .await
    }
}

async fn ended<T>(change: tokio::task::JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    change.await.map_err(|error| Error::Database(format!("the change did not end: {error}")))?
}

impl Inner {
    /// Waits until no other change is under way. Refused while the reserve is spent, unless the change is one that it
    /// is for, or there is room again.
    async fn turn(&self, purpose: Purpose) -> Result<tokio::sync::MutexGuard<'_, Writer>, Error> {
        let mut turn = self.writer.lock().await;
        if !self.reserve.admits(purpose) {
            self.mend(&mut turn).await;
            if !self.reserve.admits(purpose) {
                let error = Error::Kept(self.place.directory().to_owned());
                self.record.ended(Some(&error), self.clock.now());
                return Err(error);
            }
        }
        Ok(turn)
    }

    /// Gives room of the reserve to the next try, if there is any.
    fn release(&self, purpose: Purpose) -> bool {
        match self.reserve.release(purpose) {
            Ok(released) => {
                tracing::debug!(
                    left = self.reserve.kept().bytes,
                    released,
                    "a change was tried without room; it has a slice of the reserve"
                );
                released
            }
            Err(error) => {
                tracing::error!(%error, "the reserve cannot be used");
                false
            }
        }
    }

    /// Carries a change out, and notes how writing goes.
    pub(super) async fn attempt<T, W>(&self, turn: &mut Writer, work: W) -> Result<T, Error>
    where
        W: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<(T, Touched), Error>>,
    {
        self.record.begun(self.clock.now());
        let outcome = self.carry_out(turn, work).await;
        self.record.ended(outcome.as_ref().err(), self.clock.now());
        outcome
    }

    async fn carry_out<T, W>(&self, turn: &mut Writer, work: W) -> Result<T, Error>
    where
        W: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<(T, Touched), Error>>,
    {
        // Not in its place while it is used: whatever ends this, what comes back there is known to be sound.
        let mut database = self.sound(turn).await?;
        match transact(&mut database, &self.lineage, work).await {
            Came::Committed(value, revision, fresh) => {
                turn.database = Some(database);
                if let Some(next) = next(&self.catalogue.load(), revision, fresh) {
                    self.catalogue.store(Arc::new(next));
                }
                Ok(value)
            }
            Came::Undone(error) => {
                turn.database = Some(database);
                Err(error)
            }
            Came::Broken(error) => {
                retire(database).await;
                Err(self.place.judged(error).await)
            }
            Came::InDoubt(error, value, revision) => {
                retire(database).await;
                turn.in_doubt = true;
                let error = self.place.judged(error).await;
                turn.database = self.sound(turn).await.ok();
                // Only now: the catalogue agrees with the database again, if that could be read.
                let known = !turn.in_doubt && revision.is_some_and(|of| of == self.catalogue.load().revision);
                if known { Ok(value) } else { Err(error) }
            }
        }
    }

    /// A connection that is in no transaction, over a database that the catalogue agrees with.
    async fn sound(&self, turn: &mut Writer) -> Result<SqliteConnection, Error> {
        if turn.closed {
            return Err(Error::closed());
        }
        if let Some(database) = turn.database.take() {
            return Ok(database);
        }
        let opened = match self.place.open().await {
            Ok(database) if turn.in_doubt => self.settled(database).await,
            opened => opened,
        };
        match opened {
            Ok(database) => {
                turn.in_doubt = false;
                Ok(database)
            }
            Err(error) => Err(self.place.judged(error).await),
        }
    }

    /// Finds out what a commit that failed has come to. Nearly always nothing, which the revision tells; else the
    /// catalogue is read anew.
    async fn settled(&self, mut database: SqliteConnection) -> Result<SqliteConnection, Error> {
        let read = async {
            let revision = load::revision(&mut database).await?;
            if revision == self.catalogue.load().revision {
                return Ok(None);
            }
            load::catalogue(&mut database).await.map(Some)
        };
        match read.await {
            Ok(None) => Ok(database),
            Ok(Some(catalogue)) => {
                tracing::warn!(
                    revision = catalogue.revision,
                    "a commit that was reported as failed is in the database"
                );
                self.catalogue.store(Arc::new(catalogue));
                Ok(database)
            }
            Err(error) => {
                retire(database).await;
                Err(error)
            }
        }
    }
}

async fn transact<T, W>(database: &mut SqliteConnection, lineage: &Arc<Lineage>, work: W) -> Came<T>
where
    W: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<(T, Touched), Error>>,
{
    let mut transaction = match database.begin_with("BEGIN IMMEDIATE").await {
        Ok(transaction) => transaction,
        Err(error) => return Came::Broken(error.into()),
    };
    match numbered(&mut transaction, lineage, work).await {
        Ok(((value, revision, fresh), step)) => match transaction.commit().await {
            Ok(()) => {
                if let Some(step) = step {
                    step.done().await;
                }
                Came::Committed(value, revision, fresh)
            }
            Err(error) => {
                let revision = (!matches!(fresh, Fresh::Nothing)).then_some(revision);
                Came::InDoubt(error.into(), value, revision)
            }
        },
        // The engine itself may have rolled it back already.
        Err(error @ Error::Engine { .. }) => Came::Broken(error),
        Err(error) => match transaction.rollback().await {
            Ok(()) => Came::Undone(error),
            Err(_) => Came::Broken(error),
        },
    }
}

/// Carries a change out and numbers it.
async fn numbered<T, W>(
    database: &mut SqliteConnection,
    lineage: &Arc<Lineage>,
    work: W,
) -> Result<((T, u64, Fresh), Option<Step>), Error>
where
    W: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<(T, Touched), Error>>,
{
    let before = lineage::position(database).await?;
    let came = carried_out(database, work).await?;
    let step = lineage::advance(lineage, database, before).await?;
    Ok((came, step))
}

async fn carried_out<T, W>(database: &mut SqliteConnection, work: W) -> Result<(T, u64, Fresh), Error>
where
    W: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<(T, Touched), Error>>,
{
    let (value, touched) = work(database).await?;
    let fresh = match touched {
        Touched::Nothing => Fresh::Nothing,
        Touched::Key(id) => Fresh::Key(id, load::key(database, id).await?),
        Touched::Destroyed(id, versions) => Fresh::Destroyed(id, versions),
        Touched::KeyStore(id) => {
            let store = load::key_store(database, &id).await?;
            Fresh::KeyStore(id, store)
        }
    };
    Ok((value, load::revision(database).await?, fresh))
}

fn next(old: &Catalogue, revision: u64, fresh: Fresh) -> Option<Catalogue> {
    let mut next = Catalogue { revision, ..old.clone() };
    match fresh {
        Fresh::Nothing => return None,
        Fresh::Key(id, Some(key)) => drop(next.keys.insert(id, Arc::new(key))),
        Fresh::Key(id, None) => drop(next.keys.remove(&id)),
        Fresh::Destroyed(id, versions) => {
            next.keys.remove(&id);
            Arc::make_mut(&mut next.destroyed).extend(versions);
        }
        Fresh::KeyStore(id, Some(store)) => drop(next.key_stores.insert(id, Arc::new(store))),
        Fresh::KeyStore(id, None) => drop(next.key_stores.remove(&id)),
    }
    Some(next)
}

/// Adds one to the revision and returns it, to be written beside the changed rows.
pub(super) async fn bump(database: &mut SqliteConnection) -> Result<i64, Error> {
    let (value,): (i64,) = sqlx::query_as("UPDATE revision SET value = value + 1 WHERE id = 1 RETURNING value")
        .fetch_one(database)
        .await?;
    Ok(value)
}

/// Bumps the revision for a change to a key that must be there.
pub(super) async fn touch_key(database: &mut SqliteConnection, id: KeyId) -> Result<(), Error> {
    let revision = bump(database).await?;
    let done = sqlx::query("UPDATE keys SET revision = $1 WHERE id = $2")
        .bind(revision)
        .bind(id.to_string())
        .execute(database)
        .await?;
    must_be_one(done.rows_affected(), || format!("key {id}"))
}

/// A statement about one row that met none names something that does not exist.
pub(super) fn must_be_one(rows: u64, what: impl FnOnce() -> String) -> Result<(), Error> {
    if rows == 1 { Ok(()) } else { Err(Error::Missing(what())) }
}
