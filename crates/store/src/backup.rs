//! A copy of the database, made beside a running daemon.
//!
//! A second connection, which only reads, has SQLite write what it sees into another file: one state between two
//! changes, while the daemon goes on. The copy is marked in its first page, so that it is recognised wherever somebody
//! puts it, and nobody sees it under its name before it was looked through and is on the disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::engine::sqlite::copy;
use super::engine::sqlite::lineage::pages::Mark;
use super::engine::sqlite::lineage::verdict::Standing;
use super::engine::sqlite::lineage::{JOURNAL, beside, judge_from_outside};
use super::{Error, load};
use model::clock::Clock;
use model::step::steps;
use telemetry::abort;

/// Wrapped keys and sealed PINs are for the daemon's user alone.
pub(super) const PRIVATE: u32 = 0o600;

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
    let mark = abort::around(BackupStep::Copy.name(), copy::make(database, unfinished)).await?;
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

/// Marks a copy and looks through all of it.
async fn seal(made: &Path, name: &Path, mark: Mark, clock: &Clock) -> Result<(), Error> {
    // An older release's can be read by that release; what it holds was counted there.
    if copy::seal(made, name, mark, clock.unix_millis()).await? {
        let mut database = copy::open(made).await?;
        load::catalogue(&mut database).await?;
        database.close().await?;
    }
    Ok(())
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
