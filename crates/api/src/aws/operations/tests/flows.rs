//! Calls that follow each other, as far as they need no HSM.

use serde_json::{Value, json};

use super::Bench;
use super::bench::ANNA;
use super::facts::conforms;

fn arn(key: &str) -> String {
    format!("arn:aws:kms:eu-central-1:111122223333:key/{key}")
}

#[tokio::test]
async fn a_key_is_shown_as_one_of_a_cloudhsm_key_store() {
    let bench = Bench::new().await;
    let key = &bench.keys[0];
    let shown = bench.ask("DescribeKey", json!({ "KeyId": key })).await;
    conforms("DescribeKey", &shown);
    let mut shown = shown["KeyMetadata"].as_object().unwrap().clone();
    assert!(shown.remove("CreationDate").unwrap().as_f64().unwrap() > 1.7e9);
    let expected = json!({
        "AWSAccountId": "111122223333",
        "Arn": arn(key),
        "CloudHsmClusterId": "cluster-abcdefghijk",
        "CustomKeyStoreId": bench.key_store,
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "Description": "one",
        "Enabled": false,
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
        "KeyId": key,
        "KeyManager": "CUSTOMER",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "KeyState": "Unavailable",
        "KeyUsage": "ENCRYPT_DECRYPT",
        "MultiRegion": false,
        "Origin": "AWS_CLOUDHSM",
    });
    assert_eq!(Value::Object(shown), expected);
}

#[tokio::test]
async fn a_deletion_is_scheduled_and_cancelled() {
    let bench = Bench::new().await;
    let key = &bench.keys[0];
    for days in [1, 6, 31, 365] {
        let refused = bench.refused("ScheduleKeyDeletion", json!({ "KeyId": key, "PendingWindowInDays": days })).await;
        let text = "PendingWindowInDays must be between 7 and 30";
        assert_eq!((refused.name, refused.message.as_str()), ("ValidationException", text), "{days}");
    }
    let scheduled = bench.ask("ScheduleKeyDeletion", json!({ "KeyId": key, "PendingWindowInDays": 7 })).await;
    conforms("ScheduleKeyDeletion", &scheduled);
    let said = [&scheduled["KeyId"], &scheduled["KeyState"], &scheduled["PendingWindowInDays"]];
    assert_eq!(said, [&json!(arn(key)), &json!("PendingDeletion"), &json!(7)]);
    let shown = bench.ask("DescribeKey", json!({ "KeyId": key })).await;
    assert_eq!(shown["KeyMetadata"]["DeletionDate"], scheduled["DeletionDate"]);
    let refused = bench.refused("EnableKey", json!({ "KeyId": key })).await;
    assert_eq!(
        (refused.name, refused.message),
        ("KMSInvalidStateException", format!("{} is pending deletion.", arn(key)))
    );
    let cancelled = bench.ask("CancelKeyDeletion", json!({ "KeyId": key })).await;
    assert_eq!(cancelled, json!({ "KeyId": arn(key) }));
    assert_eq!(bench.ask("EnableKey", json!({ "KeyId": key })).await, Value::Null);
}

#[tokio::test]
async fn lists_say_whether_there_is_more() {
    let bench = Bench::new().await;
    let mut expected: Vec<&String> = bench.keys.iter().collect();
    expected.sort();
    let first = bench.ask("ListKeys", json!({ "Limit": 1 })).await;
    conforms("ListKeys", &first);
    let marker = first["NextMarker"].as_str().unwrap();
    let second = bench.ask("ListKeys", json!({ "Limit": 1, "Marker": marker })).await;
    assert_eq!([&first["Truncated"], &second["Truncated"]], [&json!(true), &json!(false)]);
    assert!(second.get("NextMarker").is_none());
    for (page, key) in [(first, expected[0]), (second, expected[1])] {
        assert_eq!(page["Keys"], json!([{ "KeyId": key, "KeyArn": arn(key) }]));
    }
    assert_eq!(bench.refused("ListKeys", json!({ "Marker": "k1" })).await.name, "InvalidMarkerException");
    for (operation, most) in [("ListAliases", 100), ("ListGrants", 100), ("ListResourceTags", 50)] {
        let mut asked = json!({ "KeyId": bench.keys[0], "Limit": most + 1 });
        assert_eq!(bench.refused(operation, asked.clone()).await.name, "ValidationException", "{operation}");
        asked["Limit"] = json!(most);
        conforms(operation, &bench.ask(operation, asked).await);
    }
}

