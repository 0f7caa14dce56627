//! What is here already: asked of the service, and nothing is decided.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{Finding, Here, HereKey};
use super::wanted::{Grant, IMPORTED_FROM, Wanted};
use crate::failure::Failure;
use client::Client;
use model::limits;
use proto::v1 as wire;

/// A policy that is part of the program: its ARN says which account this is.
const BUILT_IN: &str = "Administrator";

/// What DescribePrincipal says of whom there is not, and of who can be nobody here.
const NOBODY: [&str; 3] = ["NotFoundException", "InvalidArnException", "ValidationException"];

/// Keys that earlier imports made of any of these old keys.
pub(super) async fn made(client: &Client, old_arns: &BTreeSet<&str>) -> Result<Vec<HereKey>, Failure> {
    let tags = vec![wire::TagFilter { tag_key: IMPORTED_FROM.to_owned(), tag_value: None }];
    let filter = Some(wire::KeyFilter { tags, ..Default::default() });
    let (mut keys, mut marker, mut more) = (Vec::new(), String::new(), true);
    while more {
        let limit = Some(limits::LIST_LIMIT);
        let request = wire::ListKeysRequest { limit, marker, detailed: true, filter: filter.clone() };
        let page = client.list_keys(request).await?;
        keys.extend(page.keys.into_iter().filter_map(listed));
        (more, marker) = (page.truncated, page.next_marker);
    }
    keys.retain(|key| old_arns.contains(key.old_arn.as_str()));
    for key in &mut keys {
        key.policy = client.get_key_policy(&key.arn).await?;
        key.grants = grants(client, &key.arn).await?;
    }
    Ok(keys)
}

fn listed(entry: wire::KeyListEntry) -> Option<HereKey> {
    let details = entry.details?;
    let state = details.key_state();
    let tags: BTreeMap<String, String> = details.tags.into_iter().map(|tag| (tag.tag_key, tag.tag_value)).collect();
    Some(HereKey {
        key_id: entry.key_id,
        arn: entry.key_arn,
        old_arn: tags.get(IMPORTED_FROM)?.clone(),
        state,
        key_store_id: details.key_store_id,
        description: details.description,
        tags,
        ..HereKey::default()
    })
}

async fn grants(client: &Client, key_id: &str) -> Result<BTreeSet<Grant>, Failure> {
    let (mut grants, mut marker, mut more) = (BTreeSet::new(), String::new(), true);
    while more {
        let limit = Some(limits::LIST_GRANTS_LIMIT);
        let request = wire::ListGrantsRequest { key_id: key_id.to_owned(), limit, marker, ..Default::default() };
        let page = client.list_grants(request).await?;
        grants.extend(page.grants.into_iter().map(granted));
        (more, marker) = (page.truncated, page.next_marker);
    }
    Ok(grants)
}

fn granted(grant: wire::Grant) -> Grant {
    let constraints = grant.constraints.unwrap_or_default();
    Grant {
        grantee: grant.grantee_principal,
        retiring: Some(grant.retiring_principal).filter(|arn| !arn.is_empty()),
        operations: grant.operations.into_iter().collect(),
        context_subset: constraints.encryption_context_subset.into_iter().collect(),
        context_equals: constraints.encryption_context_equals.into_iter().collect(),
        name: grant.name,
    }
}

/// All that a plan depends on.
pub(super) async fn look(client: &Client, keys: Vec<HereKey>, wanted: &[Wanted]) -> Result<Here, Failure> {
    let mut here = Here { keys, account: account(client).await?, ..Here::default() };
    let (mut marker, mut more) = (String::new(), true);
    while more {
        let limit = Some(limits::LIST_ALIASES_LIMIT);
        let page = client.list_aliases(wire::ListAliasesRequest { limit, marker, ..Default::default() }).await?;
        here.aliases.extend(page.aliases.into_iter().map(|alias| (alias.alias_name, alias.target_key_id)));
        (more, marker) = (page.truncated, page.next_marker);
    }
    let parties: BTreeSet<&String> = wanted.iter().flat_map(Wanted::parties).collect();
    for arn in parties {
        if !is_principal(client, arn).await? {
            here.unknown.insert(arn.clone());
        }
    }
    let documents: BTreeSet<&String> = wanted.iter().map(|wanted| &wanted.policy.document).collect();
    for document in documents {
        let request = wire::CheckPolicyRequest { document: document.clone(), key_policy: true, ..Default::default() };
        let findings = client.check_policy(request).await?.findings;
        here.findings.insert(document.clone(), findings.into_iter().map(Finding::from).collect());
    }
    Ok(here)
}

/// Whether there is such a principal. An ARN that can be nobody's is refused as a parameter.
async fn is_principal(client: &Client, arn: &str) -> Result<bool, Failure> {
    match client.describe_principal(arn).await {
        Ok(_) => Ok(true),
        Err(error) if error.exception.as_deref().is_some_and(|name| NOBODY.contains(&name)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The account of this installation, where the caller may know it.
async fn account(client: &Client) -> Result<Option<String>, Failure> {
    match client.get_policy(BUILT_IN).await {
        Ok(policy) => Ok(super::mapping::account_of(&policy.arn).map(str::to_owned)),
        Err(error) if error.exception.as_deref() == Some("AccessDeniedException") => Ok(None),
        Err(error) => Err(error.into()),
    }
}
