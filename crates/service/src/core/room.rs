//! Whether the HSMs have room for one more version of a key: where it is known how many they take, none is begun that one of
//! them would refuse half-way.

use super::hsm_cluster::Members;
use crate::Error;
use model::exception::Exception;
use model::id::KeyStoreId;
use store::Catalogue;

impl Members {
    /// Refuses where an HSM is known to take no further version. Each HSM holds every version of a key store's keys; what
    /// others keep in it is not known, and not counted.
    pub(crate) fn room(&self, catalogue: &Catalogue, store: &KeyStoreId) -> Result<(), Error> {
        let Some((hsm, most)) = self.hsm_cluster.most_versions() else { return Ok(()) };
        let there: usize = catalogue.keys_of(store).map(|key| key.versions.len()).sum();
        if u64::try_from(there).unwrap_or(u64::MAX) < most {
            return Ok(());
        }
        Err(Error::permanent(
            Exception::LimitExceeded,
            format!(
                "HSM {hsm} has room for {most} versions of keys beside keystored's own keys \
                 (capabilities.objects.keys_max), and as many are there; delete keys, or have the number raised where the \
                 HSM takes more"
            ),
        ))
    }
}
