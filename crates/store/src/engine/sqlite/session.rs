//! A connection to the file, and what its result codes say.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use sqlx::migrate::MigrateError;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite as Driver, SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Decode, Either, Executor as _, Row as _, TypeInfo as _, Value as _, ValueRef as _};

use super::super::value::{Row, Value};
use super::super::{Answer, Done, Fault, Session, Told};
use super::lineage::{self, Lineage, Position};
use super::migrations::MIGRATIONS;
use super::presence::{Presence, Ticket};
use crate::Error;
use model::outage::Outage;

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

/// A connection to a database whose changes are numbered; or, without a lineage, to a copy.
pub(super) struct Sqlite {
    database: SqliteConnection,
    /// Dropped after the connection: its open file must outlive that, because closing it would take SQLite's locks away.
    lineage: Option<Arc<Lineage>>,
    ticket: Option<Ticket>,
    before: Option<Position>,
}

impl Sqlite {
    pub(super) async fn open(database: SqliteConnection, lineage: Arc<Lineage>, ticket: Ticket) -> Result<Self, Error> {
        let mut session = Self { database, lineage: Some(lineage), ticket: Some(ticket), before: None };
        session.probe().await?;
        if let Some(ticket) = &session.ticket {
            ticket.opened();
        }
        Ok(session)
    }

    pub(super) fn of_copy(database: SqliteConnection) -> Self {
        Self { database, lineage: None, ticket: None, before: None }
    }
}

impl Session for Sqlite {
    fn probe(&mut self) -> Answer<'_, ()> {
        Box::pin(async move {
            sqlx::query("SELECT COUNT(*) FROM sqlite_master").execute(&mut self.database).await?;
            Ok(())
        })
    }

    fn prepare(&mut self) -> Answer<'_, ()> {
        Box::pin(async move {
            let migrated = MIGRATIONS.run_direct(None, &mut self.database, false).await;
            migrated.map_err(|error| migration_error(self.lineage.as_deref(), error))?;
            match &self.lineage {
                Some(lineage) => lineage.begin(&mut self.database).await,
                None => Ok(()),
            }
        })
    }

    fn begin(&mut self) -> Answer<'_, ()> {
        Box::pin(async move {
            if let Some(presence) = self.ticket.as_ref().map(Ticket::presence) {
                Presence::looked(presence).await?;
            }
            sqlx::query("BEGIN IMMEDIATE").execute(&mut self.database).await?;
            if self.lineage.is_some() {
                self.before = Some(lineage::position(&mut self.database).await?);
            }
            Ok(())
        })
    }

    fn look(&mut self) -> Answer<'_, ()> {
        Box::pin(async move {
            sqlx::query("BEGIN DEFERRED").execute(&mut self.database).await?;
            Ok(())
        })
    }

    fn run(&mut self, sql: &'static str, values: Vec<Value>) -> Answer<'_, Done> {
        Box::pin(run(&mut self.database, sql, values))
    }

    fn commit(&mut self) -> Answer<'_, ()> {
        Box::pin(async move {
            let step = match (&self.lineage, self.before.take()) {
                (Some(lineage), Some(before)) => lineage::advance(lineage, &mut self.database, before).await?,
                _ => None,
            };
            sqlx::query("COMMIT").execute(&mut self.database).await?;
            if let Some(step) = step {
                step.done().await;
            }
            Ok(())
        })
    }

    fn rollback(&mut self) -> Answer<'_, ()> {
        Box::pin(async move {
            self.before = None;
            sqlx::query("ROLLBACK").execute(&mut self.database).await?;
            Ok(())
        })
    }

    fn tidy(&mut self) -> Answer<'_, ()> {
        Box::pin(async move {
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut self.database).await?;
            Ok(())
        })
    }

    fn close(self: Box<Self>) -> Answer<'static, ()> {
        Box::pin(async move {
            let Self { database, lineage, ticket, .. } = *self;
            let closed = database.close().await;
            drop((lineage, ticket));
            Ok(closed?)
        })
    }
}

/// Runs one statement.
pub(super) async fn run(database: &mut SqliteConnection, sql: &'static str, values: Vec<Value>) -> Result<Done, Error> {
    let query = values.into_iter().fold(sqlx::query(sql), bound);
    let mut done = Done::default();
    let mut answers = database.fetch_many(query);
    while let Some(answer) = answers.try_next().await? {
        match answer {
            Either::Left(result) => done.changed += result.rows_affected(),
            Either::Right(row) => done.rows.push(read(&row)?),
        }
    }
    Ok(done)
}

fn bound(query: Query<'static, Driver, SqliteArguments>, value: Value) -> Query<'static, Driver, SqliteArguments> {
    match value {
        Value::Null => query.bind(None::<i64>),
        Value::Integer(number) => query.bind(number),
        Value::Text(text) => query.bind(text),
        Value::Bytes(bytes) => query.bind(bytes),
    }
}

/// What is in a row, by the type that each value has, whatever its column's is.
fn read(row: &SqliteRow) -> Result<Row, Error> {
    let value = |at: usize| {
        let value = row.try_get_raw(at)?;
        if value.is_null() {
            return Ok(Value::Null);
        }
        let value = value.to_owned();
        let other = |error: sqlx::error::BoxDynError| Error::Database(error.to_string());
        match value.type_info().name() {
            "TEXT" => Decode::<Driver>::decode(value.as_ref()).map(Value::Text).map_err(other),
            "BLOB" => Decode::<Driver>::decode(value.as_ref()).map(Value::Bytes).map_err(other),
            "INTEGER" => Decode::<Driver>::decode(value.as_ref()).map(Value::Integer).map_err(other),
            name => Err(Error::Database(format!("a value of type {name}, which keystored does not write"))),
        }
    };
    (0..row.len()).map(value).collect::<Result<_, Error>>().map(Row::new)
}

fn migration_error(lineage: Option<&Lineage>, error: MigrateError) -> Error {
    let file = lineage.map(|lineage| lineage.path().display().to_string()).unwrap_or_default();
    match error {
        MigrateError::VersionMissing(version) => Error::Newer { file, version },
        MigrateError::VersionMismatch(version) => Error::Database(format!(
            "{file}: migration {version} was applied with another text; the file belongs to another build of keystored"
        )),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        other => Error::Database(format!("{file}: {other}")),
    }
}

/// What a result code says of the machine.
fn told(code: i32) -> Told {
    match code & 0xff {
        code::FULL => Told::Outage(Outage::Full),
        code::BUSY | code::LOCKED => Told::Outage(Outage::InUse),
        code::NOMEM => Told::Outage(Outage::Memory),
        code::IOERR => Told::Look(Some(Outage::Io)),
        code::READONLY => Told::Look(Some(Outage::ReadOnly)),
        // Without trouble of the machine's: a matter of permissions, which does not pass.
        code::CANTOPEN => Told::Look(None),
        _ => Told::Nothing,
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let message = error.to_string();
        match error.as_database_error().and_then(|error| error.code()?.parse().ok()) {
            Some(code) => Self::Engine(Fault { told: told(code), code, message }),
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

    fn outage(code: i32, tried: Option<Outage>) -> Option<Outage> {
        told(code).outage(tried)
    }

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
