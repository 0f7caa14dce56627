//! Entry bundles: up to 256 records, each behind its length.

use std::ops::Range;
use std::path::{Path, PathBuf};

use tlog_tiles::tlog::{Hash, record_hash};

use super::{LOOKS, Listed, Place, Unreadable, WIDTH, has_bundle, read_into, widths};
use crate::layout::{self, RECORD_BYTES};

/// Bytes of a length.
const LENGTH_BYTES: usize = 2;
/// Longest bundle.
const BUNDLE_BYTES: usize = WIDTH * (LENGTH_BYTES + RECORD_BYTES);
/// Longest compressed one: what does not get smaller gets a little longer.
const COMPRESSED_BYTES: usize = BUNDLE_BYTES + BUNDLE_BYTES / 64;
/// Most records that are looked for in a bundle: one that somebody has put some into may have more than it should.
const MOST: usize = 4 * WIDTH;
/// Most files of one bundle that is not whole that are read: a log has two or three, and somebody else may put hundreds there.
const PARTIALS: usize = 8;

/// Records of one bundle, in memory that is used again for the next one.
#[derive(Debug, Default)]
pub struct Bundle {
    bytes: Vec<u8>,
    records: Vec<Range<usize>>,
    /// Nothing follows the last record.
    whole: bool,
}

impl Bundle {
    /// Finds the records of a bundle that is not compressed.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        let mut bundle = Self { bytes, ..Self::default() };
        bundle.split();
        bundle
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// False where something follows the last record that is none.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether nothing at all can be made of it, as of a compressed one that was changed.
    pub(crate) fn is_lost(&self) -> bool {
        !self.whole && self.bytes.is_empty()
    }

    /// A record.
    #[must_use]
    pub fn record(&self, index: usize) -> Option<&[u8]> {
        self.bytes.get(self.records.get(index)?.clone())
    }

    /// The hashes of its records.
    pub fn leaves(&self) -> impl Iterator<Item = Hash> + '_ {
        self.records.iter().map(|record| record_hash(self.bytes.get(record.clone()).unwrap_or_default()))
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.whole = true;
    }

    /// Finds the records in the bytes.
    fn split(&mut self) {
        self.records.clear();
        let (found, end) = walk(&self.bytes, 0, MOST);
        self.records = found;
        self.whole = end == self.bytes.len();
    }

    /// Where a record's length was changed, what follows it cannot be found by lengths. Its records end with the bundle, and
    /// it is known how many there are: takes the first place behind this record from where as many follow.
    pub(crate) fn find_rest(&mut self, broken: usize, width: usize) {
        let start = match self.records.get(broken) {
            Some(record) => record.start.saturating_sub(LENGTH_BYTES),
            None => self.records.last().map_or(0, |last| last.end),
        };
        let wanted = width.saturating_sub(broken + 1);
        let begin = start + LENGTH_BYTES;
        if begin > self.bytes.len() {
            return;
        }
        // The last one ends with the bundle.
        let at = if wanted == 0 { Some(self.bytes.len()) } else { first_with(&self.bytes, begin, wanted) };
        let Some(at) = at else { return };
        let (found, _) = walk(&self.bytes, at, wanted);
        self.records.truncate(broken);
        self.records.push(begin..at);
        self.records.extend(found);
    }
}

/// The first place from this one on behind which exactly so many records make up the rest. From the end back, so that each byte
/// is looked at once, whatever somebody has written there.
fn first_with(bytes: &[u8], begin: usize, wanted: usize) -> Option<usize> {
    // None that counts is more than a bundle has.
    const NO: u16 = u16::MAX;
    let rest = bytes.get(begin..)?;
    let mut counts = vec![NO; rest.len() + 1];
    *counts.last_mut()? = 0;
    let mut found = None;
    for at in (0..rest.len().saturating_sub(LENGTH_BYTES - 1)).rev() {
        let Some([high, low]) = rest.get(at..at + LENGTH_BYTES) else { continue };
        let next = at + LENGTH_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
        let behind = counts.get(next).copied().unwrap_or(NO);
        let count = if usize::from(behind) >= MOST { NO } else { behind + 1 };
        if let Some(here) = counts.get_mut(at) {
            *here = count;
        }
        if usize::from(count) == wanted {
            found = Some(begin + at);
        }
    }
    found
}

/// Records from a place on, at most so many, and where the last one ends.
fn walk(bytes: &[u8], from: usize, most: usize) -> (Vec<Range<usize>>, usize) {
    let mut records = Vec::new();
    let mut at = from;
    while records.len() < most {
        let Some([high, low]) = bytes.get(at..at + LENGTH_BYTES) else { break };
        let start = at + LENGTH_BYTES;
        let end = start + usize::from(u16::from_be_bytes([*high, *low]));
        if end > bytes.len() {
            break;
        }
        records.push(start..end);
        at = end;
    }
    (records, at)
}

