//! DescribeKey: what a key is and where it is.

use std::sync::Arc;

use crate::core::Core;
use crate::core::keyring::Entry;
use crate::{Error, RequestContext, Service};
use model::id::{KeyId, KeyStoreId};
use model::key::{KeyState, Placement};
use model::operation::Operation;
use store::Key;

/// A key as DescribeKey shows it.
#[derive(Clone, Debug)]
pub struct KeyMetadata {
    /// Its id.
    pub id: KeyId,
    /// Its ARN.
    pub arn: String,
    /// Account in the ARN.
    pub account: String,
    /// State as callers see it, `Unavailable` included.
    pub state: KeyState,
    /// The creator's words.
    pub description: String,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
    /// Its store.
    pub key_store: KeyStoreId,
    /// The store's cluster.
    pub cluster: String,
    /// Version that Encrypt uses.
    pub current_version: u32,
    /// Calls that encrypt, which that version may still do.
    pub encryptions_left: u64,
    /// HSM id, zone (empty where the HSM is no longer configured) and placement of the current version.
    pub placements: Vec<(String, String, Placement)>,
}

impl Service {
    /// Shows a key.
    pub async fn describe_key(&self, call: &RequestContext, key_id: &str) -> Result<KeyMetadata, Error> {
        let work = |core: Core, key: Arc<Key>| async move {
            let keyring = core.keyring();
            let entry = keyring.key(key.id).ok_or_else(|| Error::no_key(&core.scope().key_arn(key.id)))?;
            Ok(metadata(&core, entry))
        };
        self.core.on_key(call, Operation::DescribeKey, key_id, work).await
    }
}

/// A key as callers see it.
pub(crate) fn metadata(core: &Core, entry: &Entry) -> KeyMetadata {
    let (key, catalogue) = (&entry.key, core.store().catalogue());
    let cluster = catalogue.key_store(&key.key_store).map(|store| store.cluster.to_string());
    let current = key.current();
    let zone_of = |hsm| entry.members.as_ref().and_then(|members| members.zone(hsm));
    let placements = current.map(|version| &version.placements).into_iter().flatten();
    KeyMetadata {
        id: key.id,
        arn: entry.arn.to_string(),
        account: core.scope().account.to_string(),
        state: entry.state,
        description: key.description.clone(),
        created_at: key.created_at,
        key_store: key.key_store.clone(),
        cluster: cluster.unwrap_or_default(),
        current_version: current.map_or(0, |version| version.id.version),
        encryptions_left: current.map_or(0, |version| core.encryptions_left(version.id)),
        placements: placements
            .map(|(hsm, at)| (hsm.to_string(), zone_of(hsm).map(ToString::to_string).unwrap_or_default(), *at))
            .collect(),
    }
}
