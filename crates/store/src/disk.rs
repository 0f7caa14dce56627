//! The disk under a directory: what is free on it, how much keystored wants to find there, and whether it can be
//! written.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// What is kept for restricting changes, on a disk that is not a small one: a thousand pages of the database's log, of
/// which such a change takes two or three.
pub const RESERVE: u64 = 4 << 20;
/// With less room than this, somebody should see to the disk.
const LITTLE: u64 = 16 << 20;
/// What is written to find out whether a directory takes anything: as much as SQLite needs to open the database.
const TRIAL: usize = 64 << 10;
const FILE_MODE: u32 = 0o600;

/// Room on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What a user who is not root may still write.
    pub free: u64,
    /// All there is.
    pub total: u64,
}

/// How much room is wanted, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// For the reserve: [`RESERVE`], or an eighth of a disk that is smaller than eight times that.
    pub reserve: u64,
    /// Free beside it: 16 MiB, or a sixteenth of a smaller disk.
    pub free: u64,
}

impl Room {
    /// Asks the file system of a directory.
    pub fn of(directory: &Path) -> io::Result<Self> {
        let all = rustix::fs::statvfs(directory)?;
        let bytes = |blocks: u64| blocks.saturating_mul(all.f_frsize);
        Ok(Self { free: bytes(all.f_bavail), total: bytes(all.f_blocks) })
    }

    /// How much is wanted on a disk of this size.
    #[must_use]
    pub fn wanted(self) -> Wanted {
        Wanted { reserve: RESERVE.min(self.total / 8), free: LITTLE.min(self.total / 16) }
    }
}

/// Writes a file into a directory, has it reach the disk, and removes it.
pub fn try_writing(directory: &Path) -> io::Result<()> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    let path = directory.join(format!(".keystored-trial-{:016x}", u64::from_be_bytes(random)));
    // A directory may be one that others can write to: what stands there under this name is not touched.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path)?;
    // Nothing that a file system could store as less than it is.
    let mut bytes = vec![0; TRIAL];
    let written = aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| io::Error::other("the system gives no random bytes"))
        .and_then(|()| file.write_all(&bytes))
        .and_then(|()| file.sync_all());
    drop(file);
    let removed = std::fs::remove_file(&path);
    written.and(removed)
}

/// A number of bytes in words.
#[must_use]
pub fn in_words(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1 << 10 {
        return format!("{bytes} bytes");
    }
    let (mut tenths, mut unit) = (bytes.saturating_mul(10) >> 10, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        (tenths, unit) = (tenths >> 10, unit + 1);
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    match tenths % 10 {
        0 => format!("{} {name}", tenths / 10),
        tenth => format!("{}.{tenth} {name}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_disk_is_asked_for_less() {
        let of = |total: u64| Room { free: 0, total }.wanted();
        assert_eq!(of(1 << 40), Wanted { reserve: 4 << 20, free: 16 << 20 });
        assert_eq!(of(256 << 20), Wanted { reserve: 4 << 20, free: 16 << 20 });
        assert_eq!(of(16 << 20), Wanted { reserve: 2 << 20, free: 1 << 20 });
    }

    #[test]
    fn bytes_are_said_in_words() {
        for (bytes, words) in [
            (0, "0 bytes"),
            (1_023, "1023 bytes"),
            (1_024, "1 KiB"),
            (1_536, "1.5 KiB"),
            (4 << 20, "4 MiB"),
            ((16 << 30) + (900 << 20), "16.8 GiB"),
            (u64::MAX, "1638.3 PiB"),
        ] {
            assert_eq!(in_words(bytes), words, "{bytes}");
        }
    }

    #[test]
    fn a_trial_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        try_writing(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(try_writing(&folder.path().join("nowhere")).unwrap_err().kind(), io::ErrorKind::NotFound);
        let room = Room::of(folder.path()).unwrap();
        assert!(room.total >= room.free && room.total > 0, "{room:?}");
    }
}
