//! `keystorectl access-key enable`, `disable` and `delete`

use clap::Args;

use super::{Done, Of};
use crate::Context;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    of: Of,
    /// Id of the access key
    #[arg(value_name = "ID")]
    id: String,
}

pub(super) async fn disable(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { of: Of { arn }, id } = arguments;
    context.connection.connect().await?.disable_access_key(&arn, &id).await?;
    context.printer.report(&Done { text: format!("Disabled the access key {id}"), access_key_id: id })
}

pub(super) async fn enable(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { of: Of { arn }, id } = arguments;
    context.connection.connect().await?.enable_access_key(&arn, &id).await?;
    context.printer.report(&Done { text: format!("Enabled the access key {id}"), access_key_id: id })
}

pub(super) async fn delete(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { of: Of { arn }, id } = arguments;
    context.connection.connect().await?.delete_access_key(&arn, &id).await?;
    context.printer.report(&Done { text: format!("Deleted the access key {id}"), access_key_id: id })
}
