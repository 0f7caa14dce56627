//! `keystorectl principal create`

use clap::Args;

use super::{Named, Principal};
use crate::Context;
use crate::failure::Failure;
use crate::parse;
use crate::payload::map_of;
use proto::v1::CreatePrincipalRequest;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    named: Named,
    /// Name of a certificate by which it is known: cn:NAME, dns:NAME or spiffe://…; may be given several times
    #[arg(long = "identity", value_name = "NAME", value_parser = parse::identity)]
    identities: Vec<String>,
    /// Who or what it is
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = parse::description)]
    description: String,
    /// Tag of the principal; may be given several times
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = parse::pair)]
    tags: Vec<(String, String)>,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { named, identities, description, tags } = arguments;
    let tags = map_of("--tag", tags)?.into_iter().collect();
    let client = context.connection.connect().await?;
    let request = CreatePrincipalRequest { arn: named.arn, description, identities, tags };
    context.printer.report(&Principal::from(client.create_principal(request).await?))
}
