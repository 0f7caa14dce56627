//! Changes of keys, and the client tokens that made them.

use super::access::NewKeyPolicy;
use super::access::policies::write_key_policy;
use super::change::{Transaction, must_be_one, touch_key};
use super::engine::Connection;
use super::engine::value::values;
use super::log::Entity;
use super::names::insert_tags;
use super::reserve::Purpose;
use super::versions::{bury, insert_placement, insert_version};
use super::{Begun, CLIENT_TOKEN_LIFE, ClientToken, Error, NewKey, Store, key_stores, load};
use model::id::{KeyId, KeyStoreId, KeyVersionId};
use model::key::{KeyState, Placement};
use model::key_store::Event;

impl Store {
    /// Makes the row of a key with version 1, in state Creating, with a pending placement for each HSM; or finds what
    /// the same client token made. Expired tokens are cleared on the way.
    pub async fn begin_key(&self, new: NewKey, token: Option<&ClientToken>) -> Result<Begun, Error> {
        self.begin_key_with_policy(new, None, token).await
    }

    /// The same for a key that has another policy than the default from the beginning.
    pub async fn begin_key_with_policy(
        &self,
        new: NewKey,
        policy: Option<NewKeyPolicy>,
        token: Option<&ClientToken>,
    ) -> Result<Begun, Error> {
        let token = token.cloned();
        let now = self.inner.clock.unix_millis();
        self.change(move |database| {
            Box::pin(async move {
                clear_tokens(database, now).await?;
                if let Some(token) = &token
                    && let Some(key) = key_of(database, token, now).await?
                {
                    return Ok(Begun::Existing(key));
                }
                in_use(database, &new.key_store).await?;
                has_room(database, &new).await?;
                let key = KeyId::random();
                insert_key(database, key, &new, now).await?;
                if let Some(policy) = &policy {
                    write_key_policy(database, key, policy, now).await?;
                }
                for hsm in &new.hsms {
                    insert_placement(database, KeyVersionId { key, version: 1 }, hsm, Placement::Pending).await?;
                }
                if let Some(token) = &token {
                    insert_token(database, token, key, now).await?;
                }
                Ok(Begun::New(key))
            })
        })
        .await
    }

    /// What a client token made within the last day, if it did; [`Error::TokenConflict`] when its parameters differ.
    pub async fn key_of_token(&self, token: &ClientToken) -> Result<Option<KeyId>, Error> {
        let (token, now) = (token.clone(), self.inner.clock.unix_millis());
        self.read(move |database| Box::pin(async move { key_of(database, &token, now).await })).await
    }

    /// Switches a key from one of these states to another one; [`Error::KeyState`] where it is in none of them by now.
    /// To Disabled also on a full disk.
    pub async fn set_state(&self, key: KeyId, from: &'static [KeyState], to: KeyState) -> Result<(), Error> {
        if to == KeyState::Unavailable {
            return Err(Error::Contradiction("the state Unavailable is derived and never stored".into()));
        }
        let purpose = if to == KeyState::Disabled { Purpose::Restricting } else { Purpose::Ordinary };
        self.change_from_reserve(purpose, move |database| {
            Box::pin(async move {
                touch_key(database, key).await?;
                in_state(database, key, from).await?;
                write_state(database, key, to).await?;
                Ok(())
            })
        })
        .await
    }

    /// Takes away a key that was never finished. Its versions that may be in a token, which are those with a blob and those
    /// that are made in place, are remembered as destroyed for ever. Also on a full disk, by which its making may have been broken off.
    pub async fn abandon_key(&self, key: KeyId) -> Result<(), Error> {
        let now = self.inner.clock.unix_millis();
        self.change_from_reserve(Purpose::Restricting, move |database| {
            Box::pin(async move {
                database.removes(Entity::Key(key)).await?;
                let sql = "SELECT version FROM key_versions WHERE key_id = $1 AND (escrow IS NOT NULL OR in_place = 1)";
                let left: Vec<(u32,)> = database.all(sql, values![key]).await?;
                // Versions, placements and client tokens go with it by their foreign keys.
                let done = database
                    .execute(
                        "DELETE FROM keys WHERE id = $1 AND state = $2",
                        values![key.to_string(), KeyState::Creating.name()],
                    )
                    .await?;
                must_be_one(done, || format!("key {key} in state Creating"))?;
                for (version,) in left {
                    bury(database, KeyVersionId { key, version }, now).await?;
                }
                Ok(())
            })
        })
        .await
    }
}

