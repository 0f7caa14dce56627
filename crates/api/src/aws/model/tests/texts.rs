//! ValidationException in AWS's words.

use super::{read, validation};

const KEY: &str = r#""KeyId": "k""#;

#[test]
fn one_error_is_as_aws_was_recorded() {
    let long = "A".repeat(4 * 1366);
    for (operation, body, message) in [
        // Recorded from AWS KMS.
        (
            "GenerateRandom",
            r#"{"NumberOfBytes": 1025}"#.to_owned(),
            "Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024",
        ),
        (
            "GenerateRandom",
            r#"{"NumberOfBytes": 0}"#.to_owned(),
            "Value '0' at 'numberOfBytes' failed to satisfy constraint: Member must have value greater than or equal to 1",
        ),
        (
            "Encrypt",
            format!(r#"{{{KEY}, "Plaintext": "{long}"}}"#),
            "Value at 'plaintext' failed to satisfy constraint: Member must have length less than or equal to 4096",
        ),
        (
            "Encrypt",
            format!(r#"{{{KEY}, "Plaintext": ""}}"#),
            "Value at 'plaintext' failed to satisfy constraint: Member must have length greater than or equal to 1",
        ),
        ("DescribeKey", "{}".to_owned(), "Value null at 'keyId' failed to satisfy constraint: Member must not be null"),
        (
            "DescribeKey",
            r#"{"keyId": "k"}"#.to_owned(),
            "Value null at 'keyId' failed to satisfy constraint: Member must not be null",
        ),
        (
            "GenerateDataKey",
            format!(r#"{{{KEY}, "KeySpec": "AES_512"}}"#),
            "Value 'AES_512' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [AES_256, AES_128]",
        ),
        (
            "CreateAlias",
            r#"{"TargetKeyId": "k", "AliasName": "alias/my-alias$"}"#.to_owned(),
            "Value 'alias/my-alias$' at 'aliasName' failed to satisfy constraint: \
             Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$",
        ),
        (
            "TagResource",
            format!(r#"{{{KEY}, "Tags": [{{"TagKey": "a", "TagValue": "b"}}, {{"TagKey": "", "TagValue": ""}}]}}"#),
            "Value '' at 'tags.2.member.tagKey' failed to satisfy constraint: \
             Member must have length greater than or equal to 1",
        ),
        (
            "ListKeys",
            r#"{"Limit": 99999999999999999999}"#.to_owned(),
            "Value '99999999999999999999' at 'limit' failed to satisfy constraint: \
             Member must have value less than or equal to 1000",
        ),
        // A list's elements are named together, with all that they have to be.
        (
            "UntagResource",
            format!(r#"{{{KEY}, "TagKeys": ["a", "", "b", ""]}}"#),
            "Value '[a, , b, ]' at 'tagKeys' failed to satisfy constraint: Member must satisfy constraint: \
             [Member must have length less than or equal to 128, Member must have length greater than or equal to 1]",
        ),
        (
            "Decrypt",
            r#"{"DryRunModifiers": ["ALL"]}"#.to_owned(),
            "Value '[ALL]' at 'dryRunModifiers' failed to satisfy constraint: Member must satisfy constraint: \
             [Member must satisfy enum value set: [IGNORE_CIPHERTEXT]]",
        ),
        // A value that lets somebody do something is not repeated, whether or not the model says so.
        (
            "CreateCustomKeyStore",
            r#"{"CustomKeyStoreName": "s", "KeyStorePassword": "sesame"}"#.to_owned(),
            "Value at 'keyStorePassword' failed to satisfy constraint: Member must have length greater than or equal to 7",
        ),
        (
            "DescribeKey",
            format!(r#"{{{KEY}, "GrantTokens": ["token", ""]}}"#),
            "Value at 'grantTokens' failed to satisfy constraint: Member must satisfy constraint: \
             [Member must have length less than or equal to 8192, Member must have length greater than or equal to 1]",
        ),
        // Another encryption context, and another list, than was sent would be worse than an error.
        (
            "Encrypt",
            format!(r#"{{{KEY}, "Plaintext": "AA==", "EncryptionContext": {{"a": "b", "c": null}}}}"#),
            "Value at 'encryptionContext' failed to satisfy constraint: \
             Map value must satisfy constraint: [Member must not be null]",
        ),
        (
            "DescribeKey",
            format!(r#"{{{KEY}, "GrantTokens": [null]}}"#),
            "Value null at 'grantTokens.1.member' failed to satisfy constraint: Member must not be null",
        ),
        (
            "CreateGrant",
            format!(r#"{{{KEY}, "Operations": [], "Constraints": {{"SourceArn": "arn:aws:s3:::my-bucket"}}}}"#),
            "Value 'arn:aws:s3:::my-bucket' at 'constraints.sourceArn' failed to satisfy constraint: Member must satisfy \
             regular expression pattern: ^arn:aws[a-z0-9-]*:[a-z0-9-]+:[a-z0-9-]*:[0-9]{12}:.+$",
        ),
    ] {
        assert_eq!(validation(operation, &body), format!("1 validation error detected: {message}"));
    }
}

#[test]
fn several_errors_are_joined_in_the_models_order() {
    assert_eq!(
        validation("CreateAlias", r#"{"AliasName": ""}"#),
        "3 validation errors detected: Value '' at 'aliasName' failed to satisfy constraint: Member must satisfy regular \
         expression pattern: ^[a-zA-Z0-9:/_-]+$; Value '' at 'aliasName' failed to satisfy constraint: Member must have \
         length greater than or equal to 1; Value null at 'targetKeyId' failed to satisfy constraint: Member must not be null"
    );
    assert_eq!(
        validation("ReEncrypt", r#"{"SourceEncryptionAlgorithm": "X", "DestinationKeyId": ""}"#),
        "2 validation errors detected: Value '' at 'destinationKeyId' failed to satisfy constraint: Member must have length \
         greater than or equal to 1; Value 'X' at 'sourceEncryptionAlgorithm' failed to satisfy constraint: Member must \
         satisfy enum value set: [SYMMETRIC_DEFAULT, RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, SM2PKE]"
    );
}

#[test]
fn a_message_repeats_a_part_and_counts_all() {
    let long = "é".repeat(8193);
    let message = validation("UpdateKeyDescription", &format!(r#"{{{KEY}, "Description": "{long}"}}"#));
    let shown = "é".repeat(512);
    assert_eq!(
        message,
        format!(
            "1 validation error detected: Value '{shown}…' at 'description' failed to satisfy constraint: \
             Member must have length less than or equal to 8192"
        )
    );
    let at_most = "é".repeat(8192);
    assert!(read("UpdateKeyDescription", &format!(r#"{{{KEY}, "Description": "{at_most}"}}"#)).is_ok(), "characters");

    let tags = vec![r#"{"TagKey": "a"}"#; 1000].join(",");
    let message = validation("TagResource", &format!(r#"{{{KEY}, "Tags": [{tags}]}}"#));
    assert!(message.starts_with("1000 validation errors detected: "), "{message}");
    assert_eq!(message.matches("Value null at 'tags.").count(), 16, "{message}");

    let words = vec![format!("\"{}\"", "x".repeat(200)); 4000].join(",");
    let message = validation("UntagResource", &format!(r#"{{{KEY}, "TagKeys": [{words}]}}"#));
    assert!(message.len() < 1000, "{}", message.len());
}

#[test]
fn what_the_model_does_not_know_is_ignored() {
    let input =
        read("DescribeKey", r#"{"KeyId": "k", "New": {"DryRun": true}, "keyId": 7, "Recipients": [1]}"#).unwrap();
    assert_eq!(input.text("KeyId"), Some("k"));
    assert!(!input.has("New") && !input.has("keyId"));
}

#[test]
fn what_must_not_happen_is_never_ignored() {
    for (operation, body, name) in [
        ("EnableKey", r#"{"KeyId": "k", "DryRun": true}"#, "DryRun"),
        ("EnableKey", r#"{"KeyId": "k", "dryRun": true}"#, "dryRun"),
        ("Encrypt", r#"{"KeyId": "k", "Plaintext": "AA==", "dryrun": true}"#, "dryrun"),
        (
            "Encrypt",
            r#"{"KeyId": "k", "Plaintext": "AA==", "DryRunModifiers": ["IGNORE_CIPHERTEXT"]}"#,
            "DryRunModifiers",
        ),
        ("Encrypt", r#"{"KeyId": "k", "Plaintext": "AA==", "Recipient": {"A": 1}}"#, "Recipient"),
        ("ListKeys", r#"{"GrantTokens": ["token"]}"#, "GrantTokens"),
        // Before all that is wrong beside it.
        ("ScheduleKeyDeletion", r#"{"PendingWindowInDays": 0, "DryRun": true}"#, "DryRun"),
    ] {
        let message = validation(operation, body);
        assert!(message.starts_with(&format!("{operation} has no parameter {name}. ")), "{message}");
    }
    for nothing in ["null", "false", "[]", "[ ]", "{\n}"] {
        assert!(read("EnableKey", &format!(r#"{{"KeyId": "k", "DryRun": {nothing}}}"#)).is_ok(), "{nothing}");
    }
    let limit =
        r#"{"KeyId": "k", "Operations": ["Encrypt"], "Constraints": {"NotAfter": 1, "EncryptionContextEquals": {}}}"#;
    let message = validation("CreateGrant", limit);
    assert!(message.starts_with("CreateGrant: there is no constraint NotAfter. "), "{message}");
    let case = r#"{"KeyId": "k", "Operations": ["Encrypt"], "Constraints": {"encryptionContextEquals": {"a": "b"}}}"#;
    assert!(validation("CreateGrant", case).contains("no constraint encryptionContextEquals"));
    let long = format!(r#"{{"KeyId": "k", "Operations": [], "Constraints": {{"{}": 1}}}}"#, "x".repeat(100_000));
    assert!(validation("CreateGrant", &long).len() < 400);
}
