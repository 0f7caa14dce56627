//! Reads a log's files. All of them may be somebody else's work: what they hold is bounded and never believed here.
//!
//! No link in a log's directory, or in an archive, is followed ([`within`]): with links, a few files could be made to look like a
//! log without end.

mod bundle;
mod journal;
mod listed;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use tlog_tiles::tlog::Hash;

pub use self::bundle::{Bundle, Bundles};
#[cfg(test)]
pub(crate) use self::journal::READ;
pub(crate) use self::journal::{Journal, as_they_are, journals};
pub(crate) use self::listed::Listed;
use super::{layout, within};

/// Bytes of a hash.
pub(crate) const HASH_BYTES: usize = 32;
/// Widest tile or bundle.
pub(crate) const WIDTH: usize = layout::FULL as usize;
/// What is not whole is replaced by what is wider while somebody writes: so often is looked for it.
const LOOKS: usize = 4;
/// Most records of a log that is read: with more, arithmetic on places in the tree would overflow somewhere.
pub const MOST_RECORDS: u64 = 1 << 48;
/// Most names of a folder with what is not whole of one tile or bundle: a log has two or three there.
const PARTIAL: usize = 1_024;

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct Unreadable {
    /// The file.
    pub path: PathBuf,
    /// What the system said when it was read.
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
        let mut bytes = Vec::new();
        let found = read_into(&self.directory, relative, limit, &mut bytes);
        let found = found.map_err(Unreadable::at(&self.directory.join(relative)))?;
        Ok(found.then_some(bytes))
    }

    /// Whether the bundle with this number is there as a whole, here or in the archive, whatever it holds.
    pub fn has_bundle(&self, index: u64) -> Result<bool, Unreadable> {
        for folder in std::iter::once(&self.directory).chain(&self.archive) {
            if has_bundle(folder, index)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) fn archive(&self) -> Option<&Path> {
        self.archive.as_deref()
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
            let narrow = widths(&self.directory, &layout::tile(level, index, layout::FULL as u32))?;
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

/// Whether a folder has this bundle as a whole, plain or compressed.
pub(crate) fn has_bundle(folder: &Path, index: u64) -> Result<bool, Unreadable> {
    let whole = layout::bundle(index, layout::FULL as u32);
    let Some(root) = root(folder).map_err(Unreadable::at(folder))? else { return Ok(false) };
    for path in [layout::compressed(&whole), whole] {
        let found = within::look(root.as_fd(), &path);
        if found.map_err(Unreadable::at(&folder.join(path)))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The widths of what there is in a folder of a tile or bundle that is not whole yet, whose path this is; the smallest first.
fn widths(folder: &Path, whole: &Path) -> Result<Vec<u32>, Unreadable> {
    let mut partial = whole.as_os_str().to_owned();
    partial.push(".p");
    let partial = PathBuf::from(partial);
    let mut widths: Vec<u32> = names(folder, &partial, PARTIAL)?
        .iter()
        .filter_map(|name| name.parse().ok().filter(|width: &u32| width.to_string() == *name))
        // There are at most 255 that count.
        .filter(|width| (1..layout::FULL as u32).contains(width))
        .collect();
    widths.sort_unstable();
    Ok(widths)
}

/// The names in a folder of a log's directory; none where there is none, and an error where there are more than these.
fn names(directory: &Path, folder: &Path, most: usize) -> Result<Vec<String>, Unreadable> {
    let found = root(directory).and_then(|root| match root {
        Some(root) => within::names(root.as_fd(), folder, most),
        None => Ok(Vec::new()),
    });
    found.map_err(Unreadable::at(&directory.join(folder)))
}

fn hashes(bytes: &[u8]) -> Vec<Hash> {
    let (whole, _) = bytes.as_chunks::<HASH_BYTES>();
    whole.iter().map(|hash| Hash(*hash)).collect()
}

/// A log's directory, or an archive; absent where there is none.
fn root(directory: &Path) -> io::Result<Option<OwnedFd>> {
    match within::directory_at(directory) {
        Ok(root) => Ok(Some(root)),
        Err(error) if within::absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a regular file whole; false where there is none. One that is longer than anything of its kind is an error.
fn read_into(directory: &Path, path: &Path, limit: usize, into: &mut Vec<u8>) -> io::Result<bool> {
    into.clear();
    let Some(file) = open(directory, path)? else { return Ok(false) };
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

/// Opens a regular file of a log's directory; absent where there is none.
pub(crate) fn open(directory: &Path, path: &Path) -> io::Result<Option<File>> {
    let Some(root) = root(directory)? else { return Ok(None) };
    match within::open(root.as_fd(), path, OFlags::RDONLY) {
        Ok(file) => Ok(Some(file)),
        Err(error) if within::absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
