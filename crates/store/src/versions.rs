//! Changes of a key's versions: what is made of one, where it is, and which is the current one.

use bytes::Bytes;

use super::budget::reserve;
use super::change::{Transaction, must_be_one, touch_key};
use super::engine::Connection;
use super::engine::value::values;
use super::keys::{enable, in_state, in_use};
use super::log::Entity;
use super::reserve::Purpose;
use super::{Error, Rotation, Store, load};
use model::ciphertext::IV_BYTES;
use model::id::{HsmId, KeyId, KeyVersionId};
use model::key::{KeyState, Placement, RotationCause};

/// What has to hold of a key that is to be given a new version.
#[derive(Clone, Copy, Debug)]
pub struct Rotating {
    /// The number of the new version: whoever asks has looked at all that shows numbers which were given already.
    pub version: KeyVersionId,
    /// Why there is to be a new version.
    pub cause: RotationCause,
    /// It is made in its HSM and stays there.
    pub in_place: bool,
}

/// A version that was made and works, with all that is recorded of it when it comes into use.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its key and its number.
    pub version: KeyVersionId,
    /// Its proof ciphertext: IV, and what the HSM made.
    pub proof: ([u8; IV_BYTES], Bytes),
    /// The HSMs in which it was proven.
    pub proven: Vec<HsmId>,
    /// Encryptions that are reserved for it, if so many are left.
    pub reserve: u64,
}

impl Store {
    /// Brings a version into use: its proof, where it is, its first encryptions, and the key Enabled with it or
    /// encrypting with it, all in one transaction. So there is one wait for the disk, and no key is Enabled, and no
    /// version current, of which anything else is not on record. Returns how many encryptions were reserved.
    ///
    /// The key store must be connected: from the answer to a disconnect on, nothing comes into use. A key that gets a
    /// further version must be Enabled; its period of rotation by itself begins anew, unless somebody asked for this one.
    pub async fn finish_version(&self, finished: Finished) -> Result<u64, Error> {
        let (version, now) = (finished.version, self.inner.clock.unix_millis());
        let reserved = self.change(move |database| {
            Box::pin(async move {
                let Finished { version, proof: (iv, sealed), proven, reserve: wanted } = finished;
                touch_key(database, version.key).await?;
                write_proof(database, version, &iv, &sealed).await?;
                for hsm in &proven {
                    insert_placement(database, version, hsm, Placement::Present).await?;
                }
                let reserved = reserve(database, version, wanted).await?;
                match version.version {
                    1 => enable(database, version.key, now).await?,
                    _ => switch(database, version, now).await?,
                }
                Ok(reserved)
            })
        });
        Ok(self.inner.reserved.noted(version, reserved.await?))
    }

