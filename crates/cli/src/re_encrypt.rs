//! `keystorectl re-encrypt`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::Context;
use super::decrypt::INPUT_BYTES;
use super::failure::Failure;
use super::parse;
use super::payload::{self, EncryptionContext, Output};
use super::printer::Report;
use proto::v1::ReEncryptRequest;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Key to encrypt with: key id, key ARN, alias or alias ARN
    key: String,
    /// File with the ciphertext, as `encrypt` gave it: base64 or raw; - is standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    ciphertext_file: PathBuf,
    /// Refuse a ciphertext of any other key than this one
    #[arg(long, value_name = "KEY")]
    source_key: Option<String>,
    #[command(flatten)]
    context: EncryptionContext,
    /// A pair of the new ciphertext's context, which is that of the old one unless such pairs are given
    #[arg(long = "new-context", value_name = "NAME=VALUE", value_parser = parse::pair)]
    new_context: Vec<(String, String)>,
    /// Give the new ciphertext no context
    #[arg(long, conflicts_with = "new_context")]
    drop_context: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct ReEncrypted {
    key_id: String,
    source_key_id: String,
    ciphertext_blob: String,
    source_key_material_id: String,
    destination_key_material_id: String,
}

impl Report for ReEncrypted {
    fn text(&self) -> String {
        self.ciphertext_blob.clone()
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    arguments.output.check(&context.printer)?;
    let source_encryption_context = arguments.context.into_map()?;
    let destination_encryption_context = match payload::map_of("--new-context", arguments.new_context)? {
        none if none.is_empty() && !arguments.drop_context => source_encryption_context.clone(),
        new => new,
    };
    let input = payload::read(context, &arguments.ciphertext_file, INPUT_BYTES, "ciphertext", "").await?;
    let ciphertext_blob = payload::ciphertext(input.expose())?.into();
    let client = context.connection.connect().await?;
    let request = ReEncryptRequest {
        ciphertext_blob,
        source_encryption_context,
        source_key_id: arguments.source_key.unwrap_or_default(),
        destination_key_id: arguments.key,
        destination_encryption_context,
        ..Default::default()
    };
    let made = client.re_encrypt(request).await?;
    if context.printer.json() {
        return context.printer.report(&ReEncrypted {
            key_id: made.key_id,
            source_key_id: made.source_key_id,
            ciphertext_blob: payload::base64(&made.ciphertext_blob).to_string(),
            source_key_material_id: made.source_key_material_id,
            destination_key_material_id: made.destination_key_material_id,
        });
    }
    arguments.output.write(&context.printer, &made.ciphertext_blob)
}
