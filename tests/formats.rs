//! Formats that outlive a release: the ciphertext, the encryption context's encoding, ids.
//!
//! The vectors come from `vectors/make-ciphertext-v1.py`, which knows the format's description and none of this code.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use model::ciphertext::{
    BOUND_BYTES, Ciphertext, FORMAT, HEADER_BYTES, Malformed, OVERHEAD_BYTES, TAG_BYTES, assemble, authenticated_data,
};
use model::context::EncryptionContext;
use model::id::{
    AliasName, ClusterId, KeyId, KeyReference, KeyReferenceError, KeyStoreId, KeyVersionId, PrincipalId, Scope,
};
use model::limits;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    format: u8,
    opens: Vec<Opens>,
    malformed: Vec<Bad>,
}

#[derive(Deserialize)]
struct Opens {
    name: String,
    key: String,
    key_id: String,
    version: u32,
    context: BTreeMap<String, String>,
    iv: String,
    plaintext: String,
    aad: String,
    blob: String,
}

#[derive(Deserialize)]
struct Bad {
    name: String,
    blob: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("vectors/ciphertext-v1.json")).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2));
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn every_vector_is_read_written_and_opened() {
    let vectors = vectors();
    assert_eq!(vectors.format, FORMAT);
    assert!(vectors.opens.len() >= 11, "vectors are never taken away");
    for Opens { name, key, key_id, version, context, iv, plaintext, aad, blob } in vectors.opens {
        let (blob, aad, plaintext) = (bytes(&blob), bytes(&aad), bytes(&plaintext));
        let key_version = KeyVersionId { key: KeyId::parse(&key_id).unwrap(), version };
        let parsed = Ciphertext::parse(&blob).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(parsed.key_version, key_version, "{name}");
        assert_eq!(parsed.iv[..], bytes(&iv), "{name}");
        assert_eq!(assemble(key_version, &parsed.iv, parsed.sealed), blob, "{name}");
        let context = EncryptionContext::new(context).unwrap();
        assert_eq!(authenticated_data(key_version, &context), aad, "{name}");
        assert_eq!(blob.len(), plaintext.len() + OVERHEAD_BYTES, "{name}");

        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes(&key)).unwrap());
        let mut opened = parsed.sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(parsed.iv);
        assert_eq!(key.open_in_place(nonce, Aad::from(&aad), &mut opened).unwrap(), plaintext, "{name}");
    }
}

#[test]
fn what_is_malformed_is_refused() {
    for Bad { name, blob } in vectors().malformed {
        assert_eq!(Ciphertext::parse(&bytes(&blob)), Err(Malformed), "{name}");
    }
}

fn key_version() -> impl Strategy<Value = KeyVersionId> {
    (any::<[u8; 16]>(), 1..=u32::MAX).prop_map(|(key, version)| KeyVersionId { key: KeyId::from_bytes(key), version })
}

/// Few letters and short texts, so that different maps come close to each other.
fn pairs() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map("[ab\u{0}ä]{0,3}", "[ab\u{0}ä]{0,3}", 0..4)
}

fn encoded(context: &EncryptionContext) -> Vec<u8> {
    let mut out = Vec::new();
    context.encode_into(&mut out);
    out
}

