//! `keystorectl key enable`

use clap::Args;

use super::Switched;
use crate::Context;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Key id or key ARN
    key: String,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    client.enable_key(&arguments.key).await?;
    context.printer.report(&Switched { key_id: arguments.key, enabled: true })
}
