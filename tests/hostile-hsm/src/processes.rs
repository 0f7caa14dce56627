//! The daemon, everybody else, and the machine. Nothing here does harm where it succeeds: signal 0 is none, and limits and
//! priorities stay as they are.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;

use super::Report;

const F_SETOWN_EX: libc::c_int = 15;
const F_SETSIG: libc::c_int = 10;
const SYS_PIDFD_OPEN: libc::c_long = 434;
const SYS_PROCESS_MRELEASE: libc::c_long = 448;
#[cfg(target_arch = "x86_64")]
const X32: libc::c_long = 0x4000_0000;

pub(crate) fn attack(report: &mut Report) {
    // SAFETY: no arguments.
    let (daemon, group) = unsafe { (libc::getppid(), libc::getpgid(libc::getppid())) };
    signals(report, daemon, group);
    owners(report, daemon);
    limits(report, daemon);
    // SAFETY: numbers alone, and null where the system takes null.
    unsafe {
        let none = std::ptr::null_mut::<libc::c_void>();
        report.called("attach to the daemon", libc::syscall(libc::SYS_ptrace, 0x4206, daemon, 0, 0));
        let mut byte = [0_u8; 1];
        let local = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
        // Address 1 is nobody's: EFAULT would tell that the system has looked, and so that it may.
        let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(1), iov_len: 1 };
        let vm =
            libc::syscall(libc::SYS_process_vm_readv, daemon, &raw const local, 1_u64, &raw const remote, 1_u64, 0_u64);
        report.called("read the daemon's memory", vm.max(looked(libc::EFAULT)));
        report.called("compare with the daemon", libc::syscall(libc::SYS_kcmp, daemon, daemon, 0, 0, 0));
        report.called("open the daemon", libc::syscall(SYS_PIDFD_OPEN, daemon, 0));
        report.called("make namespaces", libc::syscall(libc::SYS_unshare, libc::CLONE_NEWNS));
        report.called("change the root", libc::syscall(libc::SYS_chroot, c"/".as_ptr()));
        report.called(
            "mount",
            libc::syscall(libc::SYS_mount, c"none".as_ptr(), c"/nowhere".as_ptr(), c"tmpfs".as_ptr(), 0, none)
                .max(looked(libc::ENOENT)),
        );
        report.called("have a ring", libc::syscall(libc::SYS_io_uring_setup, 1, [0_u8; 256].as_mut_ptr()));
        report.called("have kernel keys", libc::syscall(libc::SYS_keyctl, 0, -3, 1));
        report.called("read the kernel's log", libc::syscall(libc::SYS_syslog, 10, none, 0));
        report.called("be attached to", libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0).into());
        report.called("execute", run());
        report.called("release memory", libc::syscall(SYS_PROCESS_MRELEASE, -1, 0).max(looked(libc::EBADF)));
        fork(report);
    }
    for what in ["mem", "environ", "maps", "root", "fd", "cmdline"] {
        let path = format!("/proc/{daemon}/{what}");
        let opened = if what == "fd" || what == "root" {
            std::fs::read_dir(&path).map(drop)
        } else {
            File::open(&path).map(drop)
        };
        report.tried(&format!("open the daemon's {what}"), opened);
    }
    report.tried("change the kernel", OpenOptions::new().write(true).open("/proc/sys/kernel/core_pattern"));
}

/// Not refused, if this is the trouble that the system has met: it has looked at what it was given.
fn looked(trouble: libc::c_int) -> libc::c_long {
    if io::Error::last_os_error().raw_os_error() == Some(trouble) { 0 } else { -1 }
}

fn signals(report: &mut Report, daemon: libc::pid_t, group: libc::pid_t) {
    // Signal 0 asks whether one could be sent.
    // SAFETY: numbers, and one buffer as long as the system's siginfo_t.
    unsafe {
        report.called("signal the daemon", libc::kill(daemon, 0).into());
        report.called("signal the group", libc::kill(0, 0).into());
        report.called("signal everybody", libc::kill(-1, 0).into());
        report.called("signal the daemon's group", libc::kill(-group, 0).into());
        report.called("signal init", libc::kill(1, 0).into());
        report.called("signal the daemon's thread", libc::syscall(libc::SYS_tkill, daemon, 0));
        report.called("signal the daemon's thread by its group", libc::syscall(libc::SYS_tgkill, daemon, daemon, 0));
        let mut info = [0_u64; 16];
        // si_code of sigqueue(3).
        info[1] = u64::from(libc::SI_QUEUE as u32);
        report.called("queue a signal", libc::syscall(libc::SYS_rt_sigqueueinfo, daemon, 0, info.as_ptr()));
        report.called(
            "queue a signal to a thread",
            libc::syscall(libc::SYS_rt_tgsigqueueinfo, daemon, daemon, 0, info.as_ptr()),
        );
        report.called("join the daemon's group", libc::setpgid(0, group).into());
        #[cfg(target_arch = "x86_64")]
        report.called("signal the daemon by the other number", libc::syscall(libc::SYS_kill | X32, daemon, 0));
        // It can always end itself.
        let me = libc::getpid();
        if libc::kill(me, 0) < 0 || libc::syscall(libc::SYS_tgkill, me, libc::gettid(), 0) < 0 {
            report.tried::<()>("own signals work", Err(io::Error::last_os_error()));
        }
    }
}

