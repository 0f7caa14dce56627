//! ListKeys: every key, in the order of the ids; or those that a filter lets through, with more about each.

use std::sync::Arc;

use crate::core::authority::{Judge, Subject};
use crate::core::keyring::Entry;
use crate::core::page::Bounds;
use crate::core::proposal::Proposal;
use crate::core::{Core, page, validate};
use crate::{Error, Page, RequestContext, Service};
use audit::event::{Fields, Value};
use auth::policy::Parameters;
use auth::request::NO_RESOURCE;
use model::id::{KeyId, KeyStoreId};
use model::key::KeyState;
use model::limits;
use model::operation::Operation;

/// Which keys are to be listed, and how.
#[derive(Clone, Debug, Default)]
pub struct ListKeysInput {
    /// Absent: 100.
    pub limit: Option<u32>,
    /// Empty: from the beginning.
    pub marker: String,
    /// With more than id and ARN.
    pub detailed: bool,
    /// All of it must hold of a key.
    pub filter: KeyFilter,
}

/// What must hold of a key. What is empty holds of each.
#[derive(Clone, Debug, Default)]
pub struct KeyFilter {
    /// It is in one of these states, as callers see it.
    pub states: Vec<KeyState>,
    /// It has all of these tags, with this value where one is named.
    pub tags: Vec<(String, Option<String>)>,
    /// One of its aliases is this one; `*` stands for any characters.
    pub alias: String,
    /// It is kept in this key store.
    pub key_store_id: String,
}

/// A key as ListKeys shows it.
#[derive(Clone, Debug)]
pub struct KeyEntry {
    /// Its id.
    pub id: KeyId,
    /// Its ARN.
    pub arn: Arc<str>,
    /// Where they were asked for, of keys of which the caller may know them.
    pub details: Option<KeyDetails>,
}

/// What else is listed of a key.
#[derive(Clone, Debug)]
pub struct KeyDetails {
    /// As callers see it, `Unavailable` included.
    pub state: KeyState,
    /// The creator's words.
    pub description: String,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
    /// Its store.
    pub key_store: KeyStoreId,
    /// Its aliases, in their order.
    pub aliases: Vec<String>,
    /// Its tags, in the order of their keys.
    pub tags: Vec<(String, String)>,
    /// When it was used last, in milliseconds since the Unix epoch; absent where it was not, or where the caller may not
    /// know it by GetKeyLastUsage.
    pub last_used_at: Option<i64>,
}

impl Service {
    /// Lists keys. Details, and what a filter finds by them, are given of the keys of which the caller may have them
    /// otherwise: by DescribeKey, ListResourceTags and ListAliases.
    pub async fn list_keys(&self, call: &RequestContext, input: ListKeysInput) -> Result<Page<KeyEntry>, Error> {
        let operation = Operation::ListKeys;
        let (said, core) = (input.clone(), self.core.clone());
        let resource = self.core.arn_of(operation, "").asking(move |_, say| said.proposal(say));
        let (call_of_work, call_of_look) = (call.clone(), call.clone());
        let work = async move { list(&core, &call_of_work, &input) };
        let still = move |core: &Core, page: &Page<KeyEntry>| {
            core.judged(&call_of_look, |judge| {
                page.items.iter().filter_map(|entry| Some((entry, entry.details.as_ref()?))).try_for_each(
                    |(entry, details)| {
                        let key = Subject::key(judge.keyring(), entry.id, &entry.arn);
                        may_know(judge, key)?;
                        details.last_used_at.map_or(Ok(()), |_| may_know_use(judge, key))
                    },
                )
            })
        };
        self.core.on_one_that(call, operation, resource, work, still).await
    }
}

fn list(core: &Core, call: &RequestContext, input: &ListKeysInput) -> Result<Page<KeyEntry>, Error> {
    let ListKeysInput { limit, marker, detailed, filter } = input;
    let limit = validate::page_limit(*limit)?;
    filter.check()?;
    let after = page::after('k', marker, KeyId::parse)?;
    let (keyring, authority) = (core.keyring(), core.authority());
    let judge = Judge::new(core, &keyring, &authority, call);
    let (filters, sees) = (!filter.is_empty(), *detailed || !filter.is_empty());
    let entries = keyring.catalogue.keys_after(after).filter_map(|key| keyring.key(key.id));
    let bounds = Bounds::details(limit);
    let show = |entry: &&Entry| {
        let known = sees && may_know(&judge, Subject::Key(entry)).is_ok();
        if filters && !(known && filter.lets_through(entry)) {
            return None;
        }
        let details = (known && *detailed).then(|| {
            let used = may_know_use(&judge, Subject::Key(entry)).is_ok();
            KeyDetails { last_used_at: entry.usage.last_at().filter(|_| used), ..details(entry) }
        });
        let weight = details.as_ref().map_or(0, KeyDetails::weight);
        Some((KeyEntry { id: entry.key.id, arn: Arc::clone(&entry.arn), details }, weight))
    };
    Ok(page::sift('k', entries, bounds, |entry| entry.key.id, show))
}

