//! What the modules of the vendors need, by the profile's name. From the vendors' documents, not run on their devices;
//! what is missing here an operator adds for each HSM.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Sandbox, Tokens};

/// What one vendor's module needs.
struct Needs {
    read: &'static [&'static str],
    write: &'static [&'static str],
    /// Variables that name files or directories to read, where they are set.
    variables: &'static [&'static str],
    ports: &'static [u16],
    sockets: &'static [&'static str],
    tokens: Tokens,
}

const NOTHING: Needs =
    Needs { read: &[], write: &[], variables: &[], ports: &[], sockets: &[], tokens: Tokens::Elsewhere };

/// AWS CloudHSM Client SDK 5: installed under /opt/cloudhsm, settings and customerCA.crt in its etc, the log that it
/// writes unless told otherwise in its run. The cluster's security group lets ports 2223 to 2225 through.
const CLOUDHSM: Needs =
    Needs { read: &["/opt/cloudhsm"], write: &["/opt/cloudhsm/run"], ports: &[2223, 2224, 2225], ..NOTHING };

/// Luna HSM Client: /etc/Chrystoki.conf, or the one in the directory that a variable names; the client under
/// /usr/safenet/lunaclient, with its certificates. NTLS and STC speak to port 1792. (Luna Cloud HSM speaks HTTPS: 443 is
/// for the operator to add.)
const LUNA: Needs = Needs {
    read: &["/etc/Chrystoki.conf", "/usr/safenet/lunaclient"],
    variables: &["ChrystokiConfigurationPath"],
    ports: &[1792],
    ..NOTHING
};

/// nShield Security World: everything under /opt/nfast; key blobs of the Security World are files in kmdata/local, which
/// the module writes. It talks to the hardserver of this host, which talks to the HSM.
const NSHIELD: Needs = Needs {
    read: &["/opt/nfast"],
    write: &["/opt/nfast/kmdata/local"],
    sockets: &["/opt/nfast/sockets/nserver"],
    ..NOTHING
};

/// Utimaco CryptoServer PKCS#11 R3: the configuration in /etc/utimaco, or where a variable says. A CryptoServer LAN
/// listens on port 288.
const UTIMACO: Needs =
    Needs { read: &["/etc/utimaco"], variables: &["CS_PKCS11_R2_CFG", "CS_PKCS11_R3_CFG"], ports: &[288], ..NOTHING };

impl Sandbox {
    /// What the modules of a profile need. `environment` is the module's. A name that is not known needs nothing.
    #[must_use]
    pub fn of_profile(profile: &str, environment: &BTreeMap<String, String>) -> Self {
        let needs = match profile {
            "softhsm" => Needs { tokens: Tokens::SoftHsm, ..NOTHING },
            "kryoptic" => Needs { tokens: Tokens::Kryoptic, ..NOTHING },
            "cloudhsm" => CLOUDHSM,
            "luna" | "luna-fips" | "luna-ha" => LUNA,
            "nshield" => NSHIELD,
            "utimaco" => UTIMACO,
            _ => NOTHING,
        };
        let paths = |of: &[&str]| of.iter().map(PathBuf::from).collect::<Vec<_>>();
        let named = needs.variables.iter().filter_map(|name| environment.get(*name)).map(PathBuf::from);
        Self {
            read: paths(needs.read).into_iter().chain(named).collect(),
            write: paths(needs.write),
            ports: needs.ports.to_vec(),
            sockets: paths(needs.sockets),
            tokens: needs.tokens,
            protected: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_that_is_not_known_needs_nothing() {
        assert_eq!(Sandbox::of_profile("generic", &BTreeMap::new()), Sandbox::default());
    }

    #[test]
    fn modules_that_keep_tokens_in_files_have_no_network() {
        for name in ["softhsm", "kryoptic"] {
            let sandbox = Sandbox::of_profile(name, &BTreeMap::new());
            assert!(!sandbox.has_network() && sandbox.tokens != Tokens::Elsewhere, "{name}");
        }
    }

    /// docs/security.md has a row for each.
    #[test]
    fn the_document_names_what_each_profile_needs() {
        let document = include_str!("../../../../docs/security.md");
        for (names, needs) in [
            (&["cloudhsm"][..], CLOUDHSM),
            (&["luna", "luna-fips", "luna-ha"], LUNA),
            (&["nshield"], NSHIELD),
            (&["utimaco"], UTIMACO),
            (&["generic"], NOTHING),
        ] {
            let names = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let row = document.lines().find(|line| line.starts_with(&format!("| {names} |")));
            let cells: Vec<&str> = row.unwrap_or_else(|| panic!("no row for {names}")).split('|').collect();
            let [reads, writes, connects] = [cells[2], cells[3], cells[4]];
            for (named, cell) in [(needs.read, reads), (needs.variables, reads), (needs.write, writes)]
                .into_iter()
                .flat_map(|(all, cell)| all.iter().map(move |one| (one, cell)))
            {
                assert!(cell.contains(named), "{names}: {named} is not in {cell:?}");
            }
            let mut ends = needs.ports.first().into_iter().chain(needs.ports.last());
            assert!(ends.all(|port| connects.contains(&port.to_string())), "{names}: {connects:?}");
            assert_eq!(needs.sockets.is_empty(), !connects.contains("socket"), "{names}: {connects:?}");
            for (list, cell) in [(needs.read, reads), (needs.write, writes)] {
                assert_eq!(list.is_empty(), cell.trim() == "nothing", "{names}: {cell:?}");
            }
        }
    }

    #[test]
    fn a_variable_moves_what_is_read() {
        let environment = BTreeMap::from([("ChrystokiConfigurationPath".to_owned(), "/etc/luna-a".to_owned())]);
        let luna = Sandbox::of_profile("luna", &environment);
        assert!(luna.read.contains(&"/etc/luna-a".into()) && luna.ports == [1792], "{luna:?}");
        assert_eq!(Sandbox::of_profile("luna-ha", &environment), luna);
        assert_eq!(Sandbox::of_profile("luna", &BTreeMap::new()).read.len(), luna.read.len() - 1);
    }
}
