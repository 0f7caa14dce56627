//! Which members must not be used for which key versions: the object is gone there, or it is not the right one.
//!
//! An exclusion holds at once, in front of the metadata, which follow. Bounded: past the bound nothing is excluded and
//! the next call finds the same trouble again.

use std::collections::HashMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::route::bit;
use model::id::KeyVersionId;
use model::lock::RwLockExt as _;

/// Most key versions with an exclusion.
const MOST_VERSIONS: usize = 65_536;

/// Members that are excluded for one key version, as masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Excluded {
    /// The object is gone there.
    pub absent: u64,
    /// The object does not open what the key made. Encrypting with it would lose data.
    pub broken: u64,
}

impl Excluded {
    /// Every excluded member.
    pub(super) fn any(self) -> u64 {
        self.absent | self.broken
    }
}

/// All exclusions of a cluster.
#[derive(Debug, Default)]
pub(super) struct Exclusions {
    /// Entries of `table`, so that the usual case of none costs one load.
    versions: AtomicUsize,
    table: RwLock<HashMap<KeyVersionId, Excluded>>,
}

impl Exclusions {
    /// Who is excluded for a version.
    pub(super) fn of(&self, version: KeyVersionId) -> Excluded {
        if self.versions.load(Ordering::Relaxed) == 0 {
            return Excluded::default();
        }
        let table = self.table.read_anyway();
        table.get(&version).copied().unwrap_or_default()
    }

    /// Excludes a member; true when it was not excluded for this reason before.
    pub(super) fn exclude(&self, version: KeyVersionId, member: usize, broken: bool) -> bool {
        let mut table = self.table.write_anyway();
        if table.len() >= MOST_VERSIONS && !table.contains_key(&version) {
            return false;
        }
        let entry = table.entry(version).or_default();
        let mask = if broken { &mut entry.broken } else { &mut entry.absent };
        let new = *mask & bit(member) == 0;
        *mask |= bit(member);
        self.versions.store(table.len(), Ordering::Relaxed);
        new
    }

    /// Admits a member again for every version whose object was gone there: nobody remembers which of them are still to
    /// be looked for, and the next call that misses one finds out anew. What is broken there stays excluded.
    pub(super) fn admit_absent(&self, member: usize) {
        let mut table = self.table.write_anyway();
        table.retain(|_, entry| {
            entry.absent &= !bit(member);
            entry.any() != 0
        });
        self.versions.store(table.len(), Ordering::Relaxed);
    }

    /// Admits a member again: it was a false alarm, or the object was placed anew.
    pub(super) fn admit(&self, version: KeyVersionId, member: usize) {
        if self.versions.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut table = self.table.write_anyway();
        if let Some(entry) = table.get_mut(&version) {
            entry.absent &= !bit(member);
            entry.broken &= !bit(member);
            if entry.any() == 0 {
                table.remove(&version);
            }
        }
        self.versions.store(table.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::KeyId;

    #[test]
    fn what_was_gone_can_be_forgotten_and_what_is_broken_stays() {
        let exclusions = Exclusions::default();
        let [gone, broken, both] = [1, 2, 3].map(|version| KeyVersionId { key: KeyId::random(), version });
        exclusions.exclude(gone, 1, false);
        exclusions.exclude(broken, 1, true);
        exclusions.exclude(both, 1, false);
        exclusions.exclude(both, 0, false);
        exclusions.admit_absent(1);
        assert_eq!(exclusions.of(gone).any(), 0);
        assert_eq!(exclusions.of(broken), Excluded { absent: 0, broken: 0b10 });
        assert_eq!(exclusions.of(both), Excluded { absent: 0b01, broken: 0 });
        assert_eq!(exclusions.versions.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn an_exclusion_is_new_once_and_ends_with_admission() {
        let exclusions = Exclusions::default();
        let version = KeyVersionId { key: KeyId::random(), version: 1 };
        assert_eq!(exclusions.of(version).any(), 0);
        assert!(exclusions.exclude(version, 1, false));
        assert!(!exclusions.exclude(version, 1, false));
        assert!(exclusions.exclude(version, 0, true));
        assert_eq!(exclusions.of(version), Excluded { absent: 0b10, broken: 0b01 });
        exclusions.admit(version, 1);
        exclusions.admit(version, 0);
        assert_eq!(exclusions.of(version).any(), 0);
        assert_eq!(exclusions.versions.load(Ordering::Relaxed), 0);
    }
}
