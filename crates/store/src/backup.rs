//! A copy of the database, made beside a running daemon.
//!
//! A second connection, which only reads, has SQLite write what it sees into another file: one state between two
//! changes, while the daemon goes on. The copy is marked in its first page, so that it is recognised wherever somebody
//! puts it, and nobody sees it under its name before it was looked through and is on the disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};

use super::lineage::pages::Mark;
use super::lineage::verdict::Standing;
use super::lineage::{JOURNAL, beside, ids, judge_from_outside, pragma};
use super::migrations::MIGRATIONS;
use super::{Error, load};
use model::clock::Clock;
use model::step::steps;
use telemetry::abort;

/// Wrapped keys and sealed PINs are for the daemon's user alone.
pub(super) const PRIVATE: u32 = 0o600;
/// A recovery by a daemon that starts just now is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

steps! {
    /// Steps of a backup.
    pub enum BackupStep in "backup" {
        /// The copy is written, under another name.
        Copy = "copy",
        /// It is marked and looked through.
        Check = "check",
        /// It is on the disk and has its name.
        Publish = "publish",
    }
}

/// What was backed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// Bytes of the copy.
    pub bytes: u64,
    /// At which change the database was.
    pub change: u32,
}

/// Copies the database into a new file. Fails rather than overwriting one.
pub async fn backup(database: &Path, target: &Path, clock: &Clock) -> Result<Made, Error> {
    let target = std::path::absolute(target).map_err(|error| failed(target, error))?;
    let folder = target.parent().filter(|_| target.file_name().is_some());
    let folder = folder.ok_or_else(|| Error::Backup(format!("{} is no name for a file", target.display())))?;
    if std::fs::symlink_metadata(&target).is_ok() {
        return Err(exists(&target));
    }
    let place = folder.canonicalize().map_err(|error| failed(folder, error))?;
    let place = place.join(target.file_name().unwrap_or_default());
    if place.as_os_str().as_encoded_bytes().starts_with(database.as_os_str().as_encoded_bytes()) {
        return Err(Error::Backup(format!(
            "{} is a name that belongs to the database itself; name a file in another directory",
            target.display()
        )));
    }
    if !is_as_left(database)? {
        return Err(Error::Backup(format!("there is no database {}: nothing to back up", database.display())));
    }
    // A name of its own, so that two backups at once do not meet, and what was broken off is nobody's backup.
    let unfinished = beside(&target, format!(".unfinished-{}", uuid::Uuid::new_v4().simple()));
    let made = write(database, &unfinished, &target, folder, clock).await;
    if made.is_err() {
        for what in ["", JOURNAL] {
            let _ = std::fs::remove_file(beside(&unfinished, what));
        }
    }
    made
}

/// Whether there is a database; an error where it is not the one that keystored left. Opens nothing, and looks beside a
/// running daemon too.
pub fn is_as_left(database: &Path) -> Result<bool, Error> {
    Ok(judge_from_outside(database)? != Standing::New)
}

async fn write(database: &Path, unfinished: &Path, target: &Path, folder: &Path, clock: &Clock) -> Result<Made, Error> {
    make_private(unfinished)?;
    let mark = abort::around(BackupStep::Copy.name(), copy(database, unfinished)).await?;
    abort::around(BackupStep::Check.name(), seal(unfinished, target, mark, clock)).await?;
    let published = abort::around(BackupStep::Publish.name(), async {
        let file = File::open(unfinished)?;
        file.sync_all()?;
        rename_new(unfinished, target)?;
        File::open(folder)?.sync_all()?;
        Ok(file.metadata()?.len())
    });
    match published.await {
        Ok(bytes) => Ok(Made { bytes, change: mark.change }),
        Err(error) if io::Error::kind(&error) == io::ErrorKind::AlreadyExists => Err(exists(target)),
        Err(error) => Err(failed(target, error)),
    }
}

/// Makes an empty file that nobody else can read.
fn make_private(path: &Path) -> Result<(), Error> {
    let made = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(path);
    let mode = made.and_then(|file| file.metadata()).map_err(|error| failed(path, error))?.mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(Error::Backup(format!(
        "{}: the file system there cannot keep a file private (its mode is {:o}); mount it with umask=077, or choose \
         another place",
        path.display(),
        mode & 0o777
    )))
}

/// Has SQLite write what the database holds now; the database's mark.
async fn copy(database: &Path, to: &Path) -> Result<Mark, Error> {
    let to = to.to_str().ok_or_else(|| Error::Backup(format!("{} is no name in UTF-8", to.display())))?;
    let options = SqliteConnectOptions::new().filename(database).read_only(true).busy_timeout(PATIENCE);
    let mut from = options.disable_statement_logging().connect().await.map_err(|error| {
        Error::Backup(format!(
            "{} cannot be read ({error}); run this as the user that the daemon runs as",
            database.display()
        ))
    })?;
    // Both see the same state: between them nothing else reads, and the number only grows.
    let copied = sqlx::query("VACUUM INTO $1").bind(to).execute(&mut from).await;
    let closed = from.close().await;
    copied.map_err(|error| Error::Backup(format!("{to} cannot be written ({error})")))?;
    closed?;
    let mut made = open(Path::new(to)).await?;
    let (application_id, _, change) = ids(&mut made).await?;
    made.close().await?;
    Ok(Mark { backup: true, ..Mark::from_ids(application_id, change) })
}

/// Marks a copy and looks through all of it.
async fn seal(copy: &Path, name: &Path, mark: Mark, clock: &Clock) -> Result<(), Error> {
    let mut database = open(copy).await?;
    pragma(&mut database, "application_id", mark.application_id()).await?;
    sqlx::query("CREATE TABLE backup (made_at BIGINT NOT NULL)").execute(&mut database).await?;
    let made_at = clock.unix_millis();
    sqlx::query("INSERT INTO backup (made_at) VALUES ($1)").bind(made_at).execute(&mut database).await?;
    look_through(&mut database, name).await?;
    // An older release's can be read by that release; what it holds was counted above.
    if is_known(&mut database, name).await? {
        load::catalogue(&mut database).await?;
    }
    database.close().await?;
    Ok(())
}

/// Opens a copy of a database, which this process alone uses.
pub(super) async fn open(copy: &Path) -> Result<SqliteConnection, Error> {
    let options = SqliteConnectOptions::new().filename(copy).foreign_keys(true).synchronous(SqliteSynchronous::Full);
    Ok(options.disable_statement_logging().connect().await?)
}

/// Every page, every index and every reference.
pub(super) async fn look_through(database: &mut SqliteConnection, name: &Path) -> Result<(), Error> {
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
pub(super) async fn is_known(database: &mut SqliteConnection, name: &Path) -> Result<bool, Error> {
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

/// Gives a file its name, unless there is one of that name.
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Network file systems know links instead.
        Err(Errno::INVAL | Errno::NOSYS) => {
            std::fs::hard_link(from, to)?;
            std::fs::remove_file(from)
        }
        renamed => Ok(renamed?),
    }
}

fn exists(target: &Path) -> Error {
    Error::Backup(format!("{} is there already, and nothing is overwritten; choose another name", target.display()))
}

pub(super) fn failed(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Backup(format!("{}: {error}", path.display()))
}

/// Where a path leads, for comparing.
pub(super) fn same_file(one: &Path, other: &Path) -> bool {
    let of = |path: &PathBuf| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let (one, other) = (of(&one.to_owned()), of(&other.to_owned()));
    one.is_some() && one == other
}
