//! Encryptions that may still be done under a key version: reserved in blocks, so that no crash forgets one.

use super::engine::Connection;
use super::engine::value::values;
use super::reserve::Purpose;
use super::{Error, Store};
use model::id::KeyVersionId;
use model::limits::ENCRYPTIONS_PER_VERSION;

impl Store {
    /// Reserves up to `wanted` encryptions of a version's budget of 2^31, durably; returns how many were left to give.
    /// Not a change of the catalogue: the revision stays.
    pub async fn reserve_encryptions(&self, version: KeyVersionId, wanted: u64) -> Result<u64, Error> {
        self.change(move |database| Box::pin(reserve(database, version, wanted))).await
    }

    /// The same for a version of which nothing is left: on a full disk, with a part of the reserve.
    pub async fn reserve_last_encryptions(&self, version: KeyVersionId, wanted: u64) -> Result<u64, Error> {
        self.change_from_reserve(Purpose::Going, move |database| Box::pin(reserve(database, version, wanted))).await
    }

    /// The same for many versions in one transaction, in the same order: one disk wait for all keys at start.
    pub async fn reserve_encryptions_of(&self, versions: &[KeyVersionId], wanted: u64) -> Result<Vec<u64>, Error> {
        let versions = versions.to_vec();
        self.change(move |database| {
            Box::pin(async move {
                let mut granted = Vec::with_capacity(versions.len());
                for version in versions {
                    granted.push(reserve(database, version, wanted).await?);
                }
                Ok(granted)
            })
        })
        .await
    }
}

impl Store {
    /// Takes reserved encryptions back that were not and will not be done, in one transaction.
    pub async fn return_encryptions(&self, unused: &[(KeyVersionId, u64)]) -> Result<(), Error> {
        let unused = unused.to_vec();
        self.change(move |database| {
            let unused = unused.clone();
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
        })
        .await
    }
}

async fn reserve(database: &mut Connection, version: KeyVersionId, wanted: u64) -> Result<u64, Error> {
    let row: Option<(i64,)> = database
        .optional(
            "SELECT encryptions_reserved FROM key_versions WHERE key_id = $1 AND version = $2",
            values![version.key.to_string(), i64::from(version.version)],
        )
        .await?;
    let (reserved,) = row.ok_or_else(|| Error::Missing(format!("key version {version}")))?;
    // A negative number is damage; giving nothing is the safe side.
    let reserved = u64::try_from(reserved).unwrap_or(ENCRYPTIONS_PER_VERSION);
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
    Ok(granted)
}
