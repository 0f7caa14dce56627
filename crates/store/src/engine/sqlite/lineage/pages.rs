//! What a database file and its write-ahead log say of themselves, read without SQLite: to open them is to mix them.
//!
//! <https://www.sqlite.org/fileformat2.html>: in the first page of the file, `user_version` is at byte 60 and
//! `application_id` at byte 68, big-endian. A log is a header of 32 bytes and frames of 24 bytes and a page; a frame
//! counts when it carries the salts of the header and the right checksum, and only up to the last one that commits.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How each SQLite database begins.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const HEADER: usize = 100;
const USER_VERSION: usize = 60;
const APPLICATION_ID: usize = 68;
/// The bit of `application_id` that a backup carries, besides the number of the database that it was made of.
const BACKUP: u32 = 1 << 31;

/// The log's magic number; its last bit says that checksums read their words as big-endian.
const LOG_MAGIC: u32 = 0x377f_0682;
const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// Page sizes that SQLite knows.
const PAGES: std::ops::RangeInclusive<usize> = 512..=65_536;

/// Which database this is, and at which change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Drawn when the database was first opened or was restored; 31 bits, and 0 where it never was numbered.
    pub(crate) instance: u32,
    /// One more with each change.
    pub(crate) change: u32,
    /// It is a backup, to be restored and not to be opened.
    pub(crate) backup: bool,
}

impl Mark {
    fn of(page: &[u8]) -> Self {
        Self::from_ids(word(page, APPLICATION_ID), word(page, USER_VERSION))
    }

    pub(crate) fn from_ids(application_id: u32, user_version: u32) -> Self {
        Self { instance: application_id & !BACKUP, change: user_version, backup: application_id & BACKUP != 0 }
    }

    /// What `PRAGMA application_id` takes.
    pub(crate) fn application_id(self) -> i32 {
        (self.instance | if self.backup { BACKUP } else { 0 }).cast_signed()
    }
}

/// A database file by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Main {
    /// Not there, or empty.
    Absent,
    /// No database.
    Other,
    /// A database.
    Database(Mark),
}

/// What of a log would be applied to its database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Log {
    /// It commits something.
    pub(crate) commits: bool,
    /// The marks that the first and the last first page in it carry.
    pub(crate) marks: Option<[Mark; 2]>,
}

/// Reads the mark of an open file. The file is not opened here: when any descriptor of it is closed, the system takes
/// the locks away that this process's SQLite holds on it.
pub(crate) fn main(file: &File) -> io::Result<Main> {
    let mut header = [0; HEADER];
    match file.read_exact_at(&mut header, 0) {
        Ok(()) if header.starts_with(MAGIC) => Ok(Main::Database(Mark::of(&header))),
        Ok(()) => Ok(Main::Other),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Ok(if file.metadata()?.len() == 0 { Main::Absent } else { Main::Other })
        }
        Err(error) => Err(error),
    }
}