/// Reads a log's bundles, one after the other. Of what comes out of the journal, only what was in it when its files were first
/// looked for is sure to be found: whatever a head is over that was read before.
pub struct Bundles {
    place: Place,
    bundle: Bundle,
    compressed: Vec<u8>,
    decompressor: zstd::bulk::Decompressor<'static>,
    /// The journal's files, once something was looked for in them.
    journal: Option<Listed>,
    /// The bundle in memory, where it comes out of the journal: one that is wanted twice is not read there twice.
    from_journal: Option<u64>,
    /// The bundle in memory comes out of a file that has all records of it, by its name.
    is_said_to_be_whole: bool,
}

impl Bundles {
    /// Reads those of a log.
    pub fn new(place: &Place) -> Result<Self, Unreadable> {
        let decompressor = zstd::bulk::Decompressor::new().map_err(Unreadable::at(place.directory()))?;
        Ok(Self {
            place: place.clone(),
            bundle: Bundle::default(),
            compressed: Vec::new(),
            decompressor,
            journal: None,
            from_journal: None,
            is_said_to_be_whole: false,
        })
    }

    /// Loads a bundle of which at least so many records are wanted: whole, compressed, from the archive, not whole yet, or
    /// out of the journal, the first of these that has enough. Absent where none has any.
    pub fn load(&mut self, index: u64, wanted: usize) -> Result<Option<&mut Bundle>, Unreadable> {
        let is_loaded = self.from_journal == Some(index) && self.has(wanted);
        if !is_loaded && !self.load_file(index, wanted)? {
            self.add_from_journal(index)?;
            self.from_journal = Some(index);
        }
        // What is wanted of it was signed before it was whole, so that it stands elsewhere, too; and one that no head is over may be
        // torn, or empty, after a loss of power. Where it stands nowhere else, somebody has changed it.
        if wanted < WIDTH && self.is_damaged() && !self.load_beside(index, wanted)? {
            self.load_file(index, wanted)?;
        }
        Ok((!self.bundle.is_empty() || !self.bundle.whole).then_some(&mut self.bundle))
    }

    /// Whether what is in memory comes out of a file that has all records of the bundle, by its name, and does not.
    pub(crate) const fn is_damaged(&self) -> bool {
        self.is_said_to_be_whole && !(self.bundle.whole && self.bundle.records.len() == WIDTH)
    }

    /// Whether so many records are in memory, and nothing behind the last one that is none.
    const fn has(&self, wanted: usize) -> bool {
        self.bundle.whole && self.bundle.records.len() >= wanted
    }

    /// Loads a bundle out of files that are not whole, and out of the journal; false where that is not enough.
    fn load_beside(&mut self, index: u64, wanted: usize) -> Result<bool, Unreadable> {
        self.bundle.clear();
        self.load_narrow(index, wanted)?;
        if !self.has(wanted) {
            self.add_from_journal(index)?;
        }
        self.is_said_to_be_whole = false;
        self.from_journal = Some(index);
        Ok(self.has(wanted))
    }

    /// What was loaded last.
    #[must_use]
    pub const fn current(&self) -> &Bundle {
        &self.bundle
    }

    /// Loads a bundle out of a file that has at least so many records, or is said to be whole; false where there is none. Looked for
    /// more than once: one that is not whole is taken away when it is, which may be between a look for the one and for the other.
    pub(crate) fn load_file(&mut self, index: u64, wanted: usize) -> Result<bool, Unreadable> {
        self.from_journal = None;
        let whole = layout::bundle(index, layout::FULL as u32);
        for look in 0..LOOKS {
            self.bundle.clear();
            self.is_said_to_be_whole = false;
            let mut damaged = None;
            for folder in self.folders() {
                if self.load_whole(&folder, &whole)? {
                    self.is_said_to_be_whole = true;
                    if wanted >= WIDTH || !self.is_damaged() {
                        return Ok(true);
                    }
                    damaged = Some(folder);
                    break;
                }
            }
            self.bundle.clear();
            self.is_said_to_be_whole = false;
            if self.load_narrow(index, wanted)? {
                return Ok(true);
            }
            if let Some(folder) = damaged {
                self.is_said_to_be_whole = self.load_whole(&folder, &whole)?;
                return Ok(self.is_said_to_be_whole);
            }
            // One that is not whole and too narrow is there: nothing was replaced meanwhile.
            if look > 0 && !self.bundle.is_empty() {
                break;
            }
        }
        Ok(false)
    }

    /// Where files are looked for, one after the other.
    fn folders(&self) -> Vec<PathBuf> {
        std::iter::once(&self.place.directory).chain(&self.place.archive).cloned().collect()
    }