    /// Makes the row of a further version of a key, with a pending placement for each HSM. The key must be Enabled, and
    /// no other version of it may be unfinished.
    pub async fn begin_version(&self, rotating: Rotating, hsms: &[HsmId]) -> Result<(), Error> {
        let (Rotating { version, cause, in_place }, hsms) = (rotating, hsms.to_vec());
        self.change(move |database| {
            Box::pin(async move {
                touch_key(database, version.key).await?;
                in_state(database, version.key, &[KeyState::Enabled]).await?;
                let sql = "SELECT current_version, (SELECT max(version) FROM key_versions WHERE key_id = id), \
                           (SELECT max(version) FROM destroyed_versions WHERE key_id = id) FROM keys WHERE id = $1";
                let (current, highest, buried): (u32, u32, Option<u32>) =
                    database.one(sql, values![version.key]).await?;
                if highest > current {
                    return Err(Error::Rotating(version.key));
                }
                if version.version <= highest.max(buried.unwrap_or(0)) {
                    return Err(Error::Contradiction(format!("the number of version {version} was given already")));
                }
                insert_version(database, version, Some(cause), in_place).await?;
                for hsm in &hsms {
                    insert_placement(database, version, hsm, Placement::Pending).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Takes away a version that was never finished, and remembers it as destroyed for ever: its number is not given
    /// again. Also on a full disk, by which its making may have been broken off.
    ///
    /// Where all of its key was given up meanwhile the row stays, as that of what is to be destroyed, in every HSM anew:
    /// one that had done it may have been told to keep the version after that.
    pub async fn abandon_version(&self, version: KeyVersionId) -> Result<(), Error> {
        let now = self.inner.clock.unix_millis();
        self.change_from_reserve(Purpose::Restricting, move |database| {
            Box::pin(async move {
                touch_key(database, version.key).await?;
                if is_given_up(database, version.key).await? {
                    let sql = "UPDATE destructions SET destroyed_at = NULL, failure = NULL \
                               WHERE key_id = $1 AND version = $2";
                    database.execute(sql, values![version.key, version.version]).await?;
                    return Ok(());
                }
                let sql = "DELETE FROM key_versions WHERE key_id = $1 AND version = $2 \
                           AND version > (SELECT current_version FROM keys WHERE id = $1)";
                let done = database.execute(sql, values![version.key, version.version]).await?;
                must_be_one(done, || format!("unfinished key version {version}"))?;
                bury(database, version, now).await
            })
        })
        .await
    }

    /// Has a key rotated by itself every so many days, from now on.
    pub async fn set_rotation(&self, key: KeyId, period: Option<u32>) -> Result<(), Error> {
        let next = period.map(|days| self.inner.clock.unix_millis().saturating_add(i64::from(days) * DAY_MILLIS));
        self.change(move |database| {
            Box::pin(async move {
                touch_key(database, key).await?;
                let sql = "UPDATE keys SET rotation_period = $1, next_rotation = $2 WHERE id = $3";
                let done = database.execute(sql, values![period, next, key]).await?;
                must_be_one(done, || format!("key {key}"))
            })
        })
        .await
    }

    /// Has the period after which a key is rotated by itself begin now, unless that was set anew since it was read.
    pub async fn begin_period_anew(&self, key: KeyId, read: Rotation) -> Result<(), Error> {
        let next = self.inner.clock.unix_millis().saturating_add(i64::from(read.period) * DAY_MILLIS);
        self.change(move |database| {
            Box::pin(async move {
                touch_key(database, key).await?;
                let sql = "UPDATE keys SET next_rotation = $1 \
                           WHERE id = $2 AND rotation_period = $3 AND next_rotation = $4";
                database.execute(sql, values![next, key, read.period, read.next]).await?;
                Ok(())
            })
        })
        .await
    }

    /// Keeps a version's escrow blob: [`Error::MaterialDestroyed`] where all of its key was given up.
    pub async fn keep_blob(&self, version: KeyVersionId, blob: &Bytes) -> Result<(), Error> {
        let blob = blob.clone();
        self.change(move |database| {
            Box::pin(async move {
                touch_key(database, version.key).await?;
                if is_given_up(database, version.key).await? {
                    return Err(Error::MaterialDestroyed(version.key));
                }
                let done = database
                    .execute(
                        "UPDATE key_versions SET escrow = $1 WHERE key_id = $2 AND version = $3",
                        values![&blob[..], version.key.to_string(), i64::from(version.version)],
                    )
                    .await?;
                must_be_one(done, || format!("key version {version}"))?;
                Ok(())
            })
        })
        .await
    }

    /// Records where a version is.
    pub async fn set_placement(&self, version: KeyVersionId, hsm: &HsmId, to: Placement) -> Result<(), Error> {
        let hsm = hsm.clone();
        self.change(move |database| {
            Box::pin(async move {
                touch_key(database, version.key).await?;
                insert_placement(database, version, &hsm, to).await?;
                Ok(())
            })
        })
        .await
    }
}

/// Whether the material of a key was given up.
async fn is_given_up(database: &mut Connection, key: KeyId) -> Result<bool, Error> {
    let sql = "SELECT COUNT(*) FROM keys WHERE id = $1 AND material_destroyed = 1";
    let (given_up,): (i64,) = database.one(sql, values![key]).await?;
    Ok(given_up > 0)
}

/// Has new encryptions done by a version that has a proof.
async fn switch(database: &mut Connection, version: KeyVersionId, now: i64) -> Result<(), Error> {
    in_state(database, version.key, &[KeyState::Enabled]).await?;
    let (key_store,): (String,) =
        database.one("SELECT key_store_id FROM keys WHERE id = $1", values![version.key]).await?;
    in_use(database, &key_store.as_str().into()).await?;
    let since = "UPDATE key_versions SET current_since = $1 \
                 WHERE key_id = $2 AND version = $3 AND proof IS NOT NULL";
    let done = database.execute(since, values![now, version.key, version.version]).await?;
    must_be_one(done, || format!("key version {version} with a proof"))?;
    let current = "UPDATE keys SET current_version = $1, next_rotation = CASE \
                   WHEN rotation_period IS NULL THEN NULL \
                   WHEN (SELECT cause FROM key_versions WHERE key_id = id AND version = $1) = $2 \
                   THEN next_rotation ELSE $3 + rotation_period * $4 END \
                   WHERE id = $5 AND current_version < $1";
    let parameters = values![version.version, RotationCause::Request.name(), now, DAY_MILLIS, version.key];
    let done = database.execute(current, parameters).await?;
    must_be_one(done, || format!("key {} with a version before {version}", version.key))
}

/// A day in milliseconds.
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1_000;

pub(super) async fn write_proof(
    database: &mut Connection,
    version: KeyVersionId,
    iv: &[u8; IV_BYTES],
    sealed: &Bytes,
) -> Result<(), Error> {
    let done = database
        .execute(
            "UPDATE key_versions SET proof_iv = $1, proof = $2 WHERE key_id = $3 AND version = $4",
            values![&iv[..], &sealed[..], version.key.to_string(), i64::from(version.version)],
        )
        .await?;
    must_be_one(done, || format!("key version {version}"))
}

/// A version's row, without material.
pub(super) async fn insert_version(
    database: &mut Connection,
    version: KeyVersionId,
    cause: Option<RotationCause>,
    in_place: bool,
) -> Result<(), Error> {
    let sql = "INSERT INTO key_versions (key_id, version, material_id, cause, in_place) VALUES ($1, $2, $3, $4, $5)";
    let cause = cause.map(RotationCause::name);
    let parameters = values![version.key, version.version, load::material_id()?, cause, i64::from(in_place)];
    database.execute(sql, parameters).await?;
    Ok(())
}

/// Remembers for ever that no token must hold a version.
pub(super) async fn bury(database: &mut Transaction, version: KeyVersionId, now: i64) -> Result<(), Error> {
    database.changes(Entity::Destroyed(version.key)).await?;
    let sql = "INSERT INTO destroyed_versions (key_id, version, destroyed_at) VALUES ($1, $2, $3) \
               ON CONFLICT (key_id, version) DO NOTHING";
    database.execute(sql, values![version.key, version.version, now]).await?;
    Ok(())
}

pub(super) async fn insert_placement(
    database: &mut Connection,
    version: KeyVersionId,
    hsm: &HsmId,
    to: Placement,
) -> Result<(), Error> {
    database
        .execute(
            "INSERT INTO placements (key_id, version, hsm_id, state) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (key_id, version, hsm_id) DO UPDATE SET state = excluded.state",
            values![version.key.to_string(), i64::from(version.version), hsm.as_str(), to.name()],
        )
        .await?;
    Ok(())
}
