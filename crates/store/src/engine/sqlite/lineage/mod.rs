//! Whether a database file is the one that keystored left, or one that was copied over it by hand.
//!
//! SQLite cannot tell. It applies whatever write-ahead log lies beside a file, which damages a file that was copied
//! there or silently undoes the copy; and a file without a log is opened however old it is, with PINs that were rotated
//! since and budgets of encryptions that were used since. So the database carries a number of its own and the number of
//! its last change, both in its first page, where they can be read without SQLite; and a small file beside it says what
//! they must be ([`record`]). Before the database is opened, both are compared ([`verdict`]).
//!
//! What cannot be noticed here is a whole directory that was put back: file, log and record fit each other.
//!
//! Invariants: the record is never ahead of what is durable, so no crash is taken for a copy; a database is opened by
//! SQLite only after it was judged; while it is open, no other descriptor of it is closed in this process, since that
//! would take the locks of SQLite away.

pub(crate) mod pages;
pub(crate) mod record;
#[cfg(test)]
mod tests;
pub(crate) mod verdict;

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use self::pages::{Main, Mark};
use self::record::{Beside, Record, State};
use self::verdict::{Foreign, Seen, Standing, judge};
use crate::{Error, restore};
use model::lock::MutexExt as _;

/// What lies beside a database and belongs to it: its write-ahead log, the log's index, a journal, the record of it.
pub(crate) const LOG: &str = "-wal";
pub(crate) const INDEX: &str = "-shm";
pub(crate) const JOURNAL: &str = "-journal";
pub(crate) const RECORD: &str = ".id";

/// Which run of the system this is.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// A database that is in use, and what is on record of it.
pub(crate) struct Lineage {
    path: PathBuf,
    /// For its mark and its time. Closed after SQLite's connection.
    main: File,
    known: Mutex<Known>,
}

struct Known {
    /// Absent where none could be made.
    beside: Option<Beside>,
    record: Record,
}

/// Where a transaction began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    rows: i64,
    change: u32,
}

/// A change that is about to be committed.
pub(crate) struct Step {
    lineage: Arc<Lineage>,
    change: u32,
}

impl Lineage {
    /// Judges the database, which must be there (an empty file is a new one), and records that it is about to be
    /// opened.
    pub(crate) fn admit(path: &Path) -> Result<Self, Error> {
        let failed = |what: &Path, error: io::Error| Error::File { file: what.to_owned(), error };
        let side = beside(path, RECORD);
        let main = File::open(path).map_err(|error| failed(path, error))?;
        let (open, known) = Beside::open(&side).map_err(|error| failed(&side, error))?;
        let mut seen = look(path, Some(&main)).map_err(|error| failed(path, error))?;
        let mut verdict = judge(&seen, known.as_ref());
        // A connection that this process has closed may be writing its log into the file yet.
        for _ in 1..LOOKS {
            if verdict.is_ok() {
                break;
            }
            seen = look(path, Some(&main)).map_err(|error| failed(path, error))?;
            verdict = judge(&seen, known.as_ref());
        }
        verdict.map_err(|why| Error::Copied { file: path.display().to_string(), why: why.to_string() })?;
        let mut known = Known { beside: open, record: known.unwrap_or_else(|| unnumbered(String::new())) };
        known.record.boot = seen.boot;
        if known.record.state != State::Begun {
            known.record.state = State::Open;
            // Migrations and a recovery write the file without a change of its number.
            known.record.written = 0;
            known.write(true).map_err(|error| failed(&side, error))?;
        }
        Ok(Self { path: path.to_owned(), main, known: Mutex::new(known) })
    }

    /// Gives the database a number where it has none, and has the number of its last change, which is another one with
    /// each start, in the file itself: a copy of before the start can be told from it. Where there is no room for it,
    /// as on a full disk, the database stays as it is.
    pub(crate) async fn begin(&self, database: &mut SqliteConnection) -> Result<(), Error> {
        if let Err(error) = self.number(database).await {
            tracing::warn!(%error, "the metadata could not be given a new number; a copy of them that is put in their \
                place by hand may not be noticed until the next start");
        }
        let (application_id, _, change) = ids(database).await?;
        let mut known = self.known();
        // What was drawn and is not in the file yet will be by the next start.
        if Mark::from_ids(application_id, change).instance != 0 {
            known.record.state = State::Open;
            known.record.last = change;
            self.take_note(&mut known, true);
        }
        Ok(())
    }

