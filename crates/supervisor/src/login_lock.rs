//! One login or PIN change to a token at a time, over all processes of this host.
//!
//! SoftHSM rewrites its token file at each login, and any HSM counts wrong PINs: two daemons, or a daemon and a
//! ceremony, must not try at once. The lock is a file named after the token's label and serial number, in a directory
//! that all of them share and nobody else can write to ([`super::lock_dir`]); the system gives it back when its holder
//! dies. It is held by the daemon, so a worker that outlives a crashed daemon by the rest of its login is kept apart by
//! the HSM's own lock file alone, within one state_dir.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::link::sleep_until;
use super::lock_dir::{LockDir, LockDirError};
use model::clock::Clock;
use protocol::Ready;

/// How often it is asked for.
const EVERY: Duration = Duration::from_millis(10);
/// Others are waited for no longer than the limit of a login.
const WITHIN: Duration = Duration::from_secs(60);

/// Held as long as this lives.
#[derive(Debug)]
pub struct LoginLock {
    _file: File,
}

/// Why the lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("another process has been logging in to this token for {0:?}; see which one holds {1}")]
    Held(Duration, PathBuf),
    /// The directory of the locks is not there, or not closed to strangers.
    #[error("{0}; {remedy}", remedy = .0.remedy())]
    Directory(#[from] LockDirError),
    /// The system's words.
    #[error(
        "the lock file {0} cannot be used ({1}); name a directory that every keystored on this host can write to in lock_dir"
    )]
    System(PathBuf, io::Error),
}

impl LoginLock {
    /// Waits for the token's lock; tells `waits` when it is not free at once.
    pub async fn take(directory: &Path, token: &Ready, clock: &Clock, waits: impl FnOnce()) -> Result<Self, LockError> {
        let name = name(token);
        let path = directory.join(&name);
        let directory = LockDir::open(directory)?;
        let until = clock.now() + WITHIN;
        let mut waits = Some(waits);
        loop {
            match try_take(&directory, &name) {
                Ok(Some(file)) => return Ok(Self { _file: file }),
                Ok(None) if clock.now() < until => {
                    if let Some(waits) = waits.take() {
                        waits();
                    }
                    sleep_until(clock.now() + EVERY).await;
                }
                Ok(None) => return Err(LockError::Held(WITHIN, path)),
                Err(error) => return Err(LockError::System(path, error)),
            }
        }
    }
}

fn try_take(directory: &LockDir, name: &str) -> io::Result<Option<File>> {
    let Some(file) = directory.file(name)? else { return Ok(None) };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn name(token: &Ready) -> String {
    let mut context = Context::new(&SHA256);
    for part in [&token.label, &token.serial] {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part.as_bytes());
    }
    let digits: String = context.finish().as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("keystored-login-{digits}.lock")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rustix::fs::{FileType, Mode};

    use super::*;

    fn token(serial: &str) -> Ready {
        Ready {
            serial: serial.into(),
            label: "one".into(),
            module: String::new(),
            user: Default::default(),
            identity: None,
            abilities: Default::default(),
            degraded: Vec::new(),
        }
    }

    #[tokio::test]
    async fn one_at_a_time_for_each_token() {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::system());
        let first = LoginLock::take(folder.path(), &token("1"), &clock, || ()).await.unwrap();
        let made = std::fs::metadata(folder.path().join(name(&token("1")))).unwrap();
        assert_eq!(made.permissions().mode() & 0o777, 0o600, "whoever can open it can hold the lock");
        let directory = LockDir::open(folder.path()).unwrap();
        assert!(try_take(&directory, &name(&token("1"))).unwrap().is_none());
        LoginLock::take(folder.path(), &token("2"), &clock, || ()).await.unwrap();
        drop(first);
        LoginLock::take(folder.path(), &token("1"), &clock, || ()).await.unwrap();
        let pipe = folder.path().join(name(&token("3")));
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        let error = LoginLock::take(folder.path(), &token("3"), &clock, || ()).await.unwrap_err();
        assert!(error.to_string().contains("no regular file"), "{error}");
        let error = LoginLock::take(Path::new("/nowhere"), &token("1"), &clock, || ()).await.unwrap_err();
        assert!(error.to_string().contains("lock_dir /nowhere: it is not there"), "{error}");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
        let error = LoginLock::take(folder.path(), &token("1"), &clock, || ()).await.unwrap_err();
        assert!(error.to_string().contains("everybody may write to it"), "{error}");
    }
}