/// Whether a caller may know what is listed of a key beside its ARN.
fn may_know(judge: &Judge<'_>, key: Subject<'_>) -> Result<(), Error> {
    let may = |operation: Operation, of| judge.allows(operation.spec().permission, of, Parameters::default());
    may(Operation::DescribeKey, key)?;
    may(Operation::ListResourceTags, key)?;
    may(Operation::ListAliases, Subject::Other(NO_RESOURCE))
}

/// Whether it may know when the key was used last.
fn may_know_use(judge: &Judge<'_>, key: Subject<'_>) -> Result<(), Error> {
    judge.allows(Operation::GetKeyLastUsage.spec().permission, key, Parameters::default())
}

fn details(entry: &Entry) -> KeyDetails {
    let key = &entry.key;
    KeyDetails {
        state: entry.state,
        description: key.description.clone(),
        created_at: key.created_at,
        key_store: key.key_store.clone(),
        aliases: key.aliases.iter().map(|alias| alias.name.to_string()).collect(),
        tags: key.tags.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        last_used_at: None,
    }
}

impl KeyDetails {
    /// The bytes that a caller may have made it hold.
    fn weight(&self) -> usize {
        let aliases: usize = self.aliases.iter().map(String::len).sum();
        let tags: usize = self.tags.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.description.len() + aliases + tags
    }
}

impl ListKeysInput {
    /// AWS has two of these parameters.
    fn proposal(&self, say: Proposal) -> Proposal {
        let Self { limit, marker, detailed, filter } = self;
        let tag = |(name, value): &(String, Option<String>)| {
            let value = value.as_deref().map_or(Value::Null, Value::from);
            Value::Object(Fields::new().text("tagKey", name).with("tagValue", value))
        };
        let tags = filter.tags.iter().map(tag).collect();
        say.page(*limit, marker)
            .in_record(|fields| if *detailed { fields.flag("detailed", true) } else { fields })
            .texts("keyStates", filter.states.iter().map(|state| state.name()))
            .in_record(|fields| if filter.tags.is_empty() { fields } else { fields.with("tags", Value::List(tags)) })
            .text("aliasName", &filter.alias)
            .text("customKeyStoreId", &filter.key_store_id)
    }
}

impl KeyFilter {
    fn is_empty(&self) -> bool {
        self.states.is_empty() && self.tags.is_empty() && self.alias.is_empty() && self.key_store_id.is_empty()
    }

    fn check(&self) -> Result<(), Error> {
        validate::length("alias", self.alias.len(), 0, limits::ALIAS_CHARS)?;
        validate::length("keyStoreId", self.key_store_id.len(), 0, limits::KEY_STORE_ID_BYTES)?;
        validate::length("tags", self.tags.len(), 0, limits::FILTER_TAGS)?;
        for ((name, value), number) in self.tags.iter().zip(1..) {
            let member = |what: &str| format!("tags.{number}.member.{what}");
            validate::length(&member("tagKey"), name.chars().count(), 1, limits::TAG_KEY_CHARS)?;
            let value = value.as_deref().unwrap_or_default();
            validate::length(&member("tagValue"), value.chars().count(), 0, limits::TAG_VALUE_CHARS)?;
        }
        Ok(())
    }

    fn lets_through(&self, entry: &Entry) -> bool {
        let key = &entry.key;
        let has = |(name, value): &(String, Option<String>)| {
            key.tags.get(name).is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        };
        (self.states.is_empty() || self.states.contains(&entry.state))
            && (self.key_store_id.is_empty() || key.key_store.as_str() == self.key_store_id)
            && self.tags.iter().all(has)
            && (self.alias.is_empty() || key.aliases.iter().any(|alias| matches(&self.alias, alias.name.as_str())))
    }
}

/// Whether a text is what a pattern says, in which `*` stands for any characters.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|start| text.strip_prefix(start)) else { return false };
    let Some(end) = parts.next_back() else { return rest.is_empty() };
    // The first place for each part is as good as any: whatever lies behind it is in reach of the next.
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, yes, no) in [
            ("alias/a", &["alias/a"][..], &["alias/ab", "alias/", "alias/A"][..]),
            ("alias/a*", &["alias/a", "alias/ab", "alias/a/b"], &["alias/b", "alias/"]),
            ("*b", &["alias/b", "alias/ab", "b"], &["alias/bc", ""]),
            ("alias/*-*-x", &["alias/--x", "alias/a-b-x", "alias/a-b-c-x"], &["alias/-x", "alias/a-b-xy"]),
            ("*", &["", "alias/a"], &[]),
            ("**a**", &["a", "alias/"], &["", "b"]),
            ("ab*ba", &["abba", "abxba"], &["aba", "ab", "ba"]),
        ] {
            for text in yes {
                assert!(matches(pattern, text), "{pattern} {text}");
            }
            for text in no {
                assert!(!matches(pattern, text), "{pattern} {text}");
            }
        }
    }
}
