//! The log's files as sinks read them.

use std::path::Path;

use audit::files::Place;
use audit::layout::FULL;
use audit::read::Records;
use audit::sink::{CHUNK_BYTES, Chunk, Source};

/// Reads a log beside the one who writes it.
pub(super) struct Files {
    place: Place,
    records: Option<Records>,
}

impl Files {
    pub(super) fn new(directory: &Path) -> Self {
        Self { place: Place::new(directory), records: None }
    }

    /// Reads on, or from there; after an error everything is opened anew.
    fn records(&mut self, from: u64) -> Result<&mut Records, String> {
        let mut records = match self.records.take() {
            Some(records) => records,
            None => Records::from(&self.place, from).map_err(|error| error.to_string())?,
        };
        records.seek(from);
        Ok(self.records.insert(records))
    }
}

impl Source for Files {
    fn read(&mut self, from: u64, end: u64) -> Result<Chunk, String> {
        let read = self.records(from).and_then(|records| chunk(records, from, end));
        if read.is_err() {
            self.records = None;
        }
        read
    }
}

fn chunk(records: &mut Records, from: u64, end: u64) -> Result<Chunk, String> {
    if let Some(chunk) = records_from(records, from, end)? {
        return Ok(chunk);
    }
    // Whole bundles are moved away.
    let mut later = (from / FULL + 1) * FULL;
    while later < end {
        if let Some(chunk) = records_from(records, later, end)? {
            // As long as what follows is there: a directory that was away and is back has all of them.
            return Ok(records_from(records, from, end)?.unwrap_or(chunk));
        }
        later += FULL;
    }
    Err(format!("record {from} cannot be found in the audit log"))
}

/// Those from this one on, if it is there.
fn records_from(records: &mut Records, from: u64, end: u64) -> Result<Option<Chunk>, String> {
    let (mut chunk, mut bytes) = (Chunk { first: from, records: Vec::new() }, 0);
    records.seek(from);
    while from + (chunk.records.len() as u64) < end && bytes < CHUNK_BYTES {
        let Some(record) = records.next().map_err(|error| error.to_string())? else { break };
        bytes += record.bytes.len();
        chunk.records.push(record.bytes.to_vec());
    }
    Ok(Some(chunk).filter(|chunk| !chunk.records.is_empty()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use audit::layout;

    /// Bundles without a head, of records that are their numbers.
    fn put(directory: &Path, index: u64) {
        let record = |number: u64| [&8_u16.to_be_bytes()[..], &number.to_be_bytes()].concat();
        let bytes: Vec<u8> = (index * FULL..(index + 1) * FULL).flat_map(record).collect();
        let path = directory.join(layout::bundle(index, FULL as u32));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn what_was_moved_away_is_left_out_and_what_is_only_away_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("audit");
        (2..4).for_each(|index| put(&directory, index));
        let mut files = Files::new(&directory);
        let chunk = files.read(5, 4 * FULL).unwrap();
        assert_eq!((chunk.first, chunk.records.len() as u64), (2 * FULL, 2 * FULL));
        assert_eq!(chunk.records[3], (2 * FULL + 3).to_be_bytes());
        // There is nothing at all: that is no reason to leave something out.
        let away = folder.path().join("away");
        fs::rename(&directory, &away).unwrap();
        assert!(files.read(5, 4 * FULL).unwrap_err().contains("record 5"));
        fs::rename(&away, &directory).unwrap();
        put(&directory, 0);
        let chunk = files.read(5, 4 * FULL).unwrap();
        assert_eq!((chunk.first, chunk.records.len() as u64), (5, FULL - 5));
    }
}
