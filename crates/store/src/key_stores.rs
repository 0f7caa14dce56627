//! Changes of key stores. What a key store must be for a change is looked at in the same transaction.

use super::change::Transaction;
use super::engine::Connection;
use super::engine::value::values;
use super::log::Entity;
use super::reserve::Purpose;
use super::{Error, KeyStore, Store, load, pins};
use model::id::{ClusterId, HsmId, KeyStoreId, PrincipalId};
use model::key_store::{ConnectionErrorCode, ConnectionState, Event, Next};
use model::limits;
use model::pin::{Pin, PinChange};

/// A key store that is to be made, in state DISCONNECTED.
#[derive(Clone, Debug)]
pub struct NewKeyStore {
    /// Its id: PINs are sealed for it before it is there.
    pub id: KeyStoreId,
    /// Its name.
    pub name: String,
    /// Its cluster.
    pub cluster: ClusterId,
    /// PEM.
    pub trust_anchor: String,
    /// kmsuser's PIN, sealed, in each HSM.
    pub pins: Vec<(HsmId, Pin)>,
    /// Who makes it: see [`KeyStore::maker`].
    pub maker: Option<PrincipalId>,
}

/// What an operator changes about a key store. Absent: unchanged.
#[derive(Clone, Debug, Default)]
pub struct KeyStoreChange {
    /// Its name.
    pub name: Option<String>,
    /// Its cluster.
    pub cluster: Option<ClusterId>,
    /// What is known of kmsuser's PIN in these HSMs.
    pub pins: Vec<PinChange>,
}

