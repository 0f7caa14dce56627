//! What keeps metadata from being read or changed, as data: whose fault it is, and whether it passes.

use std::path::PathBuf;

use super::engine::Fault;
use super::trouble::Trouble;
use model::id::{AliasName, ClusterId, HsmId, KeyId, KeyStoreId};
use model::key::KeyState;
use model::key_store::ConnectionState;
use model::outage::Outage;

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
    /// As many keys as the key store may have.
    #[error("the key store {0} has {1} keys, as many as limits.keys_per_key_store allows")]
    TooManyKeys(KeyStoreId, usize),
    /// As many aliases as the key may have.
    #[error("key {0} has {1} aliases, as many as limits.aliases_per_key allows")]
    TooManyAliases(KeyId, usize),
    /// More tags than a key may have.
    #[error("a key has at most {0} tags (limits.tags_per_key)")]
    TooManyTags(usize),
    /// There is such an alias already.
    #[error("there is {0} already")]
    AliasInUse(AliasName),
    /// There is no such alias.
    #[error("there is no {0}")]
    NoAlias(AliasName),
    /// The alias is another key's than whoever changes it has looked at.
    #[error("{0} was given to another key meanwhile")]
    AliasMoved(AliasName),
    /// The key store is in another state than the change is for.
    #[error("the key store is {}", .0.name())]
    State(ConnectionState),
    /// The key is in another state than the change is for.
    #[error("key {} is {}", .0, .1.name())]
    KeyState(KeyId, KeyState),
    /// The material of the key was given up, so that nothing brings it back.
    #[error("the material of key {0} was destroyed")]
    MaterialDestroyed(KeyId),
    /// A version of the key is being made already.
    #[error("a new version of key {0} is being made")]
    Rotating(KeyId),
    /// The same token came with other parameters.
    #[error("the client_token was used with other parameters")]
    TokenConflict,
    /// There is no such key store.
    #[error("there is no key store {0}")]
    NoKeyStore(KeyStoreId),
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
    /// The machine lets the metadata down for the moment; it passes, and the same change may succeed then.
    #[error("{0}")]
    Storage(Trouble),
    /// There is no room but the reserve's, which is for other changes.
    #[error(
        "the metadata in {} cannot be written: its disk is full, and what is left of the reserve there is kept for \
         disabling keys and disconnecting key stores; free space on it", .0.display()
    )]
    Kept(PathBuf),
    /// A file beside the database cannot be used.
    #[error("{} cannot be used ({error}); {}", file.display(), remedy(error))]
    File {
        /// The file.
        file: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// The engine's own words, which are judged before they leave this crate.
    #[error("metadata: {}", .0.message)]
    Engine(Fault),
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

impl Error {
    pub(super) fn closed() -> Self {
        Self::Database("it was closed: keystored is stopping".into())
    }

    /// Whether the same may succeed later although nobody changes anything about it.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::Storage(_) | Self::Kept(_) | Self::InUse(_) => true,
            Self::File { error, .. } => Outage::of(error).is_some(),
            _ => false,
        }
    }
}

fn remedy(error: &std::io::Error) -> &'static str {
    Outage::of(error).map_or("let the daemon's user read and write it, and its directory", Outage::remedy)
}
