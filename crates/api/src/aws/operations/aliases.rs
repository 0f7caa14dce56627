//! CreateAlias, UpdateAlias, DeleteAlias and ListAliases.

use serde::Serialize;

use super::Answer;
use super::asked::{number, text};
use super::output::{Time, json, nothing};
use crate::aws::model::Input;
use service::{AliasEntry, CreateAliasInput, Page, RequestContext, Service};

/// Makes an alias.
pub(super) async fn create(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    let (alias_name, target_key_id) = (text(asked, "AliasName"), text(asked, "TargetKeyId"));
    // One that is repeated finds its alias made, as with AWS.
    let input = CreateAliasInput { alias_name, target_key_id, client_token: String::new() };
    service.create_alias(call, input).await?;
    Ok(nothing())
}

/// Gives an alias to another key.
pub(super) async fn update(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    service.update_alias(call, &text(asked, "AliasName"), &text(asked, "TargetKeyId")).await?;
    Ok(nothing())
}

/// Takes an alias away.
pub(super) async fn delete(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    service.delete_alias(call, &text(asked, "AliasName")).await?;
    Ok(nothing())
}

/// Lists aliases: all, or those of a key.
pub(super) async fn list(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    let (key_id, limit, marker) = (text(asked, "KeyId"), number(asked, "Limit"), text(asked, "Marker"));
    listed(service.list_aliases(call, &key_id, limit, &marker).await?)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AliasesAnswer {
    aliases: Vec<ListedAlias>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_marker: Option<String>,
    truncated: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListedAlias {
    alias_arn: String,
    alias_name: String,
    creation_date: Time,
    last_updated_date: Time,
    target_key_id: String,
}

pub(super) fn listed(page: Page<AliasEntry>) -> Answer {
    let alias = |entry: AliasEntry| ListedAlias {
        alias_arn: entry.arn,
        alias_name: entry.name.to_string(),
        creation_date: Time::of(entry.created_at),
        last_updated_date: Time::of(entry.updated_at),
        target_key_id: entry.target.to_string(),
    };
    json(&AliasesAnswer {
        aliases: page.items.into_iter().map(alias).collect(),
        truncated: page.next_marker.is_some(),
        next_marker: page.next_marker,
    })
}
