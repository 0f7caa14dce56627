//! Decrypt: opens a ciphertext with the key version that its header names, never another.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::core::access::Said;
use crate::core::key_access::KeyAccess;
use crate::core::keyring::Target;
use crate::core::pipeline::{DataOperation, Prepared, Used};
use crate::core::validate;
use crate::crypto::encrypt::aad_of;
use crate::{Error, Extras, RequestContext, Service};
use audit::event::{Length, Says, Shape};
use cluster::item::{self, Keyed};
use model::ciphertext::{Ciphertext, HEADER_BYTES, IV_BYTES, OVERHEAD_BYTES};
use model::exception::Exception;
use model::limits;
use model::operation::Operation;
use model::secret::Secret;
use protocol::DecryptItem;

/// One item of Decrypt.
#[derive(Debug, Default)]
pub struct DecryptInput {
    /// Key id, key ARN or alias; empty: the key that the ciphertext names.
    pub key_id: String,
    /// 1 to 6,144 bytes.
    pub ciphertext: Bytes,
    /// Pairs of the encryption context.
    pub context: BTreeMap<String, String>,
    /// What may come with it.
    pub extras: Extras,
}

/// What Decrypt gives.
#[derive(Clone, Debug)]
pub struct Decrypted {
    /// The key's ARN.
    pub key_arn: Arc<str>,
    /// The plaintext.
    pub plaintext: Secret,
    /// Names the key's material that opened it.
    pub material_id: Arc<str>,
}

impl Service {
    /// Decrypts items, likewise.
    pub async fn decrypt(
        &self,
        call: &RequestContext,
        items: Vec<DecryptInput>,
    ) -> Result<Vec<Result<Decrypted, Error>>, Error> {
        self.core.on_items(call, Decrypt, items).await
    }
}

#[derive(Clone, Copy)]
struct Decrypt;

impl DataOperation for Decrypt {
    type Input = DecryptInput;
    type Work = item::Decrypt;
    type Output = Decrypted;

    fn operation(&self) -> Operation {
        Operation::Decrypt
    }

    fn payload_field(&self) -> &'static str {
        "ciphertextBlob"
    }

    fn payload_bytes(&self, item: &DecryptInput) -> usize {
        item.ciphertext.len().saturating_sub(OVERHEAD_BYTES)
    }

    fn shape(&self) -> Shape {
        Shape::Cipher
    }

    fn says<'i>(&self, item: &'i DecryptInput) -> Says<'i> {
        let DecryptInput { key_id: key, context, extras, .. } = item;
        Says { key, context, source: None, length: Length::Unsaid, dry_run: extras.dry_run }
    }

    fn extras<'i>(&self, item: &'i mut DecryptInput) -> &'i mut Extras {
        &mut item.extras
    }

    fn encrypts(&self) -> bool {
        false
    }

    fn prepare<'k>(&self, access: &KeyAccess<'_, 'k>, item: DecryptInput) -> Result<Prepared<'k, DecryptItem>, Error> {
        let said = Said::new(validate::context(item.context)?, &item.key_id);
        let Opening { target, said, item: opens } = opening(access, &item.key_id, item.ciphertext, said, &item.extras)?;
        let keyed = Keyed { key: Arc::clone(&target.version.reference), source: None, item: opens };
        Ok(Prepared { target, said, source: None, dry_run: item.extras.dry_run, keyed })
    }

    fn finish(&self, Used { target: Target { entry, version }, .. }: Used<'_>, raw: Secret) -> Decrypted {
        let material_id = Arc::clone(&version.material_id);
        Decrypted { key_arn: entry.arn.clone(), plaintext: raw, material_id }
    }
}

/// A ciphertext that may be opened.
pub(crate) struct Opening<'a> {
    pub(crate) target: Target<'a>,
    pub(crate) said: Said,
    pub(crate) item: DecryptItem,
}

/// Decides everything about a ciphertext that can be decided before an HSM. `key_id` empty: the key that it names.
pub(crate) fn opening<'a>(
    access: &KeyAccess<'_, 'a>,
    key_id: &str,
    ciphertext: Bytes,
    said: Said,
    extras: &Extras,
) -> Result<Opening<'a>, Error> {
    if extras.ignore_ciphertext {
        return of_any_ciphertext(access, key_id, said);
    }
    validate::length("ciphertextBlob", ciphertext.len(), 1, limits::CIPHERTEXT_BYTES)?;
    // Each key is decided on once: a batch has many of these.
    let named = match key_id {
        "" => None,
        text => {
            let id = access.named(text, &said)?;
            Some(access.find(id, &said)?.ok_or_else(|| access.unknown(id))?)
        }
    };
    let Ciphertext { key_version, iv, .. } = Ciphertext::parse(&ciphertext).map_err(|_| Error::invalid_ciphertext())?;
    if named.is_some_and(|entry| entry.key.id != key_version.key) {
        return Err(Error::permanent(
            Exception::IncorrectKey,
            "The key ID in the request does not identify a CMK that can perform this operation.",
        ));
    }
    let entry = match named {
        Some(entry) => Some(entry),
        None => access.find(key_version.key, &said)?,
    };
    let Some(entry) = entry else {
        // A key that this installation never had made the ciphertext elsewhere: one answer to all that is foreign. Who
        // may use one that was deleted is told that nothing opens it any more.
        let deleted = access.was_deleted(key_version.key);
        return Err(if deleted { access.unknown(key_version.key) } else { Error::invalid_ciphertext() });
    };
    let target = access.in_state(entry)?.numbered(key_version.version).ok_or_else(Error::invalid_ciphertext)?;
    let aad = aad_of(target.version, &said.context);
    let item = DecryptItem { key: target.version.reference.version, aad, iv, sealed: ciphertext.slice(HEADER_BYTES..) };
    Ok(Opening { target, said, item })
}

/// The same without a ciphertext, for a dry run: what the key's current version would open.
fn of_any_ciphertext<'a>(access: &KeyAccess<'_, 'a>, key_id: &str, said: Said) -> Result<Opening<'a>, Error> {
    if key_id.is_empty() {
        return Err(Error::validation("keyId: IGNORE_CIPHERTEXT needs the key that would open the ciphertext"));
    }
    let target = access.current(key_id, &said)?;
    let key = target.version.reference.version;
    let item = DecryptItem { key, aad: Bytes::new(), iv: [0; IV_BYTES], sealed: Bytes::new() };
    Ok(Opening { target, said, item })
}
