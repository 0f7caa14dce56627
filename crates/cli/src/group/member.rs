//! `keystorectl group add-member` and `remove-member`

use clap::Args;

use super::{Done, Named};
use crate::Context;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    named: Named,
    /// ARN of a principal
    principal: String,
}

pub(super) async fn add(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { named: Named { group }, principal } = arguments;
    context.connection.connect().await?.add_group_member(&group, &principal).await?;
    context.printer.report(&Done { text: format!("{principal} is in {group}"), group })
}

pub(super) async fn remove(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { named: Named { group }, principal } = arguments;
    context.connection.connect().await?.remove_group_member(&group, &principal).await?;
    context.printer.report(&Done { text: format!("{principal} is no longer in {group}"), group })
}
