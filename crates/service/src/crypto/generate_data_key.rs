//! GenerateDataKey and GenerateDataKeyWithoutPlaintext: a random data key, in clear and encrypted.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::access::Said;
use crate::core::key_access::KeyAccess;
use crate::core::keyring::Target;
use crate::core::pipeline::{DataOperation, Prepared, Used};
use crate::core::validate;
use crate::crypto::encrypt::aad_of;
use crate::{Error, Extras, RequestContext, Service};
use audit::event::{Length, Says, Shape};
use cluster::item::{self, Keyed};
use model::ciphertext::assemble;
use model::key::DataKeySpec;
use model::operation::Operation;
use model::secret::Secret;
use protocol::{DataKey, DataKeyItem};

/// One item of GenerateDataKey and GenerateDataKeyWithoutPlaintext.
#[derive(Debug, Default)]
pub struct DataKeyInput {
    /// Key id, key ARN or alias.
    pub key_id: String,
    /// Exactly one of this ...
    pub key_spec: Option<RequestedSpec>,
    /// ... and this, 1 to 1,024.
    pub number_of_bytes: Option<u32>,
    /// Pairs of the encryption context.
    pub context: BTreeMap<String, String>,
    /// What may come with it.
    pub extras: Extras,
}

/// A key spec as a caller names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestedSpec {
    /// One that there is.
    Known(DataKeySpec),
    /// One that there is not.
    Unknown,
}

/// What GenerateDataKey gives.
#[derive(Clone, Debug)]
pub struct GeneratedDataKey {
    /// The key's ARN.
    pub key_arn: Arc<str>,
    /// The data key.
    pub plaintext: Secret,
    /// The data key, encrypted; format 1.
    pub ciphertext: Vec<u8>,
    /// Names the key's material that encrypted it.
    pub material_id: Arc<str>,
}

impl Service {
    /// Makes data keys, likewise. `without_plaintext` is its own operation with its own permission; the plaintext is
    /// then wiped before the result is given out, and empty.
    pub async fn generate_data_keys(
        &self,
        call: &RequestContext,
        items: Vec<DataKeyInput>,
        without_plaintext: bool,
    ) -> Result<Vec<Result<GeneratedDataKey, Error>>, Error> {
        self.core.on_items(call, GenerateDataKey { without_plaintext }, items).await
    }
}

#[derive(Clone, Copy)]
struct GenerateDataKey {
    without_plaintext: bool,
}

impl DataOperation for GenerateDataKey {
    type Input = DataKeyInput;
    type Work = item::GenerateDataKey;
    type Output = GeneratedDataKey;

    fn operation(&self) -> Operation {
        match self.without_plaintext {
            true => Operation::GenerateDataKeyWithoutPlaintext,
            false => Operation::GenerateDataKey,
        }
    }

    fn payload_field(&self) -> &'static str {
        "numberOfBytes"
    }

    fn payload_bytes(&self, item: &DataKeyInput) -> usize {
        // An item that names no legal length has its own error later.
        length(item).map_or(0, usize::from)
    }

    fn shape(&self) -> Shape {
        Shape::DataKey
    }

    fn says<'i>(&self, item: &'i DataKeyInput) -> Says<'i> {
        let DataKeyInput { key_id: key, context, extras, .. } = item;
        let length = match (item.key_spec, item.number_of_bytes) {
            (Some(RequestedSpec::Known(spec)), _) => Length::Spec(spec.name()),
            (_, Some(bytes)) => Length::Bytes(bytes),
            _ => Length::Unsaid,
        };
        Says { key, context, source: None, length, dry_run: extras.dry_run }
    }

    fn extras<'i>(&self, item: &'i mut DataKeyInput) -> &'i mut Extras {
        &mut item.extras
    }

    fn encrypts(&self) -> bool {
        true
    }

    fn prepare<'k>(&self, access: &KeyAccess<'_, 'k>, item: DataKeyInput) -> Result<Prepared<'k, DataKeyItem>, Error> {
        let length = length(&item)?;
        let said = Said::new(validate::context(item.context)?, &item.key_id);
        let target = access.current(&item.key_id, &said)?;
        let version = target.version;
        let (key, aad, dry_run) = (version.reference.clone(), aad_of(version, &said.context), item.extras.dry_run);
        let item = DataKeyItem { key: key.version, aad, length };
        Ok(Prepared { target, said, source: None, dry_run, keyed: Keyed { key, source: None, item } })
    }

    fn finish(&self, Used { target: Target { entry, version }, .. }: Used<'_>, raw: DataKey) -> GeneratedDataKey {
        let ciphertext = assemble(version.reference.version, &raw.sealed.iv, &raw.sealed.sealed);
        // Dropping the secret wipes it.
        let plaintext = if self.without_plaintext { Secret::default() } else { raw.plaintext };
        let material_id = Arc::clone(&version.material_id);
        GeneratedDataKey { key_arn: entry.arn.clone(), plaintext, ciphertext, material_id }
    }
}

/// The length of a data key, as it was asked for.
fn length(item: &DataKeyInput) -> Result<u16, Error> {
    let spec = match item.key_spec {
        None => None,
        Some(RequestedSpec::Known(spec)) => Some(spec),
        Some(RequestedSpec::Unknown) => {
            return Err(Error::validation(
                "1 validation error detected: Value at 'keySpec' failed to satisfy constraint: Member must satisfy enum \
                 value set: [AES_256, AES_128]",
            ));
        }
    };
    validate::data_key_length(spec, item.number_of_bytes)
}
