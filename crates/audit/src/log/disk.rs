//! The files of a log, by paths within its directory.
//!
//! All goes by a handle of the directory, not by its path: what is put in its place is never written to, and what is moved
//! away is noticed ([`Disk::place`]). Nothing in it leads elsewhere ([`within`]). Before each act on a file [`Acts`] is asked, which tests fail and cut short.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, FallocateFlags, FlockOperation, Mode, OFlags, Stat, StatxFlags};

use super::locked;
use crate::note::NOTE_BYTES;
use crate::within::{self, Directory, NAMES, absent, read_at as read};

/// From so many files on the whole file system is synced, rather than each of them: that is one wait instead of many.
const MANY: usize = 16;

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Act {
    Create,
    Open,
    Read,
    Write,
    Allocate,
    Truncate,
    Sync,
    Rename,
    Remove,
    MakeDirectory,
    Look,
}

/// Asked before each act.
pub(crate) trait Acts: Send + Sync {
    /// Fails it, in place of the file system.
    fn before(&self, act: Act, path: &Path) -> io::Result<()>;

    /// How many of these bytes are written at once: a file system may write less than it is given.
    fn portion(&self, bytes: usize) -> usize {
        bytes
    }
}

/// The file system alone decides.
impl Acts for () {
    fn before(&self, _act: Act, _path: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// Which file it is: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

/// What a file is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) identity: Identity,
    /// Names that it has: none, and it goes when it is closed.
    pub(crate) names: u64,
    pub(crate) length: u64,
}

impl From<Stat> for Look {
    fn from(stat: Stat) -> Self {
        Self {
            identity: Identity(stat.st_dev, stat.st_ino),
            names: u64::from(stat.st_nlink as u32),
            length: u64::try_from(stat.st_size).unwrap_or(0),
        }
    }
}

/// What is at the directory's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Ours,
    Gone,
    Another,
}

/// The directory of a log.
pub(crate) struct Disk {
    path: PathBuf,
    root: Mutex<Arc<OwnedFd>>,
    acts: Arc<dyn Acts>,
}

