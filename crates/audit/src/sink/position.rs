//! Up to which record everything has arrived: a file of two lines, the log's origin and the number.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The folder in the log's directory.
pub(super) const FOLDER: &str = "sinks";
/// Most bytes of such a file.
const BYTES: u64 = 4_096;

pub(super) struct Position {
    path: PathBuf,
    origin: String,
}

impl Position {
    pub(super) fn new(directory: &Path, sink: &str, origin: &str) -> Self {
        Self { path: directory.join(FOLDER).join(sink), origin: origin.to_owned() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// `None` where none is there, or another log's: then everything is sent.
    pub(super) fn read(&self) -> Result<Option<u64>, String> {
        use io::Read as _;
        let read = || -> io::Result<String> {
            let mut text = String::new();
            fs::File::open(&self.path)?.take(BYTES).read_to_string(&mut text)?;
            Ok(text)
        };
        match read() {
            Ok(text) => Ok(self.parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{}: {error}", self.path.display())),
        }
    }

    fn parse(&self, text: &str) -> Option<u64> {
        let mut lines = text.lines();
        let origin = lines.next()?;
        lines.next().filter(|_| origin == self.origin)?.parse().ok()
    }

    /// Whole or not at all; not synced: what is lost with the power is sent once more.
    pub(super) fn write(&self, number: u64) -> Result<(), String> {
        let unfinished = self.path.with_extension("new");
        let write = || -> io::Result<()> {
            if let Some(folder) = self.path.parent()
                && !folder.exists()
            {
                // Not the log's directory itself: that is the log's affair.
                fs::create_dir(folder)?;
            }
            let mut file =
                fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&unfinished)?;
            file.write_all(format!("{}\n{number}\n", self.origin).as_bytes())?;
            fs::rename(&unfinished, &self.path)
        };
        write().map_err(|error| format!("{}: cannot be written ({error})", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_log_s() {
        let folder = tempfile::tempdir().unwrap();
        let position = Position::new(folder.path(), "json", "one");
        assert_eq!(position.read(), Ok(None));
        position.write(7).unwrap();
        position.write(8).unwrap();
        assert_eq!(position.read(), Ok(Some(8)));
        assert_eq!(fs::read_to_string(folder.path().join("sinks/json")).unwrap(), "one\n8\n");
        assert_eq!(Position::new(folder.path(), "json", "other").read(), Ok(None));
        assert_eq!(Position::new(folder.path(), "syslog", "one").read(), Ok(None));
        for damaged in ["", "one", "one\n", "one\nmany\n", "one\n-1\n"] {
            fs::write(position.path(), damaged).unwrap();
            assert_eq!(position.read(), Ok(None), "{damaged:?}");
        }
        fs::remove_dir_all(folder.path()).unwrap();
        assert!(position.write(9).is_err());
        assert!(!folder.path().exists(), "the log's directory is the log's affair");
    }
}
