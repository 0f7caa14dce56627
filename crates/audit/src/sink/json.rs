//! Records as JSON lines in a file, byte for byte as they stand in the log. The file may be renamed at any time: what comes
//! then goes into a new one.
//!
//! Where the disk is full in the midst of a line, or the process is killed there, half a line stays at the end, which nobody
//! takes for a line yet. What is written next finishes it: the record is sent again anyhow. A file in which lines were already
//! read is not cut for that: who reads it would begin anew. What stands there without an end and is longer than any of our lines is
//! somebody else's: it gets an end, and stays.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use rustix::fs::OFlags;

use super::{Chunk, Outlet};
use crate::layout::RECORD_BYTES;

/// For the daemon's user, and its group: shippers are given that.
const MODE: u32 = 0o640;
/// A pipe that nobody reads is told at once, where it would hold whoever opens it.
const NONBLOCK: i32 = OFlags::NONBLOCK.bits().cast_signed();

/// A file of JSON lines.
pub struct JsonLines {
    path: PathBuf,
    file: Option<File>,
    /// The file may end with half a line.
    unsure: bool,
    lines: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// The number of the first.
    first: u64,
    arrived: Option<u64>,
    /// Why what was written to a file that was moved away may not be on the disk.
    lost: Option<io::Error>,
    /// The name of the file may not be on the disk.
    unnamed: bool,
}

#[cfg(test)]
thread_local! {
    /// How often this thread has had a file's lines on the disk.
    pub(super) static SYNCED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

impl JsonLines {
    /// At this path. Opened when there is something to write.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        let (lines, ends) = (Vec::new(), Vec::new());
        Self { path, file: None, unsure: true, lines, ends, first: 0, arrived: None, lost: None, unnamed: false }
    }

    /// The file that bears the name now.
    fn current(&mut self) -> io::Result<()> {
        let is_current = |file: &File| -> io::Result<bool> {
            let (ours, there) = (file.metadata()?, std::fs::metadata(&self.path)?);
            Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino()))
        };
        if let Some(former) = self.file.take_if(|file| !is_current(file).unwrap_or(false)) {
            if self.unsure
                && let Err(error) = half(&former).and_then(|half| cut(&former, half.unwrap_or_default().len()))
            {
                // It was moved away with half a line, which nobody finishes.
                tracing::debug!(%error, "half a line stays at the end of a file of records that was moved away");
            }
            // What is noted next is about its lines as well.
            if let Err(error) = sync(&former) {
                self.lost = Some(error);
            }
        }
        // What cannot be looked at is opened anew.
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let mut options = OpenOptions::new();
                let file =
                    options.read(true).append(true).create(true).mode(MODE).custom_flags(NONBLOCK).open(&self.path)?;
                (self.unsure, self.unnamed) = (true, true);
                if !file.metadata()?.is_file() {
                    return Err(io::Error::other("it is no regular file"));
                }
                file
            }
        };
        self.file = Some(file);
        Ok(())
    }

    /// Writes the lines in hand. Says how many of them are written, whole, if not all.
    fn write(&mut self) -> Result<(), (usize, io::Error)> {
        let (lines, ends) = (std::mem::take(&mut self.lines), std::mem::take(&mut self.ends));
        let unsure = self.unsure || self.file.is_none();
        self.current().map_err(|error| (0, error))?;
        let (path, Some(file)) = (&self.path, &mut self.file) else { return Err((0, io::ErrorKind::NotFound.into())) };
        let half = if unsure { half(file).map_err(|error| (0, error))? } else { Some(Vec::new()) };
        if half.is_none() {
            // Once for such an end: it is none any more.
            file.write_all(b"\n").map_err(|error| (0, error))?;
            tracing::warn!(
                file = %path.display(),
                "what stood at the end of a file of records was longer than a record and had no line break; it got one"
            );
        }
        let (half, mut done) = (half.unwrap_or_default(), 0);
        if !half.is_empty() {
            let starts = std::iter::once(0).chain(ends.iter().copied());
            let line = starts
                .zip(&ends)
                .filter_map(|(start, end)| lines.get(start..*end))
                .find(|line| line.starts_with(&half));
            match line.and_then(|line| line.get(half.len()..)) {
                Some(_) if lines.starts_with(&half) => done = half.len(),
                // One of those that are written in their turn all the same.
                Some(rest) => file.write_all(rest).map_err(|error| (0, error))?,
                // Of none that is sent again.
                None => cut(file, half.len()).map_err(|error| (0, error))?,
            }
        }
        self.unsure = true;
        while let Some(rest) = lines.get(done..).filter(|rest| !rest.is_empty()) {
            let written = self.file.as_mut().map_or(Ok(0), |file| file.write(rest));
            match written {
                Ok(0) => return Err((whole(&ends, done), io::ErrorKind::WriteZero.into())),
                Ok(written) => done += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((whole(&ends, done), error)),
            }
        }
        self.unsure = false;
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
            self.ends.push(self.lines.len());
        }
        self.first = chunk.first;
    }

    fn push(&mut self) -> Result<(), String> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let count = self.ends.len();
        let (written, outcome) = match self.write() {
            Ok(()) => (count, Ok(())),
            Err((written, error)) => (written, Err(self.failed(&error))),
        };
        if written > 0 {
            self.arrived = Some(self.first + written as u64);
        }
        outcome
    }

    fn arrived(&mut self) -> Option<u64> {
        self.arrived.take()
    }

    fn settle(&mut self) -> Result<(), String> {
        let lost = self.lost.take().map_or(Ok(()), Err);
        let synced = lost.and_then(|()| self.file.as_ref().map_or(Ok(()), sync));
        synced.map_err(|error| self.failed(&error))?;
        if std::mem::take(&mut self.unnamed)
            && let Some(folder) = self.path.parent()
            && let Err(error) = File::open(folder).and_then(|folder| folder.sync_all())
        {
            // Who may write there need not be able to read it.
            tracing::debug!(%error, "the name of a file of records may be lost with the power");
        }
        Ok(())
    }
}

/// Its lines are on the disk.
fn sync(file: &File) -> io::Result<()> {
    #[cfg(test)]
    SYNCED.set(SYNCED.get() + 1);
    file.sync_data()
}

/// How many lines end within so many bytes.
fn whole(ends: &[usize], bytes: usize) -> usize {
    ends.partition_point(|end| *end <= bytes)
}

/// What stands in a file behind its last whole line; `None` where that is longer than a line of ours.
fn half(file: &File) -> io::Result<Option<Vec<u8>>> {
    let length = file.metadata()?.len();
    let looked = length.min(RECORD_BYTES as u64 + 1);
    let mut end = vec![0; usize::try_from(looked).unwrap_or(0)];
    file.read_exact_at(&mut end, length - looked)?;
    Ok(match end.iter().rposition(|byte| *byte == b'\n') {
        Some(newline) => Some(end.split_off(newline + 1)),
        None => (length <= RECORD_BYTES as u64).then_some(end),
    })
}

/// Takes so many bytes off the end.
fn cut(file: &File, bytes: usize) -> io::Result<()> {
    let length = file.metadata()?.len();
    if bytes > 0 { file.set_len(length.saturating_sub(bytes as u64)) } else { Ok(()) }
}
