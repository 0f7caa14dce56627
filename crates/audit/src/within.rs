//! Paths within a log's directory, followed without leaving it.
//!
//! Who can write to the directory may put anything in place of a file or of a folder: a link that leads elsewhere, a pipe that
//! holds whoever opens it, a file without end. So each folder on the way is opened by itself, links are followed nowhere, and
//! what is opened is a regular file or an error.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

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

/// A new file. What bore the name is only unlinked, never written to: it may have another name elsewhere.
pub(crate) fn create(root: BorrowedFd<'_>, path: &Path, mode: Mode) -> io::Result<File> {
    let (folder, name) = parent(root, path)?;
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
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

/// A file of a log's directory, which has at most so many bytes; `None` where there is none.
pub fn read(directory: &Path, path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
    match directory_at(directory) {
        Ok(root) => read_at(root.as_fd(), path, limit),
        Err(error) if absent(&error) => Ok(None),
        Err(error) => Err(error),
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

/// Puts a file into a log's directory, whole or not at all: first under a temporary name. It is on the disk where that is
/// wanted. Folders are made below the directory, and not the directory itself.
pub fn put(directory: &Path, temporary: &Path, path: &Path, bytes: &[u8], mode: u32, synced: bool) -> io::Result<()> {
    let root = directory_at(directory)?;
    for folder in [temporary, path].into_iter().filter_map(Path::parent).filter(|folder| !folder.as_os_str().is_empty())
    {
        let (above, name) = parent(root.as_fd(), folder)?;
        match rustix::fs::mkdirat(above, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut file = create(root.as_fd(), temporary, Mode::from_raw_mode(mode))?;
    file.write_all(bytes)?;
    if synced {
        file.sync_all()?;
    }
    let ((source, name), (target, new)) = (parent(root.as_fd(), temporary)?, parent(root.as_fd(), path)?);
    rustix::fs::renameat(source, name, target, new)?;
    if synced {
        rustix::fs::fsync(&root)?;
    }
    Ok(())
}

fn directory_at(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}
