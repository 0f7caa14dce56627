//! Records as JSON lines in a file, byte for byte as they stand in the log. The file may be renamed at any time: what comes
//! then goes into a new one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use rustix::fs::OFlags;

use super::{Chunk, Outlet};

/// For the daemon's user, and its group: shippers are given that.
const MODE: u32 = 0o640;
/// A pipe that nobody reads is told at once, where it would hold whoever opens it.
const NONBLOCK: i32 = OFlags::NONBLOCK.bits().cast_signed();

/// A file of JSON lines.
pub struct JsonLines {
    path: PathBuf,
    file: Option<File>,
    lines: Vec<u8>,
    /// The number behind the lines in hand.
    end: u64,
    arrived: Option<u64>,
}

impl JsonLines {
    /// At this path. Opened when there is something to write.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None, lines: Vec::new(), end: 0, arrived: None }
    }

    /// The file that bears the name now.
    fn current(&mut self) -> io::Result<&mut File> {
        let is_current = |file: &File| -> io::Result<bool> {
            let (ours, there) = (file.metadata()?, std::fs::metadata(&self.path)?);
            Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino()))
        };
        // What cannot be looked at is opened anew.
        let file = match self.file.take().filter(|file| is_current(file).unwrap_or(false)) {
            Some(file) => file,
            None => {
                let file =
                    OpenOptions::new().append(true).create(true).mode(MODE).custom_flags(NONBLOCK).open(&self.path)?;
                if !file.metadata()?.is_file() {
                    return Err(io::Error::other("it is no regular file"));
                }
                file
            }
        };
        Ok(self.file.insert(file))
    }

    fn write(&mut self) -> io::Result<()> {
        let lines = std::mem::take(&mut self.lines);
        let file = self.current()?;
        let before = file.metadata()?.len();
        if let Err(error) = file.write_all(&lines) {
            // Half a line would make another one of the next.
            file.set_len(before)?;
            return Err(error);
        }
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> String {
        format!("{}: cannot be written ({error})", self.path.display())
    }
}

impl Outlet for JsonLines {
    fn name(&self) -> &'static str {
        "json"
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn take(&mut self, chunk: &Chunk) {
        for record in &chunk.records {
            self.lines.extend_from_slice(record);
            self.lines.push(b'\n');
        }
        self.end = chunk.first + chunk.records.len() as u64;
    }

    fn push(&mut self) -> Result<(), String> {
        if self.lines.is_empty() {
            return Ok(());
        }
        match self.write() {
            Ok(()) => {
                self.arrived = Some(self.end);
                Ok(())
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn arrived(&mut self) -> Option<u64> {
        self.arrived.take()
    }

    fn settle(&mut self) -> Result<(), String> {
        let synced = self.file.as_ref().map_or(Ok(()), File::sync_data);
        synced.map_err(|error| self.failed(&error))
    }
}