/// Reads what `encode_into` wrote, by its description.
fn decoded(mut encoded: &[u8]) -> Option<Vec<(String, String)>> {
    fn part(encoded: &mut &[u8]) -> Option<String> {
        let (length, rest) = encoded.split_first_chunk::<2>()?;
        let (text, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        *encoded = rest;
        String::from_utf8(text.to_vec()).ok()
    }
    let mut pairs = Vec::new();
    while !encoded.is_empty() {
        pairs.push((part(&mut encoded)?, part(&mut encoded)?));
    }
    Some(pairs)
}

fn scope() -> Scope {
    Scope { partition: "aws".into(), region: "eu-central-1".into(), account: "111122223333".into() }
}

proptest! {
    #[test]
    fn ciphertexts_are_read_back(
        key_version in key_version(),
        iv: [u8; 12],
        sealed in vec(any::<u8>(), TAG_BYTES + 1..=limits::PLAINTEXT_BYTES + TAG_BYTES),
    ) {
        let blob = assemble(key_version, &iv, &sealed);
        let parsed = Ciphertext::parse(&blob).unwrap();
        prop_assert_eq!(parsed, Ciphertext { key_version, iv, sealed: &sealed });
        prop_assert!(blob.len() <= limits::CIPHERTEXT_BYTES);
        // What is authenticated begins with the very bytes that stand in the blob.
        let aad = authenticated_data(key_version, &EncryptionContext::default());
        prop_assert_eq!(&aad[..], &blob[..BOUND_BYTES]);
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(mut blob in vec(any::<u8>(), 0..200), format in prop_oneof![Just(FORMAT), any::<u8>()]) {
        if let Some(first) = blob.first_mut() {
            *first = format;
        }
        if let Ok(parsed) = Ciphertext::parse(&blob) {
            prop_assert_eq!(assemble(parsed.key_version, &parsed.iv, parsed.sealed), blob);
        }
    }

    #[test]
    fn a_cut_ciphertext_is_refused(key_version in key_version(), keep in 0..=HEADER_BYTES + TAG_BYTES) {
        let blob = assemble(key_version, &[0; 12], &[9; 100]);
        prop_assert_eq!(Ciphertext::parse(&blob[..keep]), Err(Malformed));
    }

    #[test]
    fn contexts_are_encoded_injectively(one in pairs(), other in pairs()) {
        let (first, second) =
            (EncryptionContext::new(one.clone()).unwrap(), EncryptionContext::new(other.clone()).unwrap());
        prop_assert_eq!(encoded(&first) == encoded(&second), one == other);
    }

    #[test]
    fn contexts_are_encoded_as_described(pairs in btree_map(".{0,20}", ".{0,20}", 0..8)) {
        let context = EncryptionContext::new(pairs.clone()).unwrap();
        let encoded = encoded(&context);
        prop_assert_eq!(encoded.len(), context.encoded_len());
        prop_assert_eq!(decoded(&encoded).unwrap(), pairs.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn the_order_of_pairs_does_not_matter(pairs in pairs().prop_map(|pairs| pairs.into_iter().collect::<Vec<_>>()).prop_shuffle()) {
        let backwards: BTreeMap<_, _> = pairs.iter().rev().cloned().collect();
        let forwards: BTreeMap<_, _> = pairs.into_iter().collect();
        let of = |pairs| encoded(&EncryptionContext::new(pairs).unwrap());
        prop_assert_eq!(of(forwards), of(backwards));
    }

    #[test]
    fn a_context_is_bounded(length in limits::CONTEXT_BYTES - 20..limits::CONTEXT_BYTES + 20) {
        let pairs = BTreeMap::from([("key".to_owned(), "v".repeat(length - 7))]);
        prop_assert_eq!(EncryptionContext::new(pairs).is_ok(), length <= limits::CONTEXT_BYTES);
    }

    #[test]
    fn key_ids_are_read_back(id: [u8; 16], version in 1..=u32::MAX) {
        let id = KeyId::from_bytes(id);
        let text = id.to_string();
        prop_assert_eq!(KeyId::parse(&text), Some(id));
        prop_assert_eq!(KeyId::parse(&text.to_uppercase()), Some(id));
        prop_assert_eq!(KeyId::parse(&text.replace('-', "")), None);
        let braced = format!("{{{text}}}");
        prop_assert_eq!(KeyId::parse(&braced), None);
        prop_assert_eq!(scope().parse_key_reference(&text), Ok(KeyReference::Id(id)));
        prop_assert_eq!(scope().parse_key_reference(&scope().key_arn(id)), Ok(KeyReference::Id(id)));
        let version = KeyVersionId { key: id, version };
        prop_assert_eq!(KeyVersionId::from_bytes(&version.to_bytes()), Some(version));
    }

    #[test]
    fn any_text_is_a_reference_or_refused(text in prop_oneof![".{0,60}", "arn:[a-z:/0-9-]{0,60}", "alias/.{0,20}"]) {
        match scope().parse_key_reference(&text) {
            Ok(KeyReference::Id(id)) => prop_assert!(text.to_lowercase().ends_with(&id.to_string())),
            Ok(KeyReference::Alias(name)) => {
                prop_assert!(text.ends_with(name.as_str()));
                let arn = scope().alias_arn(name.as_str());
                prop_assert_eq!(scope().parse_key_reference(&arn), Ok(KeyReference::Alias(name)));
            }
            Err(_) => {}
        }
        let _ = (KeyId::parse(&text), ClusterId::parse(&text), KeyVersionId::from_bytes(text.as_bytes()));
    }
}

#[test]
fn references_that_name_nothing_say_why() {
    let id = KeyId::from_bytes([7; 16]);
    let read = |text: &str| scope().parse_key_reference(text).unwrap_err();
    let arn = scope().key_arn(id);
    assert_eq!(read("fake-key-id").to_string(), "Invalid keyId 'fake-key-id'");
    assert_eq!(read(&arn.replace("eu-central-1", "us-east-1")).to_string(), "Invalid arn us-east-1");
    let elsewhere = arn.replace("arn:aws:", "arn:aws-cn:");
    assert_eq!(read(&elsewhere), KeyReferenceError::Elsewhere("eu-central-1".to_owned()));
    assert_eq!(read(&arn.replace("111122223333", "999999999999")), KeyReferenceError::OtherAccount);
    // What can be no alias is one that nobody has.
    let alias = "Alias arn:aws:kms:eu-central-1:111122223333:alias/x:y is not found.";
    assert_eq!(read("alias/x:y").to_string(), alias);
    assert_eq!(read("arn:aws:kms:eu-central-1:111122223333:alias/x:y").to_string(), alias);
    for malformed in ["arn:", "arn:aws:s3:::bucket", "arn:aws:kms:eu-central-1:111122223333:grant/x"] {
        assert!(matches!(read(malformed), KeyReferenceError::MalformedArn(_)), "{malformed}");
    }
    assert!(matches!(read("arn:aws:kms:eu-central-1:111122223333:key/x"), KeyReferenceError::NotAKeyId(_)));
    let other = format!("mrk-{}", "0a".repeat(16));
    let arn = arn.replace(&id.to_string(), &other);
    for form in [&other, &arn] {
        assert_eq!(read(form).to_string(), format!("Key '{arn}' does not exist"));
    }
    assert!(matches!(read(&other[..35]), KeyReferenceError::NotAKeyId(_)));
}

#[test]
fn an_account_as_a_whole_is_its_root() {
    let root = "arn:aws:iam::111122223333:root";
    assert_eq!(scope().account_of_root(root), Some("111122223333"));
    assert_eq!(scope().root_arn("111122223333"), root);
    for other in [
        "arn:aws-cn:iam::111122223333:root",
        "arn:aws:iam::11112222333:root",
        "arn:aws:iam::111122223333:user/root",
        "arn:aws:iam::111122223333:root/a",
        "111122223333",
    ] {
        assert_eq!(scope().account_of_root(other), None, "{other}");
    }
    let account = PrincipalId::of_account("111122223333").unwrap();
    assert_eq!(account.account(), Some("111122223333"));
    assert!(PrincipalId::of_account("11112222333x").is_none() && PrincipalId::random().account().is_none());
}

#[test]
fn ids_have_aws_s_patterns() {
    let longest = format!("alias/{}", "x".repeat(250));
    for good in ["alias/x", "alias/a/b_c-9", &longest] {
        assert!(AliasName::parse(good).is_some(), "{good}");
    }
    for bad in ["x", "alias/", "Alias/x", "alias/x:y", "alias/x y", "alias/\u{fc}", &format!("{longest}x")] {
        assert!(AliasName::parse(bad).is_none(), "{bad}");
    }
    let reserved = |name: &str| AliasName::parse(name).unwrap().is_reserved();
    assert_eq!(["alias/aws/s3", "alias/awsome", "alias/aws"].map(reserved), [true, false, false]);
    for good in ["cluster-abcdefghijk", "cluster-2345672345672345"] {
        assert!(ClusterId::parse(good).is_some(), "{good}");
    }
    for bad in ["cluster-", "cluster-abcdefghij", "cluster-abcdefghijklmnopq", "cluster-abcdefghij1", "abcdefghijk"] {
        assert!(ClusterId::parse(bad).is_none(), "{bad}");
    }
    let store = KeyStoreId::random();
    let digits = store.as_str().strip_prefix("cks-").unwrap();
    assert!(digits.len() == 17 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()), "{store}");
}
