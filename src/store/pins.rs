//! kmsuser's sealed PINs and what is known of each. Rows are read by those who log in, never by requests, so the
//! catalogue does not hold them.

use bytes::Bytes;
use sqlx::sqlite::SqliteConnection;

use super::change::Touched;
use super::load::unreadable;
use super::reserve::Purpose;
use super::{Candidate, Error, Pin, Store};
use crate::model::id::{HsmId, KeyStoreId};

type Row = (String, Vec<u8>, Option<Vec<u8>>, i64, i64, Option<String>, i64, i64, Option<i64>);

impl Store {
    /// The PINs of a key store's HSMs.
    pub async fn pins(&self, key_store: &KeyStoreId) -> Result<Vec<(HsmId, Pin)>, Error> {
        let key_store = key_store.clone();
        self.read(move |database| Box::pin(async move { load(database, &key_store).await })).await
    }

    /// Records what is known of one PIN now, in the place of `before`. Durable when it returns. Fails with
    /// [`Error::PinChanged`] when something else is on record: whoever works on a PIN for a while must not undo what
    /// others have recorded meanwhile.
    ///
    /// On a full disk with a part of the reserve: a login whose outcome is not on record counts as one that failed.
    pub async fn replace_pin(&self, key_store: &KeyStoreId, hsm: &HsmId, before: Pin, pin: Pin) -> Result<(), Error> {
        let (key_store, hsm) = (key_store.clone(), hsm.clone());
        let purpose = if pin.attempt.is_some() { Purpose::Going } else { Purpose::Restricting };
        self.change_from_reserve(purpose, move |database| {
            let (key_store, hsm, before, pin) = (key_store.clone(), hsm.clone(), before.clone(), pin.clone());
            Box::pin(async move {
                if on_record(database, &key_store, &hsm).await? != Some(before) {
                    return Err(Error::PinChanged(hsm));
                }
                put(database, &key_store, &hsm, &pin).await?;
                Ok(((), Touched::Nothing))
            })
        })
        .await
    }

    /// Records the first PIN of an HSM, or another first one after that was refused. What may be in the token besides,
    /// or is known to be, stays; tells whether it was recorded. The key store must be there.
    pub async fn offer_pin(&self, key_store: &KeyStoreId, hsm: &HsmId, pin: Pin) -> Result<bool, Error> {
        let (key_store, hsm) = (key_store.clone(), hsm.clone());
        self.change(move |database| {
            Box::pin(async move {
                let known = on_record(database, &key_store, &hsm).await?;
                let wanted = known.is_none_or(|known| {
                    let failed = known.current_refused || known.failures > 0;
                    failed && known.pending.is_none() && known.rotated_at.is_none()
                });
                if wanted {
                    put(database, &key_store, &hsm, &pin).await?;
                }
                Ok((wanted, Touched::Nothing))
            })
        })
        .await
    }

    /// Replaces every sealed PIN by what `reseal` makes of it, all or none; how many there were. `reseal` is told the
    /// key store and the HSM.
    pub async fn reseal_pins<F>(&self, reseal: F) -> Result<u64, Error>
    where
        F: Fn(&KeyStoreId, &HsmId, &[u8]) -> Result<Bytes, String> + Send + Sync + 'static,
    {
        self.change(move |database| {
            Box::pin(async move {
                let stores: Vec<(String,)> =
                    sqlx::query_as("SELECT id FROM key_stores ORDER BY id").fetch_all(&mut *database).await?;
                let mut resealed = 0;
                for (id,) in stores {
                    let key_store = KeyStoreId::from(id.as_str());
                    for (hsm, mut pin) in load(database, &key_store).await? {
                        let again = |sealed: &Bytes| {
                            reseal(&key_store, &hsm, sealed)
                                .map_err(|why| Error::Contradiction(format!("kmsuser's PIN of HSM {hsm}: {why}")))
                        };
                        pin.current = again(&pin.current)?;
                        pin.pending = pin.pending.as_ref().map(again).transpose()?;
                        resealed += 1 + u64::from(pin.pending.is_some());
                        put(database, &key_store, &hsm, &pin).await?;
                    }
                }
                Ok((resealed, Touched::Nothing))
            })
        })
        .await
    }
}

