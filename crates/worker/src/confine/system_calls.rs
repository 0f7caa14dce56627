//! seccomp: calls that no PKCS#11 module has a reason to make are answered with EPERM.
//!
//! A list of what is forbidden, not of what is allowed: vendors' modules and libc change, and a worker that dies of a
//! new harmless call would take its zone down. SoftHSM's log lines for syslog are lost with the sockets.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use model::profile::Confinement;

/// Other programs, other processes' memory, the kernel and the machine.
const NEVER: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_open_by_handle_at,
    // Would do the forbidden calls in the kernel's own threads.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// Forbidden where the module has no network to talk to.
const NO_NETWORK: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
];

/// Restricts the process; what could not be done comes back as a sentence.
pub(super) fn restrict(confinement: &Confinement) -> Result<(), String> {
    filter(confinement)
        .and_then(|filter| seccompiler::apply_filter(&filter).map_err(|error| error.to_string()))
        .map_err(|reason| format!("seccomp is not applied: {reason}."))
}

fn filter(confinement: &Confinement) -> Result<BpfProgram, String> {
    let target = TargetArch::try_from(ARCH).map_err(|error| error.to_string())?;
    // A network HSM's module opens sockets; one of files has no business with any.
    let network = if confinement.network { &[] } else { NO_NETWORK };
    let forbidden: BTreeMap<i64, _> = NEVER.iter().chain(network).map(|call| (*call, Vec::new())).collect();
    let eperm = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(forbidden, SeccompAction::Allow, eperm, target);
    filter.and_then(BpfProgram::try_from).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::profile::Files;

    #[test]
    fn the_filters_compile_for_this_machine() {
        let of = |network| filter(&Confinement { files: Files::Unknown, network }).unwrap().len();
        assert!(of(false) > of(true));
    }
}
