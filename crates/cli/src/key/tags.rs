//! `keystorectl key tag`, `key untag` and `key tags`

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use crate::Context;
use crate::failure::Failure;
use crate::names::{Named, tags_of};
use crate::parse;
use crate::printer::{Report, table};
use client::Client;
use proto::v1::Tag;

#[derive(Debug, Args)]
pub(crate) struct Set {
    #[command(flatten)]
    key: Named,
    /// Tags, which take the place of those of the same names; a value may be empty
    #[arg(value_name = "NAME=VALUE", value_parser = parse::pair, required = true)]
    tags: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    #[command(flatten)]
    key: Named,
    /// Names of tags; those that the key does not have are passed over
    #[arg(value_name = "NAME", required = true)]
    tags: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    key: Named,
}

/// What a key has then.
#[derive(Serialize)]
struct Tags {
    key_id: String,
    tags: BTreeMap<String, String>,
}

impl Report for Tags {
    fn text(&self) -> String {
        if self.tags.is_empty() {
            return format!("{} has no tags; `keystorectl key tag` gives it some.", self.key_id);
        }
        table(&["tag", "value"], self.tags.iter().map(|(name, value)| vec![name.clone(), value.clone()]))
    }
}

pub(super) async fn set(context: &Context, arguments: Set) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let key_id = arguments.key.id(&client).await?;
    let tags = arguments.tags.into_iter().map(|(tag_key, tag_value)| Tag { tag_key, tag_value }).collect();
    client.tag_resource(&key_id, tags).await?;
    report(context, &client, key_id).await
}

pub(super) async fn remove(context: &Context, arguments: Remove) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let key_id = arguments.key.id(&client).await?;
    client.untag_resource(&key_id, arguments.tags).await?;
    report(context, &client, key_id).await
}

pub(super) async fn show(context: &Context, arguments: Show) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let key_id = arguments.key.id(&client).await?;
    report(context, &client, key_id).await
}

async fn report(context: &Context, client: &Client, key_id: String) -> Result<(), Failure> {
    let tags = tags_of(client, &key_id).await?;
    match tags {
        Some(tags) => context.printer.report(&Tags { key_id, tags }),
        None => Err(Failure::new(crate::failure::Exit::Refused, format!("the tags of {key_id} are not yours to see"))),
    }
}
