//! `keystorectl grant retire`

use clap::Args;

use super::{Ended, token};
use crate::Context;
use crate::failure::Failure;
use crate::names::key_id;
use proto::v1::RetireGrantRequest;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Key ARN, alias or alias ARN of the grant's key
    #[arg(requires = "grant_id")]
    key: Option<String>,
    /// Id of the grant
    grant_id: Option<String>,
    #[command(flatten)]
    token: token::Source,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let (client, request) = match (arguments.key, arguments.grant_id) {
        (Some(key), Some(grant_id)) => {
            let client = context.connection.connect().await?;
            let key_id = key_id(&client, &key).await?;
            (client, RetireGrantRequest { key_id, grant_id, ..RetireGrantRequest::default() })
        }
        _ => {
            let grant_token = arguments.token.read(context).await?;
            let request = RetireGrantRequest { grant_token, ..RetireGrantRequest::default() };
            (context.connection.connect().await?, request)
        }
    };
    let grant_id = Some(request.grant_id.clone()).filter(|id| !id.is_empty());
    client.retire_grant(request).await?;
    let text = grant_id.as_ref().map_or_else(|| "Retired the grant".to_owned(), |id| format!("Retired the grant {id}"));
    context.printer.report(&Ended { text, grant_id })
}