    async fn number(&self, database: &mut SqliteConnection) -> Result<(), Error> {
        let (application_id, _, change) = ids(database).await?;
        if Mark::from_ids(application_id, change).instance == 0 {
            // On record before it is in the file, so that the number of a start that was broken off is known.
            let mark = Mark { instance: self.draw()?, change, backup: false };
            pragma(database, "application_id", mark.application_id()).await?;
        }
        pragma(database, "user_version", change.wrapping_add(1).cast_signed()).await?;
        // One row, which says how far it came; what could not be written now will be by another one.
        sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").fetch_all(database).await?;
        Ok(())
    }

    fn draw(&self) -> Result<u32, Error> {
        let path = beside(&self.path, RECORD);
        let mut known = self.known();
        let mut drawn = || -> io::Result<u32> {
            if known.beside.is_none() {
                known.beside = Some(Beside::make(&path)?);
            }
            let instance = if known.record.instance == 0 { random()? } else { known.record.instance };
            known.record = Record { instance, ..unnumbered(known.record.boot.clone()) };
            known.write(true)?;
            Ok(instance)
        };
        drawn().map_err(|error| Error::Database(format!("{}: {error}", path.display())))
    }

    /// The database was closed: from now on it is what it is. Where SQLite could not write the whole log into the file,
    /// it stays as a crash leaves it.
    pub(crate) fn close(&self) {
        let mut known = self.known();
        let whole = std::fs::metadata(beside(&self.path, LOG)).map_or(true, |log| log.len() == 0);
        if let (true, Ok(Main::Database(mark))) = (whole, pages::main(&self.main))
            && mark.instance != 0
            && mark.instance == known.record.instance
        {
            known.record.state = State::Closed;
            known.record.last = mark.change;
        }
        self.take_note(&mut known, true);
    }

    /// Puts on record what the file says of itself now. A failure makes copies harder to notice and harms nothing else.
    fn take_note(&self, known: &mut Known, sync: bool) {
        let mut noted = || -> io::Result<()> {
            if let Main::Database(mark) = pages::main(&self.main)? {
                known.record.base = mark.change;
                known.record.written = written(&self.main.metadata()?);
            }
            known.write(sync)
        };
        if let Err(error) = noted() {
            tracing::warn!(%error, "keystored.db.id could not be written; a copy of the metadata that is put in their \
                place by hand may not be noticed");
        }
    }

    /// The file as it is open.
    pub(super) fn main(&self) -> &File {
        &self.main
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock_anyway()
    }
}

impl Known {
    fn write(&mut self, sync: bool) -> io::Result<()> {
        match &mut self.beside {
            Some(beside) => beside.write(&self.record, sync),
            None => Ok(()),
        }
    }
}

/// Where the transaction of a connection begins.
pub(crate) async fn position(database: &mut SqliteConnection) -> Result<Position, Error> {
    let (_, rows, change) = ids(database).await?;
    Ok(Position { rows, change })
}

/// Numbers the change that a transaction has made since `before`; none where it has only read.
pub(crate) async fn advance(
    lineage: &Arc<Lineage>,
    database: &mut SqliteConnection,
    before: Position,
) -> Result<Option<Step>, Error> {
    if position(database).await?.rows == before.rows || lineage.known().record.state == State::Begun {
        return Ok(None);
    }
    let change = before.change.wrapping_add(1);
    pragma(database, "user_version", change.cast_signed()).await?;
    let step = Step { lineage: Arc::clone(lineage), change };
    // A commit may write the file too, and a crash may come before that is seen.
    step.note(|known| {
        known.record.written = 0;
        // In memory as long as the system runs, which is enough: only after a power failure it may be missing, and then
        // it is not asked for.
        if let Err(error) = known.write(false) {
            tracing::debug!(%error, "keystored.db.id could not be written");
        }
    })
    .await;
    Ok(Some(step))
}

