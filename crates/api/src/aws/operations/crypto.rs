//! Encrypt, Decrypt and ReEncrypt.

use bytes::Bytes;
use serde::Serialize;

use super::Answer;
use super::asked::{self, extras, map, text};
use super::output::{Base64, json};
use crate::aws::error::Failure;
use crate::aws::model::{Input, Object};
use model::exception::Exception;
use service::{
    DecryptInput, Decrypted, EncryptInput, Encrypted, Error, ReEncryptInput, ReEncrypted, RequestContext, Service,
};

/// The one algorithm of the keys that there are.
const ALGORITHM: &str = "SYMMETRIC_DEFAULT";

/// AWS's Encrypt: a batch of one item.
pub(super) async fn encrypt(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    algorithm(asked, "EncryptionAlgorithm")?;
    let item = EncryptInput {
        key_id: text(asked, "KeyId"),
        plaintext: asked::take(asked, "Plaintext").unwrap_or_default(),
        context: map(asked, "EncryptionContext"),
        extras: extras(asked),
    };
    encrypted(&only(service.encrypt(call, vec![item]).await)?)
}

/// AWS's Decrypt: a batch of one item.
pub(super) async fn decrypt(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    algorithm(asked, "EncryptionAlgorithm")?;
    let item = DecryptInput {
        key_id: text(asked, "KeyId"),
        ciphertext: ciphertext(asked)?,
        context: map(asked, "EncryptionContext"),
        extras: extras(asked),
    };
    decrypted(&only(service.decrypt(call, vec![item]).await)?)
}

/// Encrypts anew.
pub(super) async fn re_encrypt(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    algorithm(asked, "SourceEncryptionAlgorithm")?;
    algorithm(asked, "DestinationEncryptionAlgorithm")?;
    let item = ReEncryptInput {
        ciphertext: ciphertext(asked)?,
        source_key_id: text(asked, "SourceKeyId"),
        source_context: map(asked, "SourceEncryptionContext"),
        destination_key_id: text(asked, "DestinationKeyId"),
        destination_context: map(asked, "DestinationEncryptionContext"),
        extras: extras(asked),
    };
    re_encrypted(&only(service.re_encrypt(call, vec![item]).await)?)
}

/// The result of a call with one item.
pub(super) fn only<T>(results: Result<Vec<Result<T, Error>>, Error>) -> Result<T, Failure> {
    let result = results?.pop().ok_or_else(|| Failure::internal("the service gave no result for the item"))?;
    Ok(result?)
}

/// Refuses algorithms of other keys than there are. It is the same with every key, so that it says nothing of any.
fn algorithm(asked: &Object, member: &str) -> Result<(), Failure> {
    match asked.text(member) {
        None | Some(ALGORITHM) => Ok(()),
        Some(other) => {
            let what = format!("Algorithm {other} is incompatible with key spec SYMMETRIC_DEFAULT.");
            Err(Failure::new(Exception::InvalidKeyUsage, what))
        }
    }
}

/// The ciphertext, which may be absent from a dry run alone that says so.
fn ciphertext(asked: &mut Input) -> Result<Bytes, Failure> {
    let bytes = asked.take_blob("CiphertextBlob");
    match bytes {
        Some(mut bytes) => Ok(Bytes::from(std::mem::take(&mut *bytes))),
        None if asked::ignores_ciphertext(asked) => Ok(Bytes::new()),
        None => Err(Failure::validation(
            "1 validation error detected: Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not \
             be null",
        )),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct EncryptAnswer<'a> {
    ciphertext_blob: Base64,
    encryption_algorithm: &'static str,
    key_id: &'a str,
}

pub(super) fn encrypted(made: &Encrypted) -> Answer {
    json(&EncryptAnswer {
        ciphertext_blob: Base64::of(&made.ciphertext),
        encryption_algorithm: ALGORITHM,
        key_id: &made.key_arn,
    })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DecryptAnswer<'a> {
    encryption_algorithm: &'static str,
    key_id: &'a str,
    key_material_id: &'a str,
    plaintext: Base64,
}

pub(super) fn decrypted(opened: &Decrypted) -> Answer {
    json(&DecryptAnswer {
        encryption_algorithm: ALGORITHM,
        key_id: &opened.key_arn,
        key_material_id: &opened.material_id,
        plaintext: Base64::of(opened.plaintext.expose()),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ReEncryptAnswer<'a> {
    ciphertext_blob: Base64,
    destination_encryption_algorithm: &'static str,
    destination_key_material_id: &'a str,
    key_id: &'a str,
    source_encryption_algorithm: &'static str,
    source_key_id: &'a str,
    source_key_material_id: &'a str,
}

pub(super) fn re_encrypted(made: &ReEncrypted) -> Answer {
    json(&ReEncryptAnswer {
        ciphertext_blob: Base64::of(&made.ciphertext),
        destination_encryption_algorithm: ALGORITHM,
        destination_key_material_id: &made.material_id,
        key_id: &made.key_arn,
        source_encryption_algorithm: ALGORITHM,
        source_key_id: &made.source_key_arn,
        source_key_material_id: &made.source_material_id,
    })
}
