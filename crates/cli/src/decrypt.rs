//! `keystorectl decrypt`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use zeroize::Zeroizing;

use super::Context;
use super::failure::Failure;
use super::payload::{self, EncryptionContext, Output};
use super::printer::Report;
use model::limits;
use proto::v1::DecryptRequest;

/// Base64 with line breaks is longer than the ciphertext; twice is ample.
pub(super) const INPUT_BYTES: usize = 2 * limits::CIPHERTEXT_BYTES;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// File with the ciphertext, as `encrypt` gave it: base64 or raw; - is standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    ciphertext_file: PathBuf,
    /// Refuse a ciphertext of any other key than this key id, key ARN or alias names
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    context: EncryptionContext,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Decrypted {
    key_id: String,
    plaintext: Zeroizing<String>,
    key_material_id: String,
}

impl Report for Decrypted {
    fn text(&self) -> String {
        self.plaintext.to_string()
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    arguments.output.check(&context.printer)?;
    let encryption_context = arguments.context.into_map()?;
    let input = payload::read(context, &arguments.ciphertext_file, INPUT_BYTES, "ciphertext", "").await?;
    let ciphertext_blob = payload::ciphertext(input.expose())?.into();
    let client = context.connection.connect().await?;
    let key_id = arguments.key.unwrap_or_default();
    let opened =
        client.decrypt(DecryptRequest { ciphertext_blob, encryption_context, key_id, ..Default::default() }).await?;
    if context.printer.json() {
        let plaintext = payload::base64(opened.plaintext.expose());
        let (key_id, key_material_id) = (opened.key_id, opened.key_material_id);
        return context.printer.report(&Decrypted { key_id, plaintext, key_material_id });
    }
    arguments.output.write(&context.printer, opened.plaintext.expose())
}
