//! Metadata: keys, versions, placements, key stores, client tokens. SQL text that both SQLite and PostgreSQL read.
//!
//! Every change bumps a global revision in the transaction that makes it. Requests read the [`Catalogue`] only.
//!
//! Invariants: one process owns the file ([`Error::InUse`] otherwise); changes happen one after the other, each in one
//! transaction, and the catalogue shows them in that order, each only after it was committed; a change that was begun
//! runs to its end even if nobody waits for it any more.

pub mod backup;
mod budget;
mod change;
mod key_stores;
mod keys;
mod lineage;
mod load;
mod lock;
mod pins;
pub mod restore;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::Mutex;

use crate::model::ciphertext::IV_BYTES;
use crate::model::clock::Clock;
use crate::model::id::{ClusterId, HsmId, KeyId, KeyStoreId, KeyVersionId};
use crate::model::key::{KeyState, Placement};
use crate::model::key_store::{ConnectionErrorCode, ConnectionState};

/// How long a client token is remembered.
pub const CLIENT_TOKEN_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

static MIGRATIONS: Migrator = sqlx::migrate!();

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    /// The one connection, which makes changes take turns; `None` once it was closed.
    connection: Mutex<Option<Open>>,
    catalogue: ArcSwap<Catalogue>,
    clock: Clock,
}

struct Open {
    // Declared before the others, so that it is dropped first.
    database: SqliteConnection,
    lineage: Arc<lineage::Lineage>,
    _lock: lock::Lock,
}

/// The in-memory view that requests read. Immutable; a change makes a new one.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// The revision that it shows.
    pub revision: u64,
    /// Keys by id.
    pub keys: BTreeMap<KeyId, Arc<Key>>,
    /// Key stores by id.
    pub key_stores: BTreeMap<KeyStoreId, Arc<KeyStore>>,
    /// Versions that no token must hold any more.
    pub destroyed: Arc<BTreeSet<KeyVersionId>>,
}

/// A key.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// Its key store.
    pub key_store: KeyStoreId,
    /// Stored state; `Unavailable` is derived elsewhere.
    pub state: KeyState,
    /// The creator's words.
    pub description: String,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
    /// Its versions, oldest first; the last is the current one.
    pub versions: Vec<Version>,
}

/// A version of a key.
#[derive(Clone, Debug)]
pub struct Version {
    /// Its id.
    pub id: KeyVersionId,
    /// The key under the cluster wrapping key: escrow. Absent until it was made.
    pub blob: Option<Bytes>,
    /// IV and ciphertext of the proof. Absent until it was made.
    pub proof: Option<([u8; IV_BYTES], Bytes)>,
    /// Where it is meant to be, and is.
    pub placements: BTreeMap<HsmId, Placement>,
}

/// A key store.
#[derive(Clone, Debug)]
pub struct KeyStore {
    /// Its id.
    pub id: KeyStoreId,
    /// Its name, unique.
    pub name: String,
    /// Its cluster.
    pub cluster: ClusterId,
    /// What the last connect came to.
    pub state: ConnectionState,
    /// Why it failed; only in state FAILED.
    pub error: Option<(ConnectionErrorCode, String)>,
    /// PEM of the authority under which the cluster's HSMs are certified.
    pub trust_anchor: String,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
}

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
}

/// kmsuser's PIN in one HSM, and what is known of it. What follows from it is decided in `cluster::kmsuser`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The PIN in the token, as far as is known; sealed.
    pub current: Bytes,
    /// The PIN that a rotation was about to set; sealed.
    pub pending: Option<Bytes>,
    /// The token refused `current`.
    pub current_refused: bool,
    /// The token refused `pending`.
    pub pending_refused: bool,
    /// An attempt to log in that has no outcome.
    pub attempt: Option<Candidate>,
    /// Attempts in a row that were refused or had no outcome.
    pub failures: u32,
    /// The next login is followed by a rotation.
    pub rotation_due: bool,
    /// Milliseconds since the Unix epoch.
    pub rotated_at: Option<i64>,
}

/// One of the two PINs that a token may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Candidate {
    /// [`Pin::current`].
    Current,
    /// [`Pin::pending`].
    Pending,
}

impl Pin {
    /// A PIN that an operator has given.
    #[must_use]
    pub fn given(sealed: Bytes) -> Self {
        Self {
            current: sealed,
            pending: None,
            current_refused: false,
            pending_refused: false,
            attempt: None,
            failures: 0,
            rotation_due: false,
            rotated_at: None,
        }
    }
}

/// What an operator changes about a key store. Absent: unchanged.
#[derive(Clone, Debug, Default)]
pub struct KeyStoreChange {
    /// Its name.
    pub name: Option<String>,
    /// Its cluster.
    pub cluster: Option<ClusterId>,
    /// kmsuser's PIN, sealed, in these HSMs. Takes the place of all that was known of their PINs.
    pub pins: Vec<(HsmId, Pin)>,
}

/// Makes a create repeatable: the same call gives the same key for a day.
#[derive(Clone, Debug)]
pub struct ClientToken {
    /// Who called.
    pub principal: String,
    /// The operation's event name.
    pub operation: &'static str,
    /// The token.
    pub token: String,
    /// SHA-256 of the other parameters.
    pub parameters: [u8; 32],
}

