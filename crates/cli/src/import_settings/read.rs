//! The folder of files that the AWS CLI wrote.
//!
//! ```text
//! list-aliases.json
//! list-keys.json                   may be absent: it tells of keys that have no folder
//! KEYID/describe-key.json
//! KEYID/get-key-policy.json        this and the following are not read of keys that are left out
//! KEYID/list-grants.json
//! KEYID/list-resource-tags.json
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use super::shapes::{self, Alias, Aliases, Described, Grant, Grants, KeyMetadata, KeyPolicy, Keys, Tag, Tags};
use crate::failure::Failure;

/// Most keys of one folder.
const KEYS: usize = 10_000;
/// Longest file: a key may have 50,000 grants.
const FILE_BYTES: u64 = 64 << 20;
/// All files together.
const ALL_BYTES: u64 = 256 << 20;

const MAKING: &str = "docs/import-settings.md says how the files are made";

/// What the files say.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) aliases: Vec<Alias>,
    /// In the order of their ids.
    pub(super) keys: Vec<OldKey>,
    /// Those that are not imported, and why.
    pub(super) left_out: Vec<(String, String)>,
}

/// A key that is imported.
#[derive(Debug)]
pub(super) struct OldKey {
    pub(super) metadata: KeyMetadata,
    pub(super) policy: String,
    /// Where the policy was read, for what is wrong with its text.
    pub(super) policy_file: PathBuf,
    pub(super) grants: Vec<Grant>,
    pub(super) tags: Vec<Tag>,
}

/// Reads a folder.
pub(super) fn read(folder: &Path) -> Result<Account, Failure> {
    let mut reader = Reader { left: ALL_BYTES };
    let aliases: Aliases = reader.list(&folder.join("list-aliases.json"))?;
    let listed = match reader.bytes(&folder.join("list-keys.json"))? {
        Some(bytes) => {
            let keys: Keys = parsed(&folder.join("list-keys.json"), shapes::read_list(&bytes))?;
            keys.keys.into_iter().map(|key| key.key_id).collect()
        }
        None => BTreeSet::new(),
    };
    let mut account = Account { aliases: aliases.aliases, ..Account::default() };
    let mut seen = BTreeSet::new();
    for key in keys_of(folder)? {
        let metadata: Described = reader.one(&key.join("describe-key.json"))?;
        let metadata = metadata.key_metadata;
        if !seen.insert(metadata.key_id.clone()) {
            return Err(wrong(&key.join("describe-key.json"), "this key is in another folder too"));
        }
        match left_out(&metadata) {
            Some(why) => account.left_out.push((metadata.arn, why)),
            None => account.keys.push(reader.key(&key, metadata)?),
        }
    }
    let aliased = account.aliases.iter().filter(|alias| !alias.alias_name.starts_with("alias/aws/"));
    let named = listed.into_iter().chain(aliased.filter_map(|alias| alias.target_key_id.clone()));
    let missing: BTreeSet<String> = named.filter(|id| !seen.contains(id)).collect();
    // Keys of AWS that were listed are without a folder for good, and say so by their aliases.
    let of_aws =
        |id: &String| account.aliases.iter().any(|alias| is_aws(alias) && alias.target_key_id.as_ref() == Some(id));
    let told = missing.into_iter().map(|id| {
        let why = if of_aws(&id) { MANAGED } else { "there is no folder with its files" };
        (id, why.to_owned())
    });
    account.left_out.extend(told.collect::<Vec<_>>());
    Ok(account)
}

/// Whether AWS gave it.
pub(super) fn is_aws(alias: &Alias) -> bool {
    alias.alias_name.starts_with("alias/aws/")
}

const MANAGED: &str = "AWS manages it";

/// Why a key is not imported, where it is not.
fn left_out(key: &KeyMetadata) -> Option<String> {
    let replica = key.multi_region_configuration.as_ref().is_some_and(|of| of.multi_region_key_type == "REPLICA");
    let why = match (&*key.key_manager, key.spec(), &*key.key_usage, &*key.key_state) {
        ("AWS", ..) => MANAGED.to_owned(),
        (_, spec, "GENERATE_VERIFY_MAC", _) => format!("it is an HMAC key ({spec})"),
        (_, spec, ..) if spec != "SYMMETRIC_DEFAULT" => format!("it is asymmetric ({spec})"),
        (_, _, usage, _) if usage != "ENCRYPT_DECRYPT" => format!("it is for {usage}"),
        (.., "PendingDeletion" | "PendingReplicaDeletion") => "it is pending deletion".to_owned(),
        (.., "PendingImport") => "it has no key material".to_owned(),
        _ if replica => "it is a multi-Region replica; the files of its primary's Region have its key".to_owned(),
        _ => return None,
    };
    Some(why)
}

