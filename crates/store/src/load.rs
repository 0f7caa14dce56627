//! Reads rows into the catalogue: all of them at start, one key or one store after a change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::engine::Connection;
use super::engine::value::{FromRow, Row, Value, values};
use super::log;
use super::{Alias, Catalogue, Deletion, Destruction, Error, Key, KeyPolicy, KeyStore, Rotation, Version, access};
use model::ciphertext::IV_BYTES;
use model::id::{AliasName, ClusterId, HsmId, KeyId, KeyStoreId, KeyVersionId, PrincipalId};
use model::key::{KeyState, Placement, RotationCause};
use model::key_store::{ConnectionErrorCode, ConnectionState};

type PlacementRow = (String, i64, String, String);
type DestructionRow = (String, i64, String, Option<i64>, Option<String>);
type AliasRow = (String, String, i64, i64);
type TagRow = (String, String, String);
type StoreRow = (String, String, String, String, Option<String>, Option<String>, String, i64, Option<String>);

/// A key without what stands in other tables.
struct KeyRow(Key);

/// A version without what stands in other tables.
struct VersionRow(Version);

impl FromRow for KeyRow {
    fn from_row(row: &mut Row) -> Result<Self, Error> {
        let id = key_id(&row.take::<String>()?)?;
        let key_store = KeyStoreId::from(row.take::<String>()?.as_str());
        let (state, description, created_at) = (row.take::<String>()?, row.take()?, row.take()?);
        let state = KeyState::from_name(&state).ok_or_else(|| unreadable("key state", &state))?;
        let (current_version, period, next): (_, Option<u32>, Option<i64>) = (row.take()?, row.take()?, row.take()?);
        let rotation = period.zip(next).map(|(period, next)| Rotation { period, next });
        let (date, overdue, material_destroyed): (Option<i64>, i64, _) = (row.take()?, row.take()?, row.take()?);
        let overdue = Duration::from_millis(u64::try_from(overdue).unwrap_or(0));
        let deletion = date.map(|date| Deletion { date, overdue, material_destroyed });
        let (document, updated_at): (Option<String>, Option<i64>) = (row.take()?, row.take()?);
        let policy = document.zip(updated_at).map(|(document, updated_at)| {
            Arc::new(KeyPolicy { document: document.into(), names: BTreeMap::new(), updated_at })
        });
        Ok(Self(Key {
            id,
            key_store,
            state,
            description,
            created_at,
            current_version,
            rotation,
            deletion,
            policy,
            aliases: Vec::new(),
            tags: BTreeMap::new(),
            versions: Vec::new(),
        }))
    }
}

impl FromRow for VersionRow {
    fn from_row(row: &mut Row) -> Result<Self, Error> {
        let id = version_id(&row.take::<String>()?, row.take()?)?;
        let (material_id, current_since, cause): (String, _, Option<String>) = (row.take()?, row.take()?, row.take()?);
        let cause = cause.map(|cause| RotationCause::from_name(&cause).ok_or_else(|| unreadable("cause", &cause)));
        let (in_place, blob): (bool, Option<Vec<u8>>) = (row.take()?, row.take()?);
        let (iv, sealed): (Option<Vec<u8>>, Option<Vec<u8>>) = (row.take()?, row.take()?);
        let proof = match (iv, sealed) {
            (Some(iv), Some(sealed)) => {
                let iv: [u8; IV_BYTES] =
                    iv.try_into().map_err(|_| unreadable("IV of the proof of", &id.to_string()))?;
                Some((iv, Bytes::from(sealed)))
            }
            _ => None,
        };
        Ok(Self(Version {
            id,
            material_id: material_id.into(),
            current_since,
            cause: cause.transpose()?,
            in_place,
            blob: blob.map(Bytes::from),
            proof,
            placements: BTreeMap::new(),
            destructions: BTreeMap::new(),
        }))
    }
}

