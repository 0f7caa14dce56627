//! A key's metadata as keystorectl shows it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::rotation::cause;
use crate::failure::Failure;
use crate::names::{aliases_of, tags_of, tags_text};
use crate::printer::{Report, facts, table};
use crate::status::key_state;
use client::Client;
use model::limits::ENCRYPTIONS_PER_VERSION;
use proto::v1 as wire;

#[derive(Serialize)]
pub(super) struct Metadata {
    aws_account_id: String,
    key_id: String,
    arn: String,
    creation_date: Option<String>,
    enabled: bool,
    description: String,
    key_usage: String,
    key_state: &'static str,
    /// Absent where the caller may not know them.
    aliases: Option<Vec<String>>,
    /// Likewise.
    tags: Option<BTreeMap<String, String>>,
    origin: String,
    key_manager: String,
    key_spec: String,
    encryption_algorithms: Vec<String>,
    key_store_id: String,
    cluster_id: String,
    current_version: u32,
    current_version_date: Option<String>,
    current_version_cause: Option<&'static str>,
    current_key_material_id: String,
    encryptions_left: u64,
    deletion_date: Option<String>,
    material_destroyed: bool,
    placements: Vec<Placement>,
    destructions: Vec<Destruction>,
}

/// How the destroying of a key's material stands in one HSM.
#[derive(Serialize)]
pub(super) struct Destruction {
    hsm_id: String,
    destruction_date: Option<String>,
    failure: Option<String>,
}

impl From<wire::KeyDestruction> for Destruction {
    fn from(one: wire::KeyDestruction) -> Self {
        let destruction_date = one.destruction_date.map(|date| date.to_string());
        Self { hsm_id: one.hsm_id, destruction_date, failure: Some(one.failure).filter(|why| !why.is_empty()) }
    }
}

impl Destruction {
    pub(super) const HEAD: [&str; 2] = ["hsm", "material is"];

    pub(super) fn is_undone(&self) -> bool {
        self.destruction_date.is_none()
    }

    pub(super) fn row(&self) -> Vec<String> {
        let how = match (&self.destruction_date, &self.failure) {
            (Some(date), _) => format!("Destroyed at {date}"),
            (None, Some(failure)) => format!("Not destroyed yet: {failure}"),
            // It is away, or replicates its keys by itself and was told to, or is about to be told.
            (None, None) => "Not destroyed yet, as far as has been seen".to_owned(),
        };
        vec![self.hsm_id.clone(), how]
    }
}

#[derive(Serialize)]
struct Placement {
    hsm_id: String,
    zone: String,
    state: &'static str,
}

impl From<wire::KeyMetadata> for Metadata {
    fn from(key: wire::KeyMetadata) -> Self {
        let key_state = key_state(key.key_state());
        let current_version_cause = cause(key.current_version_cause());
        Self {
            aws_account_id: key.aws_account_id,
            key_id: key.key_id,
            arn: key.arn,
            creation_date: key.creation_date.map(|date| date.to_string()),
            enabled: key.enabled,
            description: key.description,
            key_usage: key.key_usage,
            key_state,
            aliases: None,
            tags: None,
            origin: key.origin,
            key_manager: key.key_manager,
            key_spec: key.key_spec,
            encryption_algorithms: key.encryption_algorithms,
            key_store_id: key.key_store_id,
            cluster_id: key.cluster_id,
            current_version: key.current_version,
            current_version_date: key.current_version_date.map(|date| date.to_string()),
            current_version_cause,
            current_key_material_id: key.current_key_material_id,
            encryptions_left: key.encryptions_left,
            deletion_date: key.deletion_date.map(|date| date.to_string()),
            material_destroyed: key.material_destroyed,
            destructions: key.destructions.into_iter().map(Destruction::from).collect(),
            placements: key.placements.into_iter().map(Placement::from).collect(),
        }
    }
}

impl From<wire::KeyPlacement> for Placement {
    fn from(placement: wire::KeyPlacement) -> Self {
        let state = match placement.state() {
            wire::PlacementState::Unspecified => "Unknown",
            wire::PlacementState::Pending => "Pending",
            wire::PlacementState::Present => "Present",
            wire::PlacementState::Removed => "Removed",
        };
        Self { hsm_id: placement.hsm_id, zone: placement.zone, state }
    }
}

impl Metadata {
    /// A key with its names: they are asked for as well.
    pub(super) async fn named(client: &Client, key: wire::KeyMetadata) -> Result<Self, Failure> {
        let (aliases, tags) = (aliases_of(client, &key.key_id).await?, tags_of(client, &key.key_id).await?);
        Ok(Self { aliases, tags, ..Self::from(key) })
    }

    fn version(&self) -> String {
        let since = self.current_version_date.as_ref().map(|date| format!(" since {date}")).unwrap_or_default();
        let why = self.current_version_cause.map(|why| format!(", because {why}")).unwrap_or_default();
        format!("{}{since}{why}", self.current_version)
    }
}

impl Report for Metadata {
    fn text(&self) -> String {
        let facts = facts([
            ("Key id", self.key_id.clone()),
            ("ARN", self.arn.clone()),
            ("State", self.key_state.to_owned()),
            ("Description", self.description.clone()),
            ("Aliases", self.aliases.as_ref().map(|aliases| aliases.join(", ")).unwrap_or_default()),
            ("Tags", self.tags.as_ref().map(tags_text).unwrap_or_default()),
            ("Created", self.creation_date.clone().unwrap_or_default()),
            ("Usage", format!("{} ({})", self.key_usage, self.encryption_algorithms.join(", "))),
            ("Origin", self.origin.clone()),
            ("Key store", format!("{} (cluster {})", self.key_store_id, self.cluster_id)),
            ("Version", self.version()),
            ("Key material id", self.current_key_material_id.clone()),
            ("Encryptions left", format!("{} of {ENCRYPTIONS_PER_VERSION}", self.encryptions_left)),
        ]);
        let deletion = self.deletion_date.as_ref().map(|date| match self.material_destroyed {
            true => format!("\nDeletion: after {date}; its material is given up, which nothing undoes"),
            false => format!("\nDeletion: after {date}"),
        });
        let facts = facts + &deletion.unwrap_or_default();
        if !self.destructions.is_empty() {
            return format!("{facts}\n\n{}", table(&Destruction::HEAD, self.destructions.iter().map(Destruction::row)));
        }
        let rows = self.placements.iter().map(|at| vec![at.hsm_id.clone(), at.zone.clone(), at.state.to_owned()]);
        format!("{facts}\n\n{}", table(&["hsm", "zone", "key is"], rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Metadata {
        Metadata::from(wire::KeyMetadata {
            key_id: "1234".to_owned(),
            key_state: wire::KeyState::Enabled.into(),
            creation_date: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            placements: vec![wire::KeyPlacement {
                hsm_id: "hsm-a".to_owned(),
                zone: "a".to_owned(),
                state: wire::PlacementState::Removed.into(),
            }],
            ..Default::default()
        })
    }

    #[test]
    fn json_has_aws_names_in_snake_case() {
        let json = serde_json::to_value(key()).unwrap();
        assert_eq!(json["key_state"], "Enabled");
        assert_eq!(json["creation_date"], "2023-11-14T22:13:20Z");
        assert_eq!(json["placements"][0]["state"], "Removed");
    }

    #[test]
    fn text_shows_where_the_key_is() {
        let text = key().text();
        assert!(text.contains("HSM    ZONE  KEY IS\nhsm-a  a     Removed"), "{text}");
    }
}
