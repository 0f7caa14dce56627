//! The worker processes of one HSM, as /proc shows them, and signals to them.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// In what Linux counts processor time, to whomever it shows that.
const TICK: Duration = Duration::from_millis(10);

/// The daemon's children whose arguments name this HSM: its data workers and its control worker.
pub(super) fn of(daemon: u32, hsm: &str) -> Vec<Pid> {
    let ending = format!("\0hsm-worker\0{hsm}\0");
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mine = |pid: &u32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        parent(*pid) == Some(daemon) && arguments.ends_with(ending.as_bytes())
    };
    pids.filter(mine).filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).collect()
}

/// Sends a signal to each; who is gone already is no error.
pub(super) fn signal(workers: &[Pid], signal: Signal) {
    for worker in workers {
        let _ = kill_process(*worker, signal);
    }
}

/// The parent of a process.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name stands in brackets and may hold anything.
    stat[stat.rfind(')')? + 1..].split_whitespace().nth(1)?.parse().ok()
}

/// Processor time that a process has had, its threads that have ended too.
pub(super) fn processor_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut figures = stat[stat.rfind(')')? + 1..].split_whitespace().skip(11);
    let mut ticks = || figures.next()?.parse::<u32>().ok();
    Some(TICK * (ticks()? + ticks()?))
}

/// Resident memory of a process, in MiB.
pub(super) fn resident(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()? / 1024.0)
}
