//! How keys are named and what they are called: aliases and tags.

use std::collections::BTreeMap;

use clap::Args;

use super::failure::Failure;
use client::Client;
use model::id::{ALIAS_PREFIX, AliasName};
use model::limits;
use proto::v1::{ListAliasesRequest, ListResourceTagsRequest};

/// The key that a command is for, where the service takes key id and key ARN alone.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Key id, key ARN, alias or alias ARN
    key: String,
}

impl Named {
    /// What the service takes for it. Asks the service only where an alias is given.
    pub(super) async fn id(&self, client: &Client) -> Result<String, Failure> {
        key_id(client, &self.key).await
    }

    /// As it was given.
    pub(super) fn shown(&self) -> &str {
        &self.key
    }
}

/// What the service takes for a key where it takes key id and key ARN alone: whose an alias is says DescribeKey.
pub(super) async fn key_id(client: &Client, key: &str) -> Result<String, Failure> {
    if is_alias(key) { Ok(client.describe_key(key).await?.arn) } else { Ok(key.to_owned()) }
}

fn is_alias(key: &str) -> bool {
    key.starts_with(ALIAS_PREFIX) || (key.starts_with("arn:") && key.contains(":alias/"))
}

/// The name of an alias, with or without its prefix.
pub(super) fn alias_name(text: &str) -> Result<String, String> {
    let name = if text.starts_with(ALIAS_PREFIX) { text.to_owned() } else { format!("{ALIAS_PREFIX}{text}") };
    let wrong = || {
        format!(
            "an alias is letters, digits, '/', '_' and '-', with alias/ before them or not, {} at most",
            limits::ALIAS_CHARS
        )
    };
    AliasName::parse(&name).map(|name| name.to_string()).ok_or_else(wrong)
}

/// A pattern for aliases, with or without their prefix: `*` stands for any characters.
pub(super) fn alias_pattern(text: &str) -> Result<String, String> {
    let begins_like_one = text.starts_with(ALIAS_PREFIX) || text.starts_with('*');
    let pattern = if begins_like_one { text.to_owned() } else { format!("{ALIAS_PREFIX}{text}") };
    if text.is_empty() || pattern.len() > limits::ALIAS_CHARS {
        return Err(format!("write a name, with * for any characters, {} characters at most", limits::ALIAS_CHARS));
    }
    Ok(pattern)
}

/// The aliases of a key; `None` where the caller may not know them.
pub(super) async fn aliases_of(client: &Client, key_id: &str) -> Result<Option<Vec<String>>, Failure> {
    let (mut aliases, mut marker, mut more) = (Vec::new(), String::new(), true);
    while more {
        let request = ListAliasesRequest { key_id: key_id.to_owned(), limit: Some(limits::LIST_ALIASES_LIMIT), marker };
        let Some(page) = permitted(client.list_aliases(request).await)? else { return Ok(None) };
        aliases.extend(page.aliases.into_iter().map(|alias| alias.alias_name));
        (more, marker) = (page.truncated, page.next_marker);
    }
    Ok(Some(aliases))
}

/// The tags of a key; `None` where the caller may not know them.
pub(super) async fn tags_of(client: &Client, key_id: &str) -> Result<Option<BTreeMap<String, String>>, Failure> {
    let (mut tags, mut marker, mut more) = (BTreeMap::new(), String::new(), true);
    while more {
        let request =
            ListResourceTagsRequest { key_id: key_id.to_owned(), limit: Some(limits::LIST_TAGS_LIMIT), marker };
        let Some(page) = permitted(client.list_resource_tags(request).await)? else { return Ok(None) };
        tags.extend(page.tags.into_iter().map(|tag| (tag.tag_key, tag.tag_value)));
        (more, marker) = (page.truncated, page.next_marker);
    }
    Ok(Some(tags))
}

/// A key is shown to those as well who may not know its names, and what was done to those who may not see what came of it.
pub(super) fn permitted<T>(answer: Result<T, client::Error>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(page) => Ok(Some(page)),
        Err(error) if error.exception.as_deref() == Some("AccessDeniedException") => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Tags in one line.
pub(super) fn tags_text(tags: &BTreeMap<String, String>) -> String {
    let tags: Vec<String> = tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    tags.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_told_from_keys() {
        for alias in ["alias/a", "arn:aws:kms:local:000000000000:alias/a"] {
            assert!(is_alias(alias), "{alias}");
        }
        for other in ["a", "1234abcd-12ab-34cd-56ef-1234567890ab", "arn:aws:kms:local:000000000000:key/x", "x:alias/a"]
        {
            assert!(!is_alias(other), "{other}");
        }
    }

    #[test]
    fn an_alias_has_its_prefix_or_is_given_it() {
        assert_eq!(alias_name("payroll/2026"), Ok("alias/payroll/2026".to_owned()));
        assert_eq!(alias_name("alias/payroll"), Ok("alias/payroll".to_owned()));
        for wrong in ["", "a b", "alias/", "a:b", &"x".repeat(251)] {
            assert!(alias_name(wrong).is_err(), "{wrong}");
        }
        assert_eq!(alias_pattern("pay*"), Ok("alias/pay*".to_owned()));
        assert_eq!(alias_pattern("*2026"), Ok("*2026".to_owned()));
        assert!(alias_pattern("").is_err() && alias_pattern(&"x".repeat(251)).is_err());
    }

    #[test]
    fn tags_are_one_line() {
        let tags = [("team", "payroll"), ("stage", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(tags_text(&tags.into()), "stage=, team=payroll");
    }
}
