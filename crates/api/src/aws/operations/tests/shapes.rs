//! The answers that need an HSM or a long life, against the model.

use std::sync::Arc;

use serde_json::{Value, json};

use super::facts::conforms;
use crate::aws::operations::{
    Answer, crypto, data_keys, deletion, grants, key_metadata, key_stores, keys, random, rotation,
};
use model::id::{ClusterId, KeyId, KeyStoreId};
use model::key::{KeyState, RotationCause};
use model::key_store::{ConnectionErrorCode, ConnectionState};
use model::secret::Secret;
use service::{
    CreatedGrant, Decrypted, Encrypted, GeneratedDataKey, KeyLastUsage, KeyMetadata, KeyRotation, KeyStoreView, Page,
    ReEncrypted, RotationStatus, ScheduledDeletion,
};
use store::{Deletion, KeyStore, LastUse};

const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

fn material() -> Arc<str> {
    "ab".repeat(32).into()
}

/// An answer that the model has nothing against.
fn read(operation: &str, answer: Answer) -> Value {
    let value: Value = serde_json::from_slice(&answer.unwrap()).unwrap();
    conforms(operation, &value);
    value
}

fn page<T>(item: T) -> Page<T> {
    Page { items: vec![item], next_marker: Some("m".to_owned()) }
}

#[test]
fn answers_of_those_who_use_keys() {
    let encrypted = crypto::encrypted(&Encrypted { key_arn: ARN.into(), ciphertext: vec![1, 2, 3] });
    let expected = json!({ "CiphertextBlob": "AQID", "EncryptionAlgorithm": "SYMMETRIC_DEFAULT", "KeyId": ARN });
    assert_eq!(read("Encrypt", encrypted), expected, "without KeyMaterialId, which AWS leaves out here");
    let decrypted =
        Decrypted { key_arn: ARN.into(), plaintext: Secret::new(b"secret".to_vec()), material_id: material() };
    let decrypted = read("Decrypt", crypto::decrypted(&decrypted));
    assert_eq!([&decrypted["Plaintext"], &decrypted["KeyMaterialId"]], [&json!("c2VjcmV0"), &json!(*material())]);
    let made = ReEncrypted {
        ciphertext: vec![1],
        source_key_arn: ARN.into(),
        key_arn: ARN.into(),
        source_material_id: material(),
        material_id: material(),
    };
    assert_eq!(read("ReEncrypt", crypto::re_encrypted(&made)).as_object().unwrap().len(), 7);
    for (plaintext, operation, members) in
        [(vec![7; 32], "GenerateDataKey", 4), (Vec::new(), "GenerateDataKeyWithoutPlaintext", 3)]
    {
        let made = GeneratedDataKey {
            key_arn: ARN.into(),
            plaintext: Secret::new(plaintext),
            ciphertext: vec![1],
            material_id: material(),
        };
        assert_eq!(read(operation, data_keys::shown(&made)).as_object().unwrap().len(), members);
    }
    assert_eq!(read("GenerateRandom", random::shown(&Secret::new(vec![0; 3]))), json!({ "Plaintext": "AAAA" }));
}

