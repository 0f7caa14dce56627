//! `keystorectl data-key generate`

use clap::{Args, ValueEnum};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::Context;
use crate::failure::Failure;
use crate::payload::{self, EncryptionContext};
use crate::printer::{Report, facts};
use proto::v1::{DataKeySpec, GenerateDataKeyRequest, GenerateDataKeyWithoutPlaintextRequest};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Key id, key ARN, alias or alias ARN
    key: String,
    /// Kind of data key [default: aes-256]
    #[arg(long, value_name = "SPEC", conflicts_with = "bytes")]
    key_spec: Option<Spec>,
    /// Length of the data key instead of a kind, 1 to 1,024 bytes
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    bytes: Option<u32>,
    /// Only the encrypted form
    #[arg(long)]
    without_plaintext: bool,
    #[command(flatten)]
    context: EncryptionContext,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Spec {
    /// 32 bytes
    #[value(name = "aes-256")]
    Aes256,
    /// 16 bytes
    #[value(name = "aes-128")]
    Aes128,
}

#[derive(Serialize)]
struct DataKey {
    key_id: String,
    /// Base64; absent when only the encrypted form was wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<Zeroizing<String>>,
    /// Base64.
    ciphertext_blob: String,
    key_material_id: String,
}

impl Report for DataKey {
    fn text(&self) -> String {
        let plaintext = self.plaintext.as_ref().map(|text| text.to_string());
        facts([
            ("key_id", self.key_id.clone()),
            ("plaintext", plaintext.unwrap_or_default()),
            ("ciphertext_blob", self.ciphertext_blob.clone()),
        ])
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let encryption_context = arguments.context.into_map()?;
    let key_spec = match (arguments.key_spec, arguments.bytes) {
        (_, Some(_)) => DataKeySpec::Unspecified,
        (Some(Spec::Aes128), None) => DataKeySpec::Aes128,
        (Some(Spec::Aes256) | None, None) => DataKeySpec::Aes256,
    };
    let (key_id, key_spec, number_of_bytes) = (arguments.key, key_spec.into(), arguments.bytes);
    let client = context.connection.connect().await?;
    let data_key = if arguments.without_plaintext {
        let request = GenerateDataKeyWithoutPlaintextRequest {
            key_id,
            key_spec,
            number_of_bytes,
            encryption_context,
            ..Default::default()
        };
        let made = client.generate_data_key_without_plaintext(request).await?;
        let ciphertext_blob = payload::base64(&made.ciphertext_blob).to_string();
        DataKey { key_id: made.key_id, plaintext: None, ciphertext_blob, key_material_id: made.key_material_id }
    } else {
        let request =
            GenerateDataKeyRequest { key_id, key_spec, number_of_bytes, encryption_context, ..Default::default() };
        let made = client.generate_data_key(request).await?;
        let ciphertext_blob = payload::base64(&made.ciphertext_blob).to_string();
        let plaintext = Some(payload::base64(made.plaintext.expose()));
        DataKey { key_id: made.key_id, plaintext, ciphertext_blob, key_material_id: made.key_material_id }
    };
    context.printer.report(&data_key)
}
