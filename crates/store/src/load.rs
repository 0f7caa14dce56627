//! Reads rows into the catalogue: all of them at start, one key or one store after a change.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::engine::Connection;
use super::engine::value::values;
use super::log;
use super::{Catalogue, Error, Key, KeyStore, Version};
use model::ciphertext::IV_BYTES;
use model::id::{ClusterId, HsmId, KeyId, KeyStoreId, KeyVersionId};
use model::key::{KeyState, Placement};
use model::key_store::{ConnectionErrorCode, ConnectionState};

type KeyRow = (String, String, String, String, i64);
type VersionRow = (String, i64, Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>);
type PlacementRow = (String, i64, String, String);
type StoreRow = (String, String, String, String, Option<String>, Option<String>, String, i64);

/// The same statement for all rows and for one key's: the text stays in one place.
macro_rules! key_rows {
    ($which:literal) => {
        concat!("SELECT id, key_store_id, state, description, created_at FROM keys ", $which)
    };
}

macro_rules! version_rows {
    ($which:literal) => {
        concat!(
            "SELECT key_id, version, escrow, proof_iv, proof FROM key_versions ",
            $which,
            " ORDER BY key_id, version"
        )
    };
}

macro_rules! placement_rows {
    ($which:literal) => {
        concat!("SELECT key_id, version, hsm_id, state FROM placements ", $which)
    };
}

macro_rules! store_rows {
    ($which:literal) => {
        concat!(
            "SELECT id, name, cluster_id, state, error_code, error_message, trust_anchor, created_at FROM key_stores ",
            $which
        )
    };
}

/// Everything.
pub(super) async fn catalogue(database: &mut Connection) -> Result<Catalogue, Error> {
    let position = log::position(database).await?;
    let stores: Vec<StoreRow> = database.all(store_rows!(""), values![]).await?;
    let keys: Vec<KeyRow> = database.all(key_rows!(""), values![]).await?;
    let versions: Vec<VersionRow> = database.all(version_rows!(""), values![]).await?;
    let placements: Vec<PlacementRow> = database.all(placement_rows!(""), values![]).await?;
    let destroyed: Vec<(String, i64)> =
        database.all("SELECT key_id, version FROM destroyed_versions", values![]).await?;
    let destroyed: Vec<_> =
        destroyed.into_iter().map(|(key, version)| version_id(&key, version)).collect::<Result<_, Error>>()?;
    let key_stores: Vec<_> = stores.into_iter().map(store_from).collect::<Result<_, Error>>()?;
    let keys = assemble(keys, versions, placements)?;
    Ok(Catalogue::assemble(position, key_stores, keys, destroyed))
}

/// The versions of a key that are destroyed.
pub(super) async fn destroyed(database: &mut Connection, key: KeyId) -> Result<Vec<KeyVersionId>, Error> {
    let sql = "SELECT version FROM destroyed_versions WHERE key_id = $1";
    let versions: Vec<(u32,)> = database.all(sql, values![key]).await?;
    Ok(versions.into_iter().map(|(version,)| KeyVersionId { key, version }).collect())
}

/// One key, if it is there.
pub(super) async fn key(database: &mut Connection, id: KeyId) -> Result<Option<Key>, Error> {
    let keys: Vec<KeyRow> = database.all(key_rows!("WHERE id = $1"), values![id]).await?;
    let versions: Vec<VersionRow> = database.all(version_rows!("WHERE key_id = $1"), values![id]).await?;
    let placements: Vec<PlacementRow> = database.all(placement_rows!("WHERE key_id = $1"), values![id]).await?;
    Ok(assemble(keys, versions, placements)?.pop())
}

/// One key store, if it is there.
pub(super) async fn key_store(database: &mut Connection, id: &KeyStoreId) -> Result<Option<KeyStore>, Error> {
    let row: Option<StoreRow> = database.optional(store_rows!("WHERE id = $1"), values![id.as_str()]).await?;
    row.map(store_from).transpose()
}

fn assemble(keys: Vec<KeyRow>, versions: Vec<VersionRow>, placements: Vec<PlacementRow>) -> Result<Vec<Key>, Error> {
    let mut placed: BTreeMap<KeyVersionId, BTreeMap<HsmId, Placement>> = BTreeMap::new();
    for (key, version, hsm, state) in placements {
        let state = Placement::from_name(&state).ok_or_else(|| unreadable("placement", &state))?;
        placed.entry(version_id(&key, version)?).or_default().insert(hsm.as_str().into(), state);
    }
    let mut versions_of: BTreeMap<KeyId, Vec<Version>> = BTreeMap::new();
    for (key, version, escrow, proof_iv, proof) in versions {
        let id = version_id(&key, version)?;
        let proof = match (proof_iv, proof) {
            (Some(iv), Some(sealed)) => {
                let iv: [u8; IV_BYTES] =
                    iv.try_into().map_err(|_| unreadable("IV of the proof of", &id.to_string()))?;
                Some((iv, Bytes::from(sealed)))
            }
            _ => None,
        };
        let placements = placed.remove(&id).unwrap_or_default();
        let version = Version { id, blob: escrow.map(Bytes::from), proof, placements };
        versions_of.entry(id.key).or_default().push(version);
    }
    keys.into_iter()
        .map(|(id, key_store, state, description, created_at)| {
            let id = key_id(&id)?;
            Ok(Key {
                id,
                key_store: KeyStoreId::from(key_store.as_str()),
                state: KeyState::from_name(&state).ok_or_else(|| unreadable("key state", &state))?,
                description,
                created_at,
                versions: versions_of
                    .remove(&id)
                    .ok_or_else(|| unreadable("key without versions:", &id.to_string()))?,
            })
        })
        .collect()
}

fn store_from(row: StoreRow) -> Result<KeyStore, Error> {
    let (id, name, cluster, state, code, message, trust_anchor, created_at) = row;
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
