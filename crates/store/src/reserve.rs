//! Room on the disk that is kept for changes which take something out of use: the kill switch works on a full disk.
//!
//! A file beside the database holds the room, written with bytes that no file system can store as less. When such a
//! change finds no room, the file is made shorter by a slice, and the slice goes to the write-ahead log at once: what
//! has been allocated to a file cannot be taken by whoever fills the disk. As long as the file is shorter than it
//! should be the reserve is spent, and other changes are refused: they would eat the room too. It is whole again when
//! the file is.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use rustix::fs::{FallocateFlags, fallocate};

use super::disk::{RESERVE, Room};
use model::lock::MutexExt as _;

const FILE_MODE: u32 = 0o600;
/// In so many slices it is used.
const SLICES: u64 = 16;
const CHUNK: usize = 64 << 10;
/// One in so many parts of the reserve is for changes that only keep things going; each takes two pages at most.
const GOING_PART: u64 = 4;
const GOING_BYTES: u64 = 8 << 10;

/// What a change is for, when there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Everything that can wait.
    Ordinary,
    /// Keeps calls going that nobody wants to stop: encryptions that are counted, logins that are tried. May use a
    /// quarter of the reserve.
    Going,
    /// Takes something out of use or access away, or records what has happened in a token already. May use all of it.
    Restricting,
}

/// How the reserve is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// All of it is there.
    Whole,
    /// Some of it was used, and there was no room yet to make it whole.
    Spent,
    /// There never was room for it.
    Missing,
}

/// What there is of a reserve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// How it is.
    pub standing: Standing,
    /// Bytes that it has.
    pub bytes: u64,
    /// Why it could not be made or made whole the last time, where that was not for want of room.
    pub error: Option<String>,
}

/// The reserve of one database.
pub(super) struct Reserve {
    file: PathBuf,
    directory: PathBuf,
    log: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Bytes that it should have.
    whole: u64,
    /// Bytes that it has.
    left: u64,
    standing: Standing,
    /// Changes that kept things going since it was whole.
    going: u64,
    error: Option<String>,
}

impl State {
    /// Whether one more change may keep things going, which is counted.
    fn goes_on(&mut self) -> bool {
        let goes_on = self.going < self.whole / GOING_PART / GOING_BYTES;
        self.going += u64::from(goes_on);
        goes_on
    }
}

impl Reserve {
    /// Looks at what there is.
    pub(super) fn find(database: &Path) -> Self {
        let file = file_of(database);
        let directory = database.parent().map(Path::to_owned).unwrap_or_default();
        let whole = Room::of(&directory).map_or(RESERVE, |room| room.wanted().reserve);
        let left = std::fs::metadata(&file).map(|found| found.len()).ok();
        let standing = match left {
            None => Standing::Missing,
            Some(left) if left < whole => Standing::Spent,
            Some(_) => Standing::Whole,
        };
        let state = State { whole, left: left.unwrap_or(0), standing, going: 0, error: None };
        let log = beside(database, "-wal");
        Self { file, directory, log, state: Mutex::new(state) }
    }

    /// The file that holds it.
    #[cfg(any(test, feature = "test-support"))]
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// How it is.
    pub(super) fn standing(&self) -> Standing {
        self.state().standing
    }

    /// All that is known of it.
    pub(super) fn kept(&self) -> Kept {
        let state = self.state();
        Kept { standing: state.standing, bytes: state.left, error: state.error.clone() }
    }

    /// Looks whether somebody has removed it, or a part of it.
    pub(super) fn look(&self) {
        let found = std::fs::metadata(&self.file).map(|found| found.len()).ok();
        let mut state = self.state();
        state.left = found.unwrap_or(0);
        if state.standing == Standing::Whole && state.left < state.whole {
            state.standing = if found.is_none() { Standing::Missing } else { Standing::Spent };
        }
    }

    /// Whether a change may be tried. Counts those that only keep things going.
    pub(super) fn admits(&self, purpose: Purpose) -> bool {
        let mut state = self.state();
        match (state.standing, purpose) {
            (Standing::Whole | Standing::Missing, _) | (_, Purpose::Restricting) => true,
            (Standing::Spent, Purpose::Ordinary) => false,
            (Standing::Spent, Purpose::Going) => state.goes_on(),
        }
    }

