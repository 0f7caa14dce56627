//! DescribeKey, ListKeys, EnableKey, DisableKey, UpdateKeyDescription and GetKeyLastUsage.

use serde::Serialize;

use super::asked::{grant_tokens, number, text};
use super::output::{Time, json, nothing};
use super::{Answer, key_metadata};
use crate::aws::model::Input;
use service::{KeyEntry, KeyFilter, KeyLastUsage, ListKeysInput, Page, RequestContext, Service};

/// Shows a key.
pub(super) async fn describe(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    let key = service.describe_key_with(call, &text(asked, "KeyId"), grant_tokens(asked)).await?;
    key_metadata::shown(key)
}

/// Whose keys ListKeys lists unless it is told otherwise.
const SELF: &str = "SELF";

/// Lists keys. Other accounts share none here: where theirs alone are asked for, there are none.
pub(super) async fn list(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    let owners = asked.list_of_texts("ResourceOwners");
    let input = ListKeysInput {
        limit: number(asked, "Limit"),
        marker: text(asked, "Marker"),
        detailed: false,
        filter: KeyFilter::default(),
    };
    let own = service.list_keys(call, input).await?;
    match owners.is_none_or(|owners| owners.iter().any(|owner| owner == SELF)) {
        true => listed(own),
        false => listed(Page { items: Vec::new(), next_marker: None }),
    }
}

/// Makes a key usable.
pub(super) async fn enable(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    service.enable_key(call, &text(asked, "KeyId")).await?;
    Ok(nothing())
}

/// Makes a key unusable.
pub(super) async fn disable(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    service.disable_key(call, &text(asked, "KeyId")).await?;
    Ok(nothing())
}

/// Describes a key anew.
pub(super) async fn update_description(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    service.update_key_description(call, &text(asked, "KeyId"), text(asked, "Description")).await?;
    Ok(nothing())
}

/// Shows when a key was used last.
pub(super) async fn last_usage(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    used(service.get_key_last_usage(call, &text(asked, "KeyId")).await?)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct KeysAnswer {
    keys: Vec<ListedKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_marker: Option<String>,
    truncated: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListedKey {
    key_arn: String,
    key_id: String,
}

pub(super) fn listed(page: Page<KeyEntry>) -> Answer {
    let key = |entry: KeyEntry| ListedKey { key_arn: entry.arn.to_string(), key_id: entry.id.to_string() };
    json(&KeysAnswer {
        keys: page.items.into_iter().map(key).collect(),
        truncated: page.next_marker.is_some(),
        next_marker: page.next_marker,
    })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct LastUsageAnswer {
    key_creation_date: Time,
    key_id: String,
    key_last_usage: LastUsage,
}

/// Without members where there was no use.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct LastUsage {
    #[serde(skip_serializing_if = "Option::is_none")]
    kms_request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<Time>,
}

/// Since when uses are remembered is not kept, so that no date is claimed for it; records have no event ids.
pub(super) fn used(usage: KeyLastUsage) -> Answer {
    let last = usage.last.map(|last| LastUsage {
        kms_request_id: Some(last.request_id),
        operation: Some(last.operation),
        timestamp: Some(Time::of(last.at)),
    });
    json(&LastUsageAnswer {
        key_creation_date: Time::of(usage.created_at),
        key_id: usage.key.to_string(),
        key_last_usage: last.unwrap_or_default(),
    })
}
