//! `keystorectl key create`

use std::path::PathBuf;

use clap::Args;

use super::metadata::Metadata;
use super::policy::Lockout;
use crate::Context;
use crate::failure::Failure;
use crate::parse;
use crate::policy::document;
use proto::v1::{CreateKeyRequest, Tag};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Key store that keeps the key; needed where there are several
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    key_store: String,
    /// What the key is for
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = parse::description)]
    description: String,
    /// Tag of the key; may be given several times
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = parse::pair)]
    tags: Vec<(String, String)>,
    /// Any text of your choice: the same token with the same parameters gives the same key for a day, so that the
    /// command can be repeated without making a second key
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    client_token: String,
    /// File with the key's policy, JSON of AWS's language, - is standard input; without it, identity policies say who may
    /// use and manage the key
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    lockout: Lockout,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let policy = match &arguments.policy {
        Some(file) => document::read(context, file).await?,
        None => String::new(),
    };
    let client = context.connection.connect().await?;
    let request = CreateKeyRequest {
        key_store_id: arguments.key_store,
        description: arguments.description,
        client_token: arguments.client_token,
        tags: arguments.tags.into_iter().map(|(tag_key, tag_value)| Tag { tag_key, tag_value }).collect(),
        policy,
        bypass_policy_lockout_safety_check: arguments.lockout.bypassed(),
    };
    let key = client.create_key(request).await?;
    context.printer.report(&Metadata::named(&client, key).await?)
}
