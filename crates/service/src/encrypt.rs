//! Encrypt: up to 4,096 bytes under a key's current version.

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::hsm_cluster::HsmCluster;
use super::keyring::{Entry, Target, Usable};
use super::pipeline::{DataOperation, KeyAccess};
use super::{Call, EncryptInput, Encrypted, Error, Service, validate};
use cluster::{EncryptTask, Failed};
use model::call_options::CallOptions;
use model::ciphertext::{assemble, authenticated_data};
use model::context::EncryptionContext;
use model::limits;
use model::operation::Operation;
use protocol::Sealed;

impl Service {
    /// Encrypts items. The outer error is the whole call's (too many items, not admitted); the inner ones are an
    /// item's.
    pub async fn encrypt(&self, call: &Call, items: Vec<EncryptInput>) -> Result<Vec<Result<Encrypted, Error>>, Error> {
        self.on_items(call, Encrypt, items).await
    }
}

#[derive(Clone, Copy)]
struct Encrypt;

impl DataOperation for Encrypt {
    type Input = EncryptInput;
    type Task = EncryptTask;
    type Raw = Sealed;
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

    fn prepare(&self, access: &KeyAccess<'_>, item: EncryptInput) -> Result<(Target, EncryptTask), Error> {
        validate::length("plaintext", item.plaintext.len(), 1, limits::PLAINTEXT_BYTES)?;
        let context = validate::context(item.context)?;
        let (target, version) = access.current(&item.key_id)?;
        let (key, aad) = (version.reference.clone(), aad_of(version, &context));
        Ok((target, EncryptTask { key, aad, plaintext: item.plaintext }))
    }

    fn act<'a>(
        &self,
        hsm_cluster: &'a dyn HsmCluster,
        tasks: Vec<EncryptTask>,
        options: CallOptions,
    ) -> BoxFuture<'a, Vec<Result<Sealed, Failed>>> {
        hsm_cluster.encrypt(tasks, options)
    }

    fn finish(&self, entry: &Entry, version: &Usable, raw: Sealed) -> Encrypted {
        let ciphertext = assemble(version.reference.version, &raw.iv, &raw.sealed);
        Encrypted { key_arn: entry.arn.clone(), ciphertext }
    }
}

/// What is authenticated beside the plaintext.
pub(super) fn aad_of(version: &Usable, context: &EncryptionContext) -> Bytes {
    authenticated_data(version.reference.version, context).into()
}
