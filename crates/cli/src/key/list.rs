//! `keystorectl key list`

use clap::Args;
use serde::Serialize;

use crate::Context;
use crate::failure::Failure;
use crate::printer::{Report, table};
use model::limits;
use proto::v1::{KeyListEntry, ListKeysRequest};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// At most so many keys [default: all]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

#[derive(Serialize)]
struct Keys {
    keys: Vec<Entry>,
    /// There are more keys than these.
    truncated: bool,
}

#[derive(Serialize)]
struct Entry {
    key_id: String,
    key_arn: String,
}

impl From<KeyListEntry> for Entry {
    fn from(entry: KeyListEntry) -> Self {
        Self { key_id: entry.key_id, key_arn: entry.key_arn }
    }
}

impl Report for Keys {
    fn text(&self) -> String {
        if self.keys.is_empty() {
            return "There are no keys; `keystorectl key create` makes one.".to_owned();
        }
        table(&["key id", "key arn"], self.keys.iter().map(|key| vec![key.key_id.clone(), key.key_arn.clone()]))
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let most = arguments.limit.map_or(usize::MAX, |limit| limit as usize);
    let mut found = Keys { keys: Vec::new(), truncated: true };
    let mut marker = String::new();
    while found.truncated && found.keys.len() < most {
        let limit = u32::try_from(most - found.keys.len()).unwrap_or(u32::MAX).min(limits::LIST_LIMIT);
        let page = client.list_keys(ListKeysRequest { limit: Some(limit), marker, ..Default::default() }).await?;
        found.truncated = page.truncated && !page.keys.is_empty();
        found.keys.extend(page.keys.into_iter().map(Entry::from));
        marker = page.next_marker;
    }
    context.printer.report(&found)?;
    if found.truncated {
        context.printer.note("There are more keys than these.");
    }
    Ok(())
}
