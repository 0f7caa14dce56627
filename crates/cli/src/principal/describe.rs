//! `keystorectl principal describe`

use clap::Args;

use super::{Named, Principal};
use crate::Context;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    named: Named,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    context.printer.report(&Principal::from(client.describe_principal(&arguments.named.arn).await?))
}
