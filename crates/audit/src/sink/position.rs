//! Up to which record everything has arrived: a file of two lines, the log's origin and the number.

use std::io;
use std::path::{Path, PathBuf};

use crate::within::Directory;

/// The folder in the log's directory.
pub(super) const FOLDER: &str = "sinks";
/// Most bytes of such a file.
const BYTES: usize = 4_096;

/// Gives the directory of the log, which is another one when a copy was taken in its place.
pub type Beside = Box<dyn Fn() -> io::Result<Directory> + Send>;

pub(super) struct Position {
    directory: Beside,
    /// In that.
    name: PathBuf,
    origin: String,
}

impl Position {
    pub(super) fn new(directory: Beside, sink: &str, origin: &str) -> Self {
        Self { directory, name: Path::new(FOLDER).join(sink), origin: origin.to_owned() }
    }

    /// `None` where none is there, or another log's: then everything is sent.
    pub(super) fn read(&self) -> Result<Option<u64>, String> {
        match (self.directory)().and_then(|directory| directory.read(&self.name, BYTES)) {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => {
                let number = std::str::from_utf8(&bytes).ok().and_then(|text| self.parse(text));
                if number.is_none() {
                    tracing::warn!(
                        file = %self.name.display(),
                        "how far records of the audit log were passed on is not known any more: all of them are passed on again"
                    );
                }
                Ok(number)
            }
            Err(error) => Err(format!("{} of the log's directory: {error}", self.name.display())),
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
        let put = |directory: Directory| directory.put(&unfinished, &self.name, text.as_bytes(), 0o600, false);
        let written = (self.directory)().and_then(put);
        written.map_err(|error| format!("{} of the log's directory: cannot be written ({error})", self.name.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn at(directory: &Path, sink: &str, origin: &str) -> Position {
        let directory = directory.to_owned();
        Position::new(Box::new(move || Directory::open(&directory)), sink, origin)
    }

    #[test]
    fn it_is_one_log_s() {
        let folder = tempfile::tempdir().unwrap();
        let position = at(folder.path(), "json", "one");
        assert_eq!(position.read(), Ok(None));
        position.write(7).unwrap();
        position.write(8).unwrap();
        assert_eq!(position.read(), Ok(Some(8)));
        assert_eq!(fs::read_to_string(folder.path().join("sinks/json")).unwrap(), "one\n8\n");
        assert_eq!(at(folder.path(), "json", "other").read(), Ok(None));
        assert_eq!(at(folder.path(), "syslog", "one").read(), Ok(None));
        for damaged in ["", "one", "one\n", "one\nmany\n", "one\n-1\n"] {
            fs::write(folder.path().join("sinks/json"), damaged).unwrap();
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
        let position = at(&log, "json", "one");
        for planted in ["sinks/json", "sinks/json.new"] {
            std::os::unix::fs::symlink(folder.path().join("outside"), log.join(planted)).unwrap();
        }
        assert!(position.read().is_err());
        position.write(7).unwrap();
        assert_eq!(position.read(), Ok(Some(7)));
        fs::remove_file(log.join("sinks/json")).unwrap();
        let pipe = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, log.join("sinks/json"), pipe, rustix::fs::Mode::RWXU, 0).unwrap();
        assert!(position.read().is_err());
        fs::remove_dir_all(log.join("sinks")).unwrap();
        std::os::unix::fs::symlink(folder.path(), log.join("sinks")).unwrap();
        assert!(position.write(8).is_err());
        assert_eq!(fs::read_to_string(folder.path().join("outside")).unwrap(), "somebody's");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    /// Another directory in the log's place gets nothing of it.
    #[test]
    fn it_goes_with_the_directory_that_was_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (log, away) = (folder.path().join("log"), folder.path().join("away"));
        fs::create_dir(&log).unwrap();
        let opened = Directory::open(&log).unwrap();
        let kept = opened.clone();
        let position = Position::new(Box::new(move || Ok(kept.clone())), "json", "one");
        assert!(opened.is_at(&log).unwrap());
        fs::rename(&log, &away).unwrap();
        assert!(!opened.is_at(&log).unwrap(), "nothing is there");
        fs::create_dir(&log).unwrap();
        assert!(!opened.is_at(&log).unwrap() && opened.is_at(&away).unwrap());
        position.write(7).unwrap();
        assert_eq!(position.read(), Ok(Some(7)));
        assert_eq!(fs::read_dir(&log).unwrap().count(), 0, "nothing was put into the other one");
        assert!(away.join("sinks/json").exists());
    }
}
