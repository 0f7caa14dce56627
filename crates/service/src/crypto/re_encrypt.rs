//! ReEncrypt: opens a ciphertext and encrypts what it holds under another key, another context, or a key's current
//! version.
//!
//! Where both keys are in one cluster, one HSM does both, and the plaintext does not come to this process. Between two
//! clusters it does, as a [`Secret`](model::secret::Secret), which is wiped.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::access::Said;
use crate::core::hsm_cluster::HsmCluster;
use crate::core::key_access::KeyAccess;
use crate::core::keyring::Target;
use crate::core::pipeline::{Clusters, DataOperation, Prepared, Used, answers_of};
use crate::core::validate;
use crate::crypto::decrypt::{Opening, opening};
use crate::crypto::encrypt::aad_of;
use crate::{Error, Extras, RequestContext, Service};
use cluster::Failed;
use cluster::item::{self, Done, Keyed, Served};
use model::call_options::CallOptions;
use model::ciphertext::{Ciphertext, OVERHEAD_BYTES, assemble};
use model::operation::Operation;
use protocol::{EncryptItem, ReEncryptItem, Sealed};

/// One item of ReEncrypt.
#[derive(Debug, Default)]
pub struct ReEncryptInput {
    /// 1 to 6,144 bytes.
    pub ciphertext: bytes::Bytes,
    /// Key id, key ARN or alias of the key of the ciphertext; empty: the key that it names.
    pub source_key_id: String,
    /// Pairs of the encryption context that it was made with.
    pub source_context: BTreeMap<String, String>,
    /// Key id, key ARN or alias of the key to encrypt with.
    pub destination_key_id: String,
    /// Pairs of the encryption context to encrypt with.
    pub destination_context: BTreeMap<String, String>,
    /// What may come with it.
    pub extras: Extras,
}

/// What ReEncrypt gives.
#[derive(Clone, Debug)]
pub struct ReEncrypted {
    /// The new ciphertext, format 1.
    pub ciphertext: Vec<u8>,
    /// ARN of the key that opened the old one.
    pub source_key_arn: Arc<str>,
    /// ARN of the key of the new one.
    pub key_arn: Arc<str>,
    /// Names the material that opened the old one.
    pub source_material_id: Arc<str>,
    /// Names the material of the new one.
    pub material_id: Arc<str>,
}

impl Service {
    /// Encrypts anew, likewise.
    pub async fn re_encrypt(
        &self,
        call: &RequestContext,
        items: Vec<ReEncryptInput>,
    ) -> Result<Vec<Result<ReEncrypted, Error>>, Error> {
        self.core.on_items(call, ReEncrypt, items).await
    }
}

#[derive(Clone, Copy)]
struct ReEncrypt;

impl DataOperation for ReEncrypt {
    type Input = ReEncryptInput;
    type Work = item::ReEncrypt;
    type Output = ReEncrypted;

    fn operation(&self) -> Operation {
        Operation::ReEncrypt
    }

    fn payload_field(&self) -> &'static str {
        "ciphertextBlob"
    }

    fn payload_bytes(&self, item: &ReEncryptInput) -> usize {
        item.ciphertext.len().saturating_sub(OVERHEAD_BYTES)
    }

    fn extras<'i>(&self, item: &'i mut ReEncryptInput) -> &'i mut Extras {
        &mut item.extras
    }

    fn encrypts(&self) -> bool {
        true
    }

    fn prepare<'k>(
        &self,
        access: &KeyAccess<'_, 'k>,
        item: ReEncryptInput,
    ) -> Result<Prepared<'k, ReEncryptItem>, Error> {
        let access = access.on_same_key(is_same_key(access, &item));
        let to = Said::new(validate::context(item.destination_context)?, &item.destination_key_id);
        let from = Said::new(validate::context(item.source_context)?, &item.source_key_id);
        let source = opening(&access.of_source(), &item.source_key_id, item.ciphertext, from, &item.extras);
        // Looked at whatever the source came to, so that both are on record; the source's refusal is told first.
        let destination = access.current(&item.destination_key_id, &to);
        let (source, destination) = match (source, destination) {
            (Ok(source), Ok(destination)) => (source, destination),
            (Ok(source), Err(error)) => {
                access.note(source.target);
                return Err(error);
            }
            (Err(error), Ok(target)) => {
                access.note(target);
                return Err(error);
            }
            (Err(error), Err(_)) => return Err(error),
        };
        Ok(prepared(source, destination, to, item.extras.dry_run))
    }

    async fn carry_out(
        &self,
        clusters: Clusters,
        items: Vec<Keyed<ReEncryptItem>>,
        options: CallOptions,
    ) -> Vec<Result<Done<Sealed>, Failed>> {
        match clusters.source {
            None => answers_of::<item::ReEncrypt>(&*clusters.hsm_cluster, items, options).await,
            Some(source) => between(&*source, &*clusters.hsm_cluster, items, options).await,
        }
    }

    fn finish(&self, Used { target, source }: Used<'_>, raw: Sealed) -> ReEncrypted {
        let (Target { entry, version }, source) = (target, source.unwrap_or(target));
        ReEncrypted {
            ciphertext: assemble(version.reference.version, &raw.iv, &raw.sealed),
            source_key_arn: Arc::clone(&source.entry.arn),
            key_arn: Arc::clone(&entry.arn),
            source_material_id: Arc::clone(&source.version.material_id),
            material_id: Arc::clone(&version.material_id),
        }
    }
}

