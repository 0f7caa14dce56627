//! Metadata: keys, versions, placements, key stores, client tokens, and who may do what. SQL text that both SQLite and PostgreSQL read, over an
//! `engine` that nobody above it knows.
//!
//! Every change bumps a global revision in the transaction that makes it, and says in the `log` what it has changed.
//! Requests read the [`Catalogue`] only, which follows that log.
//!
//! Invariants: one process owns the file ([`Error::InUse`] otherwise); changes happen one after the other, each in one
//! transaction, and the catalogue shows them in that order, each only after it was committed; a change that was begun
//! runs to its end even if nobody waits for it any more; no connection is used again after it failed, and catalogue and
//! database agree before the next change is begun.
//!
//! A full disk: [`reserve`] has room for changes that take something out of use, [`trouble`] knows how writing goes,
//! and [`Store::tend`] looks after both.

#![forbid(unsafe_code)]

pub mod access;
pub mod audit;
pub mod backup;
mod budget;
mod catalogue;
mod change;
mod connection;
mod deletion;
pub mod disk;
mod engine;
mod error;
mod follow;
mod key_stores;
mod keys;
mod load;
mod lock;
mod log;
mod names;
mod pins;
pub mod reserve;
pub mod restore;
mod tend;
#[cfg(any(test, feature = "test-support"))]
mod test_support;
#[cfg(test)]
mod tests;
pub mod trouble;
mod usage;
mod versions;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::Mutex;

use self::access::KeyPolicy;
pub use self::catalogue::{Catalogue, GrantChange};
pub use self::deletion::{Destroyed, GiveUp};
use self::engine::sqlite::Place;
use self::engine::{Connection, Engine};
pub use self::error::{AccessError, AccessQuota, Error};
pub use self::key_stores::{KeyStoreChange, NewKeyStore};
pub use self::names::Admits;
use self::reserve::Reserve;
use self::trouble::Record;
pub use self::usage::LastUse;
pub use self::versions::{Finished, Rotating};
use model::ciphertext::IV_BYTES;
use model::clock::Clock;
use model::id::{AliasName, ClusterId, HsmId, KeyId, KeyStoreId, KeyVersionId, PrincipalId};
use model::key::{KeyState, Placement, RotationCause};
use model::key_store::{ConnectionErrorCode, ConnectionState};

/// How long a client token is remembered.
pub const CLIENT_TOKEN_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    /// The one connection that changes something, which makes changes take turns.
    writer: Mutex<Writer>,
    /// The one that only reads.
    reader: Mutex<Reader>,
    reserve: Arc<Reserve>,
    record: Record,
    catalogue: ArcSwap<Catalogue>,
    /// Not in the catalogue: counting encryptions is no change of that.
    reserved: budget::Reserved,
    clock: Clock,
    /// After the connections, which may need what it has open.
    engine: Arc<dyn Engine>,
}

struct Reader {
    /// Absent after it broke: whoever reads next opens another one.
    database: Option<Connection>,
    closed: bool,
}

struct Writer {
    /// Absent while it is used, and after it broke: the next change opens another one.
    // Declared before the lock, so that it is dropped first.
    database: Option<Connection>,
    /// A commit failed, and what came of it was not read back yet.
    in_doubt: bool,
    closed: bool,
    lock: Option<lock::Lock>,
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
    /// The number of the version that encrypts. Versions with higher ones are being made.
    pub current_version: u32,
    /// Rotation by itself, where that is on.
    pub rotation: Option<Rotation>,
    /// In PendingDeletion alone.
    pub deletion: Option<Deletion>,
    /// Its policy, where that is another one than the default.
    pub policy: Option<Arc<KeyPolicy>>,
    /// Its names, in their order.
    pub aliases: Vec<Alias>,
    /// By name.
    pub tags: BTreeMap<String, String>,
    /// Its versions, oldest first.
    pub versions: Vec<Version>,
}

/// How a key is rotated by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Days between two rotations.
    pub period: u32,
    /// When the next one is due, in milliseconds since the Unix epoch.
    pub next: i64,
}

/// What becomes of a key that is pending deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Not before this, in milliseconds since the Unix epoch.
    pub date: i64,
    /// For how long the daemon ran, as far as is on record, while that was past.
    pub overdue: Duration,
    /// The material was given up: nothing brings the key back.
    pub material_destroyed: bool,
}

/// A name of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// With its prefix `alias/`.
    pub name: AliasName,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
    /// When it was given to this key, likewise.
    pub updated_at: i64,
}

/// A version of a key.
#[derive(Clone, Debug)]
pub struct Version {
    /// Its id.
    pub id: KeyVersionId,
    /// 64 hexadecimal digits that name the material and say nothing of it.
    pub material_id: Arc<str>,
    /// When it became the current one, in milliseconds since the Unix epoch. Absent until then.
    pub current_since: Option<i64>,
    /// Why it was made; absent for a key's first one.
    pub cause: Option<RotationCause>,
    /// It was made as an object of the token that keeps it, or is to be: there is no escrow of it.
    pub in_place: bool,
    /// The key under the cluster wrapping key: escrow. Absent until it was made, and when it was given up.
    pub blob: Option<Bytes>,
    /// IV and ciphertext of the proof. Absent until it was made, and when the material was given up.
    pub proof: Option<([u8; IV_BYTES], Bytes)>,
    /// Where it is meant to be, and is.
    pub placements: BTreeMap<HsmId, Placement>,
    /// Where its material is to be destroyed, and was. Empty unless it was given up.
    pub destructions: BTreeMap<HsmId, Destruction>,
}

