//! The file that is written: under a temporary name beside its own until it is complete.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::Error;

/// A file on its way. Dropped before [`Target::finish`], it leaves nothing behind.
pub struct Target {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    overwrite: bool,
    finished: bool,
    /// What it is made of and replaces.
    replaces: Option<Metadata>,
}

/// What may be replaced, and who may read the result.
#[derive(Clone, Copy, Debug)]
pub struct Permission {
    /// Whether what has the name already may be replaced.
    pub overwrite: bool,
    /// The file's mode, which the process's umask narrows.
    pub mode: u32,
}

impl Target {
    /// Looks at the output without making anything, so that a mistake shows before the service is asked.
    pub fn check(input: &File, path: &Path, overwrite: bool) -> Result<(), Error> {
        let output = |cause| Error::Output { path: path.to_owned(), cause };
        if path.file_name().is_none() {
            return Err(Error::NotAFile(path.to_owned()));
        }
        // The link itself counts for what stands there, the file behind it for whether it is the input.
        let there = match fs::symlink_metadata(path) {
            Ok(there) => there,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(output(error)),
        };
        let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        let from = input.metadata().map_err(Error::Read)?;
        if same(&there, &from) || fs::metadata(path).is_ok_and(|behind| same(&behind, &from)) {
            return Err(Error::SameFile(path.to_owned()));
        }
        match there {
            there if !there.is_file() => Err(Error::NotAFile(path.to_owned())),
            _ if !overwrite => Err(Error::Exists(path.to_owned())),
            _ => Ok(()),
        }
    }

    /// Makes the temporary file in the output's directory, so that the rename stays within one file system.
    pub fn create(path: &Path, permission: Permission) -> Result<Self, Error> {
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| Error::DataKey("the system gives no random bytes"))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // File names end at 255 bytes; the beginning is enough to recognise it by.
        let name: String = name.chars().take(48).collect();
        let temporary = path.with_file_name(format!(".{name}.{:016x}.part", u64::from_be_bytes(random)));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(permission.mode)
            .open(&temporary)
            .map_err(|cause| Error::Output { path: temporary.clone(), cause })?;
        let Permission { overwrite, mode: _ } = permission;
        Ok(Self { file, temporary, path: path.to_owned(), overwrite, finished: false, replaces: None })
    }

    /// The same for what is made of an open file and takes its place, with its permissions. A link is followed.
    pub fn in_place_of(input: &File, path: &Path) -> Result<Self, Error> {
        let failed = |cause| Error::Output { path: path.to_owned(), cause };
        let there = input.metadata().map_err(failed)?;
        if !there.is_file() {
            return Err(Error::NotAFile(path.to_owned()));
        }
        let behind = fs::canonicalize(path).map_err(failed)?;
        let mut target = Self::create(&behind, Permission { overwrite: true, mode: 0o600 })?;
        target.file.set_permissions(there.permissions()).map_err(failed)?;
        target.replaces = Some(there);
        Ok(target)
    }

    /// Where the bytes go.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Makes the file durable and gives it its name. Whoever took the name meanwhile keeps it, unless overwriting is
    /// allowed.
    pub fn finish(mut self) -> Result<(), Error> {
        self.file.sync_all().map_err(Error::Write)?;
        let state = |file: &Metadata| (file.dev(), file.ino(), file.len(), file.mtime(), file.mtime_nsec());
        if let Some(before) = &self.replaces
            && !fs::metadata(&self.path).is_ok_and(|now| state(&now) == state(before))
        {
            return Err(Error::Changed(self.path.clone()));
        }
        let renamed = if self.overwrite {
            fs::rename(&self.temporary, &self.path)
        } else {
            rename_to_new(&self.temporary, &self.path)
        };
        renamed.map_err(|cause| match cause.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists(self.path.clone()),
            _ => Error::Output { path: self.path.clone(), cause },
        })?;
        self.finished = true;
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(Error::Write)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.finished {
            // There is nobody to tell; the name says that it is a part.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // File systems without the flag (some network ones) take a hard link, which does not replace either.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    const NEW: Permission = Permission { overwrite: false, mode: 0o600 };

    #[test]
    fn a_file_is_replaced_with_its_permissions_unless_somebody_wrote_to_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&path, b"old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let replace = |meanwhile: &dyn Fn()| {
            let input = File::open(&link).unwrap();
            let mut target = Target::in_place_of(&input, &link).unwrap();
            target.file().write_all(b"new").unwrap();
            meanwhile();
            target.finish()
        };
        let changed = replace(&|| fs::write(&path, b"somebody's").unwrap());
        assert!(matches!(changed, Err(Error::Changed(_))), "{changed:?}");
        assert_eq!(fs::read(&path).unwrap(), b"somebody's");
        replace(&|| {}).unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), names(directory.path())),
            (b"new".to_vec(), vec!["file".into(), "link".into()])
        );
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(matches!(Target::in_place_of(&File::open("/dev/null").unwrap(), &link), Err(Error::NotAFile(_))));
    }

    #[test]
    fn nothing_is_left_of_an_unfinished_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut target = Target::create(&directory.path().join("out"), NEW).unwrap();
        target.file().write_all(b"part").unwrap();
        assert_eq!(names(directory.path()).len(), 1);
        drop(target);
        assert_eq!(names(directory.path()), Vec::<String>::new());
    }

    #[test]
    fn a_finished_file_has_its_name_alone() {
        let directory = tempfile::tempdir().unwrap();
        Target::create(&directory.path().join("out"), NEW).unwrap().finish().unwrap();
        assert_eq!(names(directory.path()), ["out"]);
    }

    #[test]
    fn a_name_taken_meanwhile_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let target = Target::create(&path, NEW).unwrap();
        fs::write(&path, "theirs").unwrap();
        assert!(matches!(target.finish(), Err(Error::Exists(_))));
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert_eq!(names(directory.path()), ["out"]);
        Target::create(&path, Permission { overwrite: true, ..NEW }).unwrap().finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn the_input_is_never_the_output() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "input").unwrap();
        let input = File::open(&path).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let hard = directory.path().join("hard");
        fs::hard_link(&path, &hard).unwrap();
        for output in [&path, &link, &hard] {
            assert!(matches!(Target::check(&input, output, true), Err(Error::SameFile(_))), "{}", output.display());
        }
        assert!(matches!(Target::check(&input, directory.path(), true), Err(Error::NotAFile(_))));
        Target::check(&input, &directory.path().join("new"), false).unwrap();
    }
}
