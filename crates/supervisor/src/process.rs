//! Worker processes and the lock file that they and the daemon hold together.

use std::fs::File;
use std::io::{self, PipeReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;

use rustix::fs::{FlockOperation, Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use tokio::process::{Child, Command};

use super::socket::Socket;
use super::{Settings, StartError};

/// Takes the lock of an HSM if nobody has it. It is free again when every descriptor of the returned file is closed, so
/// when the daemon and all workers that were given one are gone.
///
/// Opened for reading only: workers have it as their standard output, and what a module prints must not end up in it.
/// Neither a link is followed nor a pipe waited for.
pub(super) fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(File::from(file))),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes a worker process, the socket to it, and the pipe from its standard error.
///
/// The pipe never blocks its writers: a worker that says something inside C_Login, or a module that does, must not wait
/// there for a daemon that is busy, stopped or gone.
///
/// It is not killed when its handle is dropped: it may be inside a login, and it leaves by itself when the socket is
/// closed. The runtime reaps it in any case.
pub(super) fn spawn(settings: &Settings, lock: &File) -> Result<(Child, Socket, PipeReader), StartError> {
    let failed = |error: io::Error| StartError::Spawn { program: settings.worker.clone(), error: error.to_string() };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let ours = Socket::over(ours).map_err(failed)?;
    let (words, mouth) = io::pipe().map_err(failed)?;
    let flags = fcntl_getfl(&mouth).map_err(|error| failed(error.into()))?;
    fcntl_setfl(&mouth, flags | OFlags::NONBLOCK).map_err(|error| failed(error.into()))?;
    let child = Command::new(&settings.worker)
        .arg("hsm-worker")
        // Read by people alone: which of the processes in a list is whose.
        .arg(settings.hsm.as_str())
        .env_clear()
        .envs(&settings.environment)
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .stdout(Stdio::from(lock.try_clone().map_err(failed)?))
        .stderr(Stdio::from(mouth))
        // A group of its own: an interrupt typed at the daemon's terminal must not end a worker inside a login.
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    Ok((child, ours, words))
}

/// Whether a thread of a process runs or waits for a processor, rather than for something else or for SIGCONT.
pub(super) fn at_work(pid: Option<u32>) -> impl Fn() -> bool {
    move || {
        let threads = pid.and_then(|pid| std::fs::read_dir(format!("/proc/{pid}/task")).ok());
        let stats = threads.into_iter().flatten().flatten().map(|thread| thread.path().join("stat"));
        // The name in brackets may hold anything; the state is the letter after it.
        let runs = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('R'));
        stats.filter_map(|stat| std::fs::read_to_string(stat).ok()).any(runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_thread_is_at_work_and_one_that_sleeps_is_not() {
        assert!(at_work(Some(std::process::id()))());
        // Longer than all the looks: one that has ended is not at work either.
        let mut sleeper = std::process::Command::new("sleep").arg("3600").spawn().unwrap();
        let at_work = at_work(Some(sleeper.id()));
        // It runs until it has begun to sleep.
        let slept = (0..10_000_000).any(|_| {
            std::thread::yield_now();
            !at_work()
        });
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        assert!(slept);
    }
}
