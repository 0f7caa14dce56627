//! Access keys of principals: an id and a sealed secret, and when each was used last.
//!
//! They are a part of their principal in the catalogue, so that whoever is shown one is shown the other, and the end of a
//! principal is theirs. The last uses are told now and then for all of them together, and change no catalogue.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;

use super::checks::{finds, has_room, principal_is_there};
use crate::change::Transaction;
use crate::engine::value::values;
use crate::log::Entity;
use crate::reserve::Purpose;
use crate::{AccessError, AccessQuota, Error, Store};
use model::id::{AccessKeyId, PrincipalId};

/// An access key of a principal.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Its id.
    pub id: AccessKeyId,
    /// Calls may be signed with it.
    pub active: bool,
    /// The secret, sealed for this id and this principal.
    pub sealed: Bytes,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
}

/// An access key that is to be made. It is active.
#[derive(Clone, Debug)]
pub struct NewAccessKey {
    /// Its id: the secret is sealed for it before it is there.
    pub id: AccessKeyId,
    /// Whose it is, who must be there.
    pub principal: PrincipalId,
    /// The secret, sealed.
    pub sealed: Bytes,
    /// Most access keys that the principal may have, this one included.
    pub most: usize,
}

/// The last use of an access key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastAccess {
    /// Milliseconds since the Unix epoch.
    pub at: i64,
    /// AWS's name of the service that was called: `kms`, `sts`.
    pub service: String,
}

/// Access keys of one statement, and of one transaction: other changes wait no longer than that takes.
const ROWS: usize = 64;
const AT_ONCE: usize = 8 * ROWS;

/// Notes the uses of so many access keys; a row with the id of none is none. What was noted by a clock that was ahead, and was
/// put back since, gives way to what comes later.
static NOTE: LazyLock<String> = LazyLock::new(|| {
    let row = |row: usize| format!("(${}, CAST(${} AS BIGINT), ${})", 3 * row + 1, 3 * row + 2, 3 * row + 3);
    let (rows, now) = ((0..ROWS).map(row).collect::<Vec<_>>().join(", "), 3 * ROWS + 1);
    format!(
        "INSERT INTO access_key_usage (access_key_id, used_at, service) \
         SELECT access_keys.id, used.column2, used.column3 \
         FROM (VALUES {rows}) AS used JOIN access_keys ON access_keys.id = used.column1 WHERE true \
         ON CONFLICT (access_key_id) DO UPDATE SET used_at = excluded.used_at, service = excluded.service \
         WHERE excluded.used_at > access_key_usage.used_at OR access_key_usage.used_at > ${now}"
    )
});

impl Store {
    /// Gives a principal a further access key.
    pub async fn create_access_key(&self, new: NewAccessKey) -> Result<(), Error> {
        let now = self.inner.clock.unix_millis();
        self.change(move |database| {
            Box::pin(async move {
                let NewAccessKey { id, principal, sealed, most } = new;
                principal_is_there(database, &principal).await?;
                let count = "SELECT COUNT(*) FROM access_keys WHERE principal_id = $1";
                let count = (count, values![principal.as_str()]);
                has_room(database, AccessQuota::AccessKeys, principal.as_str(), most, count).await?;
                database.changes(Entity::Principal(principal.clone())).await?;
                let insert = "INSERT INTO access_keys (id, principal_id, active, sealed, created_at) \
                              VALUES ($1, $2, $3, $4, $5)";
                let row = values![id.as_str(), principal.as_str(), true, &sealed[..], now];
                database.execute(insert, row).await?;
                Ok(())
            })
        })
        .await
    }

    /// Has calls be signed with an access key again, or no more; a success without a change where it is so already. What
    /// forbids it also on a full disk.
    pub async fn switch_access_key(&self, of: &PrincipalId, id: &AccessKeyId, active: bool) -> Result<(), Error> {
        let (of, id) = (of.clone(), id.clone());
        let purpose = if active { Purpose::Ordinary } else { Purpose::Restricting };
        self.change_from_reserve(purpose, move |database| {
            let (of, id) = (of.clone(), id.clone());
            Box::pin(async move {
                is_there(database, &of, &id).await?;
                let same = "SELECT id FROM access_keys WHERE id = $1 AND active = $2";
                if finds(database, (same, values![id.as_str(), active])).await? {
                    return Ok(());
                }
                database.changes(Entity::Principal(of)).await?;
                let update = "UPDATE access_keys SET active = $1 WHERE id = $2";
                database.execute(update, values![active, id.as_str()]).await?;
                Ok(())
            })
        })
        .await
    }

