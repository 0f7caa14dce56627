//! Why a log is not opened.

use std::io;
use std::path::PathBuf;

/// Why a log is not opened. None of these writes over anything.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the audit log in {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// Something failed.
    #[error("the audit log: {} could not be {done}: {cause}", path.display())]
    Failed {
        /// What was tried, as in "could not be read".
        done: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why that failed.
        cause: io::Error,
    },
    /// No thread, or no name that a log can have.
    #[error("the audit log could not be started: {0}")]
    Start(String),
    /// The newest head is not readable or not signed with this log's key.
    #[error(
        "{} is not a head that this audit log has signed ({why}): it belongs to another log, or was altered. Put the right \
         directory or file in its place",
        path.display()
    )]
    Foreign {
        /// Where it lies.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Fewer records than a signed head says.
    #[error(
        "the audit log has {found} records, but {known} were signed: it was cut, or is an old copy. Put the whole log back; \
         where it is lost, keep what is left elsewhere as evidence and begin a new one in an empty directory"
    )]
    Behind {
        /// How many there are.
        found: u64,
        /// How many a head speaks of.
        known: u64,
    },
    /// Other records than a signed head says.
    #[error(
        "the first {size} records of the audit log are not those that were signed: `keystorectl audit verify` says which were \
         altered. Put the true ones back; where they are lost, keep what is left elsewhere as evidence and begin a new log in \
         an empty directory"
    )]
    Contradicts {
        /// How many records the head speaks of.
        size: u64,
    },
    /// A file that the rest of the log is built on.
    #[error(
        "{} is missing or damaged, and nothing else holds what it had: `keystorectl audit verify` says more. Put it back",
        .0.display()
    )]
    Missing(PathBuf),
}