/// The folders of keys, in their order.
fn keys_of(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: std::io::Error| Failure::local(format!("cannot read {}: {error}", folder.display()));
    let mut keys = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            keys.push(path);
        }
        if keys.len() > KEYS {
            return Err(Failure::local(format!("{} has more than {KEYS} folders", folder.display())));
        }
    }
    keys.sort();
    Ok(keys)
}

struct Reader {
    /// Bytes that may still be read.
    left: u64,
}

impl Reader {
    fn key(&mut self, folder: &Path, metadata: KeyMetadata) -> Result<OldKey, Failure> {
        let policy_file = folder.join("get-key-policy.json");
        let policy: KeyPolicy = self.one(&policy_file)?;
        let grants_file = folder.join("list-grants.json");
        let grants: Grants = self.list(&grants_file)?;
        if let Some(grant) = grants.grants.iter().find(|grant| grant.key_id != metadata.arn) {
            return Err(wrong(&grants_file, &format!("the grant {} is of another key", grant.grant_id)));
        }
        let tags: Tags = self.list(&folder.join("list-resource-tags.json"))?;
        Ok(OldKey { metadata, policy: policy.policy, policy_file, grants: grants.grants, tags: tags.tags })
    }

    fn one<T: serde::de::DeserializeOwned>(&mut self, path: &Path) -> Result<T, Failure> {
        parsed(path, shapes::read(&self.must_be(path)?))
    }

    fn list<T: serde::de::DeserializeOwned>(&mut self, path: &Path) -> Result<T, Failure> {
        parsed(path, shapes::read_list(&self.must_be(path)?))
    }

    fn must_be(&mut self, path: &Path) -> Result<Vec<u8>, Failure> {
        self.bytes(path)?.ok_or_else(|| wrong(path, "there is no such file"))
    }

    /// Nothing where there is no such file.
    fn bytes(&mut self, path: &Path) -> Result<Option<Vec<u8>>, Failure> {
        let failed = |error: std::io::Error| Failure::local(format!("cannot read {}: {error}", path.display()));
        match fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            // A pipe might never end.
            Err(error) => return Err(failed(error)),
            Ok(there) if !there.is_file() => return Err(wrong(path, "this is not a regular file")),
            Ok(_) => {}
        }
        let most = FILE_BYTES.min(self.left);
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)).map_err(failed)?;
        let length = bytes.len() as u64;
        if length > FILE_BYTES {
            return Err(wrong(path, &format!("it is longer than {FILE_BYTES} bytes")));
        }
        self.left = self.left.checked_sub(length).ok_or_else(|| {
            wrong(
                path,
                &format!("with it the files are longer than {ALL_BYTES} bytes; import some keys after the others"),
            )
        })?;
        Ok(Some(bytes))
    }
}

fn parsed<T>(path: &Path, read: Result<T, String>) -> Result<T, Failure> {
    read.map_err(|why| wrong(path, &why))
}

