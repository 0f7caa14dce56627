//! The file with the heads that were signed before.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;

use super::disk::Disk;
use crate::layout::HEADS;

/// Where the next head goes.
pub(crate) struct HeadFile {
    length: u64,
    /// An append failed: what is behind `length` is not whole.
    torn: bool,
}

impl HeadFile {
    /// Goes on behind so many bytes; what follows is not whole.
    pub(crate) const fn new(length: u64) -> Self {
        Self { length, torn: true }
    }

    /// Puts a note behind the others, in this file, which is not synced.
    pub(crate) fn append(&mut self, disk: &Disk, note: &[u8]) -> io::Result<File> {
        let path = Path::new(HEADS);
        let file = match disk.open_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(path)?,
            other => other?,
        };
        let found = disk.look_at(&file)?.length;
        // Somebody may have taken it away, to keep it elsewhere.
        let at = self.length.min(found);
        if self.torn && found > at {
            disk.truncate(&file, path, at)?;
        }
        self.torn = true;
        disk.write(&file, path, &mut [IoSlice::new(note)], at)?;
        self.torn = false;
        self.length = at + note.len() as u64;
        Ok(file)
    }
}
