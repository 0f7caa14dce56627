//! Reads a log's files. All of them may be somebody else's work: what they hold is bounded and never believed here.

mod bundle;
mod journal;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use tlog_tiles::tlog::Hash;

pub use self::bundle::{Bundle, Bundles};
pub(crate) use self::journal::{Journal, as_they_are, journals};
use super::layout;

/// Bytes of a hash.
pub(crate) const HASH_BYTES: usize = 32;
/// Widest tile or bundle.
pub(crate) const WIDTH: usize = layout::FULL as usize;
/// What is not whole is replaced by what is wider while somebody writes: so often is looked for it.
const LOOKS: usize = 4;
/// Most records of a log that is read: with more, arithmetic on places in the tree would overflow somewhere.
pub const MOST_RECORDS: u64 = 1 << 48;

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct Unreadable {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl Unreadable {
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { path, source }
    }
}

/// Where a log's files are.
#[derive(Clone, Debug)]
pub struct Place {
    directory: PathBuf,
    archive: Option<PathBuf>,
}

impl Place {
    /// A log's directory.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), archive: None }
    }

    /// Bundles that are not in the log's directory may be here.
    #[must_use]
    pub fn with_archive(self, archive: Option<&Path>) -> Self {
        Self { archive: archive.map(Path::to_owned), ..self }
    }

    /// The log's directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Reads a file of the log's directory into memory; absent where there is none.
    pub(crate) fn read(&self, relative: &Path, limit: usize) -> Result<Option<Vec<u8>>, Unreadable> {
        let path = self.directory.join(relative);
        let mut bytes = Vec::new();
        let found = read_into(&path, limit, &mut bytes).map_err(Unreadable::at(&path))?;
        Ok(found.then_some(bytes))
    }

    /// The first hashes of a tile: out of the whole one, or of one that is at least that wide. One that has another length
    /// than its name says is as good as none.
    pub(crate) fn tile(&self, level: u8, index: u64, width: usize) -> Result<Option<Vec<Hash>>, Unreadable> {
        let hashes = self.tile_as_wide(level, index, width)?;
        Ok(hashes.filter(|hashes| hashes.len() == width))
    }

    /// The first hashes of a tile, or fewer where there are only fewer.
    pub(crate) fn tile_as_wide(&self, level: u8, index: u64, width: usize) -> Result<Option<Vec<Hash>>, Unreadable> {
        let read = |width: u32| -> Result<Option<Vec<Hash>>, Unreadable> {
            let bytes = self.read(&layout::tile(level, index, width), WIDTH * HASH_BYTES)?;
            Ok(bytes.filter(|bytes| bytes.len() == width as usize * HASH_BYTES).map(|bytes| hashes(&bytes)))
        };
        let wanted = u32::try_from(width).unwrap_or(u32::MAX);
        if !(1..=layout::FULL as u32).contains(&wanted) {
            return Ok(None);
        }
        for _ in 0..LOOKS {
            let exact = read(wanted)?;
            if exact.is_some() {
                return Ok(exact);
            }
            let narrow = widths(&self.directory.join(layout::tile(level, index, layout::FULL as u32)))?;
            // The next wider one, else the widest that is narrower.
            let mut others = narrow.clone();
            others.push(layout::FULL as u32);
            others.sort_unstable_by_key(|other| if *other < wanted { 2 * layout::FULL as u32 - other } else { *other });
            for other in others.into_iter().filter(|other| *other != wanted) {
                if let Some(mut hashes) = read(other)? {
                    hashes.truncate(width);
                    return Ok(Some(hashes));
                }
            }
            if narrow.is_empty() {
                break;
            }
        }
        Ok(None)
    }
}

/// The widths of what there is of a tile or bundle that is not whole yet, whose path this is; the smallest first.
fn widths(whole: &Path) -> Result<Vec<u32>, Unreadable> {
    let mut folder = whole.as_os_str().to_owned();
    folder.push(".p");
    let folder = PathBuf::from(folder);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(Unreadable { path: folder, source: error }),
    };
    let mut widths = Vec::new();
    for entry in entries {
        let name = entry.map_err(Unreadable::at(&folder))?.file_name();
        let width = name.to_str().and_then(|name| name.parse::<u32>().ok());
        // There are at most 255 that count.
        if let Some(width) = width.filter(|width| (1..layout::FULL as u32).contains(width)) {
            widths.push(width);
        }
    }
    widths.sort_unstable();
    widths.dedup();
    Ok(widths)
}

fn hashes(bytes: &[u8]) -> Vec<Hash> {
    let (whole, _) = bytes.as_chunks::<HASH_BYTES>();
    whole.iter().map(|hash| Hash(*hash)).collect()
}

/// Whether there is no such file, rather than one that cannot be read.
fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Reads a regular file whole; false where there is none. One that is longer than anything of its kind is an error.
fn read_into(path: &Path, limit: usize, into: &mut Vec<u8>) -> io::Result<bool> {
    into.clear();
    let file = match open(path)? {
        Some(file) => file,
        None => return Ok(false),
    };
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    file.take(most.saturating_add(1)).read_to_end(into)?;
    if into.len() > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("longer than the {limit} bytes that it can have"),
        ));
    }
    Ok(true)
}

/// Opens a regular file: a pipe in its place would hold whoever reads it.
pub(crate) fn open(path: &Path) -> io::Result<Option<File>> {
    // Somebody may put it there at any moment, so what was opened is asked, and opening it waits for nobody.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    match fs::OpenOptions::new().read(true).custom_flags(nonblock).open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
        Err(error) if absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
