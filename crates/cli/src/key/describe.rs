//! `keystorectl key describe`

use clap::Args;

use super::metadata::Metadata;
use crate::Context;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Key id, key ARN, alias or alias ARN
    key: String,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let key = client.describe_key(&arguments.key).await?;
    context.printer.report(&Metadata::named(&client, key).await?)
}
