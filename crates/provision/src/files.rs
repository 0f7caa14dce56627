//! Files that are there whole or not at all, for their owner alone.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::Error;
use model::outage::Outage;

pub(super) fn error(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Wrong(format!("{}: {error}", path.display()))
}

/// What the system says of a file or directory that could not be written.
pub(super) fn unwritten(path: &Path, error: &std::io::Error) -> Error {
    let path = path.display();
    match Outage::of(error) {
        Some(outage) => Error::Passing(format!("{path}: {}; {}, then start again", outage.words(), outage.remedy())),
        None => Error::Wrong(format!("{path}: {error}")),
    }
}

/// Makes a directory with mode 0700, and those above it.
pub(super) fn make_dir(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|cause| unwritten(path, &cause))
}

/// Writes a file with mode 0600; whoever reads it sees the old contents or the new ones. Where it cannot be written,
/// nothing of it stays.
pub(super) fn write(path: &Path, contents: &[u8]) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let attempt = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(contents)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    };
    attempt().map_err(|cause: std::io::Error| {
        // Half of it would take room from whoever tries again.
        let _ = std::fs::remove_file(&new);
        unwritten(path, &cause)
    })
}
