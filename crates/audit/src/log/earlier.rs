//! Files of the journal that hold more than they need to.
//!
//! A journal that was made anew has one file with what several had before. Those are taken away then, and may come back when
//! power is lost before the directory is on the disk: each of them or not, and with an end that is torn. So a record may stand
//! in two files. They are only told to be copies of each other where they have been compared.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::disk::Disk;
use super::journal::{NEW, Reader, Segment};
use super::leaves::Leaves;
use crate::layout;

/// Whether this file has the record of that number, and before it the same as the later ones that were read instead.
pub(crate) fn goes_on(disk: &Disk, segment: &Segment, later: &[Arc<Segment>], number: u64) -> io::Result<bool> {
    let Some(first) = later.first().map(|later| later.first) else { return Ok(false) };
    let mut ours = Reader::new(disk, segment);
    while ours.next() < first {
        if ours.record()?.is_none() {
            return Ok(false);
        }
    }
    for (at, file) in later.iter().enumerate() {
        let end = later.get(at + 1).map_or(number, |next| next.first).min(number);
        let mut theirs = Reader::new(disk, file);
        // What is between two of those that were read is in neither.
        while ours.next() < file.first {
            if ours.record()?.is_none() {
                return Ok(false);
            }
        }
        while theirs.next() < end {
            let next = theirs.next();
            let Some(their) = theirs.record()? else { break };
            if next == ours.next() && ours.record()?.is_none_or(|our| our.hash != their.hash) {
                return Ok(false);
            }
        }
    }
    Ok(ours.next() == number && ours.record()?.is_some())
}

/// These records of that file in one of their own, synced, so that each file of the journal follows the one before.
///
/// They are not left where they are: what is read back of a file whose sync had failed need not be on the disk.
pub(crate) fn copy(disk: &Disk, source: &Segment, numbers: Range<u64>) -> io::Result<Segment> {
    let new = Path::new(NEW);
    let file = disk.create(new)?;
    let (mut reader, mut at) = (Reader::new(disk, source), 0);
    while reader.next() < numbers.end {
        let next = reader.next();
        let Some(entry) = reader.record()? else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        if next < numbers.start {
            continue;
        }
        let leaves = Leaves::one(&entry.record).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        disk.write(&file, new, &mut [IoSlice::new(leaves.framed())], at)?;
        at += leaves.framed().len() as u64;
    }
    disk.sync_data(&file, new)?;
    disk.rename(new, &layout::journal(numbers.start))?;
    Segment::new(disk, file, numbers.start, 0)
}
