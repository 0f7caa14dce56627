//! The directory of login locks: shared by every daemon and ceremony of a host, and closed to everybody else.
//!
//! Whoever can open a lock file can hold the lock, and whoever can make files in the directory can make one that nobody
//! else opens: either keeps every login on the host waiting. So the directory is used only where no stranger can write
//! to it, and what is made in it is open to its own users alone.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid, getegid, geteuid, getgroups};

use model::outage::Outage;

/// Write permission for the group, and for others.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const OTHERS: u32 = 0o007;

/// Why a directory is not used for login locks.
#[derive(Debug, thiserror::Error)]
#[error("lock_dir {}: {why}", .directory.display())]
pub struct LockDirError {
    directory: PathBuf,
    why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Why {
    #[error("it is not there")]
    Missing,
    #[error("it is no directory")]
    NoDirectory,
    #[error("everybody may write to it (mode {0:04o}): any user of this host could keep logins waiting")]
    Everybody(u32),
    #[error("group {0} may write to it, which this process (user {1}) does not belong to")]
    Group(u32, u32),
    #[error("it belongs to user {0}, who is neither root nor the user of this process ({1})")]
    Owner(u32, u32),
    #[error("this process (user {0}) may not write to it")]
    NotMine(u32),
    #[error("it cannot be used ({said})")]
    System { said: String, outage: Option<Outage> },
}

impl LockDirError {
    /// What the machine is short of for the moment, where nothing is wrong with the directory.
    #[must_use]
    pub const fn outage(&self) -> Option<Outage> {
        match self.why {
            Why::System { outage, .. } => outage,
            _ => None,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        let make = "one way is deploy/keystored.tmpfiles.conf, with systemd-tmpfiles --create; for the daemons of one user \
                    install -d -m 0700 does as well";
        let directory = self.directory.display();
        match self.why {
            Why::Missing => format!("make it, as root where needed ({make}), or name another directory in lock_dir"),
            Why::System { outage: Some(outage), .. } => outage.remedy().to_owned(),
            Why::NoDirectory | Why::System { .. } => format!("name a directory in lock_dir; {make}"),
            Why::Everybody(_) => {
                format!(
                    "name a directory in lock_dir that the users of keystored alone can write to, such as /run/keystored: {make}"
                )
            }
            Why::Group(..) | Why::Owner(..) | Why::NotMine(_) => format!(
                "have {directory} belong to root and a group of the users of keystored (chown root:keystored, chmod 2770) and \
                 this user to that group, or name another directory in lock_dir"
            ),
        }
    }
}

/// What is known of a directory.
#[derive(Clone, Copy, Debug)]
struct Seen {
    mode: u32,
    owner: u32,
    group: u32,
}

/// Who looks.
#[derive(Clone, Debug)]
struct Me {
    user: u32,
    groups: Vec<u32>,
}

impl Me {
    fn now() -> io::Result<Self> {
        let mut groups: Vec<u32> = getgroups()?.into_iter().map(Gid::as_raw).collect();
        groups.push(getegid().as_raw());
        Ok(Self { user: geteuid().as_raw(), groups })
    }
}

/// Nobody but root, this user and its groups may write there. Root looks after the directory of others: whose it is and
/// which group it is for is then the operator's word.
fn judge(seen: Seen, me: &Me) -> Result<(), Why> {
    if seen.mode & OTHERS_WRITE != 0 {
        return Err(Why::Everybody(seen.mode & 0o7777));
    }
    if me.user == 0 {
        return Ok(());
    }
    if seen.mode & GROUP_WRITES != 0 && !me.groups.contains(&seen.group) {
        return Err(Why::Group(seen.group, me.user));
    }
    if seen.owner != 0 && seen.owner != me.user {
        return Err(Why::Owner(seen.owner, me.user));
    }
    Ok(())
}

/// The directory, opened: what is made in it is made in the one that was looked at, whatever its name leads to later.
pub(super) struct LockDir {
    handle: OwnedFd,
    seen: Seen,
    /// Opened by root.
    root: bool,
}

/// Says why the directory cannot be used for login locks, if it cannot.
pub fn look_at_lock_dir(directory: &Path) -> Result<(), LockDirError> {
    LockDir::open(directory).map(drop)
}

impl LockDir {
    pub(super) fn open(directory: &Path) -> Result<Self, LockDirError> {
        let failed = |why| LockDirError { directory: directory.to_owned(), why };
        let system = |error: io::Error| {
            let outage = Outage::of(&error);
            failed(Why::System { said: error.to_string(), outage })
        };
        // A link is followed: /var/lock is one on most systems. What it leads to is what is judged.
        let opened = rustix::fs::open(directory, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let handle = opened.map_err(|error| match error {
            Errno::NOENT => failed(Why::Missing),
            Errno::NOTDIR => failed(Why::NoDirectory),
            Errno::ACCESS => failed(Why::NotMine(geteuid().as_raw())),
            error => system(error.into()),
        })?;
        let stat = rustix::fs::fstat(&handle).map_err(|error| system(error.into()))?;
        let seen = Seen { mode: stat.st_mode, owner: stat.st_uid, group: stat.st_gid };
        let me = Me::now().map_err(system)?;
        judge(seen, &me).map_err(failed)?;
        rustix::fs::accessat(&handle, ".", Access::WRITE_OK | Access::EXEC_OK, rustix::fs::AtFlags::EACCESS).or_else(
            |error| match error {
                // A kernel that cannot tell: the first lock will.
                Errno::NOSYS | Errno::INVAL => Ok(()),
                Errno::ACCESS | Errno::PERM => Err(failed(Why::NotMine(me.user))),
                error => Err(system(error.into())),
            },
        )?;
        Ok(Self { handle, seen, root: me.user == 0 })
    }

    /// Opens a lock file, and makes it where it is not there; absent where somebody else has just made it.
    pub(super) fn file(&self, name: &str) -> io::Result<Option<File>> {
        // First without making it: in some directories the kernel refuses to "make" a file that is somebody else's.
        // Neither a pipe, which would be waited for, nor a link is followed.
        let common = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let file = match rustix::fs::openat(&self.handle, name, common, Mode::empty()) {
            Err(Errno::NOENT) => match self.make(name, common) {
                Err(Errno::EXIST) => return Ok(None),
                made => made?,
            },
            opened => opened?,
        };
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is no regular file"));
        }
        self.close_to_others(&file, &stat)?;
        Ok(Some(File::from(file)))
    }