/// The same statements for all rows and for one key's: the text stays in one place. `$all` and `$of` say which.
macro_rules! rows_of_keys {
    ($database:expr, $where_id:literal, $where_key:literal, $values:expr) => {{
        let (database, values): (&mut Connection, Vec<Value>) = ($database, $values);
        let keys: Vec<KeyRow> = database
            .all(
                concat!(
                    "SELECT id, key_store_id, state, description, created_at, current_version, rotation_period, ",
                    "next_rotation, deletion_date, overdue, material_destroyed, document, updated_at FROM keys ",
                    "LEFT JOIN key_policies ON key_policies.key_id = keys.id ",
                    $where_id
                ),
                values.clone(),
            )
            .await?;
        let versions: Vec<VersionRow> = database
            .all(
                concat!(
                    "SELECT key_id, version, material_id, current_since, cause, in_place, escrow, proof_iv, proof ",
                    "FROM key_versions ",
                    $where_key,
                    " ORDER BY key_id, version"
                ),
                values.clone(),
            )
            .await?;
        let placements: Vec<PlacementRow> = database
            .all(concat!("SELECT key_id, version, hsm_id, state FROM placements ", $where_key), values.clone())
            .await?;
        let destructions: Vec<DestructionRow> = database
            .all(
                concat!("SELECT key_id, version, hsm_id, destroyed_at, failure FROM destructions ", $where_key),
                values.clone(),
            )
            .await?;
        let aliases: Vec<AliasRow> = database
            .all(
                concat!("SELECT key_id, name, created_at, updated_at FROM aliases ", $where_key, " ORDER BY name"),
                values.clone(),
            )
            .await?;
        let tags: Vec<TagRow> =
            database.all(concat!("SELECT key_id, name, value FROM tags ", $where_key), values.clone()).await?;
        let named: Vec<TagRow> = match keys.iter().any(|KeyRow(key)| key.policy.is_some()) {
            true => {
                let sql = concat!("SELECT key_id, arn, principal_id FROM key_policy_names ", $where_key);
                database.all(sql, values).await?
            }
            false => Vec::new(),
        };
        Rows { keys, versions, placements, destructions, aliases, tags, named }
    }};
}

macro_rules! store_rows {
    ($which:literal) => {
        concat!(
            "SELECT id, name, cluster_id, state, error_code, error_message, trust_anchor, created_at, maker FROM key_stores ",
            $which
        )
    };
}

/// What tables hold of keys.
struct Rows {
    keys: Vec<KeyRow>,
    versions: Vec<VersionRow>,
    placements: Vec<PlacementRow>,
    destructions: Vec<DestructionRow>,
    aliases: Vec<AliasRow>,
    tags: Vec<TagRow>,
    /// Whom the keys' policies name.
    named: Vec<TagRow>,
}

/// Reads the whole catalogue.
pub(super) async fn catalogue(database: &mut Connection) -> Result<Catalogue, Error> {
    let position = log::position(database).await?;
    let stores: Vec<StoreRow> = database.all(store_rows!(""), values![]).await?;
    let rows = rows_of_keys!(database, "", "", values![]);
    let destroyed: Vec<(String, i64)> =
        database.all("SELECT key_id, version FROM destroyed_versions", values![]).await?;
    let destroyed: Vec<_> =
        destroyed.into_iter().map(|(key, version)| version_id(&key, version)).collect::<Result<_, Error>>()?;
    let key_stores: Vec<_> = stores.into_iter().map(store_from).collect::<Result<_, Error>>()?;
    let mut whole = Catalogue::assemble(position, key_stores, rows.assemble()?, destroyed);
    access::load::everything(database, &mut whole).await?;
    Ok(whole)
}

/// The versions of a key that are destroyed.
pub(super) async fn destroyed(database: &mut Connection, key: KeyId) -> Result<Vec<KeyVersionId>, Error> {
    let sql = "SELECT version FROM destroyed_versions WHERE key_id = $1";
    let versions: Vec<(u32,)> = database.all(sql, values![key]).await?;
    Ok(versions.into_iter().map(|(version,)| KeyVersionId { key, version }).collect())
}

/// One key, if it is there.
pub(super) async fn key(database: &mut Connection, id: KeyId) -> Result<Option<Key>, Error> {
    let rows = rows_of_keys!(database, "WHERE id = $1", "WHERE key_id = $1", values![id]);
    Ok(rows.assemble()?.pop())
}

/// One key store, if it is there.
pub(super) async fn key_store(database: &mut Connection, id: &KeyStoreId) -> Result<Option<KeyStore>, Error> {
    let row: Option<StoreRow> = database.optional(store_rows!("WHERE id = $1"), values![id.as_str()]).await?;
    row.map(store_from).transpose()
}

