//! A key's metadata as keystorectl shows it.

use serde::Serialize;

use crate::printer::{Report, facts, table};
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
    origin: String,
    key_manager: String,
    key_spec: String,
    encryption_algorithms: Vec<String>,
    key_store_id: String,
    cluster_id: String,
    current_version: u32,
    encryptions_left: u64,
    placements: Vec<Placement>,
}

#[derive(Serialize)]
struct Placement {
    hsm_id: String,
    zone: String,
    state: &'static str,
}

impl From<wire::KeyMetadata> for Metadata {
    fn from(key: wire::KeyMetadata) -> Self {
        let key_state = match key.key_state() {
            wire::KeyState::Unspecified => "Unknown",
            wire::KeyState::Creating => "Creating",
            wire::KeyState::Enabled => "Enabled",
            wire::KeyState::Disabled => "Disabled",
            wire::KeyState::PendingDeletion => "PendingDeletion",
            wire::KeyState::Unavailable => "Unavailable",
        };
        Self {
            aws_account_id: key.aws_account_id,
            key_id: key.key_id,
            arn: key.arn,
            creation_date: key.creation_date.map(|date| date.to_string()),
            enabled: key.enabled,
            description: key.description,
            key_usage: key.key_usage,
            key_state,
            origin: key.origin,
            key_manager: key.key_manager,
            key_spec: key.key_spec,
            encryption_algorithms: key.encryption_algorithms,
            key_store_id: key.key_store_id,
            cluster_id: key.cluster_id,
            current_version: key.current_version,
            encryptions_left: key.encryptions_left,
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

impl Report for Metadata {
    fn text(&self) -> String {
        let facts = facts([
            ("Key id", self.key_id.clone()),
            ("ARN", self.arn.clone()),
            ("State", self.key_state.to_owned()),
            ("Description", self.description.clone()),
            ("Created", self.creation_date.clone().unwrap_or_default()),
            ("Usage", format!("{} ({})", self.key_usage, self.encryption_algorithms.join(", "))),
            ("Origin", self.origin.clone()),
            ("Key store", format!("{} (cluster {})", self.key_store_id, self.cluster_id)),
            ("Version", self.current_version.to_string()),
            ("Encryptions left", format!("{} of {ENCRYPTIONS_PER_VERSION}", self.encryptions_left)),
        ]);
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
