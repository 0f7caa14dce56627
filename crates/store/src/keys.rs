//! Changes of keys, their versions and placements, and the client tokens that made them.

use bytes::Bytes;
use sqlx::sqlite::SqliteConnection;

use super::change::{Touched, bump, must_be_one, touch_key};
use super::reserve::Purpose;
use super::{Begun, CLIENT_TOKEN_LIFE, ClientToken, Error, Store, key_stores, load};
use model::ciphertext::IV_BYTES;
use model::id::{HsmId, KeyId, KeyStoreId, KeyVersionId};
use model::key::{KeyState, Placement};
use model::key_store::Event;

impl Store {
    /// Makes the row of a key with version 1, in state Creating, with a pending placement for each HSM; or finds what
    /// the same client token made. Expired tokens are cleared on the way.
    pub async fn begin_key(
        &self,
        key_store: &KeyStoreId,
        description: &str,
        hsms: &[HsmId],
        token: Option<&ClientToken>,
    ) -> Result<Begun, Error> {
        let (key_store, description, hsms, token) =
            (key_store.clone(), description.to_owned(), hsms.to_vec(), token.cloned());
        let now = self.inner.clock.unix_millis();
        self.change(move |database| {
            Box::pin(async move {
                clear_tokens(database, now).await?;
                if let Some(token) = &token
                    && let Some(key) = key_of(database, token, now).await?
                {
                    return Ok((Begun::Existing(key), Touched::Nothing));
                }
                in_use(database, &key_store).await?;
                let key = KeyId::random();
                insert_key(database, key, &key_store, &description, now).await?;
                for hsm in &hsms {
                    insert_placement(database, KeyVersionId { key, version: 1 }, hsm, Placement::Pending).await?;
                }
                if let Some(token) = &token {
                    insert_token(database, token, key, now).await?;
                }
                Ok((Begun::New(key), Touched::Key(key)))
            })
        })
        .await
    }

    /// What a client token made within the last day, if it did; [`Error::TokenConflict`] when its parameters differ.
    pub async fn key_of_token(&self, token: &ClientToken) -> Result<Option<KeyId>, Error> {
        let (token, now) = (token.clone(), self.inner.clock.unix_millis());
        self.read(move |database| Box::pin(async move { key_of(database, &token, now).await })).await
    }

    /// Keeps a version's escrow blob.
    pub async fn keep_blob(&self, version: KeyVersionId, blob: &Bytes) -> Result<(), Error> {
        let blob = blob.clone();
        self.change(move |database| {
            Box::pin(async move {
                touch_key(database, version.key).await?;
                let done = sqlx::query("UPDATE key_versions SET escrow = $1 WHERE key_id = $2 AND version = $3")
                    .bind(&blob[..])
                    .bind(version.key.to_string())
                    .bind(i64::from(version.version))
                    .execute(database)
                    .await?;
                must_be_one(done.rows_affected(), || format!("key version {version}"))?;
                Ok(((), Touched::Key(version.key)))
            })
        })
        .await
    }

    /// Keeps a version's proof ciphertext.
    pub async fn keep_proof(&self, version: KeyVersionId, iv: &[u8; IV_BYTES], sealed: &Bytes) -> Result<(), Error> {
        let (iv, sealed) = (*iv, sealed.clone());
        self.change(move |database| {
            Box::pin(async move {
                touch_key(database, version.key).await?;
                let done =
                    sqlx::query("UPDATE key_versions SET proof_iv = $1, proof = $2 WHERE key_id = $3 AND version = $4")
                        .bind(&iv[..])
                        .bind(&sealed[..])
                        .bind(version.key.to_string())
                        .bind(i64::from(version.version))
                        .execute(database)
                        .await?;
                must_be_one(done.rows_affected(), || format!("key version {version}"))?;
                Ok(((), Touched::Key(version.key)))
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
                Ok(((), Touched::Key(version.key)))
            })
        })
        .await
    }

    /// Records a key's state. Disabled also on a full disk.
    pub async fn set_state(&self, key: KeyId, to: KeyState) -> Result<(), Error> {
        if to == KeyState::Unavailable {
            return Err(Error::Contradiction("the state Unavailable is derived and never stored".into()));
        }
        let purpose = if to == KeyState::Disabled { Purpose::Restricting } else { Purpose::Ordinary };
        self.change_from_reserve(purpose, move |database| {
            Box::pin(async move {
                touch_key(database, key).await?;
                write_state(database, key, to).await?;
                Ok(((), Touched::Key(key)))
            })
        })
        .await
    }

    /// Records that a new key may be used. Its key store must be connected: from the answer to a disconnect on, none is
    /// made.
    pub async fn enable_new_key(&self, key: KeyId, key_store: &KeyStoreId) -> Result<(), Error> {
        let key_store = key_store.clone();
        self.change(move |database| {
            Box::pin(async move {
                in_use(database, &key_store).await?;
                touch_key(database, key).await?;
                write_state(database, key, KeyState::Enabled).await?;
                Ok(((), Touched::Key(key)))
            })
        })
        .await
    }

