//! Worker processes and the lock file that they and the daemon hold together.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream as Pair;
use std::path::Path;
use std::process::Stdio;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::{Settings, StartError};

/// Takes the lock of an HSM if nobody has it. It is free again when every descriptor of the returned file is closed, so
/// when the daemon and all workers that were given one are gone.
///
/// Opened for reading only: workers have it as their standard output, and what a module prints must not end up in it.
pub(super) fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(File::from(file))),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes a worker process, and the socket to it.
///
/// It is not killed when its handle is dropped: it may be inside a login, and it leaves by itself when the socket is
/// closed. The runtime reaps it in any case.
pub(super) fn spawn(settings: &Settings, lock: &File) -> Result<(Child, UnixStream), StartError> {
    let failed = |error: io::Error| StartError::Spawn { program: settings.worker.clone(), error: error.to_string() };
    let (ours, theirs) = Pair::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    let ours = UnixStream::from_std(ours).map_err(failed)?;
    let child = Command::new(&settings.worker)
        .arg("hsm-worker")
        // Read by people alone: which of the processes in a list is whose.
        .arg(settings.hsm.as_str())
        .env_clear()
        .envs(&settings.environment)
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .stdout(Stdio::from(lock.try_clone().map_err(failed)?))
        // A group of its own: an interrupt typed at the daemon's terminal must not end a worker inside a login.
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    Ok((child, ours))
}