#[test]
fn answers_about_keys() {
    let id = KeyId::random();
    let metadata = |state, deletion| KeyMetadata {
        id,
        arn: ARN.to_owned(),
        account: "111122223333".to_owned(),
        state,
        description: String::new(),
        created_at: 1_700_000_000_123,
        key_store: KeyStoreId::from("cks-0123456789abcdef0"),
        cluster: "cluster-2222222222b".to_owned(),
        current_version: 1,
        current_material_id: "ab".to_owned(),
        current_since: None,
        current_cause: None,
        deletion,
        destructions: Vec::new(),
        encryptions_left: 1,
        placements: Vec::new(),
    };
    for state in [KeyState::Creating, KeyState::Enabled, KeyState::Disabled, KeyState::Unavailable] {
        let shown = read("CreateKey", key_metadata::shown(metadata(state, None)));
        let shown = &shown["KeyMetadata"];
        assert_eq!(shown["Enabled"], json!(state == KeyState::Enabled), "{state:?}");
        assert_eq!((&shown["CreationDate"], shown.get("DeletionDate")), (&json!(1_700_000_000.123), None));
    }
    let deletion = Deletion { date: 1_800_000_000_000, overdue: Default::default(), material_destroyed: false };
    let pending = read("DescribeKey", key_metadata::shown(metadata(KeyState::PendingDeletion, Some(deletion))));
    let pending = &pending["KeyMetadata"];
    assert_eq!((&pending["DeletionDate"], &pending["KeyState"]), (&json!(1_800_000_000.0), &json!("PendingDeletion")));
    assert!(pending.get("PendingDeletionWindowInDays").is_none(), "AWS gives it for multi-Region keys alone");

    let scheduled = ScheduledDeletion { key_arn: ARN.to_owned(), date: 1_800_000_000_000, window_days: 30 };
    assert_eq!(read("ScheduleKeyDeletion", deletion::scheduled(scheduled))["PendingWindowInDays"], json!(30));
    let usage = |last| KeyLastUsage { key: id, created_at: 1_000, last };
    let unused = read("GetKeyLastUsage", keys::used(usage(None)));
    assert_eq!(unused, json!({ "KeyId": id.to_string(), "KeyCreationDate": 1.0, "KeyLastUsage": {} }));
    for operation in ["Encrypt", "Decrypt", "ReEncrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext"] {
        let last = LastUse { at: 2_500, operation: operation.to_owned(), request_id: "r-1".to_owned() };
        let used = read("GetKeyLastUsage", keys::used(usage(Some(last))));
        let expected = json!({ "Operation": operation, "Timestamp": 2.5, "KmsRequestId": "r-1" });
        assert_eq!(used["KeyLastUsage"], expected);
    }
}

#[test]
fn answers_about_rotations() {
    let status = RotationStatus {
        key_arn: ARN.to_owned(),
        enabled: true,
        period_days: Some(90),
        next: Some(1_000),
        on_demand_under_way: true,
    };
    let shown = read("GetKeyRotationStatus", rotation::standing(&status));
    assert_eq!(shown.as_object().unwrap().len(), 4);
    assert_eq!(shown["KeyId"], ARN.rsplit('/').next().unwrap());
    assert_eq!(read("RotateKeyOnDemand", rotation::rotated(ARN)), json!({ "KeyId": ARN }));
    for (cause, current, kind) in [
        (None, false, Value::Null),
        (Some(RotationCause::Request), false, json!("ON_DEMAND")),
        (Some(RotationCause::Period), false, json!("AUTOMATIC")),
        (Some(RotationCause::Wear), true, json!("AUTOMATIC")),
    ] {
        let one = KeyRotation { version: 2, material_id: material(), current, date: 1_000, cause };
        let listed = read("ListKeyRotations", rotation::listed(ARN, page(one)));
        let shown = &listed["Rotations"][0];
        assert_eq!((&shown["RotationType"], shown.get("RotationDate").is_some()), (&kind, cause.is_some()));
        assert_eq!(shown["KeyMaterialState"], json!(if current { "CURRENT" } else { "NON_CURRENT" }));
        assert_eq!((&listed["NextMarker"], &listed["Truncated"]), (&json!("m"), &json!(true)));
    }
}

#[test]
fn answers_about_key_stores_and_grants() {
    let created = key_stores::created("cks-0123456789abcdef0".to_owned());
    assert_eq!(read("CreateCustomKeyStore", created), json!({ "CustomKeyStoreId": "cks-0123456789abcdef0" }));
    let shown = |state, error: Option<ConnectionErrorCode>| {
        let store = KeyStore {
            id: KeyStoreId::from("cks-0123456789abcdef0"),
            name: "main".to_owned(),
            cluster: ClusterId::from("cluster-2222222222b"),
            state,
            error: error.map(|code| (code, "for operators".to_owned())),
            trust_anchor: "PEM".to_owned(),
            created_at: 1_000,
            maker: None,
        };
        let view = KeyStoreView { store: Arc::new(store), hsms: Vec::new() };
        let listed = read("DescribeCustomKeyStores", key_stores::described(page(view)));
        listed["CustomKeyStores"][0].clone()
    };
    for state in ConnectionState::ALL {
        assert!(shown(*state, None).get("ConnectionErrorCode").is_none());
    }
    for code in ConnectionErrorCode::ALL {
        assert_eq!(shown(ConnectionState::Failed, Some(*code))["ConnectionErrorCode"], json!(code.name()));
    }
    let made = grants::made(CreatedGrant { id: "ab".into(), token: "cd".to_owned() });
    assert_eq!(read("CreateGrant", made), json!({ "GrantId": "ab", "GrantToken": "cd" }));
}