    /// Loads a bundle out of a file that is not whole; false where none has so many records. What the best has stays.
    fn load_narrow(&mut self, index: u64, wanted: usize) -> Result<bool, Unreadable> {
        let whole = layout::bundle(index, layout::FULL as u32);
        for folder in self.folders() {
            let (mut enough, mut sound, mut any, mut loaded) = (None, None, None, None);
            let widths = widths(&folder, &whole)?;
            // A head's own has its width. Else the widest has all that the others have, but where power was lost before it was on
            // the disk: no head is over it then.
            let own = widths.iter().filter(|width| **width as usize == wanted);
            for width in own.chain(widths.iter().rev().take(PARTIALS)).copied() {
                loaded = self.load_partial(&folder, index, width)?.then_some(width);
                if loaded.is_none() {
                    continue;
                }
                any = any.or(Some(width));
                let (has_enough, count) = (self.bundle.len() >= wanted, self.bundle.len());
                enough = enough.or(has_enough.then_some(width));
                if self.bundle.whole && count == width as usize {
                    if has_enough {
                        return Ok(true);
                    }
                    // Narrower ones have less.
                    sound = Some(width);
                    break;
                }
            }
            if let Some(best) = enough.or(sound).or(any)
                && (loaded == Some(best) || self.load_partial(&folder, index, best)?)
                && self.bundle.len() >= wanted
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Loads what a file has that is not whole; false where it is not there.
    fn load_partial(&mut self, folder: &Path, index: u64, width: u32) -> Result<bool, Unreadable> {
        let path = layout::bundle(index, width);
        let read = read_into(folder, &path, BUNDLE_BYTES, &mut self.bundle.bytes);
        if read.map_err(Unreadable::at(&folder.join(&path)))? {
            self.bundle.split();
            return Ok(true);
        }
        self.bundle.clear();
        Ok(false)
    }

    /// Whether the log's directory and the archive say the same where both have this bundle as a whole.
    pub(crate) fn copies_agree(&mut self, index: u64) -> Result<bool, Unreadable> {
        let (directory, Some(archive)) = (self.place.directory.clone(), self.place.archive().map(Path::to_owned))
        else {
            return Ok(true);
        };
        if !has_bundle(&archive, index)? || !has_bundle(&directory, index)? {
            return Ok(true);
        }
        let whole = layout::bundle(index, layout::FULL as u32);
        if !self.load_whole(&archive, &whole)? {
            return Ok(true);
        }
        let (there, sound) = (std::mem::take(&mut self.bundle.bytes), self.bundle.whole);
        // Moved away in between.
        if !self.load_whole(&directory, &whole)? {
            return Ok(true);
        }
        Ok(sound == self.bundle.whole && there == self.bundle.bytes)
    }

    fn load_whole(&mut self, folder: &Path, path: &Path) -> Result<bool, Unreadable> {
        self.from_journal = None;
        let read = read_into(folder, path, BUNDLE_BYTES, &mut self.bundle.bytes);
        if read.map_err(Unreadable::at(&folder.join(path)))? {
            self.bundle.split();
            return Ok(true);
        }
        let path = layout::compressed(path);
        let read = read_into(folder, &path, COMPRESSED_BYTES, &mut self.compressed);
        if !read.map_err(Unreadable::at(&folder.join(&path)))? {
            return Ok(false);
        }
        let bytes = &mut self.bundle.bytes;
        bytes.clear();
        // Memory is taken as it is written to; whoever says it were more than a bundle has is not believed.
        bytes.reserve_exact(BUNDLE_BYTES);
        match self.decompressor.decompress_to_buffer(&self.compressed, bytes) {
            Ok(_) => self.bundle.split(),
            // Somebody changed it: a bundle without a record that can be found.
            Err(_) => {
                self.bundle.clear();
                self.bundle.whole = false;
            }
        }
        Ok(true)
    }

    /// Adds what the journal has of a bundle of which there is no file, or none that is wide enough.
    fn add_from_journal(&mut self, index: u64) -> Result<(), Unreadable> {
        let first = index.saturating_mul(layout::FULL);
        let bundle = &mut self.bundle;
        let listed = match &mut self.journal {
            Some(listed) => listed,
            none => none.insert(Listed::now(&self.place)?),
        };
        while bundle.whole && bundle.len() < WIDTH {
            let before = bundle.len();
            let Some(mut journal) = listed.take(&self.place, first + before as u64)? else { break };
            while bundle.len() < WIDTH
                && let Some(entry) = journal.next()?
            {
                let start = bundle.bytes.len() + LENGTH_BYTES;
                bundle.bytes.extend(u16::try_from(entry.record.len()).unwrap_or(u16::MAX).to_be_bytes());
                bundle.bytes.extend(entry.record);
                bundle.records.push(start..start + entry.record.len());
            }
            listed.keep(journal);
            if bundle.len() == before {
                break;
            }
        }
        Ok(())
    }
}
