//! `keystorectl alias update`

use clap::Args;

use super::Given;
use crate::Context;
use crate::failure::Failure;
use crate::names::{Named, alias_name};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The alias, with alias/ before it or not
    #[arg(value_parser = alias_name)]
    alias: String,
    #[command(flatten)]
    key: Named,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let given = Given { target_key_id: arguments.key.id(&client).await?, alias_name: arguments.alias };
    client.update_alias(&given.alias_name, &given.target_key_id).await?;
    context.printer.report(&given)
}
