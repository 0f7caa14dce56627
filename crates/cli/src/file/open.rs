//! `keystorectl file open`

use std::path::PathBuf;

use clap::Args;

use super::{Done, Watch};
use crate::Context;
use crate::failure::Failure;
use client::seal::file::{self, Options};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Sealed file
    input: PathBuf,
    /// File to write, readable by you alone; it appears when all of it was verified
    output: PathBuf,
    /// Replace the output when it exists
    #[arg(long)]
    force: bool,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { input, output, force } = arguments;
    let watch = Watch::new(context, &input)?;
    let client = context.connection.connect().await?;
    let options = Options { overwrite: force, ..Options::default() };
    let summary = watch.over(file::open(&client, &input, &output, &options, watch.progress())).await?;
    context.printer.report(&Done::new("Opened into", &output, summary))
}
