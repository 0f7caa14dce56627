//! Encrypt: up to 4,096 bytes under a key's current version.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::core::access::Said;
use crate::core::key_access::KeyAccess;
use crate::core::keyring::{Target, Usable};
use crate::core::pipeline::{DataOperation, Prepared, Used};
use crate::core::validate;
use crate::{Error, Extras, RequestContext, Service};
use audit::event::{Length, Says, Shape};
use cluster::item::{self, Keyed};
use model::ciphertext::{assemble, authenticated_data};
use model::context::EncryptionContext;
use model::limits;
use model::operation::Operation;
use model::secret::Secret;
use protocol::{EncryptItem, Sealed};

/// One item of Encrypt.
#[derive(Debug, Default)]
pub struct EncryptInput {
    /// Key id, key ARN or alias.
    pub key_id: String,
    /// 1 to 4,096 bytes.
    pub plaintext: Secret,
    /// Pairs of the encryption context.
    pub context: BTreeMap<String, String>,
    /// What may come with it.
    pub extras: Extras,
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

    fn shape(&self) -> Shape {
        Shape::Cipher
    }

    fn says<'i>(&self, item: &'i EncryptInput) -> Says<'i> {
        let EncryptInput { key_id: key, context, extras, .. } = item;
        Says { key, context, source: None, length: Length::Unsaid, dry_run: extras.dry_run }
    }

    fn extras<'i>(&self, item: &'i mut EncryptInput) -> &'i mut Extras {
        &mut item.extras
    }

    fn encrypts(&self) -> bool {
        true
    }

    fn prepare<'k>(&self, access: &KeyAccess<'_, 'k>, item: EncryptInput) -> Result<Prepared<'k, EncryptItem>, Error> {
        validate::length("plaintext", item.plaintext.len(), 1, limits::PLAINTEXT_BYTES)?;
        let said = Said::new(validate::context(item.context)?, &item.key_id);
        let target = access.current(&item.key_id, &said)?;
        let version = target.version;
        let (key, aad, dry_run) = (version.reference.clone(), aad_of(version, &said.context), item.extras.dry_run);
        let item = EncryptItem { key: key.version, aad, plaintext: item.plaintext };
        Ok(Prepared { target, said, source: None, dry_run, keyed: Keyed { key, source: None, item } })
    }

    fn finish(&self, Used { target: Target { entry, version }, .. }: Used<'_>, raw: Sealed) -> Encrypted {
        let ciphertext = assemble(version.reference.version, &raw.iv, &raw.sealed);
        Encrypted { key_arn: entry.arn.clone(), ciphertext }
    }
}

/// What is authenticated beside the plaintext.
pub(crate) fn aad_of(version: &Usable, context: &EncryptionContext) -> Bytes {
    authenticated_data(version.reference.version, context).into()
}
