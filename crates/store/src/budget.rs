//! Encryptions that may still be done under a key version: reserved in blocks, so that no crash forgets one.

use std::collections::HashMap;
use std::sync::Mutex;

use super::engine::Connection;
use super::engine::value::values;
use super::load::version_id;
use super::reserve::Purpose;
use super::{Error, Store};
use model::id::KeyVersionId;
use model::limits::ENCRYPTIONS_PER_VERSION;
use model::lock::MutexExt as _;

impl Store {
    /// Reserves up to `wanted` encryptions of a version's budget of 2^31, durably; returns how many were left to give.
    /// Not a change of the catalogue: the revision stays.
    pub async fn reserve_encryptions(&self, version: KeyVersionId, wanted: u64) -> Result<u64, Error> {
        let reserved = self.change(move |database| Box::pin(reserve(database, version, wanted))).await?;
        Ok(self.inner.reserved.noted(version, reserved))
    }

    /// The same for a version of which nothing is left: on a full disk, with a part of the reserve.
    pub async fn reserve_last_encryptions(&self, version: KeyVersionId, wanted: u64) -> Result<u64, Error> {
        let reserved =
            self.change_from_reserve(Purpose::Going, move |database| Box::pin(reserve(database, version, wanted)));
        let reserved = reserved.await?;
        Ok(self.inner.reserved.noted(version, reserved))
    }

    /// The same for many versions in one transaction, in the same order: one disk wait for all keys at start.
    pub async fn reserve_encryptions_of(&self, versions: &[KeyVersionId], wanted: u64) -> Result<Vec<u64>, Error> {
        let asked = versions.to_vec();
        let reserved = self.change(move |database| {
            let versions = asked.clone();
            Box::pin(async move {
                let mut granted = Vec::with_capacity(versions.len());
                for version in versions {
                    granted.push(reserve(database, version, wanted).await?);
                }
                Ok(granted)
            })
        });
        let reserved = versions.iter().zip(reserved.await?);
        Ok(reserved.map(|(version, reserved)| self.inner.reserved.noted(*version, reserved)).collect())
    }

    /// Encryptions of a version that nobody has reserved, as far as this process knows: what the database had when it
    /// was opened, and what was reserved here since. Cheap.
    #[must_use]
    pub fn unreserved_encryptions(&self, version: KeyVersionId) -> u64 {
        let reserved = self.inner.reserved.0.lock_anyway().get(&version).copied().unwrap_or(0);
        ENCRYPTIONS_PER_VERSION.saturating_sub(reserved)
    }

    /// Reads what is reserved.
    pub(super) async fn load_reserved(&self) -> Result<(), Error> {
        let rows: Vec<(String, i64, i64)> = self
            .read(|database| {
                let select = "SELECT key_id, version, encryptions_reserved FROM key_versions";
                Box::pin(async move { database.all(select, values![]).await })
            })
            .await?;
        let reserved = rows.into_iter().map(|(key, version, count)| Ok((version_id(&key, version)?, of_row(count))));
        let reserved = reserved.collect::<Result<_, Error>>()?;
        *self.inner.reserved.0.lock_anyway() = reserved;
        Ok(())
    }

    /// Takes reserved encryptions back that were not and will not be done, in one transaction.
    pub async fn return_encryptions(&self, unused: &[(KeyVersionId, u64)]) -> Result<(), Error> {
        let returned = unused.to_vec();
        let done = self.change(move |database| {
            let unused = returned.clone();
            Box::pin(async move {
                for (version, count) in unused {
                    let count = i64::try_from(count).unwrap_or(i64::MAX);
                    // Never below nothing: a row that holds less was not written by whoever reserved.
                    database
                        .execute(
                            "UPDATE key_versions SET encryptions_reserved = encryptions_reserved - $1 \
                         WHERE key_id = $2 AND version = $3 AND encryptions_reserved >= $1",
                            values![count, version.key.to_string(), i64::from(version.version)],
                        )
                        .await?;
                }
                Ok(())
            })
        });
        done.await?;
        let mut reserved = self.inner.reserved.0.lock_anyway();
        for (version, count) in unused {
            // As in the database.
            if let Some(known) = reserved.get_mut(version).filter(|known| **known >= *count) {
                *known -= count;
            }
        }
        Ok(())
    }
}

/// What each version has reserved, as far as this process knows. Versions that were destroyed stay: there are as many
/// as there ever were keys.
#[derive(Default)]
pub(super) struct Reserved(Mutex<HashMap<KeyVersionId, u64>>);

/// What came of one reservation.
pub(super) struct Reservation {
    granted: u64,
    /// Everything that the version has reserved now.
    total: u64,
}

impl Reserved {
    pub(super) fn noted(&self, version: KeyVersionId, Reservation { granted, total }: Reservation) -> u64 {
        // Two that were made one after the other may come here the other way round.
        let mut reserved = self.0.lock_anyway();
        let known = reserved.entry(version).or_default();
        *known = total.max(*known);
        granted
    }
}

/// A negative number is damage; that nothing is left to give is the safe side.
fn of_row(reserved: i64) -> u64 {
    u64::try_from(reserved).unwrap_or(ENCRYPTIONS_PER_VERSION)
}

/// Reserves out of a version's budget, in somebody's transaction; [`Reserved::noted`] is to hear of it afterwards.
pub(super) async fn reserve(
    database: &mut Connection,
    version: KeyVersionId,
    wanted: u64,
) -> Result<Reservation, Error> {
    let row: Option<(i64,)> = database
        .optional(
            "SELECT encryptions_reserved FROM key_versions WHERE key_id = $1 AND version = $2",
            values![version.key.to_string(), i64::from(version.version)],
        )
        .await?;
    let (reserved,) = row.ok_or_else(|| Error::Missing(format!("key version {version}")))?;
    let reserved = of_row(reserved);
    let granted = wanted.min(ENCRYPTIONS_PER_VERSION.saturating_sub(reserved));
    if granted > 0 {
        let total = i64::try_from(reserved + granted).unwrap_or(i64::MAX);
        database
            .execute(
                "UPDATE key_versions SET encryptions_reserved = $1 WHERE key_id = $2 AND version = $3",
                values![total, version.key.to_string(), i64::from(version.version)],
            )
            .await?;
    }
    Ok(Reservation { granted, total: reserved + granted })
}
