//! seccomp: calls that no PKCS#11 module has a reason to make are answered with EPERM.
//!
//! A list of what is forbidden, not of what is allowed: vendors' modules and libc change, and a worker that dies of a
//! new harmless call would take its zone down. SoftHSM's log lines for syslog are lost with the sockets.
//!
//! Where Landlock knows a thing, this is the second lock on it. What Landlock does not know is refused here alone:
//! signals and limits of other processes, modes and owners of files by their path, sockets of other kinds.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use super::calls::{FOR_NOBODY, NEVER, SERVING, SOCKETS};
use model::sandbox::Sandbox;

/// The rules for each call; none: whatever its arguments are.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// From here on numbers are those of x32 on x86-64, where every call has a second number.
const X32: u32 = 0x4000_0000;
/// The kinds of sockets are in the lowest bits, beside flags.
const KIND: u64 = 0xf;
/// Would have a connection made by the first datagram, which Landlock does not see.
const MSG_FASTOPEN: u64 = 0x2000_0000;
/// Another process may attach to this one.
const PR_SET_PTRACER: u64 = 0x5961_6d61;
/// Who gets signals of a descriptor, and which.
const FIOSETOWN: u64 = 0x8901;
const SIOCSPGRP: u64 = 0x8902;
/// `F_SETOWN_EX` and `F_SETSIG`, which libc does not have for every target.
const F_SETOWN_EX: u64 = 15;
const F_SETSIG: u64 = 10;

/// Restricts the process, whose id is `pid`; what could not be done comes back as a sentence.
pub(super) fn restrict(sandbox: &Sandbox, pid: u32) -> Result<(), String> {
    filter(sandbox, pid)
        .and_then(|filter| {
            seccompiler::apply_filter(&unknown()).map_err(|error| error.to_string())?;
            seccompiler::apply_filter(&filter).map_err(|error| error.to_string())
        })
        .map_err(|reason| {
            format!("seccomp is not applied: {reason}; the module can signal every process of this user.")
        })
}

fn filter(sandbox: &Sandbox, pid: u32) -> Result<BpfProgram, String> {
    let target = TargetArch::try_from(ARCH).map_err(|error| error.to_string())?;
    let eperm = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let rules = rules(sandbox, pid.into()).map_err(|error| error.to_string())?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, eperm, target);
    filter.and_then(BpfProgram::try_from).map_err(|error| error.to_string())
}

/// Says of two kinds of calls that there are none: those with numbers of x32, since a filter goes by the number, and
/// clone3, whose arguments a filter cannot see. libc then uses clone.
fn unknown() -> BpfProgram {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let clone3 = u32::try_from(libc::SYS_clone3).unwrap_or(u32::MAX);
    vec![
        // The number of the call is the first thing that a filter is shown.
        step(LOAD, 0, 0, 0),
        step(AT_LEAST, 2, 0, X32),
        step(EQUAL, 1, 0, clone3),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()),
    ]
}

