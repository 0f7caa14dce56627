//! What a key looks like: AWS's members for a key of a CloudHSM key store, and no others.

use serde::Serialize;

use super::Answer;
use super::output::{Time, json};
use model::key::KeyState;
use service::KeyMetadata;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MetadataAnswer {
    key_metadata: Metadata,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    #[serde(rename = "AWSAccountId")]
    account: String,
    arn: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    cloud_hsm_cluster_id: String,
    creation_date: Time,
    custom_key_store_id: String,
    customer_master_key_spec: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_date: Option<Time>,
    description: String,
    enabled: bool,
    encryption_algorithms: [&'static str; 1],
    key_id: String,
    key_manager: &'static str,
    key_spec: &'static str,
    key_state: &'static str,
    key_usage: &'static str,
    multi_region: bool,
    origin: &'static str,
}

/// The answer of CreateKey and DescribeKey. AWS gives the days of the waiting period of multi-Region keys alone, and the
/// current material's id of keys in no custom key store alone; ListKeyRotations names it here.
pub(super) fn shown(key: KeyMetadata) -> Answer {
    json(&MetadataAnswer {
        key_metadata: Metadata {
            account: key.account,
            arn: key.arn,
            cloud_hsm_cluster_id: key.cluster,
            creation_date: Time::of(key.created_at),
            custom_key_store_id: key.key_store.to_string(),
            customer_master_key_spec: "SYMMETRIC_DEFAULT",
            deletion_date: key.deletion.map(|deletion| Time::of(deletion.date)),
            description: key.description,
            enabled: key.state == KeyState::Enabled,
            encryption_algorithms: ["SYMMETRIC_DEFAULT"],
            key_id: key.id.to_string(),
            key_manager: "CUSTOMER",
            key_spec: "SYMMETRIC_DEFAULT",
            key_state: key.state.name(),
            key_usage: "ENCRYPT_DECRYPT",
            multi_region: false,
            origin: "AWS_CLOUDHSM",
        },
    })
}
