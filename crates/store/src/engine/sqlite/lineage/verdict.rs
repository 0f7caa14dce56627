//! Whether a database file is the one that keystored left: a pure decision over what was read before SQLite opens it.
//!
//! Changes are numbered, and the number is in the first page. So the file by itself tells at which change it is, each
//! page that the log keeps tells the same, and both together must be what is on record. The numbers of a file that was
//! copied over the right one do not fit: those of the log do not go on from it, or something that is on record is
//! missing.
//!
//! What is as a crash can leave it is taken: a change that is in the log and not on record yet, a checkpoint that was
//! broken off, a record that a power failure took back.

use super::pages::{Log, Main, Mark};
use super::record::{Record, State};

/// What was seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The file.
    pub(crate) main: Main,
    /// Its write-ahead log.
    pub(crate) log: Log,
    /// A rollback journal lies beside it.
    pub(crate) journal: bool,
    /// When the file was written last, in nanoseconds since the Unix epoch.
    pub(crate) written: i64,
    /// Which run of the system this is; empty where that cannot be told.
    pub(crate) boot: String,
}

/// What the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not there; a new one may be made.
    New,
    /// Never opened by a release that numbers changes, or with a number that was drawn and not written.
    Unnumbered,
    /// Ours, at this change.
    Ours(Mark),
}

/// Why it is not what keystored left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Foreign {
    /// A backup.
    #[error("it is a backup that was copied here by hand")]
    Backup,
    /// It was there once.
    #[error("it is not there, or empty, though keystored.db.id beside it tells of one")]
    Gone,
    /// Something else.
    #[error("it is no SQLite database")]
    NoDatabase,
    /// Only its log is there.
    #[error("it is not there, or empty, though keystored.db-wal beside it is the log of one")]
    LogAlone,
    /// Numbered, and what it must be is not known.
    #[error("keystored.db.id, which belongs beside it, is not there or cannot be read, so it was copied here by hand")]
    NoRecord,
    /// Not numbered, though the right one is.
    #[error("it is of an earlier release, though a newer one ran here, so it was copied here by hand")]
    Unnumbered,
    /// Of another database.
    #[error("it is another database than the one that keystored.db.id tells of, so it was copied here by hand")]
    Other,
    /// The log is not its.
    #[error("keystored.db-wal does not continue it, so one of the two was copied here by hand")]
    Log,
    /// A journal that this service never leaves.
    #[error("keystored.db-journal beside it is not keystored's, so one of the two was copied here by hand")]
    Journal,
    /// Changes are missing or too many.
    #[error(
        "it is at change {at}, and change {recorded} was on record here, so it was copied here by hand, or what belongs \
         to it was taken away"
    )]
    Change {
        /// At which it is.
        at: u32,
        /// At which it must be.
        recorded: u32,
    },
    /// The same bytes, or others, were written over it.
    #[error("something else than keystored has written it since keystored last did, so it was copied here by hand")]
    Written,
}

/// Whether the file is the one that keystored left, by what is in it and beside it.
pub(crate) fn judge(seen: &Seen, record: Option<&Record>) -> Result<Standing, Foreign> {
    let begun = record.is_none_or(|record| record.state == State::Begun);
    let mark = match seen.main {
        Main::Absent if !begun => return Err(Foreign::Gone),
        Main::Absent if seen.log.commits => return Err(Foreign::LogAlone),
        Main::Absent => return Ok(Standing::New),
        Main::Other => return Err(Foreign::NoDatabase),
        Main::Database(mark) => mark,
    };
    if mark.backup {
        return Err(Foreign::Backup);
    }
    if mark.instance == 0 {
        // The log of a database that is being numbered may know the number already.
        let known = record.map_or(0, |record| record.instance);
        let fits = |mark: Mark| !mark.backup && [0, known].contains(&mark.instance);
        return match seen.log.marks {
            _ if !begun => Err(Foreign::Unnumbered),
            Some(marks) if !marks.into_iter().all(fits) => Err(Foreign::Log),
            _ => Ok(Standing::Unnumbered),
        };
    }
    let full = together(mark, &seen.log)?;
    if seen.journal {
        return Err(Foreign::Journal);
    }
    let record = record.ok_or(Foreign::NoRecord)?;
    if record.instance != mark.instance {
        return Err(Foreign::Other);
    }
    let change = |at, recorded| Err(Foreign::Change { at, recorded });
    match record.state {
        // It was only drawn, and is in the file now.
        State::Begun => Ok(Standing::Ours(full)),
        State::Closed if full.change != record.last => change(full.change, record.last),
        State::Closed => Ok(Standing::Ours(full)),
        State::Open if !reaches(mark.change, record.base) => change(mark.change, record.base),
        State::Open if !reaches(full.change, record.last) => change(full.change, record.last),
        State::Open if written_by_another(mark, full, seen, record) => Err(Foreign::Written),
        State::Open => Ok(Standing::Ours(full)),
    }
}

/// A checkpoint writes the first page before all others, so what has written the file and left its number was none: the
/// log would undo it. Without a log that has more than the file there is nothing to undo. Across a power failure times
/// say nothing.
fn written_by_another(mark: Mark, full: Mark, seen: &Seen, record: &Record) -> bool {
    let same_boot = !seen.boot.is_empty() && seen.boot == record.boot;
    let same_number = mark.change == record.base && mark.change != full.change;
    same_boot && same_number && record.written != 0 && seen.written != record.written
}

/// What a file is together with its log, if the log continues it.
pub(crate) fn together(mark: Mark, log: &Log) -> Result<Mark, Foreign> {
    let Some([first, last]) = log.marks else { return Ok(mark) };
    // The first change of the log is the next one after the file's, or one that a checkpoint has written already.
    let continues = reaches(mark.change.wrapping_add(1), first.change) && reaches(last.change, mark.change);
    let same = |of: Mark| of.instance == mark.instance && of.backup == mark.backup;
    // The log in which a database was given its number began without one.
    if same(last) && (same(first) || first.instance == 0) && continues { Ok(last) } else { Err(Foreign::Log) }
}

/// Whether a change is another one or came after it. Numbers begin anew after the highest one.
pub(crate) fn reaches(change: u32, other: u32) -> bool {
    change.wrapping_sub(other).cast_signed() >= 0
}
