//! Processes as /proc shows them, and signals to them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

/// Every process whose parent is `parent`.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    all().into_iter().filter(|(_, of)| *of == parent).map(|(pid, _)| pid).collect()
}

/// The process and every process whose parent it is.
pub(crate) fn family(parent: u32) -> Vec<u32> {
    std::iter::once(parent).chain(children(parent)).collect()
}

/// Whether the process is there and not only waits to be reaped.
pub(crate) fn lives(pid: u32) -> bool {
    stat(pid).is_some()
}

/// A process's arguments, joined by blanks.
pub(crate) fn arguments(pid: u32) -> String {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&raw).replace('\0', " ").trim_end().to_owned()
}

/// Open file descriptors of a process.
pub(crate) fn files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count).unwrap_or_default()
}

/// Lets this process, and those that it starts from now on, have as many open files as the system allows.
pub(crate) fn raise_file_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// A number that /proc/PID/status names, such as `Threads`, or `VmRSS` in kB.
pub(crate) fn status(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

/// Sends a signal; a process that is gone already is no error.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let _ = kill_process(id(pid), signal);
}

/// Whether nobody holds the lock file.
pub(crate) fn is_lock_free(path: &str) -> bool {
    match fs::File::open(path) {
        Ok(file) => file.try_lock().is_ok(),
        Err(_) => true,
    }
}

fn id(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

/// Pid and parent of every process that is no zombie.
fn all() -> Vec<(u32, u32)> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| stat(pid).map(|parent| (pid, parent))).collect()
}

/// The parent of a process that is no zombie.
fn stat(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name stands in brackets and may hold anything.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(parent)
}

/// Whether these bytes are somewhere in what a process has written to its memory; `None` where the system does not show
/// it, as to anybody but root.
pub(crate) fn remembers(pid: u32, wanted: &[u8]) -> Option<bool> {
    const PIECE: usize = 1 << 20;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut seen = 0;
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|flags| flags.starts_with("rw"))) {
        let (from, to) = line.split(' ').next()?.split_once('-')?;
        let (mut at, end) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
        let mut piece = vec![0; PIECE + wanted.len()];
        while at < end {
            let length = piece.len().min(usize::try_from(end - at).ok()?);
            let Ok(read) = memory.read_at(&mut piece[..length], at) else { break };
            seen += read;
            let mut starts = piece[..read].windows(wanted.len());
            if starts.any(|bytes| bytes[0] == wanted[0] && bytes == wanted) {
                return Some(true);
            }
            at += PIECE as u64;
        }
    }
    (seen > 0).then_some(false)
}
