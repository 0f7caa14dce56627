//! `keystorectl alias list`

use clap::Args;
use serde::Serialize;

use crate::Context;
use crate::failure::Failure;
use crate::names::key_id;
use crate::printer::{Report, table};
use model::limits;
use proto::v1::{AliasListEntry, ListAliasesRequest};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Aliases of this key alone: key id, key ARN, alias or alias ARN
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

#[derive(Serialize)]
struct Aliases {
    aliases: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    alias_name: String,
    alias_arn: String,
    target_key_id: String,
    creation_date: Option<String>,
    last_updated_date: Option<String>,
}

impl From<AliasListEntry> for Entry {
    fn from(entry: AliasListEntry) -> Self {
        Self {
            alias_name: entry.alias_name,
            alias_arn: entry.alias_arn,
            target_key_id: entry.target_key_id,
            creation_date: entry.creation_date.map(|date| date.to_string()),
            last_updated_date: entry.last_updated_date.map(|date| date.to_string()),
        }
    }
}

impl Report for Aliases {
    fn text(&self) -> String {
        if self.aliases.is_empty() {
            return "There are no aliases; `keystorectl alias create` makes one.".to_owned();
        }
        let row = |entry: &Entry| {
            let updated = entry.last_updated_date.clone().unwrap_or_default();
            vec![entry.alias_name.clone(), entry.target_key_id.clone(), updated]
        };
        table(&["alias", "key id", "since"], self.aliases.iter().map(row))
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let key_id = match arguments.key {
        Some(key) => key_id(&client, &key).await?,
        None => String::new(),
    };
    let (mut aliases, mut marker, mut more) = (Vec::new(), String::new(), true);
    while more {
        let limit = Some(limits::LIST_ALIASES_LIMIT);
        let page = client.list_aliases(ListAliasesRequest { key_id: key_id.clone(), limit, marker }).await?;
        aliases.extend(page.aliases.into_iter().map(Entry::from));
        (more, marker) = (page.truncated, page.next_marker);
    }
    context.printer.report(&Aliases { aliases })
}