impl Step {
    /// The change was committed.
    pub(crate) async fn done(self) {
        let (lineage, change) = (Arc::clone(&self.lineage), self.change);
        self.note(move |known| {
            known.record.last = change;
            lineage.take_note(known, false);
        })
        .await;
    }

    /// In a thread that may wait for a disk.
    async fn note(&self, work: impl FnOnce(&mut Known) + Send + 'static) {
        let lineage = Arc::clone(&self.lineage);
        // On panic: the record is not written, which makes copies harder to notice and harms nothing else.
        if let Err(error) = tokio::task::spawn_blocking(move || work(&mut lineage.known())).await {
            tracing::warn!(%error, "keystored.db.id was not written");
        }
    }
}

/// A file that belongs to a database.
pub(crate) fn beside(database: &Path, what: impl AsRef<OsStr>) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(what);
    name.into()
}

/// A checkpoint between two reads makes them differ; that many times in a row it does not.
const LOOKS: u32 = 50;

/// Looks at a database that nobody changes meanwhile.
pub(crate) fn look(path: &Path, main: Option<&File>) -> io::Result<Seen> {
    Ok(Seen {
        main: main.map_or(Ok(Main::Absent), pages::main)?,
        log: pages::log(&beside(path, LOG))?,
        journal: std::fs::metadata(beside(path, JOURNAL)).is_ok_and(|journal| journal.len() > 0),
        written: main.map_or(Ok(0), |main| main.metadata().map(|meta| written(&meta)))?,
        boot: std::fs::read_to_string(BOOT).unwrap_or_default().trim().to_owned(),
    })
}

/// Judges a database that this process does not have open, and that others may be changing.
pub(crate) fn judge_from_outside(path: &Path) -> Result<Standing, Error> {
    let failed = |error: io::Error| Error::Database(format!("{}: {error}", path.display()));
    if restore::is_decided(path) {
        return Err(Error::Backup(format!(
            "a restore of {} was decided and broken off; a start of the daemon, or `keystored restore` again, finishes it",
            path.display()
        )));
    }
    let mut verdict = Err(Foreign::Gone);
    for _ in 0..LOOKS {
        // First of all: what the file says a moment later can only be more.
        let known = record::look(&beside(path, RECORD)).map_err(failed)?;
        let main = match File::open(path) {
            Ok(main) => Some(main),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let seen = look(path, main.as_ref()).map_err(failed)?;
        verdict = judge(&seen, known.as_ref());
        if verdict.is_ok() {
            break;
        }
    }
    verdict.map_err(|why| Error::Copied { file: path.display().to_string(), why: why.to_string() })
}

fn unnumbered(boot: String) -> Record {
    Record { instance: 0, base: 0, last: 0, state: State::Begun, written: 0, boot }
}

fn written(meta: &Metadata) -> i64 {
    meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec())
}

/// A number of 31 bits that is not 0.
fn random() -> io::Result<u32> {
    loop {
        let mut bytes = [0; 4];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("the system gives no random bytes"))?;
        match u32::from_ne_bytes(bytes) >> 1 {
            0 => {}
            drawn => return Ok(drawn),
        }
    }
}

/// `application_id`, rows changed by this connection so far, `user_version`.
pub(crate) async fn ids(database: &mut SqliteConnection) -> Result<(u32, i64, u32), Error> {
    let (application_id, rows, change): (i64, i64, i64) = sqlx::query_as(
        "SELECT application_id, total_changes(), user_version FROM pragma_application_id, pragma_user_version",
    )
    .fetch_one(database)
    .await?;
    // Both are 32 bits, which SQLite takes for signed.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the lower half is what is stored")]
    Ok((application_id as u32, rows, change as u32))
}

/// Sets one of the numbers in the first page; a part of the transaction, if there is one.
pub(crate) async fn pragma(database: &mut SqliteConnection, name: &'static str, value: i32) -> Result<(), Error> {
    // A pragma takes no parameters; the name is ours and the value a number.
    sqlx::query(AssertSqlSafe(format!("PRAGMA {name} = {value}"))).persistent(false).execute(database).await?;
    Ok(())
}