/// What is wrong with a file.
pub(super) fn wrong(path: &Path, why: &str) -> Failure {
    Failure::local(format!("{}: {why}", path.display())).with_hint(MAKING)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::failure::Exit;

    fn put(folder: &Path, name: &str, content: &Value) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content.to_string()).unwrap();
    }

    fn arn(id: &str) -> String {
        format!("arn:aws:kms:us-east-1:111122223333:key/{id}")
    }

    fn described(id: &str, members: &Value) -> Value {
        let mut metadata = json!({
            "KeyId": id, "Arn": arn(id), "Description": "", "KeyState": "Enabled", "KeyUsage": "ENCRYPT_DECRYPT",
            "KeyManager": "CUSTOMER", "KeySpec": "SYMMETRIC_DEFAULT", "Origin": "AWS_KMS", "MultiRegion": false,
        });
        metadata.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        json!({ "KeyMetadata": metadata })
    }

    fn full(folder: &Path, id: &str) {
        put(folder, &format!("{id}/describe-key.json"), &described(id, &json!({})));
        put(folder, &format!("{id}/get-key-policy.json"), &json!({ "Policy": "{}", "PolicyName": "default" }));
        put(folder, &format!("{id}/list-grants.json"), &json!({ "Grants": [] }));
        put(folder, &format!("{id}/list-resource-tags.json"), &json!({ "Tags": [] }));
    }

    #[test]
    fn what_is_left_out_is_told_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let alias = |name: &str, key: Option<&str>| {
            let mut alias =
                json!({ "AliasName": name, "AliasArn": format!("arn:aws:kms:us-east-1:111122223333:{name}") });
            if let Some(key) = key {
                alias["TargetKeyId"] = key.into();
            }
            alias
        };
        let aliases =
            [alias("alias/aws/s3", Some("s3")), alias("alias/aws/rds", None), alias("alias/lost", Some("lost"))];
        put(root, "list-aliases.json", &json!({ "Aliases": aliases }));
        put(root, "list-keys.json", &json!({ "Keys": [{ "KeyId": "s3", "KeyArn": arn("s3") }, { "KeyId": "good" }] }));
        full(root, "good");
        let replica = json!({ "MultiRegionConfiguration": { "MultiRegionKeyType": "REPLICA" } });
        for (id, members, why) in [
            ("a", json!({ "KeyManager": "AWS" }), "AWS manages it"),
            ("b", json!({ "KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC" }), "HMAC"),
            ("c", json!({ "KeySpec": "RSA_4096" }), "asymmetric (RSA_4096)"),
            ("d", json!({ "KeyState": "PendingDeletion" }), "pending deletion"),
            ("e", json!({ "KeyState": "PendingImport" }), "no key material"),
            ("f", replica, "replica"),
        ] {
            put(root, &format!("{id}/describe-key.json"), &described(id, &members));
            let account = read(root).unwrap();
            let told = account.left_out.iter().find(|(left, _)| *left == arn(id)).unwrap();
            assert!(told.1.contains(why), "{told:?}");
        }
        let account = read(root).unwrap();
        assert_eq!(account.keys.iter().map(|key| &*key.metadata.key_id).collect::<Vec<_>>(), ["good"]);
        let told = |id: &str| &*account.left_out.iter().find(|(left, _)| left == id).unwrap().1;
        assert_eq!((told("s3"), told("lost")), ("AWS manages it", "there is no folder with its files"));
        assert_eq!(account.left_out.len(), 8);
    }

    #[test]
    fn what_is_wrong_names_the_file_and_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let told = || {
            let failure = read(root).unwrap_err();
            assert_eq!(failure.exit, Exit::Local);
            assert!(failure.hint.unwrap().contains("import-settings.md"));
            failure.message
        };
        assert!(told().contains("list-aliases.json: there is no such file"));
        put(root, "list-aliases.json", &json!({ "Aliases": [] }));
        full(root, "k");
        read(root).unwrap();
        fs::write(root.join("k/list-grants.json"), "{\n\"Grants\": [}").unwrap();
        let message = told();
        assert!(message.contains("k/list-grants.json: ") && message.contains("line 2 column 12"), "{message}");
        let grant = json!({ "KeyId": "arn:other", "GrantId": "7", "Operations": [] });
        put(root, "k/list-grants.json", &json!({ "Grants": [grant] }));
        assert!(told().contains("of another key"));
        fs::remove_file(root.join("k/list-grants.json")).unwrap();
        assert!(told().contains("k/list-grants.json: there is no such file"));
        fs::create_dir(root.join("k/list-grants.json")).unwrap();
        assert!(told().contains("not a regular file"));
        fs::remove_dir(root.join("k/list-grants.json")).unwrap();
        let long = File::create(root.join("k/list-grants.json")).unwrap();
        long.set_len(FILE_BYTES + 1).unwrap();
        assert!(told().contains("longer than"));
        full(root, "k");
        put(root, "l/describe-key.json", &described("k", &json!({})));
        assert!(told().contains("in another folder too"));
    }
}
