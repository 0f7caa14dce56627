//! Aliases, tags, and what a list of keys shows and is filtered by.

use super::{error, key_metadata, timestamp};
use model::key::KeyState;
use proto::v1;
use service::{AliasEntry, Error, KeyDetails, KeyEntry, KeyFilter, ListKeysInput};

pub(super) fn pairs(tags: Vec<v1::Tag>) -> Vec<(String, String)> {
    tags.into_iter().map(|tag| (tag.tag_key, tag.tag_value)).collect()
}

pub(super) fn tags(pairs: Vec<(String, String)>) -> Vec<v1::Tag> {
    pairs.into_iter().map(|(tag_key, tag_value)| v1::Tag { tag_key, tag_value }).collect()
}

pub(super) fn alias(alias: AliasEntry) -> v1::AliasListEntry {
    v1::AliasListEntry {
        alias_name: alias.name.to_string(),
        alias_arn: alias.arn,
        target_key_id: alias.target.to_string(),
        creation_date: Some(timestamp(alias.created_at)),
        last_updated_date: Some(timestamp(alias.updated_at)),
    }
}

pub(super) fn key(entry: KeyEntry) -> v1::KeyListEntry {
    v1::KeyListEntry {
        key_id: entry.id.to_string(),
        key_arn: entry.arn.to_string(),
        details: entry.details.map(details),
    }
}

fn details(details: KeyDetails) -> v1::KeyListDetails {
    v1::KeyListDetails {
        key_state: key_metadata::state(details.state).into(),
        description: details.description,
        creation_date: Some(timestamp(details.created_at)),
        key_store_id: details.key_store.as_str().to_owned(),
        aliases: details.aliases,
        tags: tags(details.tags),
        last_usage_date: details.last_used_at.map(timestamp),
    }
}

pub(super) fn list_keys(request: v1::ListKeysRequest) -> Result<ListKeysInput, Error> {
    let v1::ListKeysRequest { limit, marker, detailed, filter } = request;
    let v1::KeyFilter { key_states, tags, alias, key_store_id } = filter.unwrap_or_default();
    let mut states = Vec::new();
    for number in key_states {
        let named = v1::KeyState::try_from(number).ok().and_then(state);
        let state =
            named.ok_or_else(|| error::validation(format!("{number} is no key state; leave out what is unknown")))?;
        // Said again it means the same, so that there are no more of them than there are states.
        if !states.contains(&state) {
            states.push(state);
        }
    }
    let tags = tags.into_iter().map(|tag| (tag.tag_key, tag.tag_value)).collect();
    Ok(ListKeysInput { limit, marker, detailed, filter: KeyFilter { states, tags, alias, key_store_id } })
}

const fn state(state: v1::KeyState) -> Option<KeyState> {
    Some(match state {
        v1::KeyState::Unspecified => return None,
        v1::KeyState::Creating => KeyState::Creating,
        v1::KeyState::Enabled => KeyState::Enabled,
        v1::KeyState::Disabled => KeyState::Disabled,
        v1::KeyState::PendingDeletion => KeyState::PendingDeletion,
        v1::KeyState::Unavailable => KeyState::Unavailable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::exception::Exception;

    #[test]
    fn a_filter_s_states_are_the_service_s() {
        let of = |key_states: Vec<i32>| {
            let filter = v1::KeyFilter { key_states, ..Default::default() };
            list_keys(v1::ListKeysRequest { filter: Some(filter), ..Default::default() })
        };
        let all = [1, 2, 3, 4, 5, 5, 1].to_vec();
        let states = of(all).unwrap().filter.states;
        assert_eq!(states.len(), 5);
        for (number, known) in (1..).zip(states) {
            assert_eq!(i32::from(key_metadata::state(known)), number);
        }
        for unknown in [0, 6, -1] {
            let error = of(vec![unknown]).unwrap_err();
            assert_eq!(error.exception, Exception::Validation);
        }
    }
}
