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
    let (mut chunk, mut bytes) = (Chunk { first: from, records: Vec::new() }, 0);
    while chunk.first + (chunk.records.len() as u64) < end {
        match records.next().map_err(|error| error.to_string())? {
            Some(record) => {
                bytes += record.bytes.len();
                chunk.records.push(record.bytes.to_vec());
                if bytes >= CHUNK_BYTES {
                    break;
                }
            }
            None if !chunk.records.is_empty() => break,
            // Whole bundles are moved away.
            None => {
                chunk.first = (chunk.first / FULL + 1) * FULL;
                records.seek(chunk.first);
            }
        }
    }
    if chunk.records.is_empty() {
        return Err(format!("record {from} cannot be found in the audit log"));
    }
    Ok(chunk)
}
