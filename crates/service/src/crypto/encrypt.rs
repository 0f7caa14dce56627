//! Encrypt: up to 4,096 bytes under a key's current version.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::core::keyring::{Entry, Usable};
use crate::core::pipeline::{DataOperation, KeyAccess, Prepared};
use crate::core::validate;
use crate::{Error, RequestContext, Service};
use cluster::item::{self, Keyed};
use model::ciphertext::{assemble, authenticated_data};
use model::context::EncryptionContext;
use model::limits;
use model::operation::Operation;
use model::secret::Secret;
use protocol::{EncryptItem, Sealed};

/// One item of Encrypt.
#[derive(Debug)]
pub struct EncryptInput {
    /// Key id or key ARN.
    pub key_id: String,
    /// 1 to 4,096 bytes.
    pub plaintext: Secret,
    /// Pairs of the encryption context.
    pub context: BTreeMap<String, String>,
}

/// What Encrypt gives.
#[derive(Clone, Debug)]
pub struct Encrypted {
    /// The key's ARN.
    pub key_arn: Arc<str>,
    /// The ciphertext, format 1.
    pub ciphertext: Vec<u8>,
}

impl Service {
    /// Encrypts items. The outer error is the whole call's (too many items, not admitted); the inner ones are an
    /// item's.
    pub async fn encrypt(
        &self,
        call: &RequestContext,
        items: Vec<EncryptInput>,
    ) -> Result<Vec<Result<Encrypted, Error>>, Error> {
        self.core.on_items(call, Encrypt, items).await
    }
}

#[derive(Clone, Copy)]
struct Encrypt;

impl DataOperation for Encrypt {
    type Input = EncryptInput;
    type Work = item::Encrypt;
    type Output = Encrypted;

    fn operation(&self) -> Operation {
        Operation::Encrypt
    }

    fn payload_field(&self) -> &'static str {
        "plaintext"
    }

    fn payload_bytes(&self, item: &EncryptInput) -> usize {
        item.plaintext.len()
    }

    fn encrypts(&self) -> bool {
        true
    }

    fn prepare(&self, access: &KeyAccess<'_>, item: EncryptInput) -> Result<Prepared<EncryptItem>, Error> {
        validate::length("plaintext", item.plaintext.len(), 1, limits::PLAINTEXT_BYTES)?;
        let context = validate::context(item.context)?;
        let (target, version) = access.current(&item.key_id, &context)?;
        let (key, aad) = (version.reference.clone(), aad_of(version, &context));
        let item = EncryptItem { key: key.version, aad, plaintext: item.plaintext };
        Ok(Prepared { target, context, keyed: Keyed { key, item } })
    }

    fn finish(&self, entry: &Entry, version: &Usable, raw: Sealed) -> Encrypted {
        let ciphertext = assemble(version.reference.version, &raw.iv, &raw.sealed);
        Encrypted { key_arn: entry.arn.clone(), ciphertext }
    }
}

/// What is authenticated beside the plaintext.
pub(crate) fn aad_of(version: &Usable, context: &EncryptionContext) -> Bytes {
    authenticated_data(version.reference.version, context).into()
}