#[tokio::test]
async fn no_other_account_shares_keys() {
    let bench = Bench::new().await;
    let own = bench.ask("ListKeys", json!({})).await;
    assert_eq!(own["Keys"].as_array().unwrap().len(), 2);
    for owners in
        [json!(["SELF"]), json!(["SELF", "OTHER_ACCOUNTS_VIA_RAM"]), json!(["OTHER_ACCOUNTS_VIA_RAM", "SELF"])]
    {
        assert_eq!(bench.ask("ListKeys", json!({ "ResourceOwners": owners })).await, own, "{owners}");
    }
    let others = json!({ "ResourceOwners": ["OTHER_ACCOUNTS_VIA_RAM"], "Limit": 1 });
    assert_eq!(bench.ask("ListKeys", others.clone()).await, json!({ "Keys": [], "Truncated": false }));
    // Whoever may list no keys is refused all the same.
    let nobody = bench.ask_as("cn:nobody", "ListKeys", &others).await.unwrap_err();
    assert_eq!(nobody.name, "AccessDeniedException");
}

#[tokio::test]
async fn an_alias_is_taken_where_aws_takes_one() {
    let bench = Bench::new().await;
    let [key, _] = &bench.keys;
    bench.ask("CreateAlias", json!({ "AliasName": "alias/a", "TargetKeyId": key })).await;
    let arn = "arn:aws:kms:eu-central-1:111122223333:alias/a";
    for alias in ["alias/a", "alias/nobody", arn] {
        let (named, replicate) = (json!({ "KeyId": alias }), json!({ "KeyId": alias, "ReplicaRegion": "us-east-1" }));
        for (operation, asked) in
            [("DeleteImportedKeyMaterial", named.clone()), ("ReplicateKey", replicate), ("GetKeyPolicy", named)]
        {
            let refused = bench.refused(operation, asked).await;
            let text = "Key Aliases are not supported for this operation.";
            assert_eq!((refused.name, refused.message.as_str()), ("InvalidArnException", text), "{operation}");
        }
    }
    for alias in ["alias/a", arn, &key.to_ascii_uppercase()] {
        let refused = bench.refused("GetPublicKey", json!({ "KeyId": alias })).await;
        assert_eq!(refused.name, "UnsupportedOperationException");
    }
    assert_eq!(bench.refused("GetPublicKey", json!({ "KeyId": "alias/nobody" })).await.name, "NotFoundException");
}

