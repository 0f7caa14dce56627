//! kmsuser's sealed PINs and what is known of each. Rows are read by those who log in, never by requests, so the
//! catalogue does not hold them.

use super::engine::Connection;
use super::engine::value::{self, FromRow, values};
use super::load::unreadable;
use super::reserve::Purpose;
use super::{Error, Store};
use bytes::Bytes;
use model::id::{ClusterId, HsmId, KeyStoreId};
use model::pin::{Candidate, Pin, PinChange, PinRecordError, PinRecords, Recording};

/// A row, in the order in which [`load`] asks for its columns.
struct Row {
    hsm_id: String,
    current_pin: Vec<u8>,
    pending_pin: Option<Vec<u8>>,
    offered_pin: Option<Vec<u8>>,
    current_proven: bool,
    current_refused: bool,
    pending_refused: bool,
    offered_refused: bool,
    offered_first: bool,
    attempt: Option<String>,
    failures: i64,
    rotation_due: bool,
    rotated_at: Option<i64>,
    reset_at: Option<i64>,
    taken_by: Option<String>,
}

impl FromRow for Row {
    fn from_row(row: &mut value::Row) -> Result<Self, Error> {
        Ok(Self {
            hsm_id: row.take()?,
            current_pin: row.take()?,
            pending_pin: row.take()?,
            offered_pin: row.take()?,
            current_proven: row.take()?,
            current_refused: row.take()?,
            pending_refused: row.take()?,
            offered_refused: row.take()?,
            offered_first: row.take()?,
            attempt: row.take()?,
            failures: row.take()?,
            rotation_due: row.take()?,
            rotated_at: row.take()?,
            reset_at: row.take()?,
            taken_by: row.take()?,
        })
    }
}

impl Store {
    /// The PINs of a key store's HSMs.
    pub async fn pins(&self, key_store: &KeyStoreId) -> Result<Vec<(HsmId, Pin)>, Error> {
        let key_store = key_store.clone();
        self.read(move |database| Box::pin(async move { load(database, &key_store).await })).await
    }

    /// Records what is known of one PIN now. Durable when it returns. Fails with [`Error::PinChanged`] when something
    /// else is on record than was read: whoever works on a PIN for a while must not undo what others have recorded
    /// meanwhile.
    ///
    /// On a full disk with a part of the reserve: a login whose outcome is not on record counts as one that failed.
    pub async fn replace_pin(&self, key_store: &KeyStoreId, change: PinChange) -> Result<(), Error> {
        let key_store = key_store.clone();
        let purpose = if change.after.attempt.is_some() { Purpose::Going } else { Purpose::Restricting };
        self.change_from_reserve(purpose, move |database| {
            let (key_store, change) = (key_store.clone(), change.clone());
            Box::pin(async move {
                replace(database, &key_store, &change).await?;
                Ok(())
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
                let stores: Vec<(String,)> = database.all("SELECT id FROM key_stores ORDER BY id", values![]).await?;
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
                        pin.offered = pin.offered.as_ref().map(again).transpose()?;
                        resealed += Candidate::ALL.iter().filter_map(|candidate| pin.sealed(*candidate)).count() as u64;
                        put(database, &key_store, &hsm, &pin).await?;
                    }
                }
                Ok(resealed)
            })
        })
        .await
    }
}

impl PinRecords for Store {
    fn pins<'a>(&'a self, key_store: &'a KeyStoreId) -> Recording<'a, Vec<(HsmId, Pin)>> {
        Box::pin(async move { Ok(self.pins(key_store).await?) })
    }

    fn replace_pin<'a>(&'a self, key_store: &'a KeyStoreId, change: PinChange) -> Recording<'a, ()> {
        Box::pin(async move { Ok(self.replace_pin(key_store, change).await?) })
    }
}

impl From<Error> for PinRecordError {
    fn from(error: Error) -> Self {
        match error {
            Error::PinChanged(hsm) => Self::Changed(hsm),
            other => Self::Metadata(other.to_string()),
        }
    }
}

async fn load(database: &mut Connection, key_store: &KeyStoreId) -> Result<Vec<(HsmId, Pin)>, Error> {
    let rows: Vec<Row> = database
        .all(
            "SELECT hsm_id, current_pin, pending_pin, offered_pin, current_proven, current_refused, pending_refused, \
         offered_refused, offered_first, attempt, failures, rotation_due, rotated_at, reset_at, taken_by \
         FROM pins WHERE key_store_id = $1 ORDER BY hsm_id",
            values![key_store.as_str()],
        )
        .await?;
    rows.into_iter().map(pin_from).collect()
}

