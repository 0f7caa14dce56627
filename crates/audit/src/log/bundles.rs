//! Bundles and tiles as they lie in files, read back: what the edge of a log that is opened is made of.

use std::io;
use std::path::PathBuf;

use super::disk::Disk;
use super::error::OpenError;
use super::leaves::record_hash;
use super::tree::{Edge, subtree, widths};
use crate::layout::{self, FULL, HEIGHT, RECORD_BYTES};

/// What a full bundle has at most.
pub(crate) const BUNDLE_BYTES: usize = (2 + RECORD_BYTES) << HEIGHT;

/// A compressed one: what does not get smaller gets a little longer.
pub(crate) const COMPRESSED_BYTES: usize = BUNDLE_BYTES + BUNDLE_BYTES / 64;
/// What a full tile has.
pub(crate) const TILE_BYTES: usize = 32 << HEIGHT;

/// Puts a record behind others of a bundle.
pub(crate) fn put_record(bundle: &mut Vec<u8>, record: &[u8]) {
    // What is longer is no leaf.
    bundle.extend(u16::try_from(record.len()).unwrap_or(0).to_be_bytes());
    bundle.extend_from_slice(record);
}

/// The records of a bundle; `None` where it is not made of exactly so many.
pub(crate) fn records(mut bundle: &[u8], width: u64) -> Option<Vec<&[u8]>> {
    let mut records = Vec::new();
    while let Some((length, rest)) = bundle.split_first_chunk::<2>() {
        let (record, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        records.push(record);
        bundle = rest;
    }
    (bundle.is_empty() && records.len() as u64 == width).then_some(records)
}

/// The name of a compressed bundle.
pub(crate) fn compressed(index: u64) -> PathBuf {
    layout::compressed(&layout::bundle(index, FULL as u32))
}

/// A bundle of that width, compressed or not; `None` where it is not there or damaged.
pub(crate) fn read_bundle(disk: &Disk, index: u64, width: u64) -> io::Result<Option<Vec<u8>>> {
    let plain = disk.read(&layout::bundle(index, width as u32), BUNDLE_BYTES)?;
    let bundle = match plain {
        None if width == FULL => disk
            .read(&compressed(index), COMPRESSED_BYTES)?
            .and_then(|bytes| zstd::bulk::decompress(&bytes, BUNDLE_BYTES).ok()),
        plain => plain,
    };
    Ok(bundle.filter(|bundle| records(bundle, width).is_some()))
}

/// Makes the edge of the log of so many records from its tiles; those that are missing from what is below them.
pub(crate) fn edge(disk: &Disk, size: u64) -> Result<Edge, OpenError> {
    let mut levels = Vec::new();
    for (level, width) in (0_u8..).zip(widths(size)) {
        let index = size >> (u32::from(HEIGHT) * (u32::from(level) + 1));
        levels.push(if width == 0 { Vec::new() } else { hashes(disk, level, index, width)? });
    }
    Edge::new(size, levels).ok_or_else(|| OpenError::Missing(disk.path().to_owned()))
}

/// The hashes of a tile, or of the beginning of one.
fn hashes(disk: &Disk, level: u8, index: u64, width: u64) -> Result<Vec<[u8; 32]>, OpenError> {
    let path = layout::tile(level, index, width as u32);
    let failed = |cause| OpenError::Failed { done: "read", path: disk.path().join(&path), cause };
    let length = width as usize * 32;
    // An older log's tile may have become full since.
    for path in [&path, &layout::tile(level, index, FULL as u32)] {
        if let Some(hashes) =
            disk.read(path, TILE_BYTES).map_err(failed)?.and_then(|bytes| Some(bytes.get(..length)?.to_vec()))
        {
            return Ok(hashes.chunks_exact(32).filter_map(|hash| hash.try_into().ok()).collect());
        }
    }
    if level > 0 {
        return (0..width).map(|at| Ok(subtree(&hashes(disk, level - 1, index * FULL + at, FULL)?))).collect();
    }
    for full in [width, FULL] {
        if let Some(records) =
            read_bundle(disk, index, full).map_err(failed)?.as_deref().and_then(|it| records(it, full))
        {
            return Ok(records.into_iter().take(width as usize).map(record_hash).collect());
        }
    }
    Err(OpenError::Missing(disk.path().join(&path)))
}
