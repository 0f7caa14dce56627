//! `keystorectl approval show`

use clap::Args;

use super::view::Approval;
use crate::Context;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Approval id
    id: String,
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    context.printer.report(&Approval::from(client.describe_approval(&arguments.id).await?))
}
