//! Sealing of files by envelope encryption: each file has its own data key, wrapped by a key of the service.
//!
//! The format is described in docs/file-format.md, its vectors are in `tests/vectors/sealed-file-v1.json`. [`header`]
//! and [`chunks`] are the format and know no service and no file names; [`file`] brings both together with one.

pub mod chunks;
pub mod file;
pub mod header;
mod passage;
pub mod rewrap;
pub mod target;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

/// Why a file was not sealed or not opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input cannot be opened.
    #[error("cannot read {}: {cause}", path.display())]
    Input {
        /// The input.
        path: PathBuf,
        /// The system's words.
        cause: io::Error,
    },
    /// The output cannot be made.
    #[error("cannot write {}: {cause}", path.display())]
    Output {
        /// The output, or the temporary file beside it.
        path: PathBuf,
        /// The system's words.
        cause: io::Error,
    },
    /// The input failed on the way.
    #[error("reading failed: {0}")]
    Read(io::Error),
    /// The output failed on the way.
    #[error("writing failed: {0}")]
    Write(io::Error),
    /// The output exists and may not be replaced.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// The output is a directory, a device or the like.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// Somebody has written to the file that was to be replaced.
    #[error("{} was changed meanwhile and is left as it is now; do it again", .0.display())]
    Changed(PathBuf),
    /// Input and output are the same file.
    #[error("{} is the input itself", .0.display())]
    SameFile(PathBuf),
    /// No header.
    #[error("this is not a sealed file")]
    NotSealed,
    /// A format of the future, or a damaged byte.
    #[error("this is a sealed file of version {0}, and only version 1 is known here")]
    Version(u8),
    /// The header cannot be right.
    #[error("the header of the sealed file is damaged: {0}")]
    Header(&'static str),
    /// A chunk is not what was sealed at this place of this file.
    #[error("chunk {number} is damaged, missing or not in its place: the file was altered or cut off")]
    Chunk {
        /// Counted from 1.
        number: u64,
    },
    /// More than 2^32 chunks.
    #[error("the file is too large for its chunk size")]
    TooLarge,
    /// The data key cannot be used.
    #[error("{0}")]
    DataKey(&'static str),
    /// The caller ended it.
    #[error("interrupted")]
    Interrupted,
    /// The service did not make or open the data key.
    #[error(transparent)]
    Service(#[from] super::Error),
}
