//! Up to which record everything has arrived: a file of two lines, the log's origin and the number.

use std::path::{Path, PathBuf};

use crate::within;

/// The folder in the log's directory.
pub(super) const FOLDER: &str = "sinks";
/// Most bytes of such a file.
const BYTES: usize = 4_096;

pub(super) struct Position {
    directory: PathBuf,
    /// In that.
    name: PathBuf,
    path: PathBuf,
    origin: String,
}

impl Position {
    pub(super) fn new(directory: &Path, sink: &str, origin: &str) -> Self {
        let name = Path::new(FOLDER).join(sink);
        Self { directory: directory.to_owned(), path: directory.join(&name), name, origin: origin.to_owned() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// `None` where none is there, or another log's: then everything is sent.
    pub(super) fn read(&self) -> Result<Option<u64>, String> {
        match within::read(&self.directory, &self.name, BYTES) {
            Ok(bytes) => Ok(bytes.and_then(|bytes| self.parse(std::str::from_utf8(&bytes).ok()?))),
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
        let (unfinished, text) = (self.name.with_extension("new"), format!("{}\n{number}\n", self.origin));
        let written = within::put(&self.directory, &unfinished, &self.name, text.as_bytes(), 0o600, false);
        written.map_err(|error| format!("{}: cannot be written ({error})", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

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

    /// Who can write to the log's directory has nothing written elsewhere by that, and holds nobody up.
    #[test]
    fn it_stays_in_the_log_s_directory() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        fs::create_dir_all(log.join("sinks")).unwrap();
        fs::write(folder.path().join("outside"), "somebody's").unwrap();
        let position = Position::new(&log, "json", "one");
        for planted in ["sinks/json", "sinks/json.new"] {
            std::os::unix::fs::symlink(folder.path().join("outside"), log.join(planted)).unwrap();
        }
        assert!(position.read().is_err());
        position.write(7).unwrap();
        assert_eq!(position.read(), Ok(Some(7)));
        fs::remove_file(position.path()).unwrap();
        let pipe = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, position.path(), pipe, rustix::fs::Mode::RWXU, 0).unwrap();
        assert!(position.read().is_err());
        fs::remove_dir_all(log.join("sinks")).unwrap();
        std::os::unix::fs::symlink(folder.path(), log.join("sinks")).unwrap();
        assert!(position.write(8).is_err());
        assert_eq!(fs::read_to_string(folder.path().join("outside")).unwrap(), "somebody's");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
