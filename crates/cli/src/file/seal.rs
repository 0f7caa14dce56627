//! `keystorectl file seal`

use std::path::PathBuf;

use clap::Args;

use super::{Done, Watch};
use crate::Context;
use crate::failure::Failure;
use client::seal::file::{self, Options};
use client::seal::header::ChunkSize;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Key id, key ARN, alias or alias ARN
    key: String,
    /// File to seal
    input: PathBuf,
    /// Sealed file to write
    output: PathBuf,
    /// Replace the output when it exists
    #[arg(long)]
    force: bool,
    /// Size of the chunks in KiB: 64, 128, 256, 512 or 1024
    #[arg(long, value_name = "KIB", default_value = "256", value_parser = chunk_size)]
    chunk_kib: ChunkSize,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { key, input, output, force, chunk_kib } = arguments;
    let watch = Watch::new(context, &input)?;
    let client = context.connection.connect().await?;
    let options = Options { overwrite: force, chunk_size: chunk_kib };
    let summary = watch.over(file::seal(&client, &key, &input, &output, &options, watch.progress())).await?;
    context.printer.report(&Done::new("Sealed into", &output, summary))
}

fn chunk_size(text: &str) -> Result<ChunkSize, String> {
    let size = match text {
        "64" => ChunkSize::from_log2(16),
        "128" => ChunkSize::from_log2(17),
        "256" => ChunkSize::from_log2(18),
        "512" => ChunkSize::from_log2(19),
        "1024" => ChunkSize::from_log2(20),
        _ => None,
    };
    size.ok_or_else(|| "it must be 64, 128, 256, 512 or 1024".to_owned())
}