impl Key {
    /// The version that Encrypt uses. A key has at least one, so this is `None` never.
    #[must_use]
    pub fn current(&self) -> Option<&Version> {
        self.versions.last()
    }
}

/// What [`Store::begin_key`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// The row is there now, in state Creating.
    New(KeyId),
    /// This token made that key before, or began to.
    Existing(KeyId),
}

/// Why the metadata could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process owns the database.
    #[error("{0} is in use by another keystored; stop it first, or name another state_dir")]
    InUse(String),
    /// Another key store has this name.
    #[error("there is a key store with the name {0:?} already")]
    NameInUse(String),
    /// A PIN's record is another one than whoever works on it has read.
    #[error("the record of kmsuser's PIN of HSM {0} was changed meanwhile; it is read again")]
    PinChanged(HsmId),
    /// Another key store has this cluster.
    #[error("{0} belongs to another key store")]
    ClusterInUse(ClusterId),
    /// As many key stores as there may be.
    #[error("there are {0} key stores, as many as there may be")]
    Quota(usize),
    /// A key store with keys cannot be deleted.
    #[error("the key store has keys")]
    HasKeys,
    /// The key store is in another state than the change is for.
    #[error("the key store is {}", .0.name())]
    State(ConnectionState),
    /// The same token came with other parameters.
    #[error("the client_token was used with other parameters")]
    TokenConflict,
    /// A row that must be there is not.
    #[error("{0} is not in the metadata")]
    Missing(String),
    /// What was asked contradicts what the metadata holds.
    #[error("{0}")]
    Contradiction(String),
    /// The file was written by a newer release.
    #[error(
        "{file} has metadata of a newer release (its migration {version} is unknown here); \
         run that release, or restore a backup made before the upgrade"
    )]
    Newer {
        /// The database file.
        file: String,
        /// The first migration that this release does not know.
        version: i64,
    },
    /// The file is not the one that keystored left.
    #[error(
        "{file} is not what keystored left here: {why}. It was not opened, and nothing was changed. Give the copy that is \
         wanted, which may be this file, to `keystored restore --config FILE COPY`: it looks at both and sets aside what \
         is here"
    )]
    Copied {
        /// The database file.
        file: String,
        /// What tells.
        why: String,
    },
    /// A backup or a restore cannot be made, or what was named is none.
    #[error("{0}")]
    Backup(String),
    /// The database's own trouble.
    #[error("metadata: {0}")]
    Database(String),
}

impl Store {
    /// Opens or makes the database file, takes its lock, applies migrations, reads the catalogue. Refuses a file that was
    /// copied there by hand.
    pub async fn open(file: &Path, clock: Clock) -> Result<Self, Error> {
        let lock = lock::Lock::take(file)?;
        if let Some(aside) = restore::finish(file).await? {
            tracing::warn!(?aside, "a restore that had been decided was finished; what was there was set aside");
        }
        lock::make_private(file)?;
        let lineage = Arc::new(lineage::Lineage::admit(file)?);
        let mut database = SqliteConnectOptions::new()
            .filename(file)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A key that was reported Enabled is still there after a power failure.
            .synchronous(SqliteSynchronous::Full)
            // Only a backup or a curious operator can be in the way, and neither for long.
            .busy_timeout(Duration::from_secs(5))
            .disable_statement_logging()
            .connect()
            .await?;
        MIGRATIONS.run_direct(None, &mut database, false).await.map_err(|error| migration_error(file, error))?;
        lineage.begin(&mut database).await?;
        let catalogue = load::catalogue(&mut database).await?;
        let connection = Mutex::new(Some(Open { database, lineage, _lock: lock }));
        let store = Self { inner: Arc::new(Inner { connection, catalogue: ArcSwap::from_pointee(catalogue), clock }) };
        if let Some(former) = restore::unsettled(file) {
            restore::settle(&store, &former).await?;
            restore::discard(file).map_err(|error| backup::failed(file, error))?;
        }
        Ok(store)
    }

    /// The newest view. Cheap.
    #[must_use]
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.inner.catalogue.load_full()
    }

    /// The revision of the newest view. Cheaper still: whoever kept something made from a view asks whether it is out
    /// of date.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.inner.catalogue.load().revision
    }

    /// Closes the database and gives its lock back.
    pub async fn close(&self) {
        let Some(Open { database, lineage, _lock }) = self.inner.connection.lock().await.take() else { return };
        if let Err(error) = database.close().await {
            tracing::warn!(%error, "the metadata could not be closed in order; the next start recovers it");
        }
        lineage.close();
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.to_string())
    }
}

fn migration_error(file: &Path, error: MigrateError) -> Error {
    match error {
        MigrateError::VersionMissing(version) => Error::Newer { file: file.display().to_string(), version },
        MigrateError::VersionMismatch(version) => Error::Database(format!(
            "{}: migration {version} was applied with another text; the file belongs to another build of keystored",
            file.display()
        )),
        other => Error::Database(format!("{}: {other}", file.display())),
    }
}
