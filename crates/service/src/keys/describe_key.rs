//! DescribeKey: what a key is and where it is.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use crate::core::Core;
use crate::core::grant_token::GrantTokens;
use crate::core::keyring;
use crate::{Error, RequestContext, Service};
use model::id::{HsmId, KeyId, KeyStoreId};
use model::key::{KeyState, Placement, RotationCause};
use model::operation::Operation;
use store::{Deletion, Destruction, Key};

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
    /// The name of its material: 64 hexadecimal digits that say nothing of it.
    pub current_material_id: String,
    /// When that version became the current one, in milliseconds since the Unix epoch; absent in Creating.
    pub current_since: Option<i64>,
    /// Why it was made; absent where it is the key's first one.
    pub current_cause: Option<RotationCause>,
    /// What becomes of it in PendingDeletion.
    pub deletion: Option<Deletion>,
    /// Where its material is to be destroyed, and was. Empty unless it was given up.
    pub destructions: Vec<KeyDestruction>,
    /// Calls that encrypt, which that version may still do.
    pub encryptions_left: u64,
    /// HSM id, zone (empty where the HSM is no longer configured) and placement of the current version.
    pub placements: Vec<(String, String, Placement)>,
}

/// How the destroying of a key's material stands in one HSM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDestruction {
    /// The HSM.
    pub hsm: HsmId,
    /// When the last version was gone there, in milliseconds since the Unix epoch. Absent until then.
    pub destroyed_at: Option<i64>,
    /// What the last try came to, where it failed.
    pub failure: Option<String>,
}

impl Service {
    /// Shows a key, for a request that comes with these grant tokens.
    pub async fn describe_key_with(
        &self,
        call: &RequestContext,
        key_id: &str,
        grant_tokens: GrantTokens,
    ) -> Result<KeyMetadata, Error> {
        let work = |core: Core, key: Arc<Key>| async move { shown(&core, &key, grant_tokens) };
        self.core.on_key(call, Operation::DescribeKey, key_id, work).await
    }

    /// Shows a key as [`Service::describe_key_with`] does, to an interface that refuses the call whatever the key is, and
    /// not to the caller. It leaves no record: the interface has the refusal recorded ([`Service::refused_at_entry`]).
    pub fn key_of_refused(
        &self,
        call: &RequestContext,
        key_id: &str,
        grant_tokens: GrantTokens,
    ) -> Result<KeyMetadata, Error> {
        let key = self.core.look_at_key(call, Operation::DescribeKey, key_id)?;
        shown(&self.core, &key, grant_tokens)
    }
}

fn shown(core: &Core, key: &Key, grant_tokens: GrantTokens) -> Result<KeyMetadata, Error> {
    core.check_grant_tokens(grant_tokens)?;
    let keyring = core.keyring();
    let entry = keyring.key(key.id).ok_or_else(|| Error::no_key(&core.scope().key_arn(key.id)))?;
    Ok(metadata(core, entry))
}

/// A key as callers see it.
pub(crate) fn metadata(core: &Core, entry: &keyring::Entry) -> KeyMetadata {
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
        current_material_id: current.map(|version| version.material_id.to_string()).unwrap_or_default(),
        current_since: current.and_then(|version| version.current_since),
        current_cause: current.and_then(|version| version.cause),
        deletion: key.deletion,
        destructions: destructions(key),
        encryptions_left: current.map_or(0, |version| core.encryptions_left(version.id)),
        placements: placements
            .map(|(hsm, at)| (hsm.to_string(), zone_of(hsm).map(ToString::to_string).unwrap_or_default(), *at))
            .collect(),
    }
}

/// How the destroying of a key's material stands, HSM by HSM.
pub(super) fn destructions(key: &Key) -> Vec<KeyDestruction> {
    let mut of_hsm: BTreeMap<&HsmId, KeyDestruction> = BTreeMap::new();
    for (hsm, destruction) in key.versions.iter().flat_map(|version| &version.destructions) {
        let Destruction { destroyed_at, failure } = destruction.clone();
        match of_hsm.entry(hsm) {
            Entry::Vacant(place) => {
                place.insert(KeyDestruction { hsm: hsm.clone(), destroyed_at, failure });
            }
            Entry::Occupied(mut place) => {
                let whole = place.get_mut();
                // Only where all versions are gone is the key.
                whole.destroyed_at = whole.destroyed_at.zip(destroyed_at).map(|(one, other)| one.max(other));
                whole.failure = failure.or(whole.failure.take());
            }
        }
    }
    of_hsm.into_values().collect()
}
