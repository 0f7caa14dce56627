//! What the workers of an HSM are called.

use protocol::Role;

/// Which worker of an HSM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WorkerId {
    /// What it is for.
    pub(super) role: Role,
    /// Which of its role.
    pub(super) index: u16,
}

impl std::fmt::Display for WorkerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.role {
            Role::Data => write!(f, "data worker {}", self.index),
            Role::Control => f.write_str("control worker"),
            Role::Ceremony => f.write_str("ceremony worker"),
        }
    }
}
