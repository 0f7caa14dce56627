//! `keystorectl encrypt`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::payload::{self, EncryptionContext, Output};
use super::printer::Report;
use model::limits;
use proto::v1::EncryptRequest;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Key id, key ARN, alias or alias ARN
    key: String,
    /// File with the plaintext, 1 to 4,096 bytes; - is standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    plaintext_file: PathBuf,
    #[command(flatten)]
    context: EncryptionContext,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Encrypted {
    key_id: String,
    ciphertext_blob: String,
}

impl Report for Encrypted {
    fn text(&self) -> String {
        self.ciphertext_blob.clone()
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    arguments.output.check(&context.printer)?;
    let encryption_context = arguments.context.into_map()?;
    let larger = "`keystorectl file seal` takes files of any size";
    let plaintext =
        payload::read(context, &arguments.plaintext_file, limits::PLAINTEXT_BYTES, "plaintext", larger).await?;
    let client = context.connection.connect().await?;
    let request = EncryptRequest {
        key_id: arguments.key,
        plaintext: plaintext.into_exposed(),
        encryption_context,
        ..Default::default()
    };
    let response = client.encrypt(request).await?;
    if context.printer.json() {
        let ciphertext_blob = payload::base64(&response.ciphertext_blob).to_string();
        return context.printer.report(&Encrypted { key_id: response.key_id, ciphertext_blob });
    }
    arguments.output.write(&context.printer, &response.ciphertext_blob)
}