impl Store {
    /// Makes a key store in state DISCONNECTED.
    pub async fn create_key_store(&self, new: NewKeyStore) -> Result<KeyStoreId, Error> {
        let now = self.inner.clock.unix_millis();
        self.change(move |database| {
            Box::pin(async move {
                let (count,): (i64,) = database.one("SELECT COUNT(*) FROM key_stores", values![]).await?;
                if usize::try_from(count).unwrap_or(usize::MAX) >= limits::KEY_STORES {
                    return Err(Error::Quota(limits::KEY_STORES));
                }
                name_is_free(database, &new.name, None).await?;
                cluster_is_free(database, &new.cluster, None).await?;
                let id = new.id.clone();
                let revision = touch(database, &id).await?;
                database
                    .execute(
                        "INSERT INTO key_stores (id, name, cluster_id, state, trust_anchor, created_at, revision, maker) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                        values![
                            id.as_str(),
                            &new.name,
                            new.cluster.as_str(),
                            ConnectionState::Disconnected.name(),
                            &new.trust_anchor,
                            now,
                            revision,
                            new.maker.as_ref().map(PrincipalId::as_str)
                        ],
                    )
                    .await?;
                for (hsm, pin) in &new.pins {
                    pins::begin(database, &id, hsm, pin).await?;
                }
                Ok(id)
            })
        })
        .await
    }

    /// Changes a key store as an operator wants it, wholly or, with [`Error::PinChanged`] too, not at all.
    pub async fn update_key_store(&self, id: &KeyStoreId, change: KeyStoreChange) -> Result<(), Error> {
        let id = id.clone();
        self.change(move |database| {
            Box::pin(async move {
                let store = there(database, &id).await?;
                if let Some(name) = &change.name {
                    legal(&store, Event::Rename)?;
                    name_is_free(database, name, Some(&id)).await?;
                }
                if let Some(cluster) = &change.cluster {
                    legal(&store, Event::Change)?;
                    cluster_is_free(database, cluster, Some(&id)).await?;
                }
                if !change.pins.is_empty() {
                    legal(&store, Event::Change)?;
                }
                let moves_to = change.cluster.as_ref().filter(|cluster| **cluster != store.cluster);
                if moves_to.is_some() {
                    pins::keep_counts(database, &id, &store.cluster).await?;
                }
                // What is on record of its PINs is not what its maker gave any more, and nobody finds out what it is.
                let maker = store.maker.as_ref().filter(|_| change.pins.is_empty()).map(PrincipalId::as_str);
                let revision = touch(database, &id).await?;
                database
                    .execute(
                        "UPDATE key_stores SET name = $1, cluster_id = $2, maker = $3, revision = $4 WHERE id = $5",
                        values![
                            change.name.as_ref().unwrap_or(&store.name),
                            change.cluster.as_ref().unwrap_or(&store.cluster).as_str(),
                            maker,
                            revision,
                            id.as_str()
                        ],
                    )
                    .await?;
                for pin in &change.pins {
                    pins::replace(database, &id, pin).await?;
                }
                if let Some(cluster) = moves_to {
                    pins::take_counts(database, &id, cluster, &change.pins).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Has an event happen to a key store and returns the states before and after it. [`Event::Connect`] of a store
    /// that is DISCONNECTED also marks its PINs for rotation, or takes such marks away, as `rotate` says; who made it counts
    /// no more from then on. What takes a store out of use is recorded on a full disk as well.
    pub async fn advance_key_store(
        &self,
        id: &KeyStoreId,
        event: Event,
        error: Option<(ConnectionErrorCode, String)>,
        rotate: bool,
    ) -> Result<[ConnectionState; 2], Error> {
        let id = id.clone();
        let purpose = match event {
            Event::Disconnect | Event::DisconnectDone | Event::ConnectFailed => Purpose::Restricting,
            Event::Connect | Event::ConnectSucceeded | Event::Rename | Event::Change | Event::Delete | Event::Use => {
                Purpose::Ordinary
            }
        };
        self.change_from_reserve(purpose, move |database| {
            let (id, error) = (id.clone(), error.clone());
            Box::pin(async move {
                let store = there(database, &id).await?;
                let next = legal(&store, event)?;
                if next == store.state {
                    return Ok([next, next]);
                }
                if event == Event::Connect {
                    pins::mark_for_rotation(database, &id, rotate).await?;
                    database.execute("UPDATE key_stores SET maker = NULL WHERE id = $1", values![id.as_str()]).await?;
                }
                let revision = touch(database, &id).await?;
                let (code, message) = error.map(|(code, message)| (code.name(), message)).unzip();
                database.execute("UPDATE key_stores SET state = $1, error_code = $2, error_message = $3, revision = $4 WHERE id = $5", values![next.name(), code, message, revision, id.as_str()])
                .await?;
                Ok([store.state, next])
            })
        })
        .await
    }

    /// Forgets a key store that is DISCONNECTED and has no keys, and the PINs of its HSMs with it. The counts of failed
    /// logins stay: they are the tokens'.
    pub async fn delete_key_store(&self, id: &KeyStoreId) -> Result<(), Error> {
        let id = id.clone();
        self.change(move |database| {
            Box::pin(async move {
                let store = there(database, &id).await?;
                legal(&store, Event::Delete)?;
                let (keys,): (i64,) =
                    database.one("SELECT COUNT(*) FROM keys WHERE key_store_id = $1", values![id.as_str()]).await?;
                if keys > 0 {
                    return Err(Error::HasKeys);
                }
                pins::keep_counts(database, &id, &store.cluster).await?;
                database.removes(Entity::KeyStore(id.clone())).await?;
                database.execute("DELETE FROM key_stores WHERE id = $1", values![id.as_str()]).await?;
                Ok(())
            })
        })
        .await
    }
}

/// Records a change to a key store; the revision to be written beside it.
async fn touch(transaction: &mut Transaction, id: &KeyStoreId) -> Result<i64, Error> {
    transaction.changes(Entity::KeyStore(id.clone())).await?;
    transaction.revision().await
}

pub(super) async fn there(database: &mut Connection, id: &KeyStoreId) -> Result<KeyStore, Error> {
    load::key_store(database, id).await?.ok_or_else(|| Error::NoKeyStore(id.clone()))
}

/// The state after an event that is legal.
pub(super) fn legal(store: &KeyStore, event: Event) -> Result<ConnectionState, Error> {
    match store.state.next(event) {
        Next::State(next) => Ok(next),
        // The row goes away as a whole.
        Next::Gone => Ok(store.state),
        Next::Refused => Err(Error::State(store.state)),
    }
}

async fn name_is_free(database: &mut Connection, name: &str, but: Option<&KeyStoreId>) -> Result<(), Error> {
    let row: Option<(String,)> = database.optional("SELECT id FROM key_stores WHERE name = $1", values![name]).await?;
    match row {
        Some((id,)) if but.is_none_or(|own| own.as_str() != id) => Err(Error::NameInUse(name.to_owned())),
        _ => Ok(()),
    }
}

async fn cluster_is_free(
    database: &mut Connection,
    cluster: &ClusterId,
    but: Option<&KeyStoreId>,
) -> Result<(), Error> {
    let row: Option<(String,)> =
        database.optional("SELECT id FROM key_stores WHERE cluster_id = $1", values![cluster.as_str()]).await?;
    match row {
        Some((id,)) if but.is_none_or(|own| own.as_str() != id) => Err(Error::ClusterInUse(cluster.clone())),
        _ => Ok(()),
    }
}
