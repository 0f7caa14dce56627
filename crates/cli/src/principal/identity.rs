//! `keystorectl principal add-identity` and `remove-identity`

use clap::Args;

use super::{Done, Named};
use crate::Context;
use crate::failure::Failure;
use crate::parse;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    named: Named,
    /// Name of a certificate: cn:NAME, dns:NAME or spiffe://…
    #[arg(value_parser = parse::identity)]
    identity: String,
}

pub(super) async fn add(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { named: Named { arn }, identity } = arguments;
    context.connection.connect().await?.add_principal_identity(&arn, &identity).await?;
    context.printer.report(&Done { text: format!("{arn} is known as {identity}"), arn })
}

pub(super) async fn remove(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { named: Named { arn }, identity } = arguments;
    context.connection.connect().await?.remove_principal_identity(&arn, &identity).await?;
    context.printer.report(&Done { text: format!("{arn} is no longer known as {identity}"), arn })
}