async fn load(database: &mut SqliteConnection, key_store: &KeyStoreId) -> Result<Vec<(HsmId, Pin)>, Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT hsm_id, current_pin, pending_pin, current_refused, pending_refused, attempt, failures, \
         rotation_due, rotated_at FROM pins WHERE key_store_id = $1 ORDER BY hsm_id",
    )
    .bind(key_store.as_str())
    .fetch_all(database)
    .await?;
    rows.into_iter().map(pin_from).collect()
}

async fn on_record(database: &mut SqliteConnection, key_store: &KeyStoreId, hsm: &HsmId) -> Result<Option<Pin>, Error> {
    Ok(load(database, key_store).await?.into_iter().find(|(of, _)| of == hsm).map(|(_, pin)| pin))
}

/// Writes a row, whether it was there or not.
pub(super) async fn put(
    database: &mut SqliteConnection,
    key_store: &KeyStoreId,
    hsm: &HsmId,
    pin: &Pin,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO pins (key_store_id, hsm_id, current_pin, pending_pin, current_refused, pending_refused, attempt, \
         failures, rotation_due, rotated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (key_store_id, hsm_id) DO UPDATE SET current_pin = excluded.current_pin, \
         pending_pin = excluded.pending_pin, current_refused = excluded.current_refused, \
         pending_refused = excluded.pending_refused, attempt = excluded.attempt, failures = excluded.failures, \
         rotation_due = excluded.rotation_due, rotated_at = excluded.rotated_at",
    )
    .bind(key_store.as_str())
    .bind(hsm.as_str())
    .bind(&pin.current[..])
    .bind(pin.pending.as_deref())
    .bind(i64::from(pin.current_refused))
    .bind(i64::from(pin.pending_refused))
    .bind(pin.attempt.map(name))
    .bind(i64::from(pin.failures))
    .bind(i64::from(pin.rotation_due))
    .bind(pin.rotated_at)
    .execute(database)
    .await?;
    Ok(())
}

/// Has each HSM of the key store rotate its PIN at its next login, or not: a mark that was left by an earlier connect, to
/// an HSM that was away or whose user cannot change its PIN, is taken away where nothing is rotated any more.
pub(super) async fn mark_for_rotation(
    database: &mut SqliteConnection,
    key_store: &KeyStoreId,
    rotate: bool,
) -> Result<(), Error> {
    sqlx::query("UPDATE pins SET rotation_due = $1 WHERE key_store_id = $2")
        .bind(i64::from(rotate))
        .bind(key_store.as_str())
        .execute(database)
        .await?;
    Ok(())
}

fn pin_from(row: Row) -> Result<(HsmId, Pin), Error> {
    let (hsm, current, pending, current_refused, pending_refused, attempt, failures, rotation_due, rotated_at) = row;
    let attempt = match attempt.as_deref() {
        None => None,
        Some("current") => Some(Candidate::Current),
        Some("pending") => Some(Candidate::Pending),
        Some(other) => return Err(unreadable("attempt", other)),
    };
    let pin = Pin {
        current: current.into(),
        pending: pending.map(Bytes::from),
        current_refused: current_refused != 0,
        pending_refused: pending_refused != 0,
        attempt,
        // A negative number is damage; the safe side is that no try is left.
        failures: u32::try_from(failures).unwrap_or(u32::MAX),
        rotation_due: rotation_due != 0,
        rotated_at,
    };
    Ok((hsm.as_str().into(), pin))
}

fn name(candidate: Candidate) -> &'static str {
    match candidate {
        Candidate::Current => "current",
        Candidate::Pending => "pending",
    }
}