impl Disk {
    /// Opens it, makes it where it is not there, and locks it against other processes: `WouldBlock` where one has it.
    pub(crate) fn open(path: &Path, acts: Arc<dyn Acts>) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o750).create(path)?;
        let root = Self::directory(path)?;
        Ok(Self { path: path.to_owned(), root: Mutex::new(Arc::new(root)), acts })
    }

    /// That of a log that somebody else may have open.
    pub(crate) fn unlocked(path: &Path) -> io::Result<Self> {
        let root = rustix::fs::open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { path: path.to_owned(), root: Mutex::new(Arc::new(root)), acts: Arc::new(()) })
    }

    fn directory(path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        rustix::fs::flock(&root, FlockOperation::NonBlockingLockExclusive)?;
        Ok(root)
    }

    /// Where it is, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that is written to now: another one when a copy was taken in its place.
    pub(crate) fn directory_now(&self) -> Directory {
        Directory::of(self.root())
    }

    fn root(&self) -> Arc<OwnedFd> {
        Arc::clone(&locked(&self.root))
    }

    fn before(&self, act: Act, path: &Path) -> io::Result<()> {
        self.acts.before(act, path)
    }

    /// What is at the directory's path now.
    pub(crate) fn place(&self) -> io::Result<Place> {
        self.before(Act::Look, Path::new(""))?;
        let ours = Look::from(rustix::fs::fstat(self.root())?);
        match rustix::fs::stat(&self.path) {
            Ok(found) if Look::from(found).identity == ours.identity => Ok(Place::Ours),
            Ok(_) => Ok(Place::Another),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(Place::Gone),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the directory that is at the path now, if `right` says so of this file in it and in the one that was there.
    pub(crate) fn adopt(&self, file: &str, right: impl FnOnce(&[u8]) -> bool) -> io::Result<bool> {
        let root = Self::directory(&self.path)?;
        let same = read(root.as_fd(), Path::new(file), NOTE_BYTES)?.is_some_and(|bytes| right(&bytes));
        if same {
            *locked(&self.root) = Arc::new(root);
        }
        Ok(same)
    }

    /// A new file, in place of what bears its name; directories as needed.
    pub(crate) fn create(&self, path: &Path) -> io::Result<File> {
        self.before(Act::Create, path)?;
        let root = self.root();
        match within::create(root.as_fd(), path, mode()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_directories(path)?;
                within::create(root.as_fd(), path, mode())
            }
            other => other,
        }
    }

    /// A regular file that is there, for reading and writing.
    pub(crate) fn open_file(&self, path: &Path) -> io::Result<File> {
        self.before(Act::Open, path)?;
        within::open(self.root().as_fd(), path, OFlags::RDWR)
    }

    /// All of a file, which has at most so many bytes; `None` where there is none.
    pub(crate) fn read(&self, path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
        self.before(Act::Read, path)?;
        read(self.root().as_fd(), path, limit)
    }

    /// What is at this path; `None` where nothing is.
    pub(crate) fn look(&self, path: &Path) -> io::Result<Option<Look>> {
        self.before(Act::Look, path)?;
        Ok(within::look(self.root().as_fd(), path)?.map(Look::from))
    }

    /// What this open file is.
    pub(crate) fn look_at(&self, file: &File) -> io::Result<Look> {
        Ok(rustix::fs::fstat(file)?.into())
    }

    /// How many names this open file has: none, and it goes when it is closed. Asked beside each write, and for nothing else: who
    /// asks for times has the kernel (Linux 6.13 and later) set a new one with the next write, exactly, and not once in some
    /// milliseconds, so that the inode goes through the file system's journal with every record.
    pub(crate) fn names_of(&self, file: &File) -> io::Result<u64> {
        match rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::NLINK) {
            Ok(found) if found.stx_mask & StatxFlags::NLINK.bits() != 0 => Ok(found.stx_nlink.into()),
            // Not every sandbox knows this way of asking, and not every file system this question alone.
            _ => Ok(self.look_at(file)?.names),
        }
    }

    /// The names in a directory; none where there is no directory.
    pub(crate) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.before(Act::Read, path)?;
        let root = self.root();
        match within::folder(root.as_fd(), path) {
            // A link or a file in the place of a folder hides what was in it: that is not none.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(error),
            _ => within::names(root.as_fd(), path, NAMES),
        }
    }

    /// Writes all of this at that place of the file.
    pub(crate) fn write(&self, file: &File, path: &Path, slices: &mut [IoSlice<'_>], mut at: u64) -> io::Result<()> {
        let mut rest = slices;
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            self.before(Act::Write, path)?;
            // The kernel takes so many at once.
            let group = rest.get(..rest.len().min(1_024)).unwrap_or_default();
            let bytes = group.iter().map(|slice| slice.len()).sum();
            let portion = self.acts.portion(bytes);
            let written = match group {
                [only] => rustix::io::pwrite(file, only.get(..portion.min(only.len())).unwrap_or_default(), at),
                [first, ..] if portion < bytes => {
                    rustix::io::pwrite(file, first.get(..portion.min(first.len())).unwrap_or_default(), at)
                }
                group => rustix::io::pwritev(file, group, at),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    at += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads from that place of the file on; less than asked for only at its end.
    pub(crate) fn read_at(&self, file: &File, path: &Path, length: usize, at: u64) -> io::Result<Vec<u8>> {
        self.before(Act::Read, path)?;
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
            match rustix::io::pread(file, room, at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Has the file system keep room up to there, beyond the file's end. `false`: it can't.
    pub(crate) fn allocate(&self, file: &File, path: &Path, to: u64) -> io::Result<bool> {
        let asked = self.before(Act::Allocate, path);
        match asked.and_then(|()| Ok(rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, to)?)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Cuts the file to this length.
    pub(crate) fn truncate(&self, file: &File, path: &Path, length: u64) -> io::Result<()> {
        self.before(Act::Truncate, path)?;
        Ok(rustix::fs::ftruncate(file, length)?)
    }

    /// What the file holds is on the disk.
    pub(crate) fn sync_data(&self, file: &File, path: &Path) -> io::Result<()> {
        self.before(Act::Sync, path)?;
        Ok(rustix::fs::fdatasync(file)?)
    }

    /// The names in this directory are on the disk.
    pub(crate) fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.before(Act::Sync, path)?;
        Ok(rustix::fs::fsync(self.folder(path)?)?)
    }

    /// A folder, for reading.
    fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let root = self.root();
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(within::folder(root.as_fd(), path)?, ".", flags, Mode::empty())?)
    }

    /// These files and their names are on the disk.
    pub(crate) fn sync_all(&self, files: &[(PathBuf, File)]) -> io::Result<()> {
        if files.len() >= MANY {
            self.before(Act::Sync, Path::new(""))?;
            return Ok(rustix::fs::syncfs(self.root())?);
        }
        let mut directories = BTreeSet::new();
        for (path, file) in files {
            self.before(Act::Sync, path)?;
            rustix::fs::fsync(file)?;
            // A directory may be as new as the file in it.
            directories.extend(path.ancestors().skip(1));
        }
        directories.into_iter().try_for_each(|directory| self.sync_directory(directory))
    }

    /// Puts a file in its place as a whole. It is on the disk when the returned handle and the names are synced.
    pub(crate) fn put(&self, temporary: &str, path: &Path, bytes: &[u8]) -> io::Result<File> {
        let new = Path::new(temporary);
        let file = self.create(new)?;
        self.write(&file, new, &mut [IoSlice::new(bytes)], 0)?;
        self.rename(new, path)?;
        Ok(file)
    }

    /// As [`Self::put`]: never is there anything but the old file or the new one, whole. Which of them is there after a loss of power
    /// is known when the directory is synced.
    pub(crate) fn put_whole(&self, temporary: &str, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let new = Path::new(temporary);
        let file = self.create(new)?;
        self.write(&file, new, &mut [IoSlice::new(bytes)], 0)?;
        self.sync_data(&file, new)?;
        self.rename(new, path)
    }

    /// Gives a file another name, in place of what has that now.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.before(Act::Rename, to)?;
        let root = self.root();
        let rename = || -> io::Result<()> {
            let ((source, name), (target, new)) =
                (within::parent(root.as_fd(), from)?, within::parent(root.as_fd(), to)?);
            Ok(rustix::fs::renameat(source, name, target, new)?)
        };
        match rename() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_directories(to)?;
                rename()
            }
            other => other,
        }
    }

    /// Puts what is at this path aside, whatever it is, under a name that nothing has. Says under which.
    pub(crate) fn set_aside(&self, path: &Path) -> io::Result<PathBuf> {
        self.before(Act::Rename, path)?;
        within::set_aside(self.root().as_fd(), path)
    }

    /// Takes a file away, if it is there.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        self.before(Act::Remove, path)?;
        match self.unlink(path, AtFlags::empty()) {
            Err(error) if !absent(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes a directory away, if it is empty.
    pub(crate) fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.before(Act::Remove, path)?;
        self.unlink(path, AtFlags::REMOVEDIR)
    }

    fn unlink(&self, path: &Path, flags: AtFlags) -> io::Result<()> {
        let root = self.root();
        let (folder, name) = within::parent(root.as_fd(), path)?;
        Ok(rustix::fs::unlinkat(folder, name, flags)?)
    }

    /// What is free for us on the file system.
    pub(crate) fn free(&self) -> io::Result<u64> {
        self.before(Act::Look, Path::new(""))?;
        let room = rustix::fs::fstatvfs(self.root())?;
        Ok(room.f_bavail.saturating_mul(room.f_frsize))
    }

    /// The directories above this file.
    fn make_directories(&self, path: &Path) -> io::Result<()> {
        let mut above: Vec<&Path> = path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
        above.reverse();
        for directory in above {
            self.before(Act::MakeDirectory, directory)?;
            let root = self.root();
            let (folder, name) = within::parent(root.as_fd(), directory)?;
            match rustix::fs::mkdirat(folder, name, Mode::from_raw_mode(0o750)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Drop for Disk {
    /// Lets others have the directory, also where a process that is just being begun still has its handle.
    fn drop(&mut self) {
        let _not_locked = rustix::fs::flock(self.root(), FlockOperation::Unlock);
    }
}

/// Of new files: a group may be let read them, by the directory's.
const fn mode() -> Mode {
    Mode::from_raw_mode(0o640)
}
