//! The one way to change metadata: a transaction with its entries in the log, the rows read back, the commit, the
//! catalogue.
//!
//! A connection is used again only when it is known how it stands: after a begin, a commit or a rollback that failed,
//! or a statement that the machine let down, another one takes its place. What a commit came to that failed is read
//! back from the database before anything else is decided.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::connection::retire;
use super::engine::Connection;
use super::engine::value::values;
use super::log::{self, Change, Entity};
use super::reserve::Purpose;
use super::{Catalogue, Error, Inner, Store, Writer, follow};
use model::given::Given;
use model::id::KeyId;
use model::outage::Outage;

/// A change on its way. It says what it changes as it goes, and all of that is one revision.
pub(super) struct Transaction {
    connection: Connection,
    /// The revision of the change and the end of the log before it, once something is changed that the catalogue shows.
    numbered: Option<(i64, i64)>,
    changes: Vec<Change>,
}

/// What became of a transaction. With the catalogue that shows it, if there is something to show.
enum Came {
    /// It is in the database.
    Committed(Option<Catalogue>),
    /// It is not, and the connection is as it was.
    Undone(Error),
    /// It is not, and nobody knows how the connection stands.
    Broken(Error),
    /// Nobody knows whether it is in the database.
    InDoubt(Error, Option<Catalogue>),
}

impl Transaction {
    fn new(connection: Connection) -> Self {
        Self { connection, numbered: None, changes: Vec::new() }
    }

    /// The revision of this change, to be written beside the rows that it changes.
    pub(super) async fn revision(&mut self) -> Result<i64, Error> {
        if let Some((revision, _)) = self.numbered {
            return Ok(revision);
        }
        let bump = "UPDATE revision SET value = value + 1 WHERE id = 1 RETURNING value, log_end";
        let numbered: (i64, i64) = self.one(bump, values![]).await?;
        self.numbered = Some(numbered);
        Ok(numbered.0)
    }

    /// Something that the catalogue shows is changed.
    pub(super) async fn changes(&mut self, entity: Entity) -> Result<(), Error> {
        self.enter(entity, false).await
    }

    /// Something that the catalogue shows is there no more.
    pub(super) async fn removes(&mut self, entity: Entity) -> Result<(), Error> {
        self.enter(entity, true).await
    }

    async fn enter(&mut self, entity: Entity, gone: bool) -> Result<(), Error> {
        self.revision().await?;
        self.changes.retain(|change| change.entity != entity);
        self.changes.push(Change { entity, gone });
        Ok(())
    }

    /// Writes the log, and makes the catalogue that shows the change.
    async fn conclude(&mut self, old: &Catalogue) -> Result<Option<Catalogue>, Error> {
        if let Some((revision, end)) = self.numbered {
            let changes = std::mem::take(&mut self.changes);
            log::write(&mut self.connection, revision, end, &changes).await?;
        }
        follow::follow(&mut self.connection, old).await
    }
}

impl Deref for Transaction {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Store {
    /// Runs `work` in a transaction and shows what it changed in the catalogue once it is committed. Whoever waits may
    /// leave: the change runs in a task of its own, so that the catalogue never falls behind the database.
    ///
    /// A panic in it ends the change alone: whoever waits is told, and the next change has another connection.
    pub(super) async fn change<T, W>(&self, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut Transaction) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
    {
        let given = Given::default();
        self.changed(giving(given.clone(), work)).await?;
        given_by(&given)
    }

    async fn changed(&self, work: Work) -> Result<(), Error> {
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
        W: for<'c> Fn(&'c mut Transaction) -> BoxFuture<'c, Result<T, Error>> + Send + Sync + 'static,
    {
        let (given, work) = (Given::default(), Arc::new(work));
        let of_tries = given.clone();
        let again = move || {
            let work = Arc::clone(&work);
            giving(of_tries.clone(), move |transaction| work(transaction))
        };
        self.changed_from_reserve(purpose, Box::new(again)).await?;
        given_by(&given)
    }

    async fn changed_from_reserve(&self, purpose: Purpose, again: Box<dyn Fn() -> Work + Send>) -> Result<(), Error> {
        let inner = Arc::clone(&self.inner);
        // On panic: as above.
        ended(tokio::spawn(async move {
            let mut turn = inner.turn(purpose).await?;
            loop {
                match inner.attempt(&mut turn, again()).await {
                    Err(Error::Storage(trouble)) if trouble.outage == Outage::Full && inner.release(purpose) => {}
                    outcome => return outcome,
                }
            }
        }))
        .await
    }
}

/// What a change does, whatever it gives.
pub(super) type Work = Box<dyn for<'c> FnOnce(&'c mut Transaction) -> BoxFuture<'c, Result<(), Error>> + Send>;

/// The work that puts there what `work` gives.
fn giving<T, W>(given: Given<T>, work: W) -> Work
where
    T: Send + 'static,
    W: for<'c> FnOnce(&'c mut Transaction) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
{
    Box::new(move |transaction| {
        Box::pin(async move {
            given.put(work(transaction).await?);
            Ok(())
        })
    })
}

