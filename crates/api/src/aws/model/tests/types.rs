//! Types: what becomes of each, and SerializationException in AWS's words.

use std::collections::BTreeMap;

use super::{read, serialization};

#[test]
fn another_type_is_as_aws_was_seen_to_say() {
    for (operation, member, message) in [
        ("DescribeKey", r#""KeyId": 1"#, "NUMBER_VALUE can not be converted to a String"),
        ("DescribeKey", r#""KeyId": 1.5"#, "NUMBER_VALUE can not be converted to a String"),
        ("DescribeKey", r#""KeyId": true"#, "TRUE_VALUE can not be converted to a String"),
        ("DescribeKey", r#""KeyId": false"#, "FALSE_VALUE can not be converted to a String"),
        ("DescribeKey", r#""KeyId": ["k"]"#, "Start of list found where not expected"),
        ("DescribeKey", r#""KeyId": {}"#, "Start of structure or map found where not expected."),
        ("ListKeys", r#""Limit": "1""#, "STRING_VALUE can not be converted to an Integer"),
        ("ListKeys", r#""Limit": true"#, "TRUE_VALUE can not be converted to an Integer"),
        ("ListKeys", r#""Limit": [1]"#, "Start of list found where not expected"),
        // AWS cuts the fraction off; a number that nobody meant is worse than an error.
        ("ListKeys", r#""Limit": 1.5"#, "NUMBER_VALUE can not be converted to an Integer"),
        ("Encrypt", r#""DryRun": 1"#, "NUMBER_VALUE can not be converted to a Boolean"),
        ("Encrypt", r#""DryRun": "maybe""#, "STRING_VALUE can not be converted to an Boolean"),
        ("Encrypt", r#""GrantTokens": "t""#, "Expected list or null"),
        ("Encrypt", r#""GrantTokens": 1"#, "Expected list or null"),
        ("Encrypt", r#""GrantTokens": {}"#, "Start of structure or map found where not expected."),
        ("Encrypt", r#""GrantTokens": [["t"]]"#, "Start of list found where not expected"),
        ("Encrypt", r#""GrantTokens": [1]"#, "NUMBER_VALUE can not be converted to a String"),
        ("Encrypt", r#""EncryptionContext": "c""#, "Expected map or null"),
        ("Encrypt", r#""EncryptionContext": []"#, "Start of list found where not expected"),
        ("Encrypt", r#""EncryptionContext": {"a": 1}"#, "NUMBER_VALUE can not be converted to a String"),
        ("Encrypt", r#""Plaintext": 1"#, "NUMBER_VALUE can not be converted to a Blob"),
        ("Encrypt", r#""Plaintext": {}"#, "Start of structure or map found where not expected."),
        ("Decrypt", r#""Recipient": "r""#, "Expected null"),
        ("Decrypt", r#""Recipient": 1"#, "Expected null"),
        ("Decrypt", r#""Recipient": []"#, "Start of list found where not expected"),
        ("TagResource", r#""Tags": ["a"]"#, "Expected null"),
        ("TagResource", r#""Tags": [{"TagKey": 1}]"#, "NUMBER_VALUE can not be converted to a String"),
        ("ImportKeyMaterial", r#""ValidTo": "2030-01-01""#, "STRING_VALUE can not be converted to a Timestamp"),
        ("ImportKeyMaterial", r#""ValidTo": 1e999"#, "NUMBER_VALUE can not be converted to a Timestamp"),
        // Types come before constraints, in whatever order they were sent.
        (
            "GenerateDataKey",
            r#""KeySpec": "X", "NumberOfBytes": "1""#,
            "STRING_VALUE can not be converted to an Integer",
        ),
    ] {
        assert_eq!(serialization(operation, &format!("{{{member}}}")), message, "{operation} {member}");
    }
}

#[test]
fn what_is_no_json_object_has_no_message() {
    let twice = r#"{"KeyId": "a", "KeyId": "b"}"#;
    let nested = format!(r#"{{"New": {}1{}}}"#, "[".repeat(40), "]".repeat(40));
    let many = format!(r#"{{"GrantTokens": [{}]}}"#, vec!["\"t\""; 5000].join(","));
    let half = r#"{"KeyId": "\ud800"}"#;
    for body in [
        "{",
        " ",
        "null",
        "\"x\"",
        "1",
        "true",
        "{\"KeyId\": \"k\",}",
        "{} {}",
        "{'KeyId': 'k'}",
        "{\"KeyId\": NaN}",
        "{\"KeyId\": 01}",
        "{\"KeyId\": \"\n\"}",
        "[1",
        "\u{feff}{}",
        twice,
        &nested,
        &many,
        half,
    ] {
        assert_eq!(serialization("DescribeKey", body), "", "{body}");
    }
    assert_eq!(serialization("DescribeKey", "[]"), "Start of list found where not expected");
    let in_context = r#"{"KeyId": "k", "Plaintext": "AA==", "EncryptionContext": {"a": "1", "\u0061": "2"}}"#;
    assert_eq!(serialization("Encrypt", in_context), "");
    let invalid = super::operation("DescribeKey").unwrap().read(b"{\"KeyId\": \"\xff\"}");
    assert_eq!(invalid.err(), Some(super::Wrong::Serialization(String::new())), "no UTF-8");
}

#[test]
fn base64_is_the_standard_one_and_whole() {
    let body = |text: &str| format!(r#"{{"KeyId": "k", "Plaintext": "{text}"}}"#);
    for (text, bytes) in
        [("aGk=", &b"hi"[..]), ("AA==", b"\0"), ("+/+/", b"\xfb\xff\xbf"), (r"+\/\u002b\/", b"\xfb\xff\xbf")]
    {
        assert_eq!(read("Encrypt", &body(text)).unwrap().blob("Plaintext"), Some(bytes), "{text}");
    }
    for (text, why) in [
        ("SECRET", "Base64 encoded length is expected a multiple of 4 bytes but found: 6"),
        ("aGk", "Base64 encoded length is expected a multiple of 4 bytes but found: 3"),
        ("-_-_", "Invalid Base64 character"),
        ("SEC T", "Base64 encoded length is expected a multiple of 4 bytes but found: 5"),
        ("SE T", "Invalid Base64 character"),
        ("A===", "Invalid Base64 character"),
        ("=AAA", "Invalid Base64 character"),
        // Bits that stand for no byte: two texts would be one blob.
        ("aGl=", "Invalid Base64 character"),
    ] {
        let message = serialization("Encrypt", &body(text));
        assert_eq!(message, format!("STRING_VALUE can not be converted to a Blob: {why}"), "{text}");
        assert!(!message.contains("SE"), "{message}");
    }
}

#[test]
fn every_kind_of_value_is_given_out() {
    let input = read(
        "CreateGrant",
        r#"{"KeyId": "k", "GranteePrincipal": "p", "Operations": ["Encrypt", "Decrypt"], "DryRun": true, "Name": null,
            "Constraints": {"EncryptionContextSubset": {"b": "2", "a": "\u0031"}}}"#,
    )
    .unwrap();
    assert_eq!(input.operation(), "CreateGrant");
    assert_eq!(input.text("KeyId"), Some("k"));
    assert_eq!(input.list_of_texts("Operations"), Some(vec!["Encrypt".to_owned(), "Decrypt".to_owned()]));
    assert_eq!(input.boolean("DryRun"), Some(true));
    assert!(!input.has("Name") && input.text("Name").is_none());
    let pairs: BTreeMap<_, _> = [("a", "1"), ("b", "2")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    assert_eq!(input.object("Constraints").unwrap().map_of_texts("EncryptionContextSubset"), Some(pairs));
    // Asked for as something else, it is not there.
    assert!(input.integer("KeyId").is_none() && input.blob("KeyId").is_none() && input.text("Operations").is_none());
    assert!(input.pairs("Operations").is_none() && input.object("KeyId").is_none() && input.boolean("KeyId").is_none());

    let tags = r#"{"KeyId": "k", "Tags": [{"TagKey": "b", "TagValue": ""}, {"TagKey": "b", "TagValue": "2"}]}"#;
    let two = vec![("b".to_owned(), String::new()), ("b".to_owned(), "2".to_owned())];
    assert_eq!(read("TagResource", tags).unwrap().pairs("Tags"), Some(two));

    let rotation = read("EnableKeyRotation", r#"{"KeyId": "k", "RotationPeriodInDays": 1e2}"#).unwrap();
    assert_eq!(rotation.integer("RotationPeriodInDays"), Some(100));
    let import = r#"{"KeyId": "k", "ImportToken": "AA==", "EncryptedKeyMaterial": "AA==", "ValidTo": 1.5e9}"#;
    assert_eq!(read("ImportKeyMaterial", import).unwrap().timestamp("ValidTo"), Some(1_500_000_000.0));
    assert!(read("ListKeys", "").unwrap().integer("Limit").is_none(), "an empty body is one without members");
}

#[test]
fn a_blob_is_taken_once_and_nothing_is_shown() {
    let mut input = read("Encrypt", r#"{"KeyId": "sesame", "Plaintext": "aGk="}"#).unwrap();
    assert_eq!(format!("{input:?}"), r#"Input { operation: "Encrypt", .. }"#);
    assert!(input.take_blob("KeyId").is_none());
    assert_eq!(input.take_blob("Plaintext").as_deref(), Some(&b"hi".to_vec()));
    assert!(input.take_blob("Plaintext").is_none() && !input.has("Plaintext") && input.has("KeyId"));
}

#[test]
fn equal_parameters_have_equal_bytes_and_others_have_others() {
    let bytes = |body: &str| read("CreateKey", body).unwrap().canonical().to_vec();
    let plain = bytes(r#"{"Description": "d", "Tags": [{"TagKey": "a", "TagValue": "b"}], "MultiRegion": null}"#);
    let other_order = r#"{ "Tags" : [{"TagValue": "\u0062", "TagKey": "a"}], "New": 1, "Description": "d"}"#;
    assert_eq!(plain, bytes(other_order));
    let others = [
        "{}",
        r#"{"Description": ""}"#,
        r#"{"Description": "d"}"#,
        r#"{"Description": "d", "Tags": []}"#,
        r#"{"Description": "d", "Tags": [{"TagKey": "ab", "TagValue": ""}]}"#,
        r#"{"Description": "d", "Tags": [{"TagKey": "a", "TagValue": "b"}], "MultiRegion": false}"#,
        r#"{"Policy": "d", "Tags": [{"TagKey": "a", "TagValue": "b"}]}"#,
    ];
    for (i, one) in others.iter().enumerate() {
        assert_ne!(bytes(one), plain, "{one}");
        assert!(others[..i].iter().all(|other| bytes(other) != bytes(one)), "{one}");
    }
}