    fn make(&self, name: &str, common: OFlags) -> Result<OwnedFd, Errno> {
        let made =
            rustix::fs::openat(&self.handle, name, common | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR)?;
        if self.root {
            // A ceremony that root carries out leaves locks that the daemon can take.
            rustix::fs::fchown(&made, Some(Uid::from_raw(self.seen.owner)), Some(Gid::from_raw(self.seen.group)))?;
        }
        if self.seen.mode & GROUP_WRITES != 0 {
            // Users that share the directory share its locks, whatever their own group and the umask: reading is
            // enough.
            let group = Some(Gid::from_raw(self.seen.group));
            rustix::fs::fchown(&made, None, group)?;
            rustix::fs::fchmod(&made, Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP)?;
        }
        Ok(made)
    }

    /// A file from before, which others can open, is closed to them; where it cannot be, they can hold the lock.
    fn close_to_others(&self, file: &OwnedFd, stat: &Stat) -> io::Result<()> {
        if stat.st_mode & OTHERS == 0 || self.seen.mode & OTHERS == 0 {
            return Ok(());
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(stat.st_mode & 0o770)).map_err(|error| {
            let mode = stat.st_mode & 0o777;
            io::Error::other(format!(
                "everybody may open it (mode {mode:03o}), and it cannot be closed to them ({error}); remove it"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn only_the_users_of_keystored_may_write_there() {
        let me = Me { user: 900, groups: vec![900, 901] };
        let seen = |mode: u32, owner, group| Seen { mode: 0o040_000 | mode, owner, group };
        for (good, directory) in [
            (true, seen(0o700, 900, 900)),
            (true, seen(0o755, 900, 900)),
            (true, seen(0o2770, 0, 901)),
            (true, seen(0o770, 900, 901)),
            (false, seen(0o777, 900, 900)),
            (false, seen(0o1777, 0, 0)),
            (false, seen(0o702, 900, 900)),
            (false, seen(0o770, 0, 0)),
            (false, seen(0o775, 900, 50)),
            (false, seen(0o700, 1000, 900)),
            (false, seen(0o770, 1000, 901)),
        ] {
            assert_eq!(judge(directory, &me).is_ok(), good, "{directory:?}: {:?}", judge(directory, &me));
        }
        let root = Me { user: 0, groups: vec![0] };
        assert_eq!(judge(seen(0o2770, 0, 901), &root), Ok(()));
        assert_eq!(judge(seen(0o700, 900, 900), &root), Ok(()));
        assert_eq!(judge(seen(0o1777, 0, 0), &root), Err(Why::Everybody(0o1777)));
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = |path: &Path| look_at_lock_dir(path).unwrap_err();
        let missing = refusal(&folder.path().join("locks"));
        assert!(missing.to_string().ends_with("/locks: it is not there"), "{missing}");
        assert!(missing.remedy().contains("tmpfiles"), "{}", missing.remedy());
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(refusal(&file).to_string().contains("no directory"));
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(refusal(&open).to_string().contains("everybody may write to it (mode 1777)"));
        // A link is as good as what it leads to.
        let link = folder.path().join("link");
        symlink(&open, &link).unwrap();
        assert!(refusal(&link).to_string().contains("everybody"));
        fs::set_permissions(&open, fs::Permissions::from_mode(0o700)).unwrap();
        look_at_lock_dir(&link).unwrap();
    }

    #[test]
    fn lock_files_are_for_the_users_of_the_directory() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().mode() & 0o777;
        let enter = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        enter(0o755);
        let directory = LockDir::open(folder.path()).unwrap();
        directory.file("own").unwrap().unwrap();
        assert_eq!(mode("own"), 0o600);
        // One from a time when it was open to all.
        fs::write(folder.path().join("old"), "").unwrap();
        fs::set_permissions(folder.path().join("old"), fs::Permissions::from_mode(0o644)).unwrap();
        directory.file("old").unwrap().unwrap();
        assert_eq!(mode("old"), 0o640);
        enter(0o2770);
        LockDir::open(folder.path()).unwrap().file("shared").unwrap().unwrap();
        assert_eq!(mode("shared"), 0o660);
        // No link is followed, and none is made through.
        symlink(folder.path().join("victim"), folder.path().join("link")).unwrap();
        assert!(directory.file("link").is_err());
        assert!(!folder.path().join("victim").exists());
    }
}
