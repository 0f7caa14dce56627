//! Changes of keys that are to be deleted: the waiting period, the giving up of the material, the end of the row.

use std::collections::BTreeSet;
use std::time::Duration;

use super::change::{must_be_one, touch_key};
use super::engine::Connection;
use super::engine::value::values;
use super::keys::{in_state, write_state};
use super::log::Entity;
use super::reserve::Purpose;
use super::versions::bury;
use super::{Error, Store, load};
use model::id::{HsmId, KeyId, KeyVersionId};
use model::key::KeyState;

/// Why the material of a key is given up.
#[derive(Clone, Copy, Debug)]
pub enum GiveUp {
    /// Its owner wants it, who has taken it out of use before. It is pending deletion until this date from now on, if it
    /// was not.
    Asked {
        /// Milliseconds since the Unix epoch.
        date: i64,
    },
    /// Its deletion of this date is due, and was neither cancelled nor scheduled anew.
    Due {
        /// Milliseconds since the Unix epoch.
        date: i64,
    },
}

/// What becomes of the destroying of a version in an HSM.
#[derive(Clone, Debug)]
pub struct Destroyed {
    /// The version.
    pub version: KeyVersionId,
    /// The HSM.
    pub hsm: HsmId,
    /// What it said, where it failed.
    pub failure: Option<String>,
}

impl Store {
    /// Has a key deleted at this time, in milliseconds since the Unix epoch. From now on it is pending deletion. Also on
    /// a full disk.
    pub async fn schedule_deletion(&self, key: KeyId, date: i64) -> Result<(), Error> {
        self.change_from_reserve(Purpose::Restricting, move |database| {
            Box::pin(async move {
                touch_key(database, key).await?;
                in_state(database, key, &[KeyState::Enabled, KeyState::Disabled]).await?;
                let sql = "UPDATE keys SET state = $1, deletion_date = $2, overdue = 0 WHERE id = $3";
                database.execute(sql, values![KeyState::PendingDeletion.name(), date, key]).await?;
                Ok(())
            })
        })
        .await
    }

    /// Keeps a key that was to be deleted, as Disabled. [`Error::MaterialDestroyed`] where there is nothing left to keep.
    pub async fn cancel_deletion(&self, key: KeyId) -> Result<(), Error> {
        self.change(move |database| {
            Box::pin(async move {
                touch_key(database, key).await?;
                in_state(database, key, &[KeyState::PendingDeletion]).await?;
                let sql = "UPDATE keys SET state = $1, deletion_date = NULL, overdue = 0 \
                           WHERE id = $2 AND material_destroyed = 0";
                match database.execute(sql, values![KeyState::Disabled.name(), key]).await? {
                    0 => Err(Error::MaterialDestroyed(key)),
                    _ => Ok(()),
                }
            })
        })
        .await
    }

