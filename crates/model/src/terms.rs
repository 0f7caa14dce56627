//! On which terms an operation is carried out: until when its answer is of use, and whose share of an HSM it takes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

/// One of those among whom an HSM's time is shared fairly: a principal, or the daemon itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Party(u64);

impl Party {
    /// The daemon's own work: probes, proofs, the making of keys.
    pub const HOUSE: Self = Self(0);

    /// The party of a name. Two names may share one, which costs them a share and nothing else.
    #[must_use]
    pub fn of(name: &str) -> Self {
        // With fixed keys, so that a name is the same party in every run.
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self(hasher.finish().max(1))
    }
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Past it nobody waits any more.
    pub deadline: Instant,
    /// Whose work it is.
    pub party: Party,
}

impl From<Instant> for Terms {
    /// The daemon's own work.
    fn from(deadline: Instant) -> Self {
        Self { deadline, party: Party::HOUSE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_party_of_its_own() {
        assert_eq!(Party::of("cn:anna"), Party::of("cn:anna"));
        assert_ne!(Party::of("cn:anna"), Party::of("cn:bert"));
        assert_ne!(Party::of(""), Party::HOUSE);
    }
}
