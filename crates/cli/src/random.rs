//! `keystorectl random`

use clap::Args;
use serde::Serialize;
use zeroize::Zeroizing;

use super::Context;
use super::failure::Failure;
use super::payload::{self, Output};
use super::printer::Report;
use proto::v1::GenerateRandomRequest;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How many bytes, 1 to 1,024
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    bytes: u32,
    /// Key store whose HSMs make the bytes [default: any]
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    key_store: String,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Random {
    plaintext: Zeroizing<String>,
}

impl Report for Random {
    fn text(&self) -> String {
        self.plaintext.to_string()
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    arguments.output.check(&context.printer)?;
    let client = context.connection.connect().await?;
    let request = GenerateRandomRequest {
        number_of_bytes: Some(arguments.bytes),
        key_store_id: arguments.key_store,
        ..Default::default()
    };
    let bytes = client.generate_random(request).await?;
    if context.printer.json() {
        return context.printer.report(&Random { plaintext: payload::base64(bytes.expose()) });
    }
    arguments.output.write(&context.printer, bytes.expose())
}
