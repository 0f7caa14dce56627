//! What the machine can be short of for a while: what tells transient trouble from a mistake in the configuration.

use std::io::{Error, ErrorKind};

use rustix::io::Errno;

/// What is not to be had at the moment. It comes back when somebody mends the machine, and nothing has to be done to
/// keystored then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// No room on a disk, or none within a quota.
    Full,
    /// The file system takes no writes.
    ReadOnly,
    /// The device fails.
    Io,
    /// As many files are open as the process, or the system, may have.
    Files,
    /// No memory.
    Memory,
    /// Somebody else has it.
    InUse,
    /// A file was moved or removed while it was in use.
    Gone,
    /// The network is not as far yet.
    Network,
}

impl Outage {
    /// What an error of the system says is missing; `None` where it says that something is wrong.
    #[must_use]
    pub fn of(error: &Error) -> Option<Self> {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => return Some(Self::Full),
            ErrorKind::ReadOnlyFilesystem => return Some(Self::ReadOnly),
            ErrorKind::OutOfMemory => return Some(Self::Memory),
            ErrorKind::AddrInUse | ErrorKind::ResourceBusy | ErrorKind::WouldBlock => return Some(Self::InUse),
            ErrorKind::AddrNotAvailable | ErrorKind::NetworkDown | ErrorKind::NetworkUnreachable => {
                return Some(Self::Network);
            }
            ErrorKind::TimedOut | ErrorKind::StaleNetworkFileHandle => return Some(Self::Io),
            _ => {}
        }
        // These have no kind of their own.
        match Errno::from_io_error(error)? {
            Errno::IO | Errno::NXIO | Errno::NODEV => Some(Self::Io),
            Errno::MFILE | Errno::NFILE => Some(Self::Files),
            _ => None,
        }
    }

    /// What is the matter, to be said after the name of a place or a thing.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Full => "its disk is full",
            Self::ReadOnly => "its file system is read-only",
            Self::Io => "its disk fails",
            Self::Files => "too many files are open",
            Self::Memory => "there is no memory left",
            Self::InUse => "another program has it locked",
            Self::Gone => "a file of it was moved or removed",
            Self::Network => "the network is not there",
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Full => "free space on it",
            Self::ReadOnly => "see why (the system's log says it) and mount it for writing",
            Self::Io => "see to the disk; the system's log says more",
            Self::Files => "raise the limit (LimitNOFILE), or see what has them open",
            Self::Memory => "give the machine more, or see what takes it",
            Self::InUse => "end that program",
            Self::Gone => "put it back; if it is lost, stop keystored and restore a backup",
            Self::Network => "see to the machine's network",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_from_what_is_wrong() {
        for (errno, outage) in [
            (Errno::NOSPC, Some(Outage::Full)),
            (Errno::DQUOT, Some(Outage::Full)),
            (Errno::FBIG, Some(Outage::Full)),
            (Errno::ROFS, Some(Outage::ReadOnly)),
            (Errno::IO, Some(Outage::Io)),
            (Errno::STALE, Some(Outage::Io)),
            (Errno::MFILE, Some(Outage::Files)),
            (Errno::NFILE, Some(Outage::Files)),
            (Errno::NOMEM, Some(Outage::Memory)),
            (Errno::ADDRINUSE, Some(Outage::InUse)),
            (Errno::ADDRNOTAVAIL, Some(Outage::Network)),
            (Errno::ACCESS, None),
            (Errno::NOENT, None),
            (Errno::NOTDIR, None),
            (Errno::PERM, None),
            (Errno::ISDIR, None),
        ] {
            assert_eq!(Outage::of(&errno.into()), outage, "{errno}");
        }
        assert_eq!(Outage::of(&Error::other("no error of the system's")), None);
    }
}
