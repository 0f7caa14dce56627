//! `keystorectl alias create`

use clap::Args;

use super::Given;
use crate::Context;
use crate::failure::Failure;
use crate::names::{Named, alias_name};
use proto::v1::CreateAliasRequest;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The alias: letters, digits, '/', '_' and '-', with alias/ before them or not
    #[arg(value_parser = alias_name)]
    alias: String,
    #[command(flatten)]
    key: Named,
    /// Any text of your choice: with the same token the same command succeeds again for a day
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    client_token: String,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let Arguments { alias: alias_name, key, client_token } = arguments;
    let target_key_id = key.id(&client).await?;
    let given = Given { alias_name, target_key_id };
    let request = CreateAliasRequest {
        alias_name: given.alias_name.clone(),
        target_key_id: given.target_key_id.clone(),
        client_token,
    };
    client.create_alias(request).await?;
    context.printer.report(&given)
}
