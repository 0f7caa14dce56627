//! `keystorectl key enable`

use clap::Args;

use super::Switched;
use crate::Context;
use crate::failure::Failure;
use crate::names::Named;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    key: Named,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let key_id = arguments.key.id(&client).await?;
    client.enable_key(&key_id).await?;
    context.printer.report(&Switched { key_id, enabled: true })
}
