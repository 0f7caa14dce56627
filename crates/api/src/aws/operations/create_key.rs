//! CreateKey, which AWS's clients repeat by themselves when its answer was lost: one key comes of it all the same.

use std::fmt::Write as _;

use aws_lc_rs::digest::{Context, SHA256};
use zeroize::Zeroizing;

use super::asked::{flag, text};
use super::{Answer, CallExtras, key_metadata};
use crate::aws::error::Failure;
use crate::aws::model::{Input, Object};
use service::{CreateKeyInput, RequestContext, Service};

/// Makes a key, or finds the one that an earlier try of the same call made.
pub(super) async fn create(service: &Service, call: &RequestContext, asked: &mut Input, extras: &CallExtras) -> Answer {
    can_be_made(asked)?;
    let input = CreateKeyInput {
        key_store_id: text(asked, "CustomKeyStoreId"),
        description: text(asked, "Description"),
        client_token: extras
            .invocation_id
            .as_deref()
            .map(|id| client_token(id, &asked.canonical()))
            .unwrap_or_default(),
        tags: asked.pairs("Tags").unwrap_or_default(),
        policy: text(asked, "Policy"),
        bypass_lockout_check: flag(asked, "BypassPolicyLockoutSafetyCheck"),
    };
    key_metadata::shown(service.create_key(call, input).await?)
}

/// The client token of a call: the SDK names each call by an id that its tries have in common. The parameters are part of
/// the token, so that the same id with others is a call of its own and no conflict. The store forgets tokens after a day,
/// and keeps them by principal, whichever of its access keys a try is signed with.
fn client_token(invocation_id: &str, parameters: &Zeroizing<Vec<u8>>) -> String {
    let mut digest = Context::new(&SHA256);
    // Lengths keep the two apart whatever they hold.
    for part in [invocation_id.as_bytes(), parameters] {
        digest.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(part);
    }
    let mut token = "amz-sdk-invocation-id:".to_owned();
    for byte in digest.finish().as_ref() {
        // Writing to a text does not fail.
        let _ = write!(token, "{byte:02x}");
    }
    token
}

/// Whether there are keys of the kind that is asked for: symmetric ones for encryption, in this Region alone, whose
/// material was made in the HSMs of a key store.
fn can_be_made(asked: &Object) -> Result<(), Failure> {
    let (spec, old_spec) = (asked.text("KeySpec"), asked.text("CustomerMasterKeySpec"));
    if spec.is_some() && old_spec.is_some() {
        return Err(Failure::validation(
            "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is \
             deprecated.",
        ));
    }
    let spec = spec.or(old_spec).unwrap_or("SYMMETRIC_DEFAULT");
    match (spec, asked.text("KeyUsage")) {
        ("SYMMETRIC_DEFAULT", None | Some("ENCRYPT_DECRYPT")) => {}
        ("SYMMETRIC_DEFAULT", Some(usage)) => {
            let what = format!("KeyUsage {usage} is not compatible with KeySpec SYMMETRIC_DEFAULT");
            return Err(Failure::validation(what));
        }
        (_, None) => {
            return Err(Failure::validation(
                "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.",
            ));
        }
        (spec, Some(_)) => {
            return Err(Failure::unsupported(format!(
                "KeySpec {spec} is not supported: keys in a custom key store are symmetric encryption keys \
                 (SYMMETRIC_DEFAULT)."
            )));
        }
    }
    match asked.text("Origin") {
        None | Some("AWS_CLOUDHSM") => {}
        Some(origin) => {
            return Err(Failure::unsupported(format!(
                "Origin {origin} is not supported: the material of every key is made in the HSMs of a custom key store. \
                 Leave Origin out, or ask for AWS_CLOUDHSM."
            )));
        }
    }
    if asked.has("XksKeyId") {
        let what = "XksKeyId is not supported: the custom key stores here have HSMs, and no external key manager.";
        return Err(Failure::unsupported(what));
    }
    if flag(asked, "MultiRegion") {
        let what = "MultiRegion is not supported: keys in a custom key store belong to one Region.";
        return Err(Failure::unsupported(what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::operations::tests::input;
    use serde_json::{Value, json};

    #[test]
    fn a_token_is_of_one_call_with_its_parameters() {
        let of = |id: &str, parameters: Value| client_token(id, &input("CreateKey", &parameters).canonical());
        let token = of("0a", json!({ "Description": "a", "Tags": [{ "TagKey": "k", "TagValue": "v" }] }));
        assert_eq!(token, of("0a", json!({ "Tags": [{ "TagValue": "v", "TagKey": "k" }], "Description": "a" })));
        assert!(token.len() <= model::limits::CLIENT_TOKEN_CHARS, "{token}");
        for other in
            [of("0b", json!({ "Description": "a" })), of("0a", json!({})), of("0a", json!({ "Description": "b" }))]
        {
            assert_ne!(token, other);
        }
        assert_ne!(
            client_token("a", &Zeroizing::new(b"bc".to_vec())),
            client_token("ab", &Zeroizing::new(b"c".to_vec()))
        );
    }

    #[test]
    fn keys_that_there_are_none_of_are_refused() {
        let of = |parameters: Value| can_be_made(&input("CreateKey", &parameters)).map_err(|error| error.name);
        for good in [
            json!({}),
            json!({ "Origin": "AWS_CLOUDHSM" }),
            json!({ "Origin": "AWS_CLOUDHSM", "CustomKeyStoreId": "cks-0123456789abcdef0" }),
            json!({ "KeySpec": "SYMMETRIC_DEFAULT", "KeyUsage": "ENCRYPT_DECRYPT", "MultiRegion": false }),
            json!({ "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT" }),
        ] {
            assert_eq!(of(good.clone()), Ok(()), "{good}");
        }
        for unsupported in [
            json!({ "Origin": "AWS_KMS" }),
            json!({ "Origin": "EXTERNAL" }),
            json!({ "Origin": "EXTERNAL_KEY_STORE", "XksKeyId": "k" }),
            json!({ "XksKeyId": "k" }),
            json!({ "MultiRegion": true }),
            json!({ "KeySpec": "RSA_2048", "KeyUsage": "ENCRYPT_DECRYPT" }),
            json!({ "CustomerMasterKeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC" }),
        ] {
            assert_eq!(of(unsupported.clone()), Err("UnsupportedOperationException"), "{unsupported}");
        }
        for wrong in [
            json!({ "KeySpec": "RSA_2048" }),
            json!({ "KeyUsage": "SIGN_VERIFY" }),
            json!({ "KeySpec": "SYMMETRIC_DEFAULT", "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT" }),
        ] {
            assert_eq!(of(wrong.clone()), Err("ValidationException"), "{wrong}");
        }
    }
}