/// How the destroying of a version stands in one HSM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destruction {
    /// When the HSM had done it, in milliseconds since the Unix epoch. Absent until then.
    pub destroyed_at: Option<i64>,
    /// What the last try came to, where it failed.
    pub failure: Option<String>,
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
    /// Who made it, for whoever repeats the call: a principal, or the name of the certificate of an administrator who is
    /// none. Absent once it was connected, or something was told of its PINs.
    pub maker: Option<PrincipalId>,
}

/// A key that is to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The key store that keeps it.
    pub key_store: KeyStoreId,
    /// The creator's words.
    pub description: String,
    /// By name.
    pub tags: BTreeMap<String, String>,
    /// The HSMs that are to hold it.
    pub hsms: Vec<HsmId>,
    /// It is made in its HSM and stays there.
    pub in_place: bool,
    /// Most keys that the key store may have, this one included.
    pub most: usize,
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
    /// The version that Encrypt uses. Every key has one, so this is `None` never.
    #[must_use]
    pub fn current(&self) -> Option<&Version> {
        self.version(self.current_version)
    }

    /// The version with this number.
    #[must_use]
    pub fn version(&self, number: u32) -> Option<&Version> {
        self.versions.iter().find(|version| version.id.version == number)
    }

    /// The version that is being made to become the current one, if there is one. Of a key whose material was given up
    /// none is: what was begun is destroyed with the others.
    #[must_use]
    pub fn unfinished(&self) -> Option<&Version> {
        let last = self.versions.last().filter(|version| version.id.version > self.current_version);
        last.filter(|_| !self.is_destroyed())
    }

    /// Its material was given up: nothing brings the key back.
    #[must_use]
    pub fn is_destroyed(&self) -> bool {
        self.deletion.is_some_and(|deletion| deletion.material_destroyed)
    }
}

impl Version {
    /// A token may have been asked to keep something of it.
    #[must_use]
    pub fn may_be_in_tokens(&self) -> bool {
        self.in_place || self.blob.is_some()
    }
}

impl NewKey {
    /// One without words and tags, in a key store that may have any number of keys.
    #[must_use]
    pub fn new(key_store: &KeyStoreId, hsms: &[HsmId]) -> Self {
        Self {
            key_store: key_store.clone(),
            description: String::new(),
            tags: BTreeMap::new(),
            hsms: hsms.to_vec(),
            in_place: false,
            most: usize::MAX,
        }
    }
}

#[cfg(test)]
impl Version {
    /// One without anything.
    fn bare(id: KeyVersionId) -> Self {
        Self {
            id,
            material_id: "00".into(),
            current_since: None,
            cause: None,
            in_place: false,
            blob: None,
            proof: None,
            placements: BTreeMap::new(),
            destructions: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
impl Key {
    /// One with a first version.
    fn bare(id: KeyId, key_store: KeyStoreId, state: KeyState) -> Self {
        Self {
            id,
            key_store,
            state,
            description: String::new(),
            created_at: 0,
            current_version: 1,
            rotation: None,
            deletion: None,
            policy: None,
            aliases: Vec::new(),
            tags: BTreeMap::new(),
            versions: vec![Version::bare(KeyVersionId { key: id, version: 1 })],
        }
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

impl Store {
    /// Opens or makes the database file, takes its lock, applies migrations, reads the catalogue. Refuses a file that
    /// was copied there by hand. On a full disk a part of the reserve is used for that, but not for migrations.
    pub async fn open(file: &Path, clock: Clock) -> Result<Self, Error> {
        let lock = lock::Lock::take(file)?;
        if let Some(aside) = restore::finish(file).await? {
            tracing::warn!(?aside, "a restore that had been decided was finished; what was there was set aside");
        }
        lock::make_private(file)?;
        let engine = Arc::new(Place::admit(file)?);
        let store = Self::over(engine, Reserve::find(file), clock, Some(lock)).await?;
        store.tend().await;
        if let Some(former) = restore::unsettled(file) {
            restore::settle(&store, &former).await?;
            restore::discard(file).map_err(|error| backup::failed(file, error))?;
        }
        store.load_reserved().await?;
        Ok(store)
    }

    async fn over(
        engine: Arc<dyn Engine>,
        reserve: Reserve,
        clock: Clock,
        lock: Option<lock::Lock>,
    ) -> Result<Self, Error> {
        let (database, catalogue) = tend::open(&*engine, &reserve).await?;
        let inner = Inner {
            writer: Mutex::new(Writer { database: Some(database), in_doubt: false, closed: false, lock }),
            reader: Mutex::new(Reader { database: None, closed: false }),
            reserve: Arc::new(reserve),
            record: Record::default(),
            catalogue: ArcSwap::from_pointee(catalogue),
            reserved: budget::Reserved::default(),
            clock,
            engine,
        };
        Ok(Self { inner: Arc::new(inner) })
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
        self.inner.catalogue.load().revision()
    }

    /// Closes the database and gives its lock back.
    pub async fn close(&self) {
        let mut writer = self.inner.writer.lock().await;
        if std::mem::replace(&mut writer.closed, true) {
            return;
        }
        let mut reader = self.inner.reader.lock().await;
        reader.closed = true;
        for database in [reader.database.take(), writer.database.take()].into_iter().flatten() {
            if let Err(error) = database.close().await {
                tracing::warn!(%error, "the metadata could not be closed in order; the next start recovers it");
            }
        }
        // With the last connection SQLite has removed its log, and what the reserve had given to that is free.
        self.inner.refill().await;
        self.inner.engine.closed();
        writer.lock = None;
    }
}