/// What a change gave that was made.
fn given_by<T>(given: &Given<T>) -> Result<T, Error> {
    given.take().ok_or_else(|| Error::Database("a change that was made gave nothing".to_owned()))
}

async fn ended(change: tokio::task::JoinHandle<Result<(), Error>>) -> Result<(), Error> {
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
                let error = Error::Kept(self.engine.directory().to_owned());
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
    pub(super) async fn attempt(&self, turn: &mut Writer, work: Work) -> Result<(), Error> {
        self.record.begun(self.clock.now());
        let outcome = self.carry_out(turn, work).await;
        self.record.ended(outcome.as_ref().err(), self.clock.now());
        outcome
    }

    async fn carry_out(&self, turn: &mut Writer, work: Work) -> Result<(), Error> {
        // Not in its place while it is used: whatever ends this, what comes back there is known to be sound.
        let mut transaction = Transaction::new(self.sound(turn).await?);
        match transact(&mut transaction, &self.catalogue.load(), work).await {
            Came::Committed(next) => {
                turn.database = Some(transaction.connection);
                if let Some(next) = next {
                    self.catalogue.store(Arc::new(next));
                }
                Ok(())
            }
            Came::Undone(error) => {
                turn.database = Some(transaction.connection);
                Err(error)
            }
            Came::Broken(error) => {
                retire(transaction.connection).await;
                let error = self.judged(error).await;
                if matches!(&error, Error::Storage(trouble) if trouble.outage == Outage::Gone) {
                    // What has no name any more is left by everybody, so that what was in it is not lost.
                    self.leave_reader().await;
                }
                Err(error)
            }
            Came::InDoubt(error, next) => {
                retire(transaction.connection).await;
                turn.in_doubt = true;
                let error = self.judged(error).await;
                turn.database = self.sound(turn).await.ok();
                // Only now: the catalogue agrees with the database again, if that could be read.
                let known =
                    !turn.in_doubt && next.is_some_and(|next| next.position() == self.catalogue.load().position());
                if known { Ok(()) } else { Err(error) }
            }
        }
    }

    /// A connection that is in no transaction, over a database that the catalogue agrees with.
    async fn sound(&self, turn: &mut Writer) -> Result<Connection, Error> {
        if turn.closed {
            return Err(Error::closed());
        }
        if let Some(database) = turn.database.take() {
            return Ok(database);
        }
        let opened = match self.engine.connect().await {
            Ok(database) if turn.in_doubt => self.settled(database).await,
            opened => opened,
        };
        match opened {
            Ok(database) => {
                turn.in_doubt = false;
                Ok(database)
            }
            Err(error) => Err(self.judged(error).await),
        }
    }

    /// Finds out what a commit that failed has come to. Nearly always nothing; else the catalogue follows it.
    async fn settled(&self, mut database: Connection) -> Result<Connection, Error> {
        let read = async {
            database.look().await?;
            let next = follow::follow(&mut database, &self.catalogue.load()).await?;
            database.rollback().await?;
            Ok(next)
        };
        match read.await {
            Ok(None) => Ok(database),
            Ok(Some(next)) => {
                tracing::warn!(revision = next.revision(), "a commit that was reported as failed is in the database");
                self.catalogue.store(Arc::new(next));
                Ok(database)
            }
            Err(error) => {
                retire(database).await;
                Err(error)
            }
        }
    }
}

async fn transact(transaction: &mut Transaction, old: &Catalogue, work: Work) -> Came {
    if let Err(error) = transaction.begin().await {
        return Came::Broken(error);
    }
    let carried_out = async {
        work(transaction).await?;
        transaction.conclude(old).await
    };
    match carried_out.await {
        Ok(next) => match transaction.commit().await {
            Ok(()) => Came::Committed(next),
            Err(error) => Came::InDoubt(error, next),
        },
        // The engine itself may have rolled it back already.
        Err(error @ Error::Engine(_)) => Came::Broken(error),
        Err(error) => match transaction.rollback().await {
            Ok(()) => Came::Undone(error),
            Err(_) => Came::Broken(error),
        },
    }
}

/// Records a change to a key that must be there.
pub(super) async fn touch_key(transaction: &mut Transaction, id: KeyId) -> Result<(), Error> {
    transaction.changes(Entity::Key(id)).await?;
    let revision = transaction.revision().await?;
    let done = transaction.execute("UPDATE keys SET revision = $1 WHERE id = $2", values![revision, id]).await?;
    must_be_one(done, || format!("key {id}"))
}

/// A statement about one row that met none names something that does not exist.
pub(super) fn must_be_one(rows: u64, what: impl FnOnce() -> String) -> Result<(), Error> {
    if rows == 1 { Ok(()) } else { Err(Error::Missing(what())) }
}