impl Rows {
    fn assemble(self) -> Result<Vec<Key>, Error> {
        let mut placed: BTreeMap<KeyVersionId, BTreeMap<HsmId, Placement>> = BTreeMap::new();
        for (key, version, hsm, state) in self.placements {
            let state = Placement::from_name(&state).ok_or_else(|| unreadable("placement", &state))?;
            placed.entry(version_id(&key, version)?).or_default().insert(hsm.as_str().into(), state);
        }
        let mut destroyed: BTreeMap<KeyVersionId, BTreeMap<HsmId, Destruction>> = BTreeMap::new();
        for (key, version, hsm, destroyed_at, failure) in self.destructions {
            let destruction = Destruction { destroyed_at, failure };
            destroyed.entry(version_id(&key, version)?).or_default().insert(hsm.as_str().into(), destruction);
        }
        let mut versions: BTreeMap<KeyId, Vec<Version>> = BTreeMap::new();
        for VersionRow(mut version) in self.versions {
            version.placements = placed.remove(&version.id).unwrap_or_default();
            version.destructions = destroyed.remove(&version.id).unwrap_or_default();
            versions.entry(version.id.key).or_default().push(version);
        }
        let mut aliases: BTreeMap<KeyId, Vec<Alias>> = BTreeMap::new();
        for (key, name, created_at, updated_at) in self.aliases {
            let name = AliasName::from(name.as_str());
            aliases.entry(key_id(&key)?).or_default().push(Alias { name, created_at, updated_at });
        }
        let mut tags: BTreeMap<KeyId, BTreeMap<String, String>> = BTreeMap::new();
        for (key, name, value) in self.tags {
            tags.entry(key_id(&key)?).or_default().insert(name, value);
        }
        let mut named = access::load::names(self.named);
        let whole = |KeyRow(mut key): KeyRow| {
            let without = || unreadable("key without versions:", &key.id.to_string());
            key.versions = versions.remove(&key.id).ok_or_else(without)?;
            key.aliases = aliases.remove(&key.id).unwrap_or_default();
            key.tags = tags.remove(&key.id).unwrap_or_default();
            if let Some(policy) = &mut key.policy
                && let Some(names) = named.remove(&key.id.to_string())
            {
                Arc::make_mut(policy).names = names;
            }
            Ok(key)
        };
        self.keys.into_iter().map(whole).collect()
    }
}

/// Whether there are versions of before material had ids.
pub(super) async fn nameless(database: &mut Connection) -> Result<bool, Error> {
    let sql = "SELECT version FROM key_versions WHERE material_id = '' LIMIT 1";
    Ok(database.optional::<(i64,)>(sql, values![]).await?.is_some())
}

/// Gives those a material id.
pub(super) async fn name_materials(database: &mut Connection) -> Result<(), Error> {
    let nameless: Vec<(String, i64)> =
        database.all("SELECT key_id, version FROM key_versions WHERE material_id = ''", values![]).await?;
    for (key, version) in nameless {
        let sql = "UPDATE key_versions SET material_id = $1 WHERE key_id = $2 AND version = $3";
        database.execute(sql, values![material_id()?, key, version]).await?;
    }
    Ok(())
}

/// A new name for key material: random, so that it says nothing of the material.
pub(super) fn material_id() -> Result<String, Error> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Error::Database("the operating system gives no random bytes".to_owned()))?;
    Ok(bytes.iter().fold(String::with_capacity(64), |text, byte| text + &format!("{byte:02x}")))
}

fn store_from(row: StoreRow) -> Result<KeyStore, Error> {
    let (id, name, cluster, state, code, message, trust_anchor, created_at, maker) = row;
    let error = match code {
        Some(code) => {
            let known = ConnectionErrorCode::from_name(&code).ok_or_else(|| unreadable("error code", &code))?;
            Some((known, message.unwrap_or_default()))
        }
        None => None,
    };
    Ok(KeyStore {
        id: KeyStoreId::from(id.as_str()),
        name,
        cluster: ClusterId::from(cluster.as_str()),
        state: ConnectionState::from_name(&state).ok_or_else(|| unreadable("connection state", &state))?,
        error,
        trust_anchor,
        created_at,
        maker: maker.map(|maker| PrincipalId::from(maker.as_str())),
    })
}

/// Reads a key's id as the metadata spells it.
pub(super) fn key_id(text: &str) -> Result<KeyId, Error> {
    KeyId::parse(text).ok_or_else(|| unreadable("key id", text))
}

pub(super) fn version_id(key: &str, version: i64) -> Result<KeyVersionId, Error> {
    let version = u32::try_from(version).map_err(|_| unreadable("version", &version.to_string()))?;
    Ok(KeyVersionId { key: key_id(key)?, version })
}

pub(super) fn unreadable(what: &str, value: &str) -> Error {
    Error::Database(format!("{what} {value:?} cannot be read; the file was changed by something else than keystored"))
}
