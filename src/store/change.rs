//! The one way to change metadata: a transaction, the rows read back, the commit, the catalogue.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;

use super::{Catalogue, Error, Inner, Key, KeyStore, Open, Store, lineage, load};
use crate::model::id::{KeyId, KeyStoreId, KeyVersionId};

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

impl Store {
    /// Runs `work` in a transaction and shows what it touched in the catalogue once it is committed. Whoever waits may
    /// leave: the change runs in a task of its own, so that the catalogue never falls behind the database.
    pub(super) async fn change<T, W>(&self, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<(T, Touched), Error>> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move { inner.change(work).await })
            .await
            .map_err(|error| Error::Database(format!("the change did not end: {error}")))?
    }
}

impl Inner {
    async fn change<T, W>(&self, work: W) -> Result<T, Error>
    where
        W: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<(T, Touched), Error>>,
    {
        // Held until the catalogue shows the change: both see all changes in one order.
        let mut open = self.connection.lock().await;
        let Open { database, lineage, .. } =
            open.as_mut().ok_or_else(|| Error::Database("it was closed: keystored is stopping".into()))?;
        // An error anywhere below drops the transaction, which rolls it back.
        let mut transaction = database.begin_with("BEGIN IMMEDIATE").await?;
        let before = lineage::position(&mut transaction).await?;
        let (value, touched) = work(&mut transaction).await?;
        let fresh = match touched {
            Touched::Nothing => Fresh::Nothing,
            Touched::Key(id) => Fresh::Key(id, load::key(&mut transaction, id).await?),
            Touched::Destroyed(id, versions) => Fresh::Destroyed(id, versions),
            Touched::KeyStore(id) => {
                let store = load::key_store(&mut transaction, &id).await?;
                Fresh::KeyStore(id, store)
            }
        };
        let revision = load::revision(&mut transaction).await?;
        let step = lineage::advance(lineage, &mut transaction, before).await?;
        transaction.commit().await?;
        if let Some(step) = step {
            step.done().await;
        }
        if let Some(next) = next(&self.catalogue.load(), revision, fresh) {
            self.catalogue.store(Arc::new(next));
        }
        Ok(value)
    }
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
