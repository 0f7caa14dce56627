//! `keystorectl grant list` and `list-retirable`

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use crate::Context;
use crate::failure::Failure;
use crate::names::{Named, tags_text};
use crate::printer::{Report, facts};
use model::limits;
use proto::v1 as wire;

#[derive(Debug, Args)]
pub(crate) struct OfKey {
    #[command(flatten)]
    key: Named,
    /// This grant alone
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    grant_id: String,
    /// Grants of this principal alone
    #[arg(long, value_name = "ARN", default_value = "", hide_default_value = true)]
    grantee: String,
}

#[derive(Debug, Args)]
pub(crate) struct Retirable {
    /// ARN of the principal who may retire them
    #[arg(value_name = "PRINCIPAL")]
    principal: String,
}

#[derive(Serialize)]
struct Grants {
    grants: Vec<Grant>,
}

#[derive(Serialize)]
struct Grant {
    key_arn: String,
    grant_id: String,
    name: String,
    creation_date: Option<String>,
    grantee_principal: String,
    retiring_principal: Option<String>,
    issuing_account: String,
    operations: Vec<String>,
    encryption_context_subset: BTreeMap<String, String>,
    encryption_context_equals: BTreeMap<String, String>,
}

impl From<wire::Grant> for Grant {
    fn from(grant: wire::Grant) -> Self {
        let constraints = grant.constraints.unwrap_or_default();
        Self {
            key_arn: grant.key_id,
            grant_id: grant.grant_id,
            name: grant.name,
            creation_date: grant.creation_date.map(|date| date.to_string()),
            grantee_principal: grant.grantee_principal,
            retiring_principal: Some(grant.retiring_principal).filter(|arn| !arn.is_empty()),
            issuing_account: grant.issuing_account,
            operations: grant.operations,
            encryption_context_subset: constraints.encryption_context_subset.into_iter().collect(),
            encryption_context_equals: constraints.encryption_context_equals.into_iter().collect(),
        }
    }
}

impl Grant {
    fn contexts(&self) -> String {
        match (self.encryption_context_subset.is_empty(), self.encryption_context_equals.is_empty()) {
            (false, _) => format!("with {}", tags_text(&self.encryption_context_subset)),
            (true, false) => format!("exactly {}", tags_text(&self.encryption_context_equals)),
            (true, true) => "any".to_owned(),
        }
    }
}

impl Report for Grants {
    fn text(&self) -> String {
        if self.grants.is_empty() {
            return "There are no such grants; `keystorectl grant create` makes one.".to_owned();
        }
        // Each a block of its own: ids and ARNs are there to be copied whole.
        let blocks = self.grants.iter().map(|one| {
            facts([
                ("Grant", one.grant_id.clone()),
                ("Name", one.name.clone()),
                ("Key", one.key_arn.clone()),
                ("Grantee", one.grantee_principal.clone()),
                ("Retiring", one.retiring_principal.clone().unwrap_or_default()),
                ("Operations", one.operations.join(", ")),
                ("Contexts", one.contexts()),
                ("Since", one.creation_date.clone().unwrap_or_default()),
            ])
        });
        blocks.collect::<Vec<_>>().join("\n\n")
    }
}

pub(super) async fn of_key(context: &Context, arguments: OfKey) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let key_id = arguments.key.id(&client).await?;
    let (mut grants, mut marker, mut more) = (Vec::new(), String::new(), true);
    while more {
        let request = wire::ListGrantsRequest {
            key_id: key_id.clone(),
            grant_id: arguments.grant_id.clone(),
            grantee_principal: arguments.grantee.clone(),
            limit: Some(limits::LIST_GRANTS_LIMIT),
            marker,
        };
        let page = client.list_grants(request).await?;
        grants.extend(page.grants.into_iter().map(Grant::from));
        (more, marker) = (page.truncated, page.next_marker);
    }
    context.printer.report(&Grants { grants })
}

pub(super) async fn retirable(context: &Context, arguments: Retirable) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let (mut grants, mut marker, mut more) = (Vec::new(), String::new(), true);
    while more {
        let request = wire::ListRetirableGrantsRequest {
            retiring_principal: arguments.principal.clone(),
            limit: Some(limits::LIST_GRANTS_LIMIT),
            marker,
        };
        let page = client.list_retirable_grants(request).await?;
        grants.extend(page.grants.into_iter().map(Grant::from));
        (more, marker) = (page.truncated, page.next_marker);
    }
    context.printer.report(&Grants { grants })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_says_for_which_contexts_it_counts() {
        let pairs = || [("tenant".to_owned(), "7".to_owned())].into();
        let of = |constraints| Grant::from(wire::Grant { constraints, ..Default::default() });
        assert_eq!(of(None).contexts(), "any");
        let subset = wire::GrantConstraints { encryption_context_subset: pairs(), ..Default::default() };
        assert_eq!(of(Some(subset)).contexts(), "with tenant=7");
        let equals = wire::GrantConstraints { encryption_context_equals: pairs(), ..Default::default() };
        assert_eq!(of(Some(equals)).contexts(), "exactly tenant=7");
        assert_eq!(of(None).retiring_principal, None);
    }
}
