//! Copies of the database, each a file that one process uses: made beside a running daemon, marked, looked through.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection as _};

use super::super::Connection;
use super::super::value::values;
use super::lineage::pages::Mark;
use super::lineage::{ids, pragma};
use super::migrations::MIGRATIONS;
use super::session::{Sqlite, run};
use crate::Error;

/// A recovery by a daemon that starts just now is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is in a copy that was looked through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contents {
    /// When it was made, in milliseconds since the Unix epoch; absent where it is no backup.
    pub(crate) made_at: Option<i64>,
    /// At which change it is.
    pub(crate) change: u32,
}

/// Has SQLite write what the database holds now; the mark of a backup of it.
pub(crate) async fn make(database: &Path, to: &Path) -> Result<Mark, Error> {
    let name = to.to_str().ok_or_else(|| Error::Backup(format!("{} is no name in UTF-8", to.display())))?;
    let options = SqliteConnectOptions::new().filename(database).read_only(true).busy_timeout(PATIENCE);
    let mut from = options.disable_statement_logging().connect().await.map_err(|error| {
        Error::Backup(format!(
            "{} cannot be read ({error}); run this as the user that the daemon runs as",
            database.display()
        ))
    })?;
    // Both see the same state: between them nothing else reads, and the number only grows.
    let copied = run(&mut from, "VACUUM INTO $1", values![name]).await;
    let closed = from.close().await;
    copied.map_err(|error| Error::Backup(format!("{name} cannot be written ({})", words(&error))))?;
    closed?;
    let mut made = connect(to).await?;
    let (application_id, _, change) = ids(&mut made).await?;
    made.close().await?;
    Ok(Mark { backup: true, ..Mark::from_ids(application_id, change) })
}

/// Marks a copy as a backup of this time and looks through all of it; whether it has exactly the tables that this
/// release knows. `name` is what it is called in errors.
pub(crate) async fn seal(copy: &Path, name: &Path, mark: Mark, made_at: i64) -> Result<bool, Error> {
    let mut database = connect(copy).await?;
    pragma(&mut database, "application_id", mark.application_id()).await?;
    run(&mut database, "CREATE TABLE backup (made_at BIGINT NOT NULL)", values![]).await?;
    run(&mut database, "INSERT INTO backup (made_at) VALUES ($1)", values![made_at]).await?;
    look_through(&mut database, name).await?;
    let known = is_known(&mut database, name).await?;
    database.close().await?;
    Ok(known)
}

/// Looks through a copy that is to be restored, and takes its marks away.
pub(crate) async fn take_marks(copy: &Path, name: &Path) -> Result<Contents, Error> {
    let mut database = connect(copy).await?;
    look_through(&mut database, name).await?;
    is_known(&mut database, name).await?;
    let made_at = made_at(&mut database).await?;
    let (_, _, change) = ids(&mut database).await?;
    unmark(database).await?;
    Ok(Contents { made_at, change })
}

/// Takes the marks of a copy of what is there away; what is damaged in it. Damage is why people restore; what can be read
/// of a damaged database is better than nothing.
pub(crate) async fn take_damaged(copy: &Path, name: &Path) -> Result<Option<String>, Error> {
    let mut database = connect(copy).await?;
    let damage = look_through(&mut database, name).await.err().map(|error| error.to_string());
    is_known(&mut database, name).await?;
    unmark(database).await?;
    Ok(damage)
}

/// Opens a copy, to read its rows.
pub(crate) async fn open(copy: &Path) -> Result<Connection, Error> {
    Ok(Connection::new(Sqlite::of_copy(connect(copy).await?)))
}

async fn connect(copy: &Path) -> Result<SqliteConnection, Error> {
    let options = SqliteConnectOptions::new().filename(copy).foreign_keys(true).synchronous(SqliteSynchronous::Full);
    Ok(options.disable_statement_logging().connect().await?)
}

/// Every page, every index and every reference.
async fn look_through(database: &mut SqliteConnection, name: &Path) -> Result<(), Error> {
    let broken = |what: &str| Error::Backup(format!("{} is damaged ({what})", name.display()));
    let found: Vec<(String,)> = sqlx::query_as("PRAGMA integrity_check(3)")
        .fetch_all(&mut *database)
        .await
        .map_err(|error| broken(&error.to_string()))?;
    let words: Vec<&str> = found.iter().map(|(line,)| line.as_str()).collect();
    if words != ["ok"] {
        return Err(broken(&words.join("; ")));
    }
    let dangling = sqlx::query("PRAGMA foreign_key_check").fetch_all(database).await?;
    if dangling.is_empty() { Ok(()) } else { Err(broken(&format!("{} rows refer to none", dangling.len()))) }
}

/// Whether a database has exactly the tables that this release knows; an error where it is not keystored's, or a newer
/// release's.
async fn is_known(database: &mut SqliteConnection, name: &Path) -> Result<bool, Error> {
    let (there,): (i64,) =
        sqlx::query_as("SELECT COUNT(*) FROM sqlite_schema WHERE name IN ('_sqlx_migrations', 'revision', 'keys')")
            .fetch_one(&mut *database)
            .await?;
    if there < 3 {
        return Err(Error::Backup(format!("{} is no database of keystored", name.display())));
    }
    let applied: Vec<(i64, Vec<u8>, bool)> =
        sqlx::query_as("SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version")
            .fetch_all(database)
            .await?;
    for (version, checksum, success) in &applied {
        let Some(known) = MIGRATIONS.iter().find(|known| known.version == *version) else {
            return Err(Error::Newer { file: name.display().to_string(), version: *version });
        };
        if known.checksum[..] != checksum[..] || !success {
            return Err(Error::Backup(format!(
                "{}: migration {version} was applied with another text; the file belongs to another build of keystored",
                name.display()
            )));
        }
    }
    Ok(applied.len() == MIGRATIONS.iter().count())
}

async fn made_at(database: &mut SqliteConnection) -> Result<Option<i64>, Error> {
    let (there,): (i64,) =
        sqlx::query_as("SELECT COUNT(*) FROM sqlite_schema WHERE name = 'backup'").fetch_one(&mut *database).await?;
    if there == 0 {
        return Ok(None);
    }
    let row: Option<(i64,)> = sqlx::query_as("SELECT made_at FROM backup").fetch_optional(&mut *database).await?;
    sqlx::query("DROP TABLE backup").execute(database).await?;
    Ok(row.map(|(made_at,)| made_at))
}

/// Takes the number away, so that the copy gets one of its own when it is opened.
async fn unmark(mut database: SqliteConnection) -> Result<(), Error> {
    pragma(&mut database, "application_id", 0).await?;
    Ok(database.close().await?)
}

fn words(error: &Error) -> String {
    match error {
        Error::Engine(fault) => fault.message.clone(),
        other => other.to_string(),
    }
}
