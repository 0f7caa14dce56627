//! Changes of what people say of keys: aliases, tags and descriptions. What must hold of a key is looked at in the same
//! transaction, quotas included.

use std::collections::{BTreeMap, BTreeSet};

use super::change::{Transaction, must_be_one, touch_key};
use super::engine::value::values;
use super::keys::{clear_tokens, in_state, insert_token, key_of};
use super::{ClientToken, Error, Store, load};
use model::id::{AliasName, KeyId};
use model::key::KeyState;

/// What has to hold of a key that is to have a further name or tag.
#[derive(Clone, Copy, Debug)]
pub struct Admits {
    /// It is in one of these states.
    pub states: &'static [KeyState],
    /// It has at most so many afterwards.
    pub most: usize,
}

impl Store {
    /// Gives a key a further alias: [`Error::AliasInUse`] where there is one of this name. A success without a change
    /// where the same client token did it before, whatever became of the alias since.
    pub async fn create_alias(
        &self,
        name: &AliasName,
        key: KeyId,
        admits: Admits,
        token: Option<&ClientToken>,
    ) -> Result<(), Error> {
        let (name, token, now) = (name.clone(), token.cloned(), self.inner.clock.unix_millis());
        self.change(move |database| {
            Box::pin(async move {
                clear_tokens(database, now).await?;
                if let Some(token) = &token
                    && key_of(database, token, now).await?.is_some()
                {
                    return Ok(());
                }
                in_state(database, key, admits.states).await?;
                if owner(database, &name).await?.is_some() {
                    return Err(Error::AliasInUse(name));
                }
                has_room(database, key, admits.most).await?;
                touch_key(database, key).await?;
                let insert = "INSERT INTO aliases (name, key_id, created_at, updated_at) VALUES ($1, $2, $3, $3)";
                database.execute(insert, values![name.as_str(), key, now]).await?;
                match &token {
                    Some(token) => insert_token(database, token, key, now).await,
                    None => Ok(()),
                }
            })
        })
        .await
    }

    /// Has an alias that one key has be another one's from now on, in one step: [`Error::NoAlias`] where there is none,
    /// [`Error::AliasMoved`] where it is not `from`'s any more.
    pub async fn move_alias(&self, name: &AliasName, from: KeyId, to: KeyId, admits: Admits) -> Result<(), Error> {
        let (name, now) = (name.clone(), self.inner.clock.unix_millis());
        self.change(move |database| {
            Box::pin(async move {
                in_state(database, to, admits.states).await?;
                owned_by(database, &name, from).await?;
                if from != to {
                    has_room(database, to, admits.most).await?;
                    touch_key(database, from).await?;
                }
                touch_key(database, to).await?;
                let update = "UPDATE aliases SET key_id = $1, updated_at = $2 WHERE name = $3";
                let done = database.execute(update, values![to, now, name.as_str()]).await?;
                must_be_one(done, || format!("alias {name}"))
            })
        })
        .await
    }

    /// Takes an alias away from the key that has it: [`Error::NoAlias`] where there is none, [`Error::AliasMoved`] where
    /// it is not `of`'s any more.
    pub async fn remove_alias(&self, name: &AliasName, of: KeyId) -> Result<(), Error> {
        let name = name.clone();
        self.change(move |database| {
            Box::pin(async move {
                owned_by(database, &name, of).await?;
                touch_key(database, of).await?;
                let done = database.execute("DELETE FROM aliases WHERE name = $1", values![name.as_str()]).await?;
                must_be_one(done, || format!("alias {name}"))
            })
        })
        .await
    }

    /// Gives a key tags; one of a name that it has already takes the other one's place.
    pub async fn set_tags(&self, key: KeyId, tags: &BTreeMap<String, String>, admits: Admits) -> Result<(), Error> {
        let tags = tags.clone();
        self.change(move |database| {
            Box::pin(async move {
                in_state(database, key, admits.states).await?;
                let had: Vec<(String,)> = database.all("SELECT name FROM tags WHERE key_id = $1", values![key]).await?;
                let had: BTreeSet<String> = had.into_iter().map(|(name,)| name).collect();
                let further = tags.keys().filter(|name| !had.contains(*name)).count();
                // One that has more, because the quota was lowered, may change what it has.
                if further > 0 && had.len() + further > admits.most {
                    return Err(Error::TooManyTags(admits.most));
                }
                touch_key(database, key).await?;
                insert_tags(database, key, &tags).await
            })
        })
        .await
    }

    /// Takes tags away from a key. Those that it does not have are none.
    pub async fn remove_tags(
        &self,
        key: KeyId,
        names: &BTreeSet<String>,
        states: &'static [KeyState],
    ) -> Result<(), Error> {
        let names = names.clone();
        self.change(move |database| {
            Box::pin(async move {
                in_state(database, key, states).await?;
                touch_key(database, key).await?;
                for name in &names {
                    database.execute("DELETE FROM tags WHERE key_id = $1 AND name = $2", values![key, name]).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Describes a key anew.
    pub async fn set_description(
        &self,
        key: KeyId,
        description: &str,
        states: &'static [KeyState],
    ) -> Result<(), Error> {
        let description = description.to_owned();
        self.change(move |database| {
            Box::pin(async move {
                in_state(database, key, states).await?;
                touch_key(database, key).await?;
                let update = "UPDATE keys SET description = $1 WHERE id = $2";
                database.execute(update, values![&description, key]).await?;
                Ok(())
            })
        })
        .await
    }
}

/// Writes tags over those of the same names.
pub(super) async fn insert_tags(
    database: &mut Transaction,
    key: KeyId,
    tags: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let upsert = "INSERT INTO tags (key_id, name, value) VALUES ($1, $2, $3) \
                  ON CONFLICT (key_id, name) DO UPDATE SET value = excluded.value";
    for (name, value) in tags {
        database.execute(upsert, values![key, name, value]).await?;
    }
    Ok(())
}

/// The key that has an alias.
async fn owner(database: &mut Transaction, name: &AliasName) -> Result<Option<KeyId>, Error> {
    let row: Option<(String,)> =
        database.optional("SELECT key_id FROM aliases WHERE name = $1", values![name.as_str()]).await?;
    row.map(|(key,)| load::key_id(&key)).transpose()
}

/// Whoever asks has looked at the key that had the alias then.
async fn owned_by(database: &mut Transaction, name: &AliasName, key: KeyId) -> Result<(), Error> {
    match owner(database, name).await? {
        Some(owner) if owner == key => Ok(()),
        Some(_) => Err(Error::AliasMoved(name.clone())),
        None => Err(Error::NoAlias(name.clone())),
    }
}

async fn has_room(database: &mut Transaction, key: KeyId, most: usize) -> Result<(), Error> {
    let (count,): (i64,) = database.one("SELECT COUNT(*) FROM aliases WHERE key_id = $1", values![key]).await?;
    if usize::try_from(count).unwrap_or(usize::MAX) < most { Ok(()) } else { Err(Error::TooManyAliases(key, most)) }
}