async fn on_record(database: &mut Connection, key_store: &KeyStoreId, hsm: &HsmId) -> Result<Option<Pin>, Error> {
    Ok(load(database, key_store).await?.into_iter().find(|(of, _)| of == hsm).map(|(_, pin)| pin))
}

/// Records what is known of one PIN, if nothing else is on record than was read. The key store must be there.
pub(super) async fn replace(
    database: &mut Connection,
    key_store: &KeyStoreId,
    change: &PinChange,
) -> Result<(), Error> {
    if on_record(database, key_store, &change.hsm).await? != change.before {
        return Err(Error::PinChanged(change.hsm.clone()));
    }
    match change.before {
        Some(_) => put(database, key_store, &change.hsm, &change.after).await,
        None => begin(database, key_store, &change.hsm, &change.after).await,
    }
}

/// Records the first PIN of an HSM. The count goes on that a deleted key store has left of it: it is the token's, and
/// making key stores over and over must not spend more tries than there are.
pub(super) async fn begin(
    database: &mut Connection,
    key_store: &KeyStoreId,
    hsm: &HsmId,
    pin: &Pin,
) -> Result<(), Error> {
    let (cluster,): (String,) =
        database.one("SELECT cluster_id FROM key_stores WHERE id = $1", values![key_store.as_str()]).await?;
    let left = left_of(database, &ClusterId::from(cluster.as_str()), hsm).await?;
    // Whoever says that the token's own count was cleared says it of all that came before.
    let left = if pin.reset_at.is_none() { left } else { 0 };
    let pin = Pin { failures: pin.failures.saturating_add(left), ..pin.clone() };
    put(database, key_store, hsm, &pin).await
}

/// Takes away, for a record to go on with it, what is left of a count.
async fn left_of(database: &mut Connection, cluster: &ClusterId, hsm: &HsmId) -> Result<u32, Error> {
    let left: Option<(i64,)> = database
        .optional(
            "DELETE FROM failed_logins WHERE cluster_id = $1 AND hsm_id = $2 RETURNING failures",
            values![cluster.as_str(), hsm.as_str()],
        )
        .await?;
    Ok(left.map_or(0, |(failures,)| count(failures)))
}

/// Has the records of a key store that was moved to another cluster go on with that one's counts. `changes` came with
/// the move: records that it began have their count already, and a reset that it told of clears it.
pub(super) async fn take_counts(
    database: &mut Connection,
    key_store: &KeyStoreId,
    cluster: &ClusterId,
    changes: &[PinChange],
) -> Result<(), Error> {
    for (hsm, pin) in load(database, key_store).await? {
        let change = changes.iter().find(|change| change.hsm == hsm);
        let Some(reset) = change.map_or(Some(false), |change| {
            change.before.as_ref().map(|before| before.reset_at != change.after.reset_at)
        }) else {
            continue;
        };
        let left = left_of(database, cluster, &hsm).await?;
        let failures = if reset { 0 } else { left };
        put(database, key_store, &hsm, &Pin { failures, attempt: None, ..pin }).await?;
    }
    Ok(())
}

/// Keeps the counts of a key store that is about to be deleted, or moved to another cluster.
pub(super) async fn keep_counts(
    database: &mut Connection,
    key_store: &KeyStoreId,
    cluster: &ClusterId,
) -> Result<(), Error> {
    for (hsm, pin) in load(database, key_store).await?.iter().filter(|(_, pin)| pin.spent() > 0) {
        database
            .execute(
                "INSERT INTO failed_logins (cluster_id, hsm_id, failures) VALUES ($1, $2, $3) \
             ON CONFLICT (cluster_id, hsm_id) DO UPDATE SET failures = failed_logins.failures + excluded.failures",
                values![cluster.as_str(), hsm.as_str(), i64::from(pin.spent())],
            )
            .await?;
    }
    Ok(())
}