    /// Adds to the time for which the daemon ran while the date of a deletion was past. Not where it is not by now.
    pub async fn add_overdue(&self, ran: &[(KeyId, Duration)]) -> Result<(), Error> {
        let (ran, now) = (ran.to_vec(), self.inner.clock.unix_millis());
        self.change(move |database| {
            Box::pin(async move {
                for (key, ran) in ran {
                    touch_key(database, key).await?;
                    let ran = i64::try_from(ran.as_millis()).unwrap_or(i64::MAX);
                    let sql = "UPDATE keys SET overdue = overdue + $1 WHERE id = $2 AND deletion_date <= $3";
                    database.execute(sql, values![ran, key, now]).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Forgets for how long the dates of deletions were past that are not: the clock was put back, so it was wrong then. Also
    /// on a full disk, which must not have that time counted on.
    pub async fn forget_overdue(&self, keys: &[KeyId]) -> Result<(), Error> {
        let (keys, now) = (keys.to_vec(), self.inner.clock.unix_millis());
        self.change_from_reserve(Purpose::Restricting, move |database| {
            let keys = keys.clone();
            Box::pin(async move {
                for key in keys {
                    touch_key(database, key).await?;
                    let sql = "UPDATE keys SET overdue = 0 WHERE id = $1 AND deletion_date > $2";
                    database.execute(sql, values![key, now]).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Gives up the material of a key, irrevocably: escrow and proofs are gone from here, no token must hold a version any
    /// more, and in each of these HSMs it is to be destroyed. What it is given up for is looked at in the same
    /// transaction. Also on a full disk. Does nothing more where it was done before.
    pub async fn give_up_material(&self, key: KeyId, why: GiveUp, hsms: &[HsmId]) -> Result<(), Error> {
        let (hsms, now) = (hsms.to_vec(), self.inner.clock.unix_millis());
        self.change_from_reserve(Purpose::Restricting, move |database| {
            let hsms = hsms.clone();
            Box::pin(async move {
                touch_key(database, key).await?;
                let date = given_up(database, key, why).await?;
                let sql = "SELECT version FROM key_versions WHERE key_id = $1";
                let versions: Vec<(u32,)> = database.all(sql, values![key]).await?;
                let placed: Vec<(String,)> =
                    database.all("SELECT DISTINCT hsm_id FROM placements WHERE key_id = $1", values![key]).await?;
                let placed = placed.into_iter().map(|(hsm,)| HsmId::from(hsm.as_str()));
                let wanted: BTreeSet<HsmId> = hsms.into_iter().chain(placed).collect();
                for (version,) in versions {
                    bury(database, KeyVersionId { key, version }, now).await?;
                    for hsm in &wanted {
                        let sql = "INSERT INTO destructions (key_id, version, hsm_id) VALUES ($1, $2, $3) \
                                   ON CONFLICT (key_id, version, hsm_id) DO NOTHING";
                        database.execute(sql, values![key, version, hsm.as_str()]).await?;
                    }
                }
                let sql = "UPDATE key_versions SET escrow = NULL, proof_iv = NULL, proof = NULL WHERE key_id = $1";
                database.execute(sql, values![key]).await?;
                write_state(database, key, KeyState::PendingDeletion).await?;
                let sql = "UPDATE keys SET material_destroyed = 1, deletion_date = coalesce(deletion_date, $1) \
                           WHERE id = $2";
                database.execute(sql, values![date, key]).await?;
                Ok(())
            })
        })
        .await
    }

    /// Puts on record what came of destroying versions in HSMs. What is done stays done.
    pub async fn note_destroyed(&self, outcomes: &[Destroyed]) -> Result<(), Error> {
        let (outcomes, now) = (outcomes.to_vec(), self.inner.clock.unix_millis());
        self.change_from_reserve(Purpose::Restricting, move |database| {
            let outcomes = outcomes.clone();
            Box::pin(async move {
                for Destroyed { version, hsm, failure } in outcomes {
                    if load::key(database, version.key).await?.is_none() {
                        continue;
                    }
                    touch_key(database, version.key).await?;
                    let done = failure.is_none().then_some(now);
                    let sql = "UPDATE destructions SET destroyed_at = $1, failure = $2 \
                               WHERE key_id = $3 AND version = $4 AND hsm_id = $5 AND destroyed_at IS NULL";
                    let failure = failure.as_deref().map(str::to_owned);
                    database.execute(sql, values![done, failure, version.key, version.version, hsm.as_str()]).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Puts on record that an HSM holds a version that it had destroyed, or was said to have: it was placed there after
    /// that, or a token was restored. `why` it could not be destroyed once more, where that was tried. Also on a full disk.
    pub async fn note_undestroyed(&self, version: KeyVersionId, hsm: &HsmId, why: Option<&str>) -> Result<(), Error> {
        let (hsm, why) = (hsm.clone(), why.map(str::to_owned));
        self.change_from_reserve(Purpose::Restricting, move |database| {
            let (hsm, why) = (hsm.clone(), why.clone());
            Box::pin(async move {
                if load::key(database, version.key).await?.is_none() {
                    return Ok(());
                }
                touch_key(database, version.key).await?;
                // An HSM that joined after it was given up has no row yet.
                let sql = "INSERT INTO destructions (key_id, version, hsm_id, failure) \
                           SELECT key_id, version, $1, $2 FROM key_versions WHERE key_id = $3 AND version = $4 \
                           ON CONFLICT (key_id, version, hsm_id) DO UPDATE \
                           SET destroyed_at = NULL, failure = excluded.failure";
                database.execute(sql, values![hsm.as_str(), why, version.key, version.version]).await?;
                Ok(())
            })
        })
        .await
    }

    /// Takes away a key whose material was given up, with everything that belongs to it. Its versions are remembered as
    /// destroyed for ever. Also on a full disk.
    pub async fn delete_key(&self, key: KeyId) -> Result<(), Error> {
        self.thin_out_grants(key).await?;
        self.change_from_reserve(Purpose::Restricting, move |database| {
            Box::pin(async move {
                database.removes(Entity::Key(key)).await?;
                // Versions, placements, aliases, tags, policy, grants and client tokens go with it by their
                // foreign keys.
                let sql = "DELETE FROM keys WHERE id = $1 AND state = $2 AND material_destroyed = 1";
                let done = database.execute(sql, values![key, KeyState::PendingDeletion.name()]).await?;
                must_be_one(done, || format!("key {key} whose material was given up"))
            })
        })
        .await
    }
}

/// Whether this still holds of a key, and the date of its deletion.
async fn given_up(database: &mut Connection, key: KeyId, why: GiveUp) -> Result<i64, Error> {
    let date = match why {
        GiveUp::Asked { date } => {
            in_state(database, key, &[KeyState::Disabled, KeyState::PendingDeletion]).await?;
            return Ok(date);
        }
        GiveUp::Due { date } => date,
    };
    in_state(database, key, &[KeyState::PendingDeletion]).await?;
    let (now,): (Option<i64>,) = database.one("SELECT deletion_date FROM keys WHERE id = $1", values![key]).await?;
    match now == Some(date) {
        true => Ok(date),
        false => Err(Error::Contradiction(format!("the deletion of key {key} was scheduled anew"))),
    }
}