    /// Takes an access key away. Also on a full disk.
    pub async fn delete_access_key(&self, of: &PrincipalId, id: &AccessKeyId) -> Result<(), Error> {
        let (of, id) = (of.clone(), id.clone());
        self.change_from_reserve(Purpose::Restricting, move |database| {
            let (of, id) = (of.clone(), id.clone());
            Box::pin(async move {
                is_there(database, &of, &id).await?;
                database.changes(Entity::Principal(of)).await?;
                database.execute("DELETE FROM access_keys WHERE id = $1", values![id.as_str()]).await?;
                Ok(())
            })
        })
        .await
    }

    /// Replaces every sealed secret by what `reseal` makes of it, all or none; how many there were. `reseal` is told the
    /// id and the principal.
    pub async fn reseal_access_keys<F>(&self, reseal: F) -> Result<u64, Error>
    where
        F: Fn(&AccessKeyId, &PrincipalId, &[u8]) -> Result<Bytes, String> + Send + Sync + 'static,
    {
        self.change(move |database| {
            Box::pin(async move {
                let all = "SELECT id, principal_id, sealed FROM access_keys ORDER BY id";
                let all: Vec<(String, String, Vec<u8>)> = database.all(all, values![]).await?;
                for (id, of, sealed) in &all {
                    let (id, of) = (AccessKeyId::from(id.as_str()), PrincipalId::from(of.as_str()));
                    let again = reseal(&id, &of, sealed)
                        .map_err(|why| Error::Contradiction(format!("the secret of access key {id}: {why}")))?;
                    database.changes(Entity::Principal(of)).await?;
                    write_sealed(database, &id, &again).await?;
                }
                Ok(all.len() as u64)
            })
        })
        .await
    }

    /// Puts the last uses of access keys on record, each one's once. Those of access keys that are gone are left out.
    pub async fn note_access(&self, uses: &[(AccessKeyId, LastAccess)]) -> Result<(), Error> {
        let now = self.inner.clock.unix_millis();
        for part in uses.chunks(AT_ONCE) {
            let part = part.to_vec();
            self.change(move |database| {
                Box::pin(async move {
                    for uses in part.chunks(ROWS) {
                        let used =
                            uses.iter().flat_map(|(id, LastAccess { at, service })| values![id.as_str(), *at, service]);
                        let nobody = (uses.len()..ROWS).flat_map(|_| values!["", 0_i64, ""]);
                        database.execute(NOTE.as_str(), used.chain(nobody).chain(values![now]).collect()).await?;
                    }
                    Ok(())
                })
            })
            .await?;
        }
        Ok(())
    }

    /// The last uses that are on record.
    pub async fn access_known(&self) -> Result<HashMap<AccessKeyId, LastAccess>, Error> {
        self.read(|database| {
            Box::pin(async move {
                let sql = "SELECT access_key_id, used_at, service FROM access_key_usage";
                let rows: Vec<(String, i64, String)> = database.all(sql, values![]).await?;
                let uses = rows.into_iter();
                Ok(uses.map(|(id, at, service)| (id.as_str().into(), LastAccess { at, service })).collect())
            })
        })
        .await
    }
}

/// Writes a secret that was sealed anew.
pub(crate) async fn write_sealed(database: &mut Transaction, id: &AccessKeyId, sealed: &[u8]) -> Result<(), Error> {
    database.execute("UPDATE access_keys SET sealed = $1 WHERE id = $2", values![sealed, id.as_str()]).await?;
    Ok(())
}

async fn is_there(database: &mut Transaction, of: &PrincipalId, id: &AccessKeyId) -> Result<(), Error> {
    principal_is_there(database, of).await?;
    let asked = "SELECT id FROM access_keys WHERE id = $1 AND principal_id = $2";
    match finds(database, (asked, values![id.as_str(), of.as_str()])).await? {
        true => Ok(()),
        false => Err(AccessError::NoAccessKey(of.clone(), id.clone()).into()),
    }
}

/// What is sealed is told apart and not shown.
impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, active, sealed, created_at } = self;
        let sealed = digest(&SHA256, sealed);
        let sealed = sealed.as_ref().iter().take(8).fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let mut shown = f.debug_struct("AccessKey");
        shown.field("id", id).field("active", active).field("sealed", &sealed).field("created_at", created_at).finish()
    }
}
