//! `keystorectl key disable`

use clap::Args;

use super::Switched;
use crate::cli::Context;
use crate::cli::failure::Failure;

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Key id or key ARN
    key: String,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    client.disable_key(&arguments.key).await?;
    context.printer.report(&Switched { key_id: arguments.key, enabled: false })
}
