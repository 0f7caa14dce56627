//! Whether the HSMs have room for one more version of a key: where it is known how many they take, none is begun that one of
//! them would refuse half-way.

use super::hsm_cluster::Members;
use crate::Error;
use model::exception::Exception;
use model::id::{HsmId, KeyStoreId};
use store::{Catalogue, Key, Version};

impl Members {
    /// Refuses where an HSM is known to take no further version. It counts what is on record: whoever looks and then has a
    /// version begun holds the list of what is being made from the look to the record.
    pub(crate) fn room(&self, catalogue: &Catalogue, store: &KeyStoreId) -> Result<(), Error> {
        for (hsm, most) in self.hsm_cluster.most_versions() {
            if versions_in(catalogue, store, &hsm) >= most {
                return Err(full(&hsm, most));
            }
        }
        Ok(())
    }
}

/// Refuses an HSM that is known to take fewer versions than a key store has.
pub(crate) fn holds_all(catalogue: &Catalogue, store: &KeyStoreId, hsm: &HsmId, most: u64) -> Result<(), Error> {
    let there = versions_in(catalogue, store, hsm);
    if there <= most {
        return Ok(());
    }
    Err(Error::permanent(
        Exception::LimitExceeded,
        format!(
            "HSM {hsm} has room for {most} versions of keys beside keystored's own keys (capabilities.objects.keys_max), and \
             the key store has {there}; delete keys, or have the number raised where the HSM takes more"
        ),
    ))
}

/// How many versions of a store's keys take up room in an HSM: each HSM holds every one of them, but for those whose material
/// it has destroyed. What others keep in it is not known, and not counted.
fn versions_in(catalogue: &Catalogue, store: &KeyStoreId, hsm: &HsmId) -> u64 {
    let versions = catalogue.keys_of(store).flat_map(|key| key.versions.iter().map(move |version| (key, version)));
    versions.filter(|(key, version)| takes_room(key, version, hsm)).fold(0, |there, _| there + 1)
}

fn takes_room(key: &Key, version: &Version, hsm: &HsmId) -> bool {
    match version.destructions.get(hsm) {
        Some(destruction) => destruction.destroyed_at.is_none(),
        // Given up before it came to this HSM.
        None => !key.is_destroyed(),
    }
}

fn full(hsm: &HsmId, most: u64) -> Error {
    Error::permanent(
        Exception::LimitExceeded,
        format!(
            "HSM {hsm} has room for {most} versions of keys beside keystored's own keys \
             (capabilities.objects.keys_max), and as many are there; delete keys, or have the number raised where the HSM \
             takes more"
        ),
    )
}