#[tokio::test]
async fn names_and_tags_come_back() {
    let bench = Bench::new().await;
    let [one, two] = &bench.keys;
    let alias = |target: &str| json!({ "AliasName": "alias/payroll", "TargetKeyId": target });
    assert_eq!(bench.ask("CreateAlias", alias(one)).await, Value::Null);
    assert_eq!(bench.refused("CreateAlias", alias(one)).await.name, "AlreadyExistsException");
    assert_eq!(bench.ask("UpdateAlias", alias(two)).await, Value::Null);
    let listed = bench.ask("ListAliases", json!({ "KeyId": two })).await;
    conforms("ListAliases", &listed);
    let entry = &listed["Aliases"][0];
    assert_eq!([&entry["AliasName"], &entry["TargetKeyId"]], [&json!("alias/payroll"), &json!(two)]);
    assert_eq!(entry["AliasArn"], json!("arn:aws:kms:eu-central-1:111122223333:alias/payroll"));
    let shown = bench.ask("DescribeKey", json!({ "KeyId": "alias/payroll" })).await;
    assert_eq!(shown["KeyMetadata"]["KeyId"], json!(two));
    assert_eq!(bench.ask("DeleteAlias", json!({ "AliasName": "alias/payroll" })).await, Value::Null);

    let tag = |key: &str| json!({ "TagKey": key, "TagValue": "v" });
    bench.ask("TagResource", json!({ "KeyId": one, "Tags": [tag("a"), tag("b")] })).await;
    let twice = bench.refused("TagResource", json!({ "KeyId": one, "Tags": [tag("a"), tag("a")] })).await;
    assert_eq!((twice.name, twice.message.as_str()), ("TagException", "Duplicate tag keys"));
    bench.ask("UntagResource", json!({ "KeyId": one, "TagKeys": ["b", "c"] })).await;
    let tags = bench.ask("ListResourceTags", json!({ "KeyId": one })).await;
    assert_eq!(tags, json!({ "Tags": [tag("a")], "Truncated": false }));
    bench.ask("UpdateKeyDescription", json!({ "KeyId": one, "Description": "payroll" })).await;
    let shown = bench.ask("DescribeKey", json!({ "KeyId": one })).await;
    assert_eq!(shown["KeyMetadata"]["Description"], json!("payroll"));
}

#[tokio::test]
async fn a_policy_comes_back_as_it_was_put() {
    let bench = Bench::new().await;
    let key = &bench.keys[0];
    let default = bench.ask("GetKeyPolicy", json!({ "KeyId": key, "PolicyName": "default" })).await;
    conforms("GetKeyPolicy", &default);
    assert!(default["Policy"].as_str().unwrap().contains("arn:aws:iam::111122223333:root"));
    let policy = format!(
        "{{\"Version\": \"2012-10-17\",\n \"Statement\": [{{\"Effect\": \"Allow\", \"Principal\": {{\"AWS\": \"{ANNA}\"}}, \
         \"Action\": \"kms:*\", \"Resource\": \"*\"}}]}}"
    );
    assert_eq!(bench.ask("PutKeyPolicy", json!({ "KeyId": key, "Policy": policy })).await, Value::Null);
    let put = bench.ask("GetKeyPolicy", json!({ "KeyId": key })).await;
    assert_eq!(put, json!({ "Policy": policy, "PolicyName": "default" }));
    let names = bench.ask("ListKeyPolicies", json!({ "KeyId": key })).await;
    assert_eq!(names, json!({ "PolicyNames": ["default"], "Truncated": false }));
    let shared = json!({ "KeyId": key, "PolicyName": "AWS_RAM", "Policy": policy });
    let refused = bench.refused("PutKeyPolicy", shared).await;
    let text = "The AWS_RAM policy can only be managed by the RAM service.";
    assert_eq!((refused.name, refused.message.as_str()), ("ValidationException", text));
    let absent = bench.refused("GetKeyPolicy", json!({ "KeyId": key, "PolicyName": "AWS_RAM" })).await;
    assert_eq!(absent.name, "NotFoundException");
    let malformed = bench.refused("PutKeyPolicy", json!({ "KeyId": key, "Policy": "{" })).await;
    assert_eq!(malformed.name, "MalformedPolicyDocumentException");
}

