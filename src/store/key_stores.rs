//! Changes of key stores.

use sqlx::sqlite::SqliteConnection;

use super::change::{Touched, bump};
use super::{Error, Store};
use crate::model::id::{ClusterId, KeyStoreId};
use crate::model::key_store::ConnectionState;

impl Store {
    /// The store of this name over this cluster, made in state CONNECTED if it is not there. A store follows its
    /// cluster to a new name; a name that already belongs to another cluster is an [`Error::Contradiction`].
    pub async fn ensure_key_store(&self, name: &str, cluster: &ClusterId) -> Result<KeyStoreId, Error> {
        let (name, cluster) = (name.to_owned(), cluster.clone());
        let now = self.inner.clock.unix_millis();
        self.change(move |database| {
            Box::pin(async move {
                let named: Option<(String,)> = sqlx::query_as("SELECT cluster_id FROM key_stores WHERE name = $1")
                    .bind(&name)
                    .fetch_optional(&mut *database)
                    .await?;
                if let Some((other,)) = named.filter(|(other,)| other != cluster.as_str()) {
                    return Err(Error::Contradiction(format!(
                        "key store {name:?} belongs to {other} in the metadata, but to {cluster} in the configuration; \
                         give the cluster its former id or the key store another name"
                    )));
                }
                let existing: Option<(String, String)> =
                    sqlx::query_as("SELECT id, name FROM key_stores WHERE cluster_id = $1")
                        .bind(cluster.as_str())
                        .fetch_optional(&mut *database)
                        .await?;
                match existing {
                    None => insert(database, &name, &cluster, now).await,
                    Some((id, former)) if former == name => Ok((KeyStoreId::from(id.as_str()), Touched::Nothing)),
                    Some((id, _)) => rename(database, KeyStoreId::from(id.as_str()), &name).await,
                }
            })
        })
        .await
    }
}

async fn insert(
    database: &mut SqliteConnection,
    name: &str,
    cluster: &ClusterId,
    now: i64,
) -> Result<(KeyStoreId, Touched), Error> {
    let (id, revision) = (KeyStoreId::random(), bump(database).await?);
    sqlx::query(
        "INSERT INTO key_stores (id, name, cluster_id, state, created_at, revision) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(id.as_str())
    .bind(name)
    .bind(cluster.as_str())
    .bind(ConnectionState::Connected.name())
    .bind(now)
    .bind(revision)
    .execute(database)
    .await?;
    Ok((id.clone(), Touched::KeyStore(id)))
}

async fn rename(database: &mut SqliteConnection, id: KeyStoreId, to: &str) -> Result<(KeyStoreId, Touched), Error> {
    let revision = bump(database).await?;
    sqlx::query("UPDATE key_stores SET name = $1, revision = $2 WHERE id = $3")
        .bind(to)
        .bind(revision)
        .bind(id.as_str())
        .execute(database)
        .await?;
    Ok((id.clone(), Touched::KeyStore(id)))
}