/// Reads a log that may not be there.
pub(crate) fn log(path: &Path) -> io::Result<Log> {
    match File::open(path) {
        Ok(file) => read_log(BufReader::with_capacity(1 << 20, file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Log::default()),
        Err(error) => Err(error),
    }
}

fn read_log(mut from: impl Read) -> io::Result<Log> {
    let mut log = Log::default();
    let mut header = [0; LOG_HEADER];
    if !fill(&mut from, &mut header)? || word(&header, 0) & !1 != LOG_MAGIC {
        return Ok(log);
    }
    let big = word(&header, 0) & 1 == 1;
    let size = usize::try_from(word(&header, 8)).unwrap_or_default();
    let mut sum = checksum(big, &header[..24], [0, 0]);
    if sum != [word(&header, 24), word(&header, 28)] || !PAGES.contains(&size) || !size.is_power_of_two() {
        return Ok(log);
    }
    let mut frame = vec![0; FRAME_HEADER + size];
    // Of the transaction that is being read.
    let mut pending = Vec::new();
    while fill(&mut from, &mut frame)? {
        let (head, page) = frame.split_at(FRAME_HEADER);
        sum = checksum(big, page, checksum(big, &head[..8], sum));
        if head[8..16] != header[16..24] || sum != [word(head, 16), word(head, 20)] {
            break;
        }
        if word(head, 0) == 1 {
            pending.push(Mark::of(page));
        }
        // The size of the database after a commit; nothing in the middle of a transaction.
        if word(head, 4) != 0 {
            log.commits = true;
            for mark in pending.drain(..) {
                let [first, _] = log.marks.unwrap_or([mark, mark]);
                log.marks = Some([first, mark]);
            }
        }
    }
    Ok(log)
}

/// Fills the buffer, or says that there is not enough left to fill it.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn checksum(big: bool, bytes: &[u8], [mut one, mut two]: [u32; 2]) -> [u32; 2] {
    let read = if big { u32::from_be_bytes } else { u32::from_le_bytes };
    for pair in bytes.chunks_exact(8) {
        let words = [0, 4].map(|at| pair[at..at + 4].try_into().map_or(0, read));
        one = one.wrapping_add(words[0]).wrapping_add(two);
        two = two.wrapping_add(words[1]).wrapping_add(one);
    }
    [one, two]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode};
    use sqlx::{AssertSqlSafe, ConnectOptions};

    use super::*;

    async fn run(database: &mut SqliteConnection, sql: &str) {
        sqlx::query(AssertSqlSafe(sql.to_owned())).execute(database).await.unwrap();
    }

    fn marks(log: &Log) -> Option<[u32; 2]> {
        log.marks.map(|marks| marks.map(|mark| mark.change))
    }

    /// Against SQLite itself: what it has committed is what is read here, and no more.
    #[tokio::test]
    async fn a_log_tells_of_what_sqlite_committed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, wal) = (folder.path().join("a.db"), folder.path().join("a.db-wal"));
        let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
        let mut database = options.journal_mode(SqliteJournalMode::Wal).connect().await.unwrap();
        assert_eq!(log(&wal).unwrap(), Log::default());
        run(&mut database, "CREATE TABLE t (a)").await;
        assert_eq!(log(&wal).unwrap().marks.unwrap(), [Mark::from_ids(0, 0); 2]);
        for number in 7..=9 {
            run(&mut database, "BEGIN").await;
            run(&mut database, &format!("INSERT INTO t VALUES ({number})")).await;
            run(&mut database, &format!("PRAGMA user_version = {number}")).await;
            run(&mut database, "COMMIT").await;
        }
        assert_eq!(marks(&log(&wal).unwrap()), Some([0, 9]));
        // What is begun and not committed does not count.
        run(&mut database, "PRAGMA cache_size = 1").await;
        run(&mut database, "BEGIN").await;
        run(&mut database, "PRAGMA user_version = 10").await;
        run(&mut database, "INSERT INTO t VALUES (randomblob(1000000))").await;
        assert!(wal.metadata().unwrap().len() > 900_000, "it was spilled");
        assert_eq!(marks(&log(&wal).unwrap()), Some([0, 9]));
        run(&mut database, "ROLLBACK").await;
        // A log that was begun anew tells of what came since, whatever lies behind it in the file.
        run(&mut database, "PRAGMA wal_checkpoint").await;
        assert_eq!(main(&File::open(&file).unwrap()).unwrap(), Main::Database(Mark::from_ids(0, 9)));
        run(&mut database, "PRAGMA user_version = 11").await;
        assert_eq!(marks(&log(&wal).unwrap()), Some([11, 11]));
        run(&mut database, "PRAGMA application_id = -5").await;
        let last = log(&wal).unwrap().marks.unwrap()[1];
        assert_eq!((last.backup, last.instance, last.application_id()), (true, (1 << 31) - 5, -5));
    }

    #[test]
    fn what_is_no_database_is_told_from_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        for (bytes, is) in [(&b""[..], Main::Absent), (b"short", Main::Other), (&[b'x'; 200], Main::Other)] {
            std::fs::write(&file, bytes).unwrap();
            assert_eq!(main(&File::open(&file).unwrap()).unwrap(), is);
        }
        assert_eq!(log(&folder.path().join("none")).unwrap(), Log::default());
    }

    proptest! {
        #[test]
        fn bytes_that_are_no_log_commit_nothing(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            prop_assert_eq!(read_log(&bytes[..]).unwrap(), Log::default());
            let magic = [&[0x37, 0x7f, 0x06, 0x82], &bytes[..]].concat();
            prop_assert_eq!(read_log(&magic[..]).unwrap(), Log::default());
        }
    }
}
