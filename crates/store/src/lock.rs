//! One owner at a time: an advisory lock on a file beside the database, and files that nobody else can read.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Error;

/// Only the daemon's own user reads or writes metadata: it holds wrapped keys.
const PRIVATE: u32 = 0o600;

/// Held as long as this lives; the system gives it back when the process ends, however it ends.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a database file without waiting.
    pub(super) fn take(database: &Path) -> Result<Self, Error> {
        let path = path_of(database);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(PRIVATE)
            .open(&path)
            .map_err(|error| Error::File { file: path.clone(), error })?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::InUse(database.display().to_string())),
            Err(TryLockError::Error(error)) => Err(Error::File { file: path, error }),
        }
    }
}

/// Makes the database file before SQLite does, so that it is never readable by others; SQLite gives its side files the
/// mode of the main one. A file with a wider mode is narrowed.
pub(super) fn make_private(database: &Path) -> Result<(), Error> {
    let narrow = || -> std::io::Result<()> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(PRIVATE).open(database)?;
        if file.metadata()?.permissions().mode() & 0o777 != PRIVATE {
            file.set_permissions(Permissions::from_mode(PRIVATE))?;
        }
        Ok(())
    };
    narrow().map_err(|error| Error::File { file: database.to_owned(), error })
}

fn path_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}
