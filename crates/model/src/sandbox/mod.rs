//! What the module of one HSM may reach of its host, beside the HSM itself.
//!
//! The configuration decides it, from the profile's name and from what the operator adds; the HSM's workers apply it to
//! themselves before they load the module.

mod clash;
mod profiles;
mod tokens;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::clash::{Clash, resolve};
pub use self::tokens::Tokens;

/// Files that any module may read, with what is in them: libraries, names, and what says where other hosts are. Of /etc
/// only what libraries look at. Those that a system lacks are left out.
pub const READ: &[&str] = &[
    "/usr",
    "/lib",
    "/lib64",
    "/etc/alternatives",
    "/etc/crypto-policies",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pkcs11",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/openssl.cnf",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/run/systemd/resolve",
    "/dev/random",
    "/dev/urandom",
    "/dev/zero",
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/meminfo",
    "/proc/self",
    "/proc/stat",
    "/proc/sys/crypto",
    "/proc/sys/kernel/random",
    "/proc/sys/vm/overcommit_memory",
    "/proc/version",
    "/sys/devices/system/cpu",
];

/// Files that any module may read and write.
pub const WRITE: &[&str] = &["/dev/null"];

/// What one HSM's module may reach, beside [`READ`] and [`WRITE`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Files and directories to read.
    pub read: Vec<PathBuf>,
    /// Files and directories to read and write, and devices to speak to.
    pub write: Vec<PathBuf>,
    /// TCP ports to connect to, on any host.
    pub ports: Vec<u16>,
    /// Unix sockets to connect to.
    pub sockets: Vec<PathBuf>,
    /// Who says where its tokens are, to be written to.
    pub tokens: Tokens,
    /// What none of these may be, hold, or lie in.
    pub protected: Vec<Protected>,
}

impl Sandbox {
    /// The module may talk to somebody.
    #[must_use]
    pub fn has_network(&self) -> bool {
        !self.ports.is_empty() || !self.sockets.is_empty()
    }
}

/// What a module must not reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protected {
    /// What it is, for a sentence.
    pub what: String,
    /// The file or directory that must stay out of reach.
    pub path: PathBuf,
    /// Nothing secret is in it: it may be read.
    pub readable: bool,
}
