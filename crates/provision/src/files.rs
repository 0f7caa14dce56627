//! Files that are there whole or not at all, for their owner alone.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::Error;
use model::outage::Outage;

/// What to do about one that is not one's own.
const OTHER_DIRECTORY: &str = "name another directory, or make it your own (chown) and close it to them (chmod go-w)";

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

/// Refuses a directory in which others could put what this process then trusts, or reads secrets from.
pub(super) fn is_own(path: &Path) -> Result<(), Error> {
    let found = std::fs::metadata(path).map_err(|cause| unwritten(path, &cause))?;
    let wrong = |what: &str| {
        let path = path.display();
        Err(Error::Wrong(format!("{path}: {what}, and could put keys and certificates there; {OTHER_DIRECTORY}")))
    };
    if found.uid() != rustix::process::geteuid().as_raw() {
        return wrong("it is another user's, who may write to it");
    }
    // The sticky bit keeps others from what is there, and not from what is not there yet.
    if found.mode() & 0o022 != 0 {
        return wrong("others may write to it");
    }
    Ok(())
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
        // One that an earlier run has left half written; whatever else is there under this name is not written through.
        match std::fs::remove_file(&new) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        for (mode, good) in [(0o700, true), (0o755, true), (0o775, false), (0o757, false), (0o1777, false)] {
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).expect("a mode");
            let judged = is_own(folder.path());
            assert_eq!(judged.is_ok(), good, "{mode:o}: {judged:?}");
        }
    }

    #[test]
    fn nothing_is_written_through_what_somebody_has_put_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, new, other) = (folder.path().join("a"), folder.path().join("a.new"), folder.path().join("other"));
        std::fs::write(&other, "theirs").expect("written");
        symlink(&other, &new).expect("a link");
        write(&file, b"ours").expect("written");
        let read = |path: &Path| std::fs::read_to_string(path).expect("read");
        assert_eq!((read(&file), read(&other)), ("ours".to_owned(), "theirs".to_owned()));
        assert!(!new.exists());
        // What an earlier run has left is no obstacle.
        std::fs::write(&new, "half").expect("written");
        write(&file, b"again").expect("written");
        assert_eq!(read(&file), "again");
    }
}
