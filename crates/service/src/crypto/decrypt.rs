//! Decrypt: opens a ciphertext with the key version that its header names, never another.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::keyring::{Entry, Usable};
use crate::core::pipeline::{DataOperation, KeyAccess, Prepared};
use crate::core::validate;
use crate::crypto::encrypt::aad_of;
use crate::{Error, RequestContext, Service};
use cluster::item::{self, Keyed};
use model::ciphertext::{Ciphertext, HEADER_BYTES, OVERHEAD_BYTES};
use model::exception::Exception;
use model::limits;
use model::operation::Operation;
use model::secret::Secret;
use protocol::DecryptItem;

/// One item of Decrypt.
#[derive(Debug)]
pub struct DecryptInput {
    /// Key id or key ARN; empty: the key that the ciphertext names.
    pub key_id: String,
    /// 1 to 6,144 bytes.
    pub ciphertext: bytes::Bytes,
    /// Pairs of the encryption context.
    pub context: BTreeMap<String, String>,
}

/// What Decrypt gives.
#[derive(Clone, Debug)]
pub struct Decrypted {
    /// The key's ARN.
    pub key_arn: Arc<str>,
    /// The plaintext.
    pub plaintext: Secret,
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

    fn encrypts(&self) -> bool {
        false
    }

    fn prepare(&self, access: &KeyAccess<'_>, item: DecryptInput) -> Result<Prepared<DecryptItem>, Error> {
        validate::length("ciphertextBlob", item.ciphertext.len(), 1, limits::CIPHERTEXT_BYTES)?;
        let context = validate::context(item.context)?;
        let named = match item.key_id.as_str() {
            "" => None,
            text => Some(access.reference(text)?),
        };
        if let Some(id) = named
            && !access.knows(id, Some(&context))?
        {
            return Err(access.unknown(id));
        }
        let Ciphertext { key_version, iv, .. } =
            Ciphertext::parse(&item.ciphertext).map_err(|_| Error::invalid_ciphertext())?;
        if named.is_some_and(|id| id != key_version.key) {
            return Err(Error::permanent(
                Exception::IncorrectKey,
                "The key ID in the request does not identify a CMK that can perform this operation.",
            ));
        }
        // A key that this installation never had made the ciphertext elsewhere: one answer to all that is foreign.
        if !access.knows(key_version.key, Some(&context))? {
            return Err(Error::invalid_ciphertext());
        }
        let (target, version) = access.numbered(key_version, &context)?.ok_or_else(Error::invalid_ciphertext)?;
        let (key, aad) = (version.reference.clone(), aad_of(version, &context));
        let item = DecryptItem { key: key.version, aad, iv, sealed: item.ciphertext.slice(HEADER_BYTES..) };
        Ok(Prepared { target, context, keyed: Keyed { key, item } })
    }

    fn finish(&self, entry: &Entry, _version: &Usable, raw: Secret) -> Decrypted {
        Decrypted { key_arn: entry.arn.clone(), plaintext: raw }
    }
}
