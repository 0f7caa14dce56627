//! Paths within a log's directory, followed without leaving it.
//!
//! Who can write to the directory may put anything in place of a file or of a folder: a link that leads elsewhere, a pipe that
//! holds whoever opens it, a file without end. So each folder on the way is opened by itself, links are followed nowhere, and
//! what is opened is a regular file or an error.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

/// Most names that are read of one folder: more were not put there by a log.
pub(crate) const NAMES: usize = 1 << 17;

/// So much of one name is put aside at most: more is somebody's doing, and for somebody to look at.
const ASIDE: u32 = 1_000;

/// A folder below the directory, or the directory itself.
pub(crate) enum Folder<'a> {
    Root(BorrowedFd<'a>),
    Below(OwnedFd),
}

impl AsFd for Folder<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Root(root) => *root,
            Self::Below(folder) => folder.as_fd(),
        }
    }
}

/// The folder at this path. A link on the way is no folder (`NotADirectory`).
pub(crate) fn folder<'a>(root: BorrowedFd<'a>, path: &Path) -> io::Result<Folder<'a>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut found = Folder::Root(root);
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => {
                found = Folder::Below(rustix::fs::openat(&found, name, flags, Mode::empty())?);
            }
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(found)
}

/// The folder that this file is in, and the file's name there.
pub(crate) fn parent<'a, 'b>(root: BorrowedFd<'a>, path: &'b Path) -> io::Result<(Folder<'a>, &'b OsStr)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok((folder(root, path.parent().unwrap_or(Path::new("")))?, name))
}

/// A new file. What bore the name is only unlinked, never written to: it may have another name elsewhere. A folder is put
/// aside with what is in it.
pub(crate) fn create(root: BorrowedFd<'_>, path: &Path, mode: Mode) -> io::Result<File> {
    let (folder, name) = parent(root, path)?;
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(Errno::ISDIR) => drop(set_aside(root, path)?),
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(&folder, name, flags, mode)?.into())
}

/// A regular file that is there.
pub(crate) fn open(root: BorrowedFd<'_>, path: &Path, access: OFlags) -> io::Result<File> {
    let (folder, name) = parent(root, path)?;
    // Not blocking: a pipe that nobody writes to would hold whoever opens it.
    let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(&folder, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file.into())
}

/// Gives what is at this path, whatever it is, a name that nothing has: its own with `.apart` behind it, and a number behind that
/// where something was put aside before. Nothing is opened for it. Says where it is now.
pub(crate) fn set_aside(root: BorrowedFd<'_>, path: &Path) -> io::Result<PathBuf> {
    let (folder, name) = parent(root, path)?;
    for number in 0..ASIDE {
        let mut aside = name.to_owned();
        aside.push(".apart");
        if number > 0 {
            aside.push(format!(".{number}"));
        }
        let renamed = match rustix::fs::renameat_with(&folder, name, &folder, &aside, RenameFlags::NOREPLACE) {
            // Not every file system can look and rename at once.
            Err(Errno::INVAL) => match rustix::fs::statat(&folder, &aside, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => rustix::fs::renameat(&folder, name, &folder, &aside),
                Err(error) => Err(error),
            },
            renamed => renamed,
        };
        match renamed {
            Ok(()) => return Ok(path.with_file_name(aside)),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let why = "what is there cannot be put aside: too much of its name was before; move that away";
    Err(io::Error::new(io::ErrorKind::AlreadyExists, why))
}

/// All of a file, which has at most so many bytes.
pub(crate) fn read_all(file: File, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        let why = format!("longer than the {limit} bytes that it can have");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(bytes)
}

/// Whether nothing is there, rather than something that cannot be had.
pub(crate) fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// A log's directory that is open. What is done goes to this one, also when it was moved, or when another one has its place.
///
/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Directory(Arc<OwnedFd>);

impl Directory {
    /// Opens the one at this path.
    pub fn open(path: &Path) -> io::Result<Self> {
        directory_at(path).map(Arc::new).map(Self)
    }

    pub(crate) const fn of(root: Arc<OwnedFd>) -> Self {
        Self(root)
    }

    /// Whether it is the one at this path. `false` also where nothing is.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        let identity = |stat: Stat| (stat.st_dev, stat.st_ino);
        match rustix::fs::stat(path) {
            Ok(found) => Ok(identity(found) == identity(rustix::fs::fstat(&*self.0)?)),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// A file of it, which has at most so many bytes; `None` where there is none.
    pub fn read(&self, path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
        read_at(self.0.as_fd(), path, limit)
    }

    /// Puts a file into it, whole or not at all: first under a temporary name. It is on the disk where that is wanted. Folders are
    /// made below the directory.
    pub fn put(&self, temporary: &Path, path: &Path, bytes: &[u8], mode: u32, synced: bool) -> io::Result<()> {
        put_at(self.0.as_fd(), (temporary, path), bytes, mode, synced)
    }

    /// Gives what is at this path, whatever it is, a name that nothing has: its own with `.apart` behind it, and a number where
    /// something was put aside before. Nothing is opened for it. Says where it is now.
    pub fn set_aside(&self, path: &Path) -> io::Result<PathBuf> {
        set_aside(self.0.as_fd(), path)
    }
}

/// The same, in a directory that is open.
pub(crate) fn read_at(root: BorrowedFd<'_>, path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
    match open(root, path, OFlags::RDONLY) {
        Ok(file) => read_all(file, limit).map(Some),
        Err(error) if absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn put_at(
    root: BorrowedFd<'_>,
    (temporary, path): (&Path, &Path),
    bytes: &[u8],
    mode: u32,
    synced: bool,
) -> io::Result<()> {
    for folder in [temporary, path].into_iter().filter_map(Path::parent).filter(|folder| !folder.as_os_str().is_empty())
    {
        let (above, name) = parent(root, folder)?;
        match rustix::fs::mkdirat(above, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut file = create(root, temporary, Mode::from_raw_mode(mode))?;
    file.write_all(bytes)?;
    if synced {
        file.sync_all()?;
    }
    let ((source, name), (target, new)) = (parent(root, temporary)?, parent(root, path)?);
    rustix::fs::renameat(source, name, target, new)?;
    if synced {
        rustix::fs::fsync(root)?;
    }
    Ok(())
}

/// The directory at this path, which may be a link to it: where it lies is said by whoever has configured it.
pub(crate) fn directory_at(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The names in a folder; none where there is none. More than a log puts into one are an error: a list without end takes for ever.
pub(crate) fn names(root: BorrowedFd<'_>, path: &Path, most: usize) -> io::Result<Vec<String>> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let opened = folder(root, path).and_then(|found| Ok(rustix::fs::openat(found, ".", flags, Mode::empty())?));
    let opened = match opened {
        Err(error) if absent(&error) => return Ok(Vec::new()),
        other => other?,
    };
    let (mut names, mut seen) = (Vec::new(), 0_usize);
    for entry in rustix::fs::Dir::new(opened)? {
        let entry = entry?;
        seen += 1;
        // The folder itself and the one above are among them.
        if seen > most.saturating_add(2) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more files than a log has in one folder"));
        }
        // Names of a log's files are text.
        names.extend(entry.file_name().to_str().ok().filter(|name| !matches!(*name, "." | "..")).map(str::to_owned));
    }
    Ok(names)
}

/// What is at this path, itself and not what it leads to; `None` where nothing is.
pub(crate) fn look(root: BorrowedFd<'_>, path: &Path) -> io::Result<Option<Stat>> {
    let found =
        parent(root, path).and_then(|(folder, name)| Ok(rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?));
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
