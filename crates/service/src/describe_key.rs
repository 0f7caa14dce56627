//! DescribeKey: what a key is and where it is.

use super::keyring::Entry;
use super::{Call, Error, KeyMetadata, Service};
use model::operation::Operation;

impl Service {
    /// Shows a key.
    pub async fn describe_key(&self, call: &Call, key_id: &str) -> Result<KeyMetadata, Error> {
        self.on_catalogue(call, Operation::DescribeKey, |access| {
            let id = access.reference(key_id)?;
            Ok(self.metadata(access.open(id)?))
        })
    }

    /// A key as callers see it.
    pub(super) fn metadata(&self, entry: &Entry) -> KeyMetadata {
        let (key, catalogue) = (&entry.key, self.inner.store.catalogue());
        let cluster = catalogue.key_stores.get(&key.key_store).map(|store| store.cluster.to_string());
        let current = key.current();
        let zone_of = |hsm| entry.members.as_ref().and_then(|members| members.zone(hsm));
        let placements = current.map(|version| &version.placements).into_iter().flatten();
        KeyMetadata {
            id: key.id,
            arn: entry.arn.to_string(),
            account: self.inner.settings.scope.account.to_string(),
            state: entry.state,
            description: key.description.clone(),
            created_at: key.created_at,
            key_store: key.key_store.clone(),
            cluster: cluster.unwrap_or_default(),
            current_version: current.map_or(0, |version| version.id.version),
            placements: placements
                .map(|(hsm, at)| (hsm.to_string(), zone_of(hsm).map(ToString::to_string).unwrap_or_default(), *at))
                .collect(),
        }
    }
}