/// Has a new key be Enabled, if its key store is in use.
pub(super) async fn enable(database: &mut Connection, key: KeyId, now: i64) -> Result<(), Error> {
    let (key_store,): (String,) = database.one("SELECT key_store_id FROM keys WHERE id = $1", values![key]).await?;
    in_use(database, &key_store.as_str().into()).await?;
    write_state(database, key, KeyState::Enabled).await?;
    let since = "UPDATE key_versions SET current_since = $1 WHERE key_id = $2 AND version = 1";
    database.execute(since, values![now, key]).await?;
    Ok(())
}

pub(super) async fn clear_tokens(database: &mut Connection, now: i64) -> Result<(), Error> {
    database.execute("DELETE FROM client_tokens WHERE created_at <= $1", values![oldest(now)]).await?;
    Ok(())
}

/// A token made at this time or before is forgotten.
fn oldest(now: i64) -> i64 {
    now.saturating_sub(i64::try_from(CLIENT_TOKEN_LIFE.as_millis()).unwrap_or(i64::MAX))
}

pub(super) async fn key_of(database: &mut Connection, token: &ClientToken, now: i64) -> Result<Option<KeyId>, Error> {
    let row: Option<(Vec<u8>, String)> = database
        .optional(
            "SELECT parameters, key_id FROM client_tokens \
         WHERE principal = $1 AND operation = $2 AND token = $3 AND created_at > $4",
            values![&token.principal, token.operation, &token.token, oldest(now)],
        )
        .await?;
    match row {
        None => Ok(None),
        Some((parameters, _)) if parameters != token.parameters => Err(Error::TokenConflict),
        Some((_, key)) => load::key_id(&key).map(Some),
    }
}

/// Whether the keys of a key store may be used and made.
pub(super) async fn in_use(database: &mut Connection, key_store: &KeyStoreId) -> Result<(), Error> {
    let store = key_stores::there(database, key_store).await?;
    key_stores::legal(&store, Event::Use)?;
    Ok(())
}

/// Whether a key is in one of these states.
pub(super) async fn in_state(database: &mut Connection, key: KeyId, states: &[KeyState]) -> Result<(), Error> {
    let row: Option<(String,)> = database.optional("SELECT state FROM keys WHERE id = $1", values![key]).await?;
    let (state,) = row.ok_or_else(|| Error::Missing(format!("key {key}")))?;
    let state = KeyState::from_name(&state).ok_or_else(|| load::unreadable("key state", &state))?;
    if states.contains(&state) { Ok(()) } else { Err(Error::KeyState(key, state)) }
}

pub(super) async fn write_state(database: &mut Connection, key: KeyId, to: KeyState) -> Result<(), Error> {
    database.execute("UPDATE keys SET state = $1 WHERE id = $2", values![to.name(), key.to_string()]).await?;
    Ok(())
}

/// Counted here and not in the catalogue: between two calls there is none that the other has not seen.
async fn has_room(database: &mut Connection, new: &NewKey) -> Result<(), Error> {
    let (count,): (i64,) =
        database.one("SELECT COUNT(*) FROM keys WHERE key_store_id = $1", values![new.key_store.as_str()]).await?;
    let room = usize::try_from(count).unwrap_or(usize::MAX) < new.most;
    if room { Ok(()) } else { Err(Error::TooManyKeys(new.key_store.clone(), new.most)) }
}

async fn insert_key(database: &mut Transaction, key: KeyId, new: &NewKey, now: i64) -> Result<(), Error> {
    database.changes(Entity::Key(key)).await?;
    let revision = database.revision().await?;
    database.execute("INSERT INTO keys (id, key_store_id, state, description, created_at, revision) VALUES ($1, $2, $3, $4, $5, $6)", values![key.to_string(), new.key_store.as_str(), KeyState::Creating.name(), &new.description, now, revision])
    .await?;
    insert_tags(database, key, &new.tags).await?;
    insert_version(database, KeyVersionId { key, version: 1 }, None, new.in_place).await
}

pub(super) async fn insert_token(
    database: &mut Connection,
    token: &ClientToken,
    key: KeyId,
    now: i64,
) -> Result<(), Error> {
    database
        .execute(
            "INSERT INTO client_tokens (principal, operation, token, parameters, key_id, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6)",
            values![&token.principal, token.operation, &token.token, &token.parameters[..], key.to_string(), now],
        )
        .await?;
    Ok(())
}
