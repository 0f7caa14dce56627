//! `keystored.db.id`: what the database beside it must be, so that another file in its place is recognised.
//!
//! Two lines of 512 bytes, written in turns and in place: no disk is too full for that, and one that is torn by a power
//! failure leaves the other. The valid one with the highest `turn` counts.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};

/// Only the daemon's own user reads or writes it.
const PRIVATE: u32 = 0o600;
const LINE: usize = 512;
/// Name and version of the format.
const NAME: &str = "keystored.db.id 1";
const CHECK: &str = " check=";

/// In which state the database was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Its number was drawn, and may not be in the file yet.
    Begun,
    /// In use, or left by a crash.
    Open,
    /// Closed in order.
    Closed,
}

/// What is on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The number of the database.
    pub(crate) instance: u32,
    /// The change that the file by itself was seen at, without its log.
    pub(crate) base: u32,
    /// The last change that is known to be in file or log.
    pub(crate) last: u32,
    /// How it was left.
    pub(crate) state: State,
    /// When the file was written last, in nanoseconds since the Unix epoch, as the file system says; 0 while that is
    /// not known.
    pub(crate) written: i64,
    /// During which run of the system that was: after a power failure a file may be younger than what is in it.
    pub(crate) boot: String,
}

impl Record {
    fn line(&self, turn: u64) -> Vec<u8> {
        let Self { instance, base, last, state, written, boot } = self;
        let state = match state {
            State::Begun => "begun",
            State::Open => "open",
            State::Closed => "closed",
        };
        let mut text = format!(
            "{NAME} turn={turn} instance={instance} base={base} last={last} state={state} written={written} boot={boot}"
        );
        text = format!("{text}{CHECK}{}", check(&text));
        let mut line = text.into_bytes();
        line.resize(LINE - 1, b' ');
        line.push(b'\n');
        line
    }

    fn parse(line: &[u8]) -> Option<(u64, Self)> {
        let text = std::str::from_utf8(line).ok()?.trim_ascii_end();
        let (text, sum) = text.rsplit_once(CHECK)?;
        if check(text) != sum {
            return None;
        }
        let mut words = text.strip_prefix(NAME)?.split_ascii_whitespace();
        let mut next = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
        let turn = next("turn")?.parse().ok()?;
        let record = Self {
            instance: next("instance")?.parse().ok()?,
            base: next("base")?.parse().ok()?,
            last: next("last")?.parse().ok()?,
            state: match next("state")? {
                "begun" => State::Begun,
                "open" => State::Open,
                "closed" => State::Closed,
                _ => return None,
            },
            written: next("written")?.parse().ok()?,
            boot: next("boot")?.to_owned(),
        };
        Some((turn, record))
    }
}

fn check(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The file, open.
pub(super) struct Beside {
    file: File,
    turn: u64,
}

impl Beside {
    /// What the file says, and the file; neither where it is not there. A file in which nothing can be read is one that
    /// says nothing.
    pub(super) fn open(path: &Path) -> io::Result<(Option<Self>, Option<Record>)> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, None)),
            Err(error) => return Err(error),
        };
        let (turn, record) = read(&file)?.unzip();
        Ok((Some(Self { file, turn: turn.unwrap_or_default() }), record))
    }

    /// Makes the file, durably.
    pub(super) fn make(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(PRIVATE).open(path)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(Self { file, turn: 0 })
    }

    /// Writes what is on record from now on.
    pub(super) fn write(&mut self, record: &Record, sync: bool) -> io::Result<()> {
        let turn = self.turn + 1;
        let line = record.line(turn);
        let at = if turn.is_multiple_of(2) { LINE } else { 0 };
        self.file.write_all_at(&line, u64::try_from(at).unwrap_or_default())?;
        self.turn = turn;
        if sync { self.file.sync_all() } else { Ok(()) }
    }
}

/// What a file says that is not open for writing.
pub(crate) fn look(path: &Path) -> io::Result<Option<Record>> {
    match File::open(path) {
        Ok(file) => Ok(read(&file)?.map(|(_, record)| record)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(file: &File) -> io::Result<Option<(u64, Record)>> {
    let mut lines = [0; 2 * LINE];
    let mut filled = 0;
    while filled < lines.len() {
        match file.read_at(&mut lines[filled..], u64::try_from(filled).unwrap_or_default())? {
            0 => break,
            more => filled += more,
        }
    }
    Ok(lines.chunks(LINE).filter_map(Record::parse).max_by_key(|(turn, _)| *turn))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(last: u32) -> Record {
        Record { instance: 77, base: 3, last, state: State::Open, written: -12, boot: "a-b".into() }
    }

    #[test]
    fn the_newest_line_counts_and_a_torn_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keystored.db.id");
        assert_eq!(Beside::open(&path).unwrap().1, None);
        let mut beside = Beside::make(&path).unwrap();
        assert_eq!(look(&path).unwrap(), None);
        for last in 1..=5 {
            beside.write(&record(last), last.is_multiple_of(2)).unwrap();
            assert_eq!(look(&path).unwrap(), Some(record(last)));
        }
        let (again, known) = Beside::open(&path).unwrap();
        assert_eq!(known, Some(record(5)));
        again.unwrap().write(&record(6), true).unwrap();
        assert_eq!(look(&path).unwrap(), Some(record(6)));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1_024);
        for (at, left) in [(600, Some(record(5))), (90, None)] {
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(b"?", at).unwrap();
            assert_eq!(look(&path).unwrap(), left);
        }
    }

    #[test]
    fn each_state_is_read_as_it_was_written() {
        for state in [State::Begun, State::Open, State::Closed] {
            let record = Record { state, ..record(u32::MAX) };
            assert_eq!(Record::parse(&record.line(9)), Some((9, record)));
        }
    }
}