    /// Takes away a key that was never finished. Its versions that may be in a token, which are those with a blob, are
    /// remembered as destroyed for ever. Also on a full disk, by which its making may have been broken off.
    pub async fn abandon_key(&self, key: KeyId) -> Result<(), Error> {
        let now = self.inner.clock.unix_millis();
        self.change_from_reserve(Purpose::Restricting, move |database| {
            Box::pin(async move {
                bump(database).await?;
                let left: Vec<(i64,)> =
                    sqlx::query_as("SELECT version FROM key_versions WHERE key_id = $1 AND escrow IS NOT NULL")
                        .bind(key.to_string())
                        .fetch_all(&mut *database)
                        .await?;
                // Versions, placements and client tokens go with it by their foreign keys.
                let done = sqlx::query("DELETE FROM keys WHERE id = $1 AND state = $2")
                    .bind(key.to_string())
                    .bind(KeyState::Creating.name())
                    .execute(&mut *database)
                    .await?;
                must_be_one(done.rows_affected(), || format!("key {key} in state Creating"))?;
                let mut destroyed = Vec::with_capacity(left.len());
                for (version,) in left {
                    sqlx::query("INSERT INTO destroyed_versions (key_id, version, destroyed_at) VALUES ($1, $2, $3)")
                        .bind(key.to_string())
                        .bind(version)
                        .bind(now)
                        .execute(&mut *database)
                        .await?;
                    destroyed.extend(u32::try_from(version).map(|version| KeyVersionId { key, version }));
                }
                Ok(((), Touched::Destroyed(key, destroyed)))
            })
        })
        .await
    }
}

async fn clear_tokens(database: &mut SqliteConnection, now: i64) -> Result<(), Error> {
    sqlx::query("DELETE FROM client_tokens WHERE created_at <= $1").bind(oldest(now)).execute(database).await?;
    Ok(())
}

/// A token made at this time or before is forgotten.
fn oldest(now: i64) -> i64 {
    now.saturating_sub(i64::try_from(CLIENT_TOKEN_LIFE.as_millis()).unwrap_or(i64::MAX))
}

async fn key_of(database: &mut SqliteConnection, token: &ClientToken, now: i64) -> Result<Option<KeyId>, Error> {
    let row: Option<(Vec<u8>, String)> = sqlx::query_as(
        "SELECT parameters, key_id FROM client_tokens \
         WHERE principal = $1 AND operation = $2 AND token = $3 AND created_at > $4",
    )
    .bind(&token.principal)
    .bind(token.operation)
    .bind(&token.token)
    .bind(oldest(now))
    .fetch_optional(database)
    .await?;
    match row {
        None => Ok(None),
        Some((parameters, _)) if parameters != token.parameters => Err(Error::TokenConflict),
        Some((_, key)) => load::key_id(&key).map(Some),
    }
}

/// Whether the keys of a key store may be used and made.
async fn in_use(database: &mut SqliteConnection, key_store: &KeyStoreId) -> Result<(), Error> {
    let store = key_stores::there(database, key_store).await?;
    key_stores::legal(&store, Event::Use)?;
    Ok(())
}

async fn write_state(database: &mut SqliteConnection, key: KeyId, to: KeyState) -> Result<(), Error> {
    let change = sqlx::query("UPDATE keys SET state = $1 WHERE id = $2").bind(to.name()).bind(key.to_string());
    change.execute(database).await?;
    Ok(())
}

async fn insert_key(
    database: &mut SqliteConnection,
    key: KeyId,
    key_store: &KeyStoreId,
    description: &str,
    now: i64,
) -> Result<(), Error> {
    let revision = bump(database).await?;
    sqlx::query(
        "INSERT INTO keys (id, key_store_id, state, description, created_at, revision) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(key.to_string())
    .bind(key_store.as_str())
    .bind(KeyState::Creating.name())
    .bind(description)
    .bind(now)
    .bind(revision)
    .execute(&mut *database)
    .await?;
    sqlx::query("INSERT INTO key_versions (key_id, version) VALUES ($1, 1)")
        .bind(key.to_string())
        .execute(database)
        .await?;
    Ok(())
}

async fn insert_placement(
    database: &mut SqliteConnection,
    version: KeyVersionId,
    hsm: &HsmId,
    to: Placement,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO placements (key_id, version, hsm_id, state) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (key_id, version, hsm_id) DO UPDATE SET state = excluded.state",
    )
    .bind(version.key.to_string())
    .bind(i64::from(version.version))
    .bind(hsm.as_str())
    .bind(to.name())
    .execute(database)
    .await?;
    Ok(())
}

async fn insert_token(database: &mut SqliteConnection, token: &ClientToken, key: KeyId, now: i64) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO client_tokens (principal, operation, token, parameters, key_id, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&token.principal)
    .bind(token.operation)
    .bind(&token.token)
    .bind(&token.parameters[..])
    .bind(key.to_string())
    .bind(now)
    .execute(database)
    .await?;
    Ok(())
}
