//! `keystorectl key list`

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::Context;
use crate::failure::Failure;
use crate::names::alias_pattern;
use crate::printer::{Report, table};
use crate::status::{age, key_state};
use model::limits;
use proto::v1::{KeyFilter, KeyListEntry, KeyState, ListKeysRequest, TagFilter};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Keys in this state; may be given several times
    #[arg(long = "state", value_name = "STATE", ignore_case = true)]
    states: Vec<State>,
    /// Keys with this tag, or with this value of it; given several times, keys with all of them
    #[arg(long = "tag", value_name = "NAME[=VALUE]", value_parser = tag)]
    tags: Vec<TagFilter>,
    /// Keys with an alias like this, with alias/ before it or not; * stands for any characters
    #[arg(long, value_name = "PATTERN", value_parser = alias_pattern)]
    alias: Option<String>,
    /// Keys of the key store with this id
    #[arg(long, value_name = "ID")]
    key_store: Option<String>,
    /// At most so many keys [default: all]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    #[value(name = "Creating")]
    Creating,
    #[value(name = "Enabled")]
    Enabled,
    #[value(name = "Disabled")]
    Disabled,
    #[value(name = "PendingDeletion")]
    PendingDeletion,
    #[value(name = "Unavailable")]
    Unavailable,
}

impl From<State> for KeyState {
    fn from(state: State) -> Self {
        match state {
            State::Creating => Self::Creating,
            State::Enabled => Self::Enabled,
            State::Disabled => Self::Disabled,
            State::PendingDeletion => Self::PendingDeletion,
            State::Unavailable => Self::Unavailable,
        }
    }
}

/// `NAME` or `NAME=VALUE`.
fn tag(text: &str) -> Result<TagFilter, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() {
        return Err("write it as NAME or NAME=VALUE".to_owned());
    }
    Ok(TagFilter { tag_key: name.to_owned(), tag_value: value })
}

#[derive(Serialize)]
struct Keys {
    keys: Vec<Entry>,
    /// There are more keys than these; with a filter perhaps none that it lets through.
    truncated: bool,
    /// Some of those that there are were looked for.
    #[serde(skip)]
    filtered: bool,
}

#[derive(Serialize)]
struct Entry {
    key_id: String,
    key_arn: String,
    /// Absent, as all of the following, where the caller may not know it.
    key_state: Option<&'static str>,
    description: Option<String>,
    creation_date: Option<String>,
    key_store_id: Option<String>,
    aliases: Option<Vec<String>>,
    tags: Option<BTreeMap<String, String>>,
    last_usage_date: Option<String>,
    /// Seconds since it was made.
    #[serde(skip)]
    age: Option<u64>,
    /// Seconds since it was used last.
    #[serde(skip)]
    unused: Option<u64>,
}

impl Entry {
    /// `now` in seconds since the Unix epoch.
    fn new(entry: KeyListEntry, now: i64) -> Self {
        let details = entry.details.as_ref();
        let created = details.and_then(|details| details.creation_date);
        let used = details.and_then(|details| details.last_usage_date);
        // A clock that is behind the service's sees a key that is new, and used just now.
        let since = |date: prost_types::Timestamp| u64::try_from(now.saturating_sub(date.seconds)).unwrap_or(0);
        Self {
            key_state: details.map(|details| key_state(details.key_state())),
            description: details.map(|details| details.description.clone()),
            creation_date: created.map(|date| date.to_string()),
            key_store_id: details.map(|details| details.key_store_id.clone()),
            aliases: details.map(|details| details.aliases.clone()),
            tags: details
                .map(|details| details.tags.iter().map(|tag| (tag.tag_key.clone(), tag.tag_value.clone())).collect()),
            last_usage_date: used.map(|date| date.to_string()),
            age: created.map(since),
            unused: used.map(since),
            key_id: entry.key_id,
            key_arn: entry.key_arn,
        }
    }

