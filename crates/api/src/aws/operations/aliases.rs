//! CreateAlias, UpdateAlias, DeleteAlias and ListAliases.

use serde::Serialize;

use super::Answer;
use super::asked::{names_alias, number, text};
use super::output::{Time, json, nothing};
use crate::aws::error::Failure;
use crate::aws::model::{Input, Object};
use service::{AliasEntry, CreateAliasInput, Page, RequestContext, Service};

/// Makes an alias.
pub(super) async fn create(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    let (alias_name, target_key_id) = (text(asked, "AliasName"), target(asked)?);
    // One that is repeated finds its alias made, as with AWS.
    let input = CreateAliasInput { alias_name, target_key_id, client_token: String::new() };
    service.create_alias(call, input).await?;
    Ok(nothing())
}

/// Gives an alias to another key.
pub(super) async fn update(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    service.update_alias(call, &text(asked, "AliasName"), &target(asked)?).await?;
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

/// The key that is to have an alias: by its id or ARN, where AWS has a text of its own for aliases of aliases.
fn target(asked: &Object) -> Result<String, Failure> {
    let target = text(asked, "TargetKeyId");
    match names_alias(&target) {
        true => Err(Failure::validation("Aliases must refer to keys. Not aliases")),
        false => Ok(target),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::operations::tests::input as read;
    use serde_json::json;

    #[test]
    fn an_alias_is_no_target_of_an_alias() {
        let of = |key_id: &str| target(&read("CreateAlias", &json!({ "AliasName": "alias/a", "TargetKeyId": key_id })));
        let id = "1234abcd-12ab-34cd-56ef-1234567890ab";
        let arn = format!("arn:aws:kms:eu-central-1:111122223333:key/{id}");
        for key in [id, &arn, "nonsense", "arn:", "arn:aws:kms"] {
            assert_eq!(of(key).as_deref(), Ok(key));
        }
        for alias in ["alias/b", "alias/", "arn:aws:kms:eu-central-1:111122223333:alias/b"] {
            assert_eq!(of(alias), Err(Failure::validation("Aliases must refer to keys. Not aliases")), "{alias}");
        }
    }
}