#[tokio::test]
async fn grants_are_made_listed_and_ended() {
    let bench = Bench::new().await;
    let key = &bench.keys[0];
    let asked = json!({
        "KeyId": key, "GranteePrincipal": ANNA, "RetiringPrincipal": ANNA, "Operations": ["Decrypt", "DescribeKey"],
        "Constraints": { "EncryptionContextSubset": { "a": "b" } },
    });
    let mut dry = asked.clone();
    dry["DryRun"] = json!(true);
    let refused = bench.refused("CreateGrant", dry).await;
    let text = "The request would have succeeded, but the DryRun option is set.";
    assert_eq!((refused.name, refused.message.as_str()), ("DryRunOperationException", text));
    let mut passing = asked.clone();
    passing["Operations"] = json!(["CreateGrant", "CreateGrant"]);
    let refused = bench.refused("CreateGrant", passing).await;
    let text = "Grants must not contain only the CreateGrant operation.";
    assert_eq!((refused.name, refused.message.as_str()), ("ValidationException", text));
    let made = bench.ask("CreateGrant", asked.clone()).await;
    conforms("CreateGrant", &made);
    let listed = bench.ask("ListGrants", json!({ "KeyId": key })).await;
    conforms("ListGrants", &listed);
    let grant = &listed["Grants"][0];
    assert_eq!([&grant["GrantId"], &grant["KeyId"], &grant["Name"]], [&made["GrantId"], &json!(arn(key)), &json!("")]);
    assert_eq!(grant["Constraints"], asked["Constraints"]);
    assert_eq!(listed["Grants"].as_array().unwrap().len(), 1, "a dry run makes nothing");
    assert!(!listed.to_string().contains(made["GrantToken"].as_str().unwrap()));
    let retirable = bench.ask("ListRetirableGrants", json!({ "RetiringPrincipal": ANNA })).await;
    assert_eq!(retirable["Grants"], listed["Grants"]);
    assert_eq!(bench.refused("ListRetirableGrants", json!({})).await.name, "ValidationException");
    assert_eq!(bench.ask("RetireGrant", json!({ "GrantToken": made["GrantToken"] })).await, Value::Null);
    let again = bench.ask("CreateGrant", asked).await;
    let revoke = json!({ "KeyId": key, "GrantId": again["GrantId"] });
    assert_eq!(bench.ask("RevokeGrant", revoke.clone()).await, Value::Null);
    assert_eq!(bench.refused("RevokeGrant", revoke).await.name, "NotFoundException");
}