    fn row(&self) -> Vec<String> {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        vec![
            self.key_id.clone(),
            or_dash(self.aliases.as_ref().filter(|aliases| !aliases.is_empty()).map(|aliases| aliases.join(", "))),
            or_dash(self.key_state.map(str::to_owned)),
            or_dash(self.key_store_id.clone()),
            or_dash(self.age.map(age)),
            or_dash(self.unused.map(|seconds| format!("{} ago", age(seconds)))),
        ]
    }
}

impl Report for Keys {
    fn text(&self) -> String {
        if self.keys.is_empty() && self.filtered {
            return "There are no such keys; without filters, `keystorectl key list` shows all.".to_owned();
        }
        if self.keys.is_empty() {
            return "There are no keys; `keystorectl key create` makes one.".to_owned();
        }
        table(&["key id", "alias", "state", "key store", "age", "last use"], self.keys.iter().map(Entry::row))
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let most = arguments.limit.map_or(usize::MAX, |limit| limit as usize);
    let filter = KeyFilter {
        key_states: arguments.states.into_iter().map(|state| KeyState::from(state).into()).collect(),
        tags: arguments.tags,
        alias: arguments.alias.unwrap_or_default(),
        key_store_id: arguments.key_store.unwrap_or_default(),
    };
    let (filtered, now) = (filter != KeyFilter::default(), context.clock.unix_millis().div_euclid(1_000));
    let mut found = Keys { keys: Vec::new(), truncated: true, filtered };
    let mut marker = String::new();
    while found.truncated && found.keys.len() < most {
        let limit = u32::try_from(most - found.keys.len()).unwrap_or(u32::MAX).min(limits::LIST_LIMIT);
        let request = ListKeysRequest { limit: Some(limit), marker, detailed: true, filter: Some(filter.clone()) };
        let page = client.list_keys(request).await?;
        found.truncated = page.truncated;
        found.keys.extend(page.keys.into_iter().map(|key| Entry::new(key, now)));
        marker = page.next_marker;
    }
    context.printer.report(&found)?;
    if found.truncated {
        // With a filter nobody has looked yet whether it lets one of the others through.
        context.printer.note(if filtered { "There may be more such keys." } else { "There are more keys than these." });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::{KeyListDetails, Tag};

    #[test]
    fn a_key_is_a_line() {
        let details = KeyListDetails {
            key_state: KeyState::Disabled.into(),
            creation_date: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            key_store_id: "cks-1".to_owned(),
            aliases: vec!["alias/a".to_owned(), "alias/b".to_owned()],
            tags: vec![Tag { tag_key: "team".to_owned(), tag_value: "payroll".to_owned() }],
            last_usage_date: Some(prost_types::Timestamp { seconds: 1_700_000_059, nanos: 0 }),
            ..Default::default()
        };
        let bare = KeyListEntry { key_id: "1234".to_owned(), key_arn: "arn".to_owned(), details: None };
        let full = KeyListEntry { details: Some(details), ..bare.clone() };
        let keys = [full, bare].map(|key| Entry::new(key, 1_700_000_061));
        assert_eq!(keys[0].row(), ["1234", "alias/a, alias/b", "Disabled", "cks-1", "1m 01s", "2s ago"]);
        assert_eq!(keys[1].row(), ["1234", "-", "-", "-", "-", "-"]);
        let json = serde_json::to_value(&keys[0]).unwrap();
        assert_eq!(
            (&json["tags"]["team"], &json["creation_date"]),
            (&"payroll".into(), &"2023-11-14T22:13:20Z".into())
        );
        assert!(serde_json::to_value(&keys[1]).unwrap()["tags"].is_null());
    }

    #[test]
    fn a_tag_has_a_value_or_any() {
        assert_eq!(tag("a"), Ok(TagFilter { tag_key: "a".to_owned(), tag_value: None }));
        assert_eq!(tag("a="), Ok(TagFilter { tag_key: "a".to_owned(), tag_value: Some(String::new()) }));
        assert!(tag("=b").is_err() && tag("").is_err());
    }
}