/// Whether an item is opened and encrypted with one key, whatever becomes of it.
fn is_same_key(access: &KeyAccess<'_, '_>, item: &ReEncryptInput) -> bool {
    let source = match item.source_key_id.as_str() {
        "" => Ciphertext::parse(&item.ciphertext).ok().map(|ciphertext| ciphertext.key_version.key),
        named => access.reference(named).ok(),
    };
    source.is_some() && source == access.reference(&item.destination_key_id).ok()
}

fn prepared<'k>(source: Opening<'k>, target: Target<'k>, said: Said, dry_run: bool) -> Prepared<'k, ReEncryptItem> {
    let (key, aad) = (Arc::clone(&target.version.reference), aad_of(target.version, &said.context));
    let item = ReEncryptItem { source: source.item, key: key.version, aad };
    let keyed = Keyed { key, source: Some(Arc::clone(&source.target.version.reference)), item };
    Prepared { target, said, source: Some((source.target, source.said)), dry_run, keyed }
}

/// Opens items in one cluster and encrypts what they hold in another. What was not opened has reached nobody there.
async fn between(
    source: &dyn HsmCluster,
    destination: &dyn HsmCluster,
    items: Vec<Keyed<ReEncryptItem>>,
    options: CallOptions,
) -> Vec<Result<Done<Sealed>, Failed>> {
    let (mut to_open, mut to_seal) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
    for Keyed { key, source, item } in items {
        let ReEncryptItem { source: opens, key: _, aad } = item;
        to_open.push(Keyed { key: source.unwrap_or_else(|| Arc::clone(&key)), source: None, item: opens });
        to_seal.push((key, aad));
    }
    let opened = answers_of::<item::TakeOut>(source, to_open, options).await;
    let (mut places, mut sealed) = (Vec::with_capacity(to_seal.len()), Vec::with_capacity(to_seal.len()));
    let mut items = Vec::with_capacity(to_seal.len());
    for (place, ((key, aad), opened)) in to_seal.into_iter().zip(opened).enumerate() {
        sealed.push(match opened {
            Ok(Done { served, output: plaintext }) => {
                places.push((place, served));
                items.push(Keyed { item: EncryptItem { key: key.version, aad, plaintext }, key, source: None });
                Err(cluster::Error::DeadlineExceeded.into())
            }
            Err(Failed { error, .. }) => Err(Failed { error: of_source(error), sent: false }),
        });
    }
    for ((place, opened), answer) in
        places.into_iter().zip(answers_of::<item::BringIn>(destination, items, options).await)
    {
        sealed[place] = answer.map(|done| {
            let served = Served { opened_by: Some(opened.member), ..done.served };
            Done { served, ..done }
        });
    }
    sealed
}

/// What a cluster said of the source. Its key is not the one that the call's other errors are about.
fn of_source(error: cluster::Error) -> cluster::Error {
    match error {
        cluster::Error::KeyGone => {
            cluster::Error::NoZone("the key of the ciphertext was removed in every HSM that held it".to_owned())
        }
        other => other,
    }
}
