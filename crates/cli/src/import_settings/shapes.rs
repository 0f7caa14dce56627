//! What the AWS CLI prints of an account's keys, as JSON. Members that nothing here depends on are passed over.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Output of `list-aliases`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Aliases {
    pub(super) aliases: Vec<Alias>,
}

/// One of its aliases.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Alias {
    pub(super) alias_name: String,
    pub(super) alias_arn: String,
    /// Key id. Aliases of AWS that were never used have none.
    pub(super) target_key_id: Option<String>,
}

/// Output of `list-keys`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Keys {
    pub(super) keys: Vec<Key>,
}

/// One of its keys.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Key {
    pub(super) key_id: String,
}

/// Output of `describe-key`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Described {
    pub(super) key_metadata: KeyMetadata,
}

/// Its one member. What older versions of the CLI leave out is optional.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KeyMetadata {
    pub(super) key_id: String,
    pub(super) arn: String,
    #[serde(default)]
    pub(super) description: String,
    pub(super) key_state: String,
    pub(super) key_usage: String,
    pub(super) key_manager: String,
    /// Called `CustomerMasterKeySpec` before 2021; newer versions print both.
    pub(super) key_spec: Option<String>,
    pub(super) customer_master_key_spec: Option<String>,
    #[serde(default)]
    pub(super) origin: String,
    pub(super) multi_region_configuration: Option<MultiRegion>,
}

/// Of a multi-Region key.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MultiRegion {
    /// `PRIMARY` or `REPLICA`.
    pub(super) multi_region_key_type: String,
}

impl KeyMetadata {
    /// Under whichever name it was printed.
    pub(super) fn spec(&self) -> &str {
        self.key_spec.as_deref().or(self.customer_master_key_spec.as_deref()).unwrap_or("SYMMETRIC_DEFAULT")
    }
}

/// Output of `get-key-policy`: a JSON text as a string.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KeyPolicy {
    pub(super) policy: String,
}

/// Output of `list-resource-tags`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Tags {
    pub(super) tags: Vec<Tag>,
}

/// One of its tags.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Tag {
    pub(super) tag_key: String,
    pub(super) tag_value: String,
}

/// Output of `list-grants`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Grants {
    pub(super) grants: Vec<Grant>,
}

/// One of its grants.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Grant {
    /// The key's ARN.
    pub(super) key_id: String,
    pub(super) grant_id: String,
    #[serde(default)]
    pub(super) name: String,
    pub(super) grantee_principal: Option<String>,
    pub(super) grantee_service_principal: Option<String>,
    pub(super) retiring_principal: Option<String>,
    pub(super) retiring_service_principal: Option<String>,
    pub(super) operations: Vec<String>,
    #[serde(default)]
    pub(super) constraints: Constraints,
}

/// For which calls a grant counts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Constraints {
    #[serde(default)]
    pub(super) encryption_context_subset: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) encryption_context_equals: BTreeMap<String, String>,
    /// All others: what is not known here must not be dropped, because a grant would allow more without it.
    #[serde(flatten)]
    pub(super) others: BTreeMap<String, serde_json::Value>,
}

/// What says that there is more than was printed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Paging {
    #[serde(default)]
    truncated: bool,
    next_marker: Option<String>,
    next_token: Option<String>,
}

/// Reads one output; else what is wrong with it, and where.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.trim_ascii().is_empty() {
        return Err("it is empty; the command that was to write it probably failed".to_owned());
    }
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// The same for a list, which must be there as a whole.
pub(super) fn read_list<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let paging: Paging = read(bytes)?;
    if paging.truncated || paging.next_marker.is_some() || paging.next_token.is_some() {
        return Err("it holds one page of several; let the AWS CLI print all of them: without --no-paginate and \
                    --max-items"
            .to_owned());
    }
    read(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_the_cli_prints_it() {
        let printed = br#"{
            "KeyMetadata": {
                "AWSAccountId": "111122223333",
                "KeyId": "1234abcd-12ab-34cd-56ef-1234567890ab",
                "Arn": "arn:aws:kms:us-west-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
                "CreationDate": "2023-03-21T10:15:04.123000-07:00",
                "Enabled": true,
                "Description": "invoices \u2013 2023",
                "KeyUsage": "ENCRYPT_DECRYPT",
                "KeyState": "Enabled",
                "Origin": "AWS_CLOUDHSM",
                "CustomKeyStoreId": "cks-1234567890abcdef0",
                "CloudHsmClusterId": "cluster-1a23b4cdefg",
                "KeyManager": "CUSTOMER",
                "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
                "KeySpec": "SYMMETRIC_DEFAULT",
                "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
                "MultiRegion": false
            }
        }"#;
        let key = read::<Described>(printed).unwrap().key_metadata;
        assert_eq!((key.spec(), &*key.description), ("SYMMETRIC_DEFAULT", "invoices – 2023"));
        let old = KeyMetadata { key_spec: None, customer_master_key_spec: Some("RSA_2048".to_owned()), ..key };
        assert_eq!(old.spec(), "RSA_2048");
    }

    #[test]
    fn a_constraint_that_is_not_known_is_kept() {
        let printed = br#"{ "Grants": [{
            "KeyId": "arn:k", "GrantId": "0c23", "Name": "", "CreationDate": 1700000000.0,
            "GranteePrincipal": "arn:aws:iam::111122223333:role/app",
            "IssuingAccount": "arn:aws:iam::111122223333:root", "Operations": ["Decrypt"],
            "Constraints": { "EncryptionContextSubset": { "Department": "IT" }, "SourceArn": "arn:s" }
        }] }"#;
        let grants = read_list::<Grants>(printed).unwrap().grants;
        let Constraints { encryption_context_subset, encryption_context_equals, others } = &grants[0].constraints;
        assert_eq!(encryption_context_subset["Department"], "IT");
        assert!(encryption_context_equals.is_empty());
        assert_eq!(others.keys().collect::<Vec<_>>(), ["SourceArn"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let wrong = read::<Tags>(b"{\n  \"Tags\": [{ \"TagKey\": 7 }]\n}").unwrap_err();
        assert!(wrong.contains("line 2 column"), "{wrong}");
        assert!(read::<Tags>(b"{\"Tags\": [").unwrap_err().contains("EOF"));
        assert!(read::<Tags>(b" \n").unwrap_err().contains("empty"));
        let deep = format!("{{\"Tags\":[],\"Other\":{}", "[".repeat(100_000));
        assert!(read::<Tags>(deep.as_bytes()).is_err());
    }

    #[test]
    fn one_page_of_several_is_not_taken_for_all() {
        assert_eq!(read_list::<Tags>(br#"{ "Tags": [], "Truncated": false }"#).unwrap().tags.len(), 0);
        for rest in ["\"Truncated\": true", "\"NextToken\": \"eyJ\"", "\"NextMarker\": \"m\""] {
            let page = format!("{{ \"Tags\": [], {rest} }}");
            assert!(read_list::<Tags>(page.as_bytes()).unwrap_err().contains("one page"), "{rest}");
        }
    }
}