#[tokio::test]
async fn rotation_is_as_with_aws_s_other_keys() {
    let bench = Bench::new().await;
    let key = &bench.keys[0];
    let status = bench.ask("GetKeyRotationStatus", json!({ "KeyId": key })).await;
    assert_eq!(status, json!({ "KeyId": key, "KeyRotationEnabled": false }));
    assert_eq!(bench.ask("EnableKeyRotation", json!({ "KeyId": key, "RotationPeriodInDays": 90 })).await, Value::Null);
    let status = bench.ask("GetKeyRotationStatus", json!({ "KeyId": arn(key) })).await;
    conforms("GetKeyRotationStatus", &status);
    assert_eq!([&status["KeyRotationEnabled"], &status["RotationPeriodInDays"]], [&json!(true), &json!(90)]);
    assert!(status["NextRotationDate"].is_number());
    assert_eq!(bench.ask("DisableKeyRotation", json!({ "KeyId": key })).await, Value::Null);
    let rotations = bench.ask("ListKeyRotations", json!({ "KeyId": key })).await;
    assert_eq!(rotations, json!({ "Rotations": [], "Truncated": false }));
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_name() {
    let bench = Bench::new().await;
    let key = &bench.keys[0];
    let usage =
        bench.refused("GenerateMac", json!({ "KeyId": key, "Message": "AA==", "MacAlgorithm": "HMAC_SHA_256" }));
    let text = format!("{} key usage is ENCRYPT_DECRYPT which is not valid for GenerateMac.", arn(key));
    let usage = usage.await;
    assert_eq!((usage.name, usage.message), ("InvalidKeyUsageException", text));
    let absent = "00000000-0000-4000-8000-000000000000";
    let nobody = bench.refused("GetPublicKey", json!({ "KeyId": absent })).await;
    assert_eq!((nobody.name, nobody.message), ("NotFoundException", format!("Key '{}' does not exist", arn(absent))));

    let encrypt = |more: (&str, Value)| {
        let mut asked = json!({ "KeyId": key, "Plaintext": "AA==" });
        asked[more.0] = more.1;
        asked
    };
    let algorithm = bench.refused("Encrypt", encrypt(("EncryptionAlgorithm", json!("RSAES_OAEP_SHA_1")))).await;
    let text = "Algorithm RSAES_OAEP_SHA_1 is incompatible with key spec SYMMETRIC_DEFAULT.";
    assert_eq!((algorithm.name, algorithm.message.as_str()), ("InvalidKeyUsageException", text));
    let unavailable = bench.refused("Encrypt", encrypt(("EncryptionAlgorithm", json!("SYMMETRIC_DEFAULT")))).await;
    assert_eq!(unavailable.name, "KMSInvalidStateException");
    assert_eq!(unavailable.message, format!("{} is unavailable.", arn(key)));

    let recipient = json!({ "AttestationDocument": "AA==", "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256" });
    let to_an_enclave = [
        ("GenerateDataKey", json!({ "KeyId": key, "KeySpec": "AES_256" })),
        ("Decrypt", json!({ "CiphertextBlob": "AA==" })),
        ("GenerateRandom", json!({ "NumberOfBytes": 1 })),
    ];
    for (operation, mut asked) in to_an_enclave {
        asked["Recipient"] = recipient.clone();
        assert_eq!(bench.refused(operation, asked).await.name, "UnsupportedOperationException", "{operation}");
    }
    let garbled = bench.refused("Decrypt", json!({ "CiphertextBlob": "AA==" })).await;
    assert_eq!((garbled.name, garbled.message.as_str()), ("InvalidCiphertextException", ""));
    assert_eq!(bench.refused("Decrypt", json!({})).await.name, "ValidationException");
    let both = json!({ "KeyId": key, "KeySpec": "AES_256", "NumberOfBytes": 32 });
    assert_eq!(bench.refused("GenerateDataKey", both).await.name, "ValidationException");
    let length = bench.refused("GenerateRandom", json!({})).await;
    assert_eq!((length.name, length.message.as_str()), ("ValidationException", "NumberOfBytes is required."));
    let token = bench.refused("DescribeKey", json!({ "KeyId": key, "GrantTokens": ["none of ours"] })).await;
    assert_eq!(token.name, "InvalidGrantTokenException");
}

#[tokio::test]
async fn key_stores_have_aws_s_names() {
    let bench = Bench::new().await;
    let shown = bench.ask("DescribeCustomKeyStores", json!({ "CustomKeyStoreName": "main" })).await;
    conforms("DescribeCustomKeyStores", &shown);
    let store = &shown["CustomKeyStores"][0];
    assert_eq!(store["CustomKeyStoreId"], json!(bench.key_store));
    assert_eq!(
        [&store["ConnectionState"], &store["CustomKeyStoreType"]],
        [&json!("CONNECTED"), &json!("AWS_CLOUDHSM")]
    );
    assert!(store.get("ConnectionErrorCode").is_none());
    let asked = json!({ "CustomKeyStoreId": bench.key_store });
    assert_eq!(bench.refused("DeleteCustomKeyStore", asked.clone()).await.name, "CustomKeyStoreInvalidStateException");
    let renamed = json!({ "CustomKeyStoreId": bench.key_store, "NewCustomKeyStoreName": "other" });
    assert_eq!(bench.ask("UpdateCustomKeyStore", renamed).await, json!({}));
    assert_eq!(bench.ask("ConnectCustomKeyStore", asked).await, json!({}));
    let absent = json!({ "CustomKeyStoreId": "cks-00000000000000000" });
    assert_eq!(bench.refused("DescribeCustomKeyStores", absent).await.name, "CustomKeyStoreNotFoundException");
}
