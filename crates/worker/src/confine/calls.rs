//! System calls that modules are refused, whatever their arguments are.

/// Numbers that all architectures have in common, of calls that libc does not name everywhere.
mod new {
    pub(super) const PIDFD_SEND_SIGNAL: i64 = 424;
    pub(super) const OPEN_TREE: i64 = 428;
    pub(super) const MOVE_MOUNT: i64 = 429;
    pub(super) const FSOPEN: i64 = 430;
    pub(super) const FSCONFIG: i64 = 431;
    pub(super) const FSMOUNT: i64 = 432;
    pub(super) const FSPICK: i64 = 433;
    pub(super) const PIDFD_OPEN: i64 = 434;
    pub(super) const PIDFD_GETFD: i64 = 438;
    pub(super) const PROCESS_MADVISE: i64 = 440;
    pub(super) const MOUNT_SETATTR: i64 = 442;
    pub(super) const QUOTACTL_FD: i64 = 443;
    pub(super) const PROCESS_MRELEASE: i64 = 448;
    pub(super) const FCHMODAT2: i64 = 452;
    pub(super) const SETXATTRAT: i64 = 463;
    pub(super) const REMOVEXATTRAT: i64 = 466;
    pub(super) const OPEN_TREE_ATTR: i64 = 467;
    pub(super) const FILE_SETATTR: i64 = 469;
}

/// Other programs, other processes, the kernel and the machine.
pub(super) const NEVER: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_kcmp,
    new::PROCESS_MADVISE,
    new::PROCESS_MRELEASE,
    new::PIDFD_OPEN,
    new::PIDFD_GETFD,
    new::PIDFD_SEND_SIGNAL,
    // Into the daemon's group of processes, which could then be signalled; or the priority of a user's.
    libc::SYS_setpgid,
    libc::SYS_ioprio_set,
    libc::SYS_mount,
    libc::SYS_umount2,
    new::MOVE_MOUNT,
    new::FSOPEN,
    new::FSCONFIG,
    new::FSMOUNT,
    new::FSPICK,
    new::OPEN_TREE,
    new::OPEN_TREE_ATTR,
    new::MOUNT_SETATTR,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    new::QUOTACTL_FD,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_open_by_handle_at,
    // Would do the forbidden calls in the kernel's own threads.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // What a file is to others, by its path, which Landlock does not look at; by a descriptor it may be changed.
    libc::SYS_fchmodat,
    new::FCHMODAT2,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    new::SETXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    new::REMOVEXATTRAT,
    new::FILE_SETATTR,
];

/// The same, of calls that only this architecture has: older forms of others.
#[cfg(target_arch = "x86_64")]
pub(super) const FOR_NOBODY: &[i64] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_iopl,
    libc::SYS_ioperm,
];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const FOR_NOBODY: &[i64] = &[];

/// To be spoken to, which no module has to be.
pub(super) const SERVING: &[i64] = &[libc::SYS_bind, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4];

/// Sockets at all, where the module has nobody to talk to.
pub(super) const SOCKETS: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
];
