//! Writes a log's files in the simplest way, and signs its heads: what checks a log is tried on what something else wrote.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use tlog_tiles::tile::Tile;
use tlog_tiles::tlog::{self, Hash, HashReader, record_hash, stored_hashes_for_record_hash};

use super::layout::{self, CHECKPOINT, FULL, HEADS, HEIGHT};
use super::note::{Checkpoint, Cosigner, Head, LogKey};

/// A record as others are, of about so many bytes.
#[must_use]
pub fn record(number: u64, bytes: usize) -> Vec<u8> {
    let begin = format!("{{\"eventID\":\"{number:032x}\",\"eventName\":\"Encrypt\",\"filler\":\"");
    let filler = (0..bytes.saturating_sub(begin.len() + 2)).map(|at| b'a' + ((number as usize * 7 + at) % 26) as u8);
    begin.bytes().chain(filler).chain(*b"\"}").collect()
}

/// So many of them.
#[must_use]
pub fn records(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|number| record(number, 60 + (number % 40) as usize)).collect()
}

struct Stored(RefCell<Vec<Hash>>);

impl HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog::Error> {
        let stored = self.0.borrow();
        Ok(indexes.iter().map(|index| stored[*index as usize]).collect())
    }
}

fn stored(records: &[Vec<u8>]) -> Stored {
    let stored = Stored(RefCell::default());
    for (number, record) in records.iter().enumerate() {
        let hashes = stored_hashes_for_record_hash(number as u64, record_hash(record), &stored).unwrap();
        stored.0.borrow_mut().extend(hashes);
    }
    stored
}

/// The head over these records.
#[must_use]
pub fn head(records: &[Vec<u8>]) -> Head {
    let size = records.len() as u64;
    Head { size, root: tlog::tree_hash(size, &stored(records)).unwrap().0 }
}

/// Writes into a directory.
pub struct Writer<'a> {
    /// The log's directory.
    pub directory: PathBuf,
    /// The log's key.
    pub key: &'a LogKey,
    /// Who signs beside it.
    pub cosigner: &'a dyn Cosigner,
}

impl Writer<'_> {
    fn put(&self, path: &Path, bytes: &[u8]) {
        let path = self.directory.join(path);
        // Tests that change one thing after the other write only what differs.
        if fs::read(&path).is_ok_and(|there| there == bytes) {
            return;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// A head as it is signed.
    #[must_use]
    pub fn signed(&self, head: Head) -> Checkpoint {
        let text = Checkpoint::text_of(self.key.verifier().name(), &head).unwrap();
        let mut checkpoint = Checkpoint::new(self.key.verifier().name(), head, vec![self.key.sign(&text)]).unwrap();
        self.cosigner.cosign(&text).into_iter().for_each(|line| checkpoint.push(line));
        checkpoint
    }

    /// The bundles of these records; those that are whole compressed where that is wanted.
    pub fn bundles(&self, records: &[Vec<u8>], compressed: bool) {
        for (index, records) in records.chunks(FULL as usize).enumerate() {
            let mut bytes = Vec::new();
            for record in records {
                bytes.extend(u16::try_from(record.len()).unwrap().to_be_bytes());
                bytes.extend(record);
            }
            let mut path = layout::bundle(index as u64, records.len() as u32).into_os_string();
            if compressed && records.len() == FULL as usize {
                path.push(layout::COMPRESSED);
                bytes = zstd::bulk::compress(&bytes, 3).unwrap();
            }
            self.put(Path::new(&path), &bytes);
        }
    }

    /// The tiles over these records, from a level on.
    pub fn tiles(&self, records: &[Vec<u8>], levels: std::ops::Range<u8>) {
        let stored = stored(records);
        let of_levels = |tile: &Tile| levels.contains(&tile.level());
        for tile in Tile::new_tiles(HEIGHT, 0, records.len() as u64).into_iter().filter(of_levels) {
            let path = layout::tile(tile.level(), tile.level_index(), tile.width());
            self.put(&path, &tile.read_data(&stored).unwrap());
        }
    }

    /// Heads over the first records, of these sizes, and the last of them as the checkpoint.
    pub fn heads(&self, records: &[Vec<u8>], sizes: &[u64]) {
        let mut file = Vec::new();
        let stored = stored(records);
        for size in sizes {
            let head = Head { size: *size, root: tlog::tree_hash(*size, &stored).unwrap().0 };
            let bytes = self.signed(head).to_bytes();
            self.put(Path::new(CHECKPOINT), &bytes);
            file.extend(bytes);
        }
        self.put(Path::new(HEADS), &file);
    }

    /// Records behind the last head.
    pub fn journal(&self, first: u64, records: &[Vec<u8>]) {
        let mut bytes = Vec::new();
        for record in records {
            bytes.extend(u16::try_from(record.len()).unwrap().to_be_bytes());
            bytes.extend(&record_hash(record).0[..8]);
            bytes.extend(record);
        }
        self.put(&layout::journal(first), &bytes);
    }

    /// A whole log with heads of these sizes; what comes behind the last of them stands in the journal.
    pub fn log(&self, records: &[Vec<u8>], sizes: &[u64]) {
        let size = sizes.last().copied().unwrap_or(0);
        let (vouched, rest) = records.split_at(size as usize);
        self.bundles(vouched, false);
        self.tiles(vouched, 0..64);
        self.heads(vouched, sizes);
        self.journal(size, rest);
    }
}
