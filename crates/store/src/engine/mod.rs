//! The seam between the store and a database engine.
//!
//! Above it is SQL that every engine reads, written once; below it is one module for each engine. What crosses the seam
//! are values of four kinds and failures as data: no type of an engine, and no result code that somebody above would have
//! to know. What an engine owes is written at [`Engine`] and [`Session`], and `suite` puts any of them through it.

pub(crate) mod sqlite;
#[cfg(test)]
mod suite;
pub(crate) mod value;

use std::path::Path;

use futures_util::future::BoxFuture;

use self::value::{FromRow, Row, Value};
use super::Error;
use model::outage::Outage;

/// What an engine answers.
pub(crate) type Answer<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// A database.
pub(crate) trait Engine: Send + Sync {
    /// The directory whose disk it needs: trouble is told of this place.
    fn directory(&self) -> &Path;

    /// Opens a connection. The database must be there.
    fn connect(&self) -> Answer<'_, Connection>;

    /// Whether what is open is still what somebody finds who looks for it.
    fn present(&self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(true))
    }

    /// The last connection was closed in order.
    fn closed(&self) {}

    /// Brings real trouble about for the connections that are opened from now on, or ends it; whether this engine knows
    /// that trouble.
    #[cfg(test)]
    fn distress(&self, distress: Option<Distress>) -> Answer<'_, bool>;
}

/// Trouble that tests bring about.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distress {
    /// No room for more than there is.
    Full,
    /// Somebody else is about to write.
    Busy,
    /// Nothing can be written.
    ReadOnly,
    /// The database is not in its place.
    Gone,
    /// Nor is what it needs beside it.
    LogGone,
}

/// A connection, as an engine makes it. Whoever is told of a failure of the engine's ([`Error::Engine`]) leaves the
/// connection: what it had begun is then rolled back.
pub(crate) trait Session: Send {
    /// Reads something, whichever tables there are: whether the database can be read at all.
    fn probe(&mut self) -> Answer<'_, ()>;

    /// Brings the tables up to what this release knows. Once, on the first connection.
    fn prepare(&mut self) -> Answer<'_, ()>;

    /// Begins a transaction that is going to write. No other one does so before this one has ended.
    fn begin(&mut self) -> Answer<'_, ()>;

    /// Begins to read: until the rollback everything is of one moment, and nobody waits.
    fn look(&mut self) -> Answer<'_, ()>;

    /// Runs one statement, whose parameters are `$1`, `$2` and so on. A text is always the same statement.
    fn run(&mut self, sql: &'static str, values: Vec<Value>) -> Answer<'_, Done>;

    /// Makes what was done since the beginning durable. After a failure nobody knows whether it is.
    fn commit(&mut self) -> Answer<'_, ()>;

    /// Undoes what was done since the beginning, or ends a look.
    fn rollback(&mut self) -> Answer<'_, ()>;

    /// Gives back room on the disk that is not needed any more. Nothing is lost when it fails.
    fn tidy(&mut self) -> Answer<'_, ()>;

    /// Leaves the database in order.
    fn close(self: Box<Self>) -> Answer<'static, ()>;
}

/// What a statement came to.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// What it gives.
    pub(crate) rows: Vec<Row>,
    /// How many rows it has changed.
    pub(crate) changed: u64,
}

/// A failure of an engine's, before it is known what of the machine is behind it. Never leaves this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it says of the machine.
    pub(crate) told: Told,
    /// The engine's own code, for people.
    pub(crate) code: i32,
    /// The engine's own words.
    pub(crate) message: String,
}

/// What an engine's failure says of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// This is the matter.
    Outage(Outage),
    /// The machine has a part in it; an attempt to write beside the database tells which. Where that goes well, this.
    Look(Option<Outage>),
    /// The machine has no part in it.
    Nothing,
}

impl Told {
    /// What is the matter, with what came of the attempt.
    pub(crate) fn outage(self, tried: Option<Outage>) -> Option<Outage> {
        match self {
            Self::Outage(outage) => Some(outage),
            Self::Look(otherwise) => tried.or(otherwise),
            Self::Nothing => None,
        }
    }
}

/// A connection to whichever engine there is.
pub(crate) struct Connection(Box<dyn Session>);

impl Connection {
    pub(crate) fn new(session: impl Session + 'static) -> Self {
        Self(Box::new(session))
    }

    pub(crate) async fn probe(&mut self) -> Result<(), Error> {
        self.0.probe().await
    }

    pub(crate) async fn prepare(&mut self) -> Result<(), Error> {
        self.0.prepare().await
    }

    pub(crate) async fn begin(&mut self) -> Result<(), Error> {
        self.0.begin().await
    }

    pub(crate) async fn look(&mut self) -> Result<(), Error> {
        self.0.look().await
    }

    pub(crate) async fn commit(&mut self) -> Result<(), Error> {
        self.0.commit().await
    }

    pub(crate) async fn rollback(&mut self) -> Result<(), Error> {
        self.0.rollback().await
    }

    pub(crate) async fn tidy(&mut self) -> Result<(), Error> {
        self.0.tidy().await
    }

    pub(crate) async fn close(self) -> Result<(), Error> {
        self.0.close().await
    }

    /// Runs a statement; how many rows it has changed.
    pub(crate) async fn execute(&mut self, sql: &'static str, values: Vec<Value>) -> Result<u64, Error> {
        Ok(self.0.run(sql, values).await?.changed)
    }

    /// All rows.
    pub(crate) async fn all<T: FromRow>(&mut self, sql: &'static str, values: Vec<Value>) -> Result<Vec<T>, Error> {
        self.0.run(sql, values).await?.rows.into_iter().map(|mut row| T::from_row(&mut row)).collect()
    }

    /// The first row, if there is one.
    pub(crate) async fn optional<T: FromRow>(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Option<T>, Error> {
        self.0.run(sql, values).await?.rows.into_iter().next().map(|mut row| T::from_row(&mut row)).transpose()
    }

    /// The row that must be there.
    pub(crate) async fn one<T: FromRow>(&mut self, sql: &'static str, values: Vec<Value>) -> Result<T, Error> {
        let row = self.optional(sql, values).await?;
        row.ok_or_else(|| Error::Database("a row that is always there is not; the metadata are damaged".to_owned()))
    }
}
