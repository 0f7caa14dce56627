//! Closed bundles moved to another directory, with the proofs intact: tiles and heads stay.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::bundles::{BUNDLE_BYTES, COMPRESSED_BYTES, compressed, records};
use super::disk::Disk;
use crate::layout::{self, CHECKPOINT, FULL};
use crate::note::{Checkpoint, NOTE_BYTES};

/// Written to before it gets its name.
const NEW: &str = "new-archived";
/// So many bundles in a row that are not there end it: how many records there are is only said by a file that nobody has checked.
const GAP: u64 = 1 << 16;

/// What was moved away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Archived {
    /// How many bundles.
    pub bundles: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The first record that stayed.
    pub first_left: u64,
}

/// Moves closed bundles, except those that hold the newest `keep` records, to another directory, under the same names
/// (`tile/entries/…`). Tiles and heads stay, so that proofs do. Also while the log is open, by another process: a bundle that is
/// not compressed yet stays for the next time.
pub fn archive(directory: &Path, to: &Path, keep: u64) -> io::Result<Archived> {
    // Whoever runs this may read and write more than who can write to the one or the other: links in them are not followed.
    let disk = Disk::unlocked(directory)?;
    fs::create_dir_all(to)?;
    let to = Disk::unlocked(to)?;
    let checkpoint = disk.read(Path::new(CHECKPOINT), NOTE_BYTES)?.ok_or(ErrorKind::NotFound)?;
    let checkpoint =
        Checkpoint::from_bytes(&checkpoint).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    let end = checkpoint.head().size.saturating_sub(keep) / FULL;
    let mut archived = Archived { first_left: end * FULL, ..Archived::default() };
    // From the newest back, until they are not there: those before have been moved already. So one that was interrupted goes
    // on where it was; and what is left is looked for from the oldest on.
    let mut gap = 0;
    for index in first_left(&disk, end)?..end {
        if disk.look(&layout::bundle(index, FULL as u32))?.is_some() {
            archived.first_left = index * FULL;
            break;
        }
        let path = compressed(index);
        let bytes = move_file(&disk, &to, &path)?;
        archived.bundles += u64::from(bytes > 0);
        archived.bytes += bytes;
        gap = if bytes == 0 { gap + 1 } else { 0 };
        if gap == GAP {
            archived.first_left = (index + 1) * FULL;
            break;
        }
    }
    Ok(archived)
}

/// The oldest bundle that is still there: what was moved was moved in order.
fn first_left(disk: &Disk, end: u64) -> io::Result<u64> {
    let there = |index: u64| -> io::Result<bool> {
        Ok(disk.look(&compressed(index))?.is_some() || disk.look(&layout::bundle(index, FULL as u32))?.is_some())
    };
    let (mut gone, mut left) = (0, end);
    while gone < left {
        let middle = gone + (left - gone) / 2;
        if there(middle)? { left = middle } else { gone = middle + 1 }
    }
    Ok(left)
}

/// Copies, and takes the old one away when the new one and its name are on the disk. Says how many bytes; none where it is not
/// there.
pub(super) fn move_file(disk: &Disk, to: &Disk, path: &Path) -> io::Result<u64> {
    let Some(bundle) = disk.read(path, COMPRESSED_BYTES)? else { return Ok(0) };
    // The same bundle may be there, of an attempt that was interrupted; another one is not written over.
    if to.read(path, COMPRESSED_BYTES)?.is_some_and(|there| there != bundle && !is_begun(&there, &bundle)) {
        let why = format!("{} is another bundle", to.path().join(path).display());
        return Err(io::Error::new(ErrorKind::AlreadyExists, why));
    }
    // It bears its name only with all that it holds: one that a loss of power has cut short would be taken for another bundle.
    to.put_whole(NEW, path, &bundle)?;
    path.ancestors().skip(1).try_for_each(|directory| to.sync_directory(directory))?;
    disk.remove(path)?;
    Ok(bundle.len() as u64)
}

/// Whether this is the beginning of that bundle, and no bundle itself: so may a copy look that had its name, and not yet its
/// bytes, when power was lost. Nothing is lost where it is replaced.
fn is_begun(there: &[u8], bundle: &[u8]) -> bool {
    let is_whole = || {
        let plain = zstd::bulk::decompress(there, BUNDLE_BYTES);
        plain.is_ok_and(|plain| records(&plain, FULL).is_some())
    };
    there.len() < bundle.len() && bundle.starts_with(there) && !is_whole()
}