/// Who owns a descriptor gets signals about it.
fn owners(report: &mut Report, daemon: libc::pid_t) {
    let Ok(null) = File::open("/dev/null") else { return };
    let fd = null.as_raw_fd();
    let whom = [0, daemon];
    // SAFETY: numbers, and a structure of two of them.
    unsafe {
        report.called("have the daemon own a descriptor", libc::fcntl(fd, libc::F_SETOWN, daemon).into());
        report.called("have the daemon own it otherwise", libc::fcntl(fd, F_SETOWN_EX, whom.as_ptr()).into());
        report.called("choose a signal for it", libc::fcntl(fd, F_SETSIG, libc::SIGTERM).into());
        report.called("have it owned by ioctl", libc::ioctl(0, 0x8901, &raw const daemon).into());
    }
}

fn limits(report: &mut Report, daemon: libc::pid_t) {
    // SAFETY: numbers, and buffers as long as the system writes.
    unsafe {
        let mut limit = [0_u64; 2];
        let null = std::ptr::null::<libc::c_void>();
        let asked = libc::syscall(libc::SYS_prlimit64, daemon, libc::RLIMIT_NOFILE, null, limit.as_mut_ptr());
        report.called("have the daemon's limits", asked);
        let mut set = [0_u8; 128];
        let processors = libc::syscall(libc::SYS_sched_getaffinity, daemon, set.len(), set.as_mut_ptr());
        if processors > 0 {
            let same = libc::syscall(libc::SYS_sched_setaffinity, daemon, processors, set.as_ptr());
            report.called("pin the daemon to processors", same);
        }
        let nice = libc::getpriority(libc::PRIO_PROCESS, daemon as libc::id_t);
        report.called(
            "set the daemon's priority",
            libc::setpriority(libc::PRIO_PROCESS, daemon as libc::id_t, nice).into(),
        );
        report.called("set the user's priority", libc::setpriority(libc::PRIO_USER, 0, 0).into());
        report.called("set the group's priority", libc::setpriority(libc::PRIO_PGRP, 0, 0).into());
    }
}

/// Whether a program could be executed. It is none: the system says so only after it has looked.
unsafe fn run() -> libc::c_long {
    // SAFETY: a path and two lists that end with null.
    unsafe {
        let arguments = [c"/dev/null".as_ptr(), std::ptr::null()];
        libc::syscall(libc::SYS_execve, c"/dev/null".as_ptr(), arguments.as_ptr(), arguments.as_ptr().add(1));
    }
    // EPERM is seccomp's; the system's own for a file that is no program is EACCES.
    if io::Error::last_os_error().raw_os_error() == Some(libc::EPERM) { -1 } else { 0 }
}

/// A process that is left behind.
unsafe fn fork(report: &mut Report) {
    // SAFETY: the child does nothing but leave.
    unsafe {
        for (name, call, flags) in [
            ("make a process", libc::SYS_clone, libc::c_long::from(libc::SIGCHLD)),
            ("make a process in a namespace", libc::SYS_clone, libc::c_long::from(libc::CLONE_NEWUSER | libc::SIGCHLD)),
        ] {
            let child = libc::syscall(call, flags, 0, 0, 0, 0);
            if child == 0 {
                libc::_exit(0);
            }
            report.called(name, child);
        }
        let mut arguments = [0_u64; 11];
        arguments[4] = u64::from(libc::SIGCHLD.unsigned_abs());
        let child = libc::syscall(libc::SYS_clone3, arguments.as_mut_ptr(), size_of_val(&arguments));
        if child == 0 {
            libc::_exit(0);
        }
        report.called("make a process by clone3", child);
    }
}
