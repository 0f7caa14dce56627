//! When each key was used last. Told now and then for all keys together, and no change of the catalogue.

use std::collections::HashMap;
use std::sync::LazyLock;

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

/// Keys of one statement. One for each key took a second of a processor for ten thousand.
const ROWS: usize = 64;
/// Keys of one transaction: other changes wait no longer than it takes.
const AT_ONCE: usize = 8 * ROWS;

/// Notes the uses of so many keys; a row with the id of no key is none. What was noted by a clock that was ahead, and was put
/// back since, gives way to what comes later.
static NOTE: LazyLock<String> = LazyLock::new(|| {
    let row = |row: usize| {
        let first = 4 * row + 1;
        format!("(${first}, CAST(${} AS BIGINT), ${}, ${})", first + 1, first + 2, first + 3)
    };
    let (rows, now) = ((0..ROWS).map(row).collect::<Vec<_>>().join(", "), 4 * ROWS + 1);
    format!(
        "INSERT INTO key_usage (key_id, used_at, operation, request_id) \
         SELECT keys.id, used.column2, used.column3, used.column4 \
         FROM (VALUES {rows}) AS used JOIN keys ON keys.id = used.column1 WHERE true \
         ON CONFLICT (key_id) DO UPDATE SET used_at = excluded.used_at, operation = excluded.operation, \
         request_id = excluded.request_id WHERE excluded.used_at > key_usage.used_at OR key_usage.used_at > ${now}"
    )
});

impl Store {
    /// Puts the last uses of keys on record, each key's once. Those of keys that are gone by now are left out.
    pub async fn note_usage(&self, uses: &[(KeyId, LastUse)]) -> Result<(), Error> {
        let now = self.inner.clock.unix_millis();
        for part in uses.chunks(AT_ONCE) {
            let part = part.to_vec();
            self.change(move |database| {
                Box::pin(async move {
                    for uses in part.chunks(ROWS) {
                        let used = uses.iter().flat_map(|(key, LastUse { at, operation, request_id })| {
                            values![*key, *at, operation, request_id]
                        });
                        let nobody = (uses.len()..ROWS).flat_map(|_| values!["", 0_i64, "", ""]);
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