/// Has at least so many failed logins count for an HSM, whether a PIN is on record for it or not.
pub(super) async fn count_at_least(
    database: &mut Connection,
    cluster: &ClusterId,
    hsm: &HsmId,
    spent: u32,
) -> Result<(), Error> {
    let stores: Vec<(String,)> =
        database.all("SELECT id FROM key_stores WHERE cluster_id = $1", values![cluster.as_str()]).await?;
    let mut on_the_record = false;
    for (store,) in stores {
        let store = KeyStoreId::from(store.as_str());
        let Some(mut pin) = on_record(database, &store, hsm).await? else { continue };
        on_the_record = true;
        if pin.spent() < spent {
            pin.failures = pin.failures.saturating_add(spent - pin.spent());
            put(database, &store, hsm, &pin).await?;
        }
    }
    if !on_the_record {
        database
            .execute(
                "INSERT INTO failed_logins (cluster_id, hsm_id, failures) VALUES ($1, $2, $3) \
             ON CONFLICT (cluster_id, hsm_id) DO UPDATE SET failures = excluded.failures \
             WHERE failed_logins.failures < excluded.failures",
                values![cluster.as_str(), hsm.as_str(), i64::from(spent)],
            )
            .await?;
    }
    Ok(())
}

/// Writes a row, whether it was there or not.
pub(super) async fn put(
    database: &mut Connection,
    key_store: &KeyStoreId,
    hsm: &HsmId,
    pin: &Pin,
) -> Result<(), Error> {
    database
        .execute(
            "INSERT INTO pins (key_store_id, hsm_id, current_pin, pending_pin, offered_pin, current_proven, \
         current_refused, pending_refused, offered_refused, offered_first, attempt, failures, rotation_due, \
         rotated_at, reset_at, taken_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) \
         ON CONFLICT (key_store_id, hsm_id) DO UPDATE SET current_pin = excluded.current_pin, \
         pending_pin = excluded.pending_pin, offered_pin = excluded.offered_pin, \
         current_proven = excluded.current_proven, current_refused = excluded.current_refused, \
         pending_refused = excluded.pending_refused, offered_refused = excluded.offered_refused, \
         offered_first = excluded.offered_first, attempt = excluded.attempt, failures = excluded.failures, \
         rotation_due = excluded.rotation_due, rotated_at = excluded.rotated_at, reset_at = excluded.reset_at, \
         taken_by = excluded.taken_by",
            values![
                key_store.as_str(),
                hsm.as_str(),
                &pin.current[..],
                pin.pending.as_deref(),
                pin.offered.as_deref(),
                pin.current_proven,
                pin.current_refused,
                pin.pending_refused,
                pin.offered_refused,
                pin.offered_first,
                pin.attempt.map(name),
                pin.failures,
                pin.rotation_due,
                pin.rotated_at,
                pin.reset_at,
                (!pin.taken_by.is_empty()).then(|| pin.taken_by.join(" "))
            ],
        )
        .await?;
    Ok(())
}

/// Has each HSM of the key store rotate its PIN at its next login, or not: a mark that was left by an earlier connect,
/// to an HSM that was away or whose user cannot change its PIN, is taken away where nothing is rotated any more.
pub(super) async fn mark_for_rotation(
    database: &mut Connection,
    key_store: &KeyStoreId,
    rotate: bool,
) -> Result<(), Error> {
    database
        .execute("UPDATE pins SET rotation_due = $1 WHERE key_store_id = $2", values![rotate, key_store.as_str()])
        .await?;
    Ok(())
}

fn pin_from(row: Row) -> Result<(HsmId, Pin), Error> {
    let attempt = match row.attempt.as_deref() {
        None => None,
        Some("current") => Some(Candidate::Current),
        Some("pending") => Some(Candidate::Pending),
        Some("offered") => Some(Candidate::Offered),
        Some(other) => return Err(unreadable("attempt", other)),
    };
    let pin = Pin {
        current: row.current_pin.into(),
        pending: row.pending_pin.map(Bytes::from),
        offered: row.offered_pin.map(Bytes::from),
        current_proven: row.current_proven,
        current_refused: row.current_refused,
        pending_refused: row.pending_refused,
        offered_refused: row.offered_refused,
        offered_first: row.offered_first,
        attempt,
        failures: count(row.failures),
        rotation_due: row.rotation_due,
        rotated_at: row.rotated_at,
        reset_at: row.reset_at,
        taken_by: row.taken_by.iter().flat_map(|marks| marks.split_whitespace()).map(str::to_owned).collect(),
    };
    Ok((row.hsm_id.as_str().into(), pin))
}

/// A negative number is damage; the safe side is that no try is left.
fn count(failures: i64) -> u32 {
    u32::try_from(failures).unwrap_or(u32::MAX)
}

fn name(candidate: Candidate) -> &'static str {
    match candidate {
        Candidate::Current => "current",
        Candidate::Pending => "pending",
        Candidate::Offered => "offered",
    }
}
