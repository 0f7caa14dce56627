//! `keystorectl principal tag` and `untag`

use clap::Args;

use super::{Done, Named};
use crate::Context;
use crate::failure::Failure;
use crate::parse;
use crate::payload::map_of;
use proto::v1::{TagPrincipalRequest, UntagPrincipalRequest};

#[derive(Debug, Args)]
pub(crate) struct Set {
    #[command(flatten)]
    named: Named,
    /// Tags, which take the place of those of the same names; a value may be empty
    #[arg(value_name = "NAME=VALUE", value_parser = parse::pair, required = true)]
    tags: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    #[command(flatten)]
    named: Named,
    /// Names of tags; those that the principal does not have are passed over
    #[arg(value_name = "NAME", required = true)]
    tags: Vec<String>,
}

pub(super) async fn set(context: &Context, arguments: Set) -> Result<(), Failure> {
    let Set { named: Named { arn }, tags } = arguments;
    let tags = map_of("tag", tags)?.into_iter().collect();
    context.connection.connect().await?.tag_principal(TagPrincipalRequest { arn: arn.clone(), tags }).await?;
    context.printer.report(&Done { text: format!("Tagged {arn}"), arn })
}

pub(super) async fn remove(context: &Context, arguments: Remove) -> Result<(), Failure> {
    let Remove { named: Named { arn }, tags: tag_keys } = arguments;
    let client = context.connection.connect().await?;
    client.untag_principal(UntagPrincipalRequest { arn: arn.clone(), tag_keys }).await?;
    context.printer.report(&Done { text: format!("Untagged {arn}"), arn })
}
