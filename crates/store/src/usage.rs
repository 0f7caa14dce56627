//! When each key was used last. Told now and then for all keys together, and no change of the catalogue.

use std::collections::HashMap;

use super::engine::value::values;
use super::{Error, Store, load};
use model::id::KeyId;

/// The last successful use of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastUse {
    /// Milliseconds since the Unix epoch.
    pub at: i64,
    /// The operation's event name.
    pub operation: String,
    /// The call's request id.
    pub request_id: String,
}

impl Store {
    /// Puts the last uses of keys on record. Those of keys that are gone by now are left out.
    pub async fn note_usage(&self, uses: &[(KeyId, LastUse)]) -> Result<(), Error> {
        let uses = uses.to_vec();
        self.change(move |database| {
            Box::pin(async move {
                for (key, LastUse { at, operation, request_id }) in uses {
                    let sql = "INSERT INTO key_usage (key_id, used_at, operation, request_id) \
                               SELECT id, $1, $2, $3 FROM keys WHERE id = $4 \
                               ON CONFLICT (key_id) DO UPDATE SET used_at = excluded.used_at, \
                               operation = excluded.operation, request_id = excluded.request_id \
                               WHERE excluded.used_at > key_usage.used_at";
                    database.execute(sql, values![at, operation, request_id, key]).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// The last uses that are on record.
    pub async fn usage(&self) -> Result<HashMap<KeyId, LastUse>, Error> {
        self.read(|database| {
            Box::pin(async move {
                let sql = "SELECT key_id, used_at, operation, request_id FROM key_usage";
                let rows: Vec<(String, i64, String, String)> = database.all(sql, values![]).await?;
                let uses = rows.into_iter().map(|(key, at, operation, request_id)| {
                    Ok((load::key_id(&key)?, LastUse { at, operation, request_id }))
                });
                uses.collect()
            })
        })
        .await
    }
}
