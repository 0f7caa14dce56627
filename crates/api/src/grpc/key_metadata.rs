//! What keys, their rotations and destructions look like on the wire.

use super::timestamp;
use model::key::{KeyState, Placement, RotationCause};
use proto::v1;
use service::{KeyDestruction, KeyMetadata, KeyRotation};

pub(super) fn rotation(arn: &str, one: KeyRotation) -> v1::KeyRotation {
    let kind = match one.cause {
        None => v1::RotationType::Unspecified,
        Some(RotationCause::Request) => v1::RotationType::OnDemand,
        Some(RotationCause::Period | RotationCause::Wear) => v1::RotationType::Automatic,
    };
    v1::KeyRotation {
        key_id: arn.to_owned(),
        key_material_id: one.material_id.to_string(),
        key_material_state: if one.current { "CURRENT" } else { "NON_CURRENT" }.to_owned(),
        rotation_date: Some(timestamp(one.date)),
        rotation_type: kind.into(),
        rotation_cause: cause(one.cause).into(),
        version: one.version,
    }
}

const fn cause(cause: Option<RotationCause>) -> v1::RotationCause {
    match cause {
        None => v1::RotationCause::Unspecified,
        Some(RotationCause::Request) => v1::RotationCause::Request,
        Some(RotationCause::Period) => v1::RotationCause::Period,
        Some(RotationCause::Wear) => v1::RotationCause::Wear,
    }
}

pub(super) fn destruction(one: KeyDestruction) -> v1::KeyDestruction {
    v1::KeyDestruction {
        hsm_id: one.hsm.to_string(),
        destruction_date: one.destroyed_at.map(timestamp),
        failure: one.failure.unwrap_or_default(),
    }
}

pub(super) fn metadata(key: KeyMetadata) -> v1::KeyMetadata {
    let placement = |(hsm_id, zone, placement): (String, String, Placement)| {
        let state = match placement {
            Placement::Pending => v1::PlacementState::Pending,
            Placement::Present => v1::PlacementState::Present,
            Placement::Removed => v1::PlacementState::Removed,
        };
        v1::KeyPlacement { hsm_id, zone, state: state.into() }
    };
    v1::KeyMetadata {
        aws_account_id: key.account,
        key_id: key.id.to_string(),
        arn: key.arn,
        creation_date: Some(timestamp(key.created_at)),
        enabled: key.state == KeyState::Enabled,
        description: key.description,
        key_usage: "ENCRYPT_DECRYPT".to_owned(),
        key_state: state(key.state).into(),
        origin: "AWS_CLOUDHSM".to_owned(),
        key_manager: "CUSTOMER".to_owned(),
        key_spec: "SYMMETRIC_DEFAULT".to_owned(),
        encryption_algorithms: vec!["SYMMETRIC_DEFAULT".to_owned()],
        key_store_id: key.key_store.as_str().to_owned(),
        cluster_id: key.cluster,
        current_version: key.current_version,
        encryptions_left: key.encryptions_left,
        placements: key.placements.into_iter().map(placement).collect(),
        current_key_material_id: key.current_material_id,
        current_version_date: key.current_since.map(timestamp),
        current_version_cause: cause(key.current_cause).into(),
        deletion_date: key.deletion.map(|deletion| timestamp(deletion.date)),
        material_destroyed: key.deletion.is_some_and(|deletion| deletion.material_destroyed),
        destructions: key.destructions.into_iter().map(destruction).collect(),
    }
}

pub(super) const fn state(state: KeyState) -> v1::KeyState {
    match state {
        KeyState::Creating => v1::KeyState::Creating,
        KeyState::Enabled => v1::KeyState::Enabled,
        KeyState::Disabled => v1::KeyState::Disabled,
        KeyState::PendingDeletion => v1::KeyState::PendingDeletion,
        KeyState::Unavailable => v1::KeyState::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::{KeyId, KeyStoreId};

    #[test]
    fn metadata_says_what_the_service_says() {
        let id = KeyId::random();
        let wire = metadata(KeyMetadata {
            id,
            arn: "arn:aws:kms:local:000000000000:key/x".to_owned(),
            account: "000000000000".to_owned(),
            state: KeyState::Unavailable,
            description: "for a test".to_owned(),
            created_at: 1_700_000_000_123,
            key_store: KeyStoreId::from("cks-0123456789abcdef0"),
            cluster: "cluster-2222222222b".to_owned(),
            current_version: 3,
            encryptions_left: 7,
            placements: vec![("hsm-a".to_owned(), "a".to_owned(), Placement::Removed)],
            current_material_id: "ab".to_owned(),
            current_since: None,
            current_cause: Some(RotationCause::Wear),
            deletion: None,
            destructions: vec![KeyDestruction {
                hsm: "hsm-a".into(),
                destroyed_at: None,
                failure: Some("away".into()),
            }],
        });
        assert_eq!(
            (wire.current_key_material_id.as_str(), wire.current_version_cause()),
            ("ab", v1::RotationCause::Wear)
        );
        assert_eq!((wire.destructions[0].destruction_date, wire.destructions[0].failure.as_str()), (None, "away"));
        assert_eq!(wire.key_id, id.to_string());
        assert!(!wire.enabled);
        assert_eq!(wire.key_state(), v1::KeyState::Unavailable);
        assert_eq!(wire.creation_date, Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 123_000_000 }));
        assert_eq!(wire.placements[0].state(), v1::PlacementState::Removed);
        assert_eq!((wire.key_store_id.as_str(), wire.current_version), ("cks-0123456789abcdef0", 3));
        assert_eq!(wire.encryptions_left, 7);
    }

    #[test]
    fn enabled_is_derived_from_the_state() {
        for name in ["Creating", "Enabled", "Disabled", "PendingDeletion", "Unavailable"] {
            let wire = state(KeyState::from_name(name).unwrap());
            let expected = name.replace("PendingDeletion", "PENDING_DELETION").to_uppercase();
            assert_eq!(wire.as_str_name(), format!("KEY_STATE_{expected}"));
        }
    }
}
