//! The log's files as sinks read them.

use std::path::{Path, PathBuf};

use audit::sink::{CHUNK_BYTES, Chunk, Source};

/// Reads a log beside the one who writes it.
pub(super) struct Files {
    directory: PathBuf,
}

impl Files {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }
}

impl Source for Files {
    fn read(&mut self, _from: u64, _end: u64) -> Result<Chunk, String> {
        Err(format!("{} {CHUNK_BYTES}", self.directory.display()))
    }
}