    /// Gives a slice to the write-ahead log, for a change that found no room; false where there is nothing to give to
    /// it.
    pub(super) fn release(&self, purpose: Purpose) -> io::Result<bool> {
        let mut state = self.state();
        match purpose {
            Purpose::Ordinary => return Ok(false),
            Purpose::Going if !state.goes_on() => return Ok(false),
            Purpose::Going | Purpose::Restricting => {}
        }
        let Some(slice) = Some((state.whole / SLICES).min(state.left)).filter(|slice| *slice > 0) else {
            return Ok(false);
        };
        let shortened = OpenOptions::new().write(true).open(&self.file).and_then(|file| {
            let left = file.metadata()?.len().min(state.left).saturating_sub(slice);
            file.set_len(left).map(|()| left)
        });
        match shortened {
            Ok(left) => state.left = left,
            // Somebody has removed it, to make room: then it is used up.
            Err(error) if error.kind() == io::ErrorKind::NotFound => state.left = 0,
            Err(error) => return Err(error),
        }
        state.standing = Standing::Spent;
        // A quarter stays free, for what the database itself and its index grow by. Where the file system cannot
        // allocate, or there is no log yet, the slice is free for whoever comes first.
        if let Err(error) = self.allocate(slice - slice / 4) {
            tracing::debug!(%error, "the room could not be given to the write-ahead log");
        }
        Ok(true)
    }

    /// Allocates so many bytes more to the write-ahead log, beyond its end.
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        // SQLite locks neither this file nor by it, so that closing it gives no lock away.
        let log = OpenOptions::new().write(true).open(&self.log)?;
        let has = log.metadata()?.blocks() * 512;
        Ok(fallocate(&log, FallocateFlags::KEEP_SIZE, 0, has + bytes)?)
    }

    /// Makes it whole where there is room for that, and as much again as a quarter of it; whether it is whole now.
    /// Blocks; one at a time, since whoever does it has the turn to change the metadata.
    pub(super) fn refill(&self) -> bool {
        let filled = self.fill();
        let mut state = self.state();
        match filled {
            Ok(whole) => {
                state.error = None;
                whole
            }
            Err(error) => {
                state.error = Some(error.to_string());
                false
            }
        }
    }

    fn fill(&self) -> io::Result<bool> {
        self.look();
        let (has, whole) = {
            let mut state = self.state();
            if state.left >= state.whole {
                (state.standing, state.going) = (Standing::Whole, 0);
                return Ok(true);
            }
            (state.left, state.whole)
        };
        if Room::of(&self.directory)?.free < whole - has + whole / 4 {
            return Ok(false);
        }
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(&self.file)?;
        if let Err(error) = grow(&mut file, has, whole) {
            // What was had is given back: half a reserve would only take room away.
            file.set_len(has)?;
            if has == 0 && self.standing() == Standing::Missing {
                std::fs::remove_file(&self.file)?;
            }
            return Err(error);
        }
        let mut state = self.state();
        (state.left, state.standing, state.going) = (whole, Standing::Whole, 0);
        Ok(true)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock_anyway()
    }
}

/// How many bytes the reserve of a database has.
#[must_use]
pub fn size(database: &Path) -> u64 {
    std::fs::metadata(file_of(database)).map_or(0, |found| found.len())
}

/// Where the reserve of a database is.
#[must_use]
pub fn file_of(database: &Path) -> PathBuf {
    beside(database, ".reserve")
}

fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Writes random bytes from one length to another, and has them reach the disk.
fn grow(file: &mut File, from: u64, to: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(from))?;
    let mut chunk = vec![0; CHUNK];
    let mut missing = to.saturating_sub(from);
    while missing > 0 {
        let length = usize::try_from(missing).unwrap_or(CHUNK).min(CHUNK);
        aws_lc_rs::rand::fill(&mut chunk).map_err(|_| io::Error::other("the system gives no random bytes"))?;
        file.write_all(&chunk[..length])?;
        missing -= length as u64;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserve() -> (tempfile::TempDir, PathBuf, Reserve) {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("keystored.db");
        let reserve = Reserve::find(&database);
        (folder, database, reserve)
    }

    impl Reserve {
        fn has(&self) -> (Standing, u64) {
            let kept = self.kept();
            (kept.standing, kept.bytes)
        }
    }

    fn blocks(path: &Path) -> u64 {
        std::fs::metadata(path).unwrap().blocks() * 512
    }

    #[test]
    fn it_is_made_of_blocks_and_found_again() {
        let (_folder, database, reserve) = reserve();
        assert_eq!(reserve.has(), (Standing::Missing, 0));
        assert!(reserve.refill());
        assert_eq!(reserve.has(), (Standing::Whole, RESERVE));
        assert!(blocks(&file_of(&database)) >= RESERVE);
        assert_eq!(Reserve::find(&database).has(), (Standing::Whole, RESERVE));
    }

    #[test]
    fn it_goes_to_the_log_slice_by_slice_and_comes_back() {
        let (_folder, database, reserve) = reserve();
        reserve.refill();
        let log = beside(&database, "-wal");
        std::fs::write(&log, [1; 5_000]).unwrap();
        let before = blocks(&log);
        assert!(reserve.release(Purpose::Restricting).unwrap());
        let slice = RESERVE / SLICES;
        assert_eq!(reserve.has(), (Standing::Spent, RESERVE - slice));
        assert_eq!(std::fs::metadata(&log).unwrap().len(), 5_000, "its end stays where it is");
        assert!(blocks(&log) >= before + slice / 2, "{} after {before}", blocks(&log));
        assert!(reserve.release(Purpose::Restricting).unwrap());
        assert!(blocks(&log) >= before + slice, "{} after {before}", blocks(&log));
        for _ in 2..SLICES {
            assert!(reserve.release(Purpose::Restricting).unwrap());
        }
        assert_eq!(reserve.has(), (Standing::Spent, 0));
        assert!(!reserve.release(Purpose::Restricting).unwrap(), "nothing is left");
        assert_eq!(Reserve::find(&database).has(), (Standing::Spent, 0), "after a restart as well");
        assert!(reserve.refill());
        assert_eq!(reserve.has(), (Standing::Whole, RESERVE));
    }

    #[test]
    fn while_it_is_spent_only_those_for_whom_it_is_come_in() {
        let (_folder, _, reserve) = reserve();
        let (ordinary, restricting) = (Purpose::Ordinary, Purpose::Restricting);
        assert!(!reserve.release(restricting).unwrap(), "nothing was ever kept");
        let all = [Purpose::Ordinary, Purpose::Going, Purpose::Restricting];
        assert!(all.iter().all(|purpose| reserve.admits(*purpose)), "nothing was ever kept");
        reserve.refill();
        assert!(all.iter().all(|purpose| reserve.admits(*purpose)));
        assert!(!reserve.release(ordinary).unwrap());
        reserve.release(restricting).unwrap();
        assert!(!reserve.admits(ordinary));
        let going = (0..1_000).filter(|_| reserve.admits(Purpose::Going)).count();
        assert!(!reserve.release(Purpose::Going).unwrap() && reserve.release(restricting).unwrap());
        assert_eq!(going, 128, "a quarter of a thousand pages, two each");
        assert!((0..1_000).all(|_| reserve.admits(Purpose::Restricting)));
        reserve.refill();
        assert!(all.iter().all(|purpose| reserve.admits(*purpose)));
    }

    #[test]
    fn one_that_somebody_removed_is_used_up_until_it_is_made_again() {
        let (_folder, database, reserve) = reserve();
        reserve.refill();
        std::fs::remove_file(file_of(&database)).unwrap();
        assert!(reserve.release(Purpose::Restricting).unwrap(), "its room is free already");
        assert!(!reserve.release(Purpose::Restricting).unwrap());
        assert!(reserve.refill());
        std::fs::remove_file(file_of(&database)).unwrap();
        assert!(reserve.refill(), "found missing");
        assert!(file_of(&database).exists());
    }
}
