//! What a kernel cannot keep a module from, in sentences.

use landlock::ABI;

use model::sandbox::Sandbox;

/// Whose module a gap matters to.
type Concerns = fn(&Sandbox) -> bool;

const ANY: Concerns = |_| true;
const WITH_PORTS: Concerns = |sandbox| !sandbox.ports.is_empty();
const WITH_SOCKETS: Concerns = |sandbox| !sandbox.sockets.is_empty();

/// What a kernel before each step of Landlock leaves open. What seccomp refuses all the same is not listed.
const GAPS: &[(ABI, Concerns, &str)] = &[
    (
        ABI::V3,
        ANY,
        "This kernel's Landlock knows no truncation (Linux 6.2 does): the module can empty files of this user.",
    ),
    (
        ABI::V4,
        WITH_PORTS,
        "This kernel's Landlock knows no TCP ports (Linux 6.7 does): the module can connect to any, this daemon's too.",
    ),
    (
        ABI::V6,
        WITH_SOCKETS,
        "This kernel's Landlock knows no abstract sockets (Linux 6.12 does): the module can connect to any.",
    ),
    (
        ABI::V9,
        WITH_SOCKETS,
        "This kernel's Landlock knows no Unix sockets: the module can connect to every one that this user can.",
    ),
];

const NONE: &str = "Landlock is not applied: this kernel does not offer it (Linux 5.13, and `landlock` among its `lsm=`): \
                    the module can read and write every file of this user, the seal key's and the database's among them.";
const DATAGRAMS: &str =
    "Landlock knows no datagrams: a module that may use the network can send UDP to any host and port.";

/// What a kernel with this Landlock lacks for this sandbox.
pub(super) fn sentences(kernel: ABI, sandbox: &Sandbox) -> Vec<String> {
    let none = (kernel == ABI::Unsupported).then_some(NONE);
    // Of a kernel without it the first gap is told by that.
    let gaps = GAPS.iter().filter(|(since, concerns, _)| kernel < *since && concerns(sandbox));
    let gaps = gaps.filter(|(since, ..)| none.is_none() || *since != ABI::V3).map(|(.., sentence)| *sentence);
    let datagrams = WITH_PORTS(sandbox).then_some(DATAGRAMS);
    none.into_iter().chain(gaps).chain(datagrams).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(kernel: ABI, ports: &[u16], sockets: &[&str]) -> Vec<String> {
        let sockets = sockets.iter().map(Into::into).collect();
        sentences(kernel, &Sandbox { ports: ports.to_vec(), sockets, ..Sandbox::default() })
    }

    #[test]
    fn a_kernel_that_can_all_of_it_is_not_complained_of() {
        assert!(said(ABI::V9, &[], &[]).is_empty());
        assert!(said(ABI::V9, &[], &["/run/v.sock"]).is_empty());
    }

    #[test]
    fn a_module_without_a_network_needs_less_of_a_kernel() {
        assert!(said(ABI::V3, &[], &[]).is_empty());
        let old = said(ABI::V2, &[], &[]);
        assert!(old.len() == 1 && old[0].contains("truncation"), "{old:?}");
        let none = said(ABI::Unsupported, &[], &[]);
        assert!(none.len() == 1 && none[0].contains("Landlock is not applied"), "{none:?}");
    }

    #[test]
    fn each_step_of_a_kernel_closes_a_gap() {
        let count = |kernel| said(kernel, &[1792], &["/run/v.sock"]).len();
        let counts = [ABI::Unsupported, ABI::V2, ABI::V3, ABI::V5, ABI::V6, ABI::V8, ABI::V9].map(count);
        assert_eq!(counts, [5, 5, 4, 3, 2, 2, 1], "UDP stays");
        assert!(said(ABI::V3, &[1792], &[])[0].contains("any, this daemon's too"));
        assert!(said(ABI::V9, &[1792], &[])[0].contains("UDP"));
    }
}
