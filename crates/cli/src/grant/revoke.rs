//! `keystorectl grant revoke`

use clap::Args;

use super::Ended;
use crate::Context;
use crate::failure::Failure;
use crate::names::Named;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    key: Named,
    /// Id of the grant
    grant_id: String,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let key_id = arguments.key.id(&client).await?;
    client.revoke_grant(&key_id, &arguments.grant_id).await?;
    let text = format!("Revoked the grant {}", arguments.grant_id);
    context.printer.report(&Ended { text, grant_id: Some(arguments.grant_id) })
}