fn rules(sandbox: &Sandbox, pid: u64) -> Result<Rules, seccompiler::BackendError> {
    let mut rules = Rules::new();
    let mut never = |calls: &[i64]| calls.iter().for_each(|call| drop(rules.insert(*call, Vec::new())));
    never(NEVER);
    never(FOR_NOBODY);
    never(if sandbox.has_network() { SERVING } else { SOCKETS });
    let mut when = |call: i64, rule: Vec<SeccompCondition>| {
        rules.entry(call).or_default().push(SeccompRule::new(rule)?);
        Ok::<(), seccompiler::BackendError>(())
    };
    // Signals go to this process alone: not to a group, not to everybody (0, -1 and other negative numbers).
    for call in
        [libc::SYS_kill, libc::SYS_tkill, libc::SYS_tgkill, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo]
    {
        when(call, vec![not(0, pid)?])?;
    }
    // Limits and priorities: of itself, which is also 0.
    for call in [
        libc::SYS_prlimit64,
        libc::SYS_sched_setaffinity,
        libc::SYS_sched_setattr,
        libc::SYS_sched_setparam,
        libc::SYS_sched_setscheduler,
    ] {
        when(call, vec![not(0, 0)?, not(0, pid)?])?;
    }
    when(libc::SYS_setpriority, vec![not(0, u64::from(libc::PRIO_PROCESS))?])?;
    when(libc::SYS_setpriority, vec![not(1, 0)?, not(1, pid)?])?;
    for option in [libc::PR_SET_DUMPABLE.unsigned_abs().into(), PR_SET_PTRACER] {
        when(libc::SYS_prctl, vec![is(0, option)?])?;
    }
    // A descriptor's owner gets signals, and could be any process.
    for command in [libc::F_SETOWN.unsigned_abs().into(), F_SETOWN_EX, F_SETSIG] {
        when(libc::SYS_fcntl, vec![is(1, command)?])?;
    }
    for request in [FIOSETOWN, SIOCSPGRP, u64::from(libc::TIOCSTI as u32), u64::from(libc::TIOCLINUX as u32)] {
        when(libc::SYS_ioctl, vec![is(1, request)?])?;
    }
    // A further thread, and no further process: that would outlive the killing of this one, with its PIN and sessions.
    when(libc::SYS_clone, vec![masked(0, flag(libc::CLONE_THREAD), 0)?])?;
    for space in [libc::CLONE_NEWNET, libc::CLONE_NEWIPC, libc::CLONE_NEWUTS, libc::CLONE_NEWNS, libc::CLONE_NEWCGROUP]
    {
        when(libc::SYS_clone, vec![masked(0, flag(space), flag(space))?])?;
    }
    // Of a descriptor, but not of a path: Landlock has not looked at that.
    when(libc::SYS_utimensat, vec![SeccompCondition::new(1, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?])?;
    if sandbox.has_network() {
        network(sandbox, &mut when)?;
    }
    Ok(rules)
}

/// Streams and datagrams to other hosts, and what is needed to look names up; or Unix sockets.
fn network(
    sandbox: &Sandbox,
    when: &mut impl FnMut(i64, Vec<SeccompCondition>) -> Result<(), seccompiler::BackendError>,
) -> Result<(), seccompiler::BackendError> {
    let internet = if sandbox.ports.is_empty() { &[][..] } else { &[libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK] };
    let unix = if sandbox.sockets.is_empty() { &[][..] } else { &[libc::AF_UNIX] };
    let families = internet.iter().chain(unix).map(|family| u64::from(family.unsigned_abs()));
    when(libc::SYS_socket, families.map(|family| not(0, family)).collect::<Result<_, _>>()?)?;
    for family in [libc::AF_INET, libc::AF_INET6].map(|family| u64::from(family.unsigned_abs())) {
        // Other protocols than TCP carry connections past Landlock: MPTCP and SCTP among them.
        let protocols = [libc::IPPROTO_IP, libc::IPPROTO_TCP, libc::IPPROTO_UDP];
        let others = protocols.map(|protocol| not(2, u64::from(protocol.unsigned_abs())));
        let others = others.into_iter().collect::<Result<Vec<_>, _>>()?;
        when(libc::SYS_socket, [vec![is(0, family)?], others].concat())?;
        let usual = [libc::SOCK_STREAM, libc::SOCK_DGRAM].map(|kind| u64::from(kind.unsigned_abs()));
        for kind in (0..=KIND).filter(|kind| !usual.contains(kind)) {
            when(libc::SYS_socket, vec![is(0, family)?, masked(1, KIND, kind)?])?;
        }
    }
    let netlink = u64::from(libc::AF_NETLINK.unsigned_abs());
    when(libc::SYS_socket, vec![is(0, netlink)?, not(2, u64::from(libc::NETLINK_ROUTE.unsigned_abs()))?])?;
    // One of datagrams could be turned to any other socket of the machine; one of a stream stays between its two ends.
    when(libc::SYS_socketpair, vec![not(0, u64::from(libc::AF_UNIX.unsigned_abs()))?])?;
    for kind in (0..=KIND).filter(|kind| *kind != u64::from(libc::SOCK_STREAM.unsigned_abs())) {
        when(libc::SYS_socketpair, vec![masked(1, KIND, kind)?])?;
    }
    for (call, flags) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
        when(call, vec![masked(flags, MSG_FASTOPEN, MSG_FASTOPEN)?])?;
    }
    Ok(())
}

fn flag(flag: i32) -> u64 {
    flag.unsigned_abs().into()
}

type Condition = Result<SeccompCondition, seccompiler::BackendError>;

fn is(argument: u8, value: u64) -> Condition {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn not(argument: u8, value: u64) -> Condition {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value)
}

fn masked(argument: u8, mask: u64, value: u64) -> Condition {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile_for_this_machine() {
        let alone = Sandbox::default();
        let network = Sandbox { ports: vec![1792], sockets: vec!["/run/v.sock".into()], ..Sandbox::default() };
        for sandbox in [&alone, &network] {
            let filter = filter(sandbox, std::process::id()).unwrap();
            assert!((100..4_096).contains(&filter.len()), "{} instructions; the kernel takes 4,096", filter.len());
        }
        assert_ne!(rules(&alone, 1).unwrap(), rules(&network, 1).unwrap());
        assert_ne!(rules(&alone, 1).unwrap(), rules(&alone, 2).unwrap(), "the process's own id is in it");
    }

    #[test]
    fn a_module_without_a_network_makes_no_socket_at_all() {
        let rules = rules(&Sandbox::default(), 1).unwrap();
        assert_eq!(rules[&libc::SYS_socket], []);
        let sockets = Sandbox { sockets: vec!["/run/v.sock".into()], ..Sandbox::default() };
        let rules = super::rules(&sockets, 1).unwrap();
        // All kinds but one, and all families but one.
        assert_eq!(rules[&libc::SYS_socketpair].len(), 16);
        assert!(!rules[&libc::SYS_socket].is_empty() && rules[&libc::SYS_bind].is_empty());
    }
}
