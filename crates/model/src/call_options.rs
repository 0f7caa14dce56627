//! The options of an operation: until when its answer is of use, and whose share of an HSM it takes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

/// Whose requests these are, as fair queueing sees it: an HSM's time is shared fairly among flows. Each principal is
/// one, and so is the daemon itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(u64);

impl FlowId {
    /// The daemon's own work: probes, proofs, the making of keys.
    pub const DAEMON: Self = Self(0);

    /// The flow of a name. Two names may share one, which costs them a share and nothing else.
    #[must_use]
    pub fn of(name: &str) -> Self {
        // With fixed keys, so that a name is the same flow in every run.
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self(hasher.finish().max(1))
    }
}

/// How an operation is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallOptions {
    /// Past it nobody waits any more.
    pub deadline: Instant,
    /// Whose work it is.
    pub flow: FlowId,
}

impl From<Instant> for CallOptions {
    /// The daemon's own work.
    fn from(deadline: Instant) -> Self {
        Self { deadline, flow: FlowId::DAEMON }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_party_of_its_own() {
        assert_eq!(FlowId::of("cn:anna"), FlowId::of("cn:anna"));
        assert_ne!(FlowId::of("cn:anna"), FlowId::of("cn:bert"));
        assert_ne!(FlowId::of(""), FlowId::DAEMON);
    }
}
