//! CreateGrant, ListGrants, ListRetirableGrants, RetireGrant and RevokeGrant.

use std::collections::BTreeMap;

use serde::Serialize;
use zeroize::Zeroizing;

use super::Answer;
use super::asked::{flag, grant_tokens, map, number, text, texts, without};
use super::output::{Time, json, nothing};
use crate::aws::error::Failure;
use crate::aws::model::{Input, Object};
use auth::grant::ConstraintKind;
use service::{CreateGrantInput, CreatedGrant, GrantView, Page, RequestContext, RetireGrantInput, Service};

/// Why a service principal is refused.
const NO_SERVICES: &str = "there are no service principals: no service of AWS calls here. Name a principal of this \
                           installation by its ARN";

/// Makes a grant.
pub(super) async fn create(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    made(service.create_grant(call, input(asked)?).await?)
}

/// Lists the grants of a key.
pub(super) async fn list(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    without(asked, &["GranteeServicePrincipal"], NO_SERVICES)?;
    let (key_id, grant_id, grantee) = (text(asked, "KeyId"), text(asked, "GrantId"), text(asked, "GranteePrincipal"));
    let (limit, marker) = (number(asked, "Limit"), text(asked, "Marker"));
    listed(service.list_grants(call, &key_id, &grant_id, &grantee, limit, &marker).await?)
}

/// Lists the grants that a principal may retire.
pub(super) async fn list_retirable(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    without(asked, &["RetiringServicePrincipal"], NO_SERVICES)?;
    let Some(retiring) = asked.text("RetiringPrincipal") else {
        return Err(absent("retiringPrincipal"));
    };
    let (limit, marker) = (number(asked, "Limit"), text(asked, "Marker"));
    listed(service.list_retirable_grants(call, retiring, limit, &marker).await?)
}

/// Gives a grant back.
pub(super) async fn retire(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    let input = RetireGrantInput {
        token: text(asked, "GrantToken"),
        key_arn: text(asked, "KeyId"),
        grant_id: text(asked, "GrantId"),
        dry_run: flag(asked, "DryRun"),
    };
    service.retire_grant(call, input).await?;
    Ok(nothing())
}

/// Takes a grant away.
pub(super) async fn revoke(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    service.revoke_grant(call, &text(asked, "KeyId"), &text(asked, "GrantId"), flag(asked, "DryRun")).await?;
    Ok(nothing())
}

fn input(asked: &Object) -> Result<CreateGrantInput, Failure> {
    without(asked, &["GranteeServicePrincipal", "RetiringServicePrincipal"], NO_SERVICES)?;
    // The model lets it be absent where a service is named instead.
    if !asked.has("GranteePrincipal") {
        return Err(absent("granteePrincipal"));
    }
    let constraint = match asked.object("Constraints") {
        None => None,
        Some(constraints) => constraint(constraints)?,
    };
    Ok(CreateGrantInput {
        key_id: text(asked, "KeyId"),
        grantee: text(asked, "GranteePrincipal"),
        retiring: text(asked, "RetiringPrincipal"),
        operations: texts(asked, "Operations"),
        constraint,
        name: text(asked, "Name"),
        grant_tokens: grant_tokens(asked),
        dry_run: flag(asked, "DryRun"),
    })
}

fn absent(member: &str) -> Failure {
    Failure::validation(format!(
        "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null"
    ))
}

/// For which encryption contexts a grant is, as use cases have it.
type Constraint = (ConstraintKind, BTreeMap<String, String>);

/// One that is there and empty goes on to the use case, which refuses it: taken for none, it would allow more.
fn constraint(asked: &Object) -> Result<Option<Constraint>, Failure> {
    without(asked, &["SourceArn"], "it is for grants to service principals, of which there are none")?;
    let [subset, equals] = ["EncryptionContextSubset", "EncryptionContextEquals"];
    match (asked.has(subset), asked.has(equals)) {
        (false, false) => Ok(None),
        (true, false) => Ok(Some((ConstraintKind::Subset, map(asked, subset)))),
        (false, true) => Ok(Some((ConstraintKind::Equals, map(asked, equals)))),
        (true, true) => {
            Err(Failure::validation("Constraints: give EncryptionContextSubset or EncryptionContextEquals, not both."))
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CreatedAnswer<'a> {
    grant_id: String,
    grant_token: &'a str,
}

pub(super) fn made(made: CreatedGrant) -> Answer {
    let token = Zeroizing::new(made.token);
    json(&CreatedAnswer { grant_id: made.id.to_string(), grant_token: &token })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GrantsAnswer {
    grants: Vec<Grant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_marker: Option<String>,
    truncated: bool,
}

/// A grant's token is never listed.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Grant {
    #[serde(skip_serializing_if = "Option::is_none")]
    constraints: Option<Constraints>,
    creation_date: Time,
    grant_id: String,
    grantee_principal: String,
    issuing_account: String,
    key_id: String,
    name: String,
    operations: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retiring_principal: Option<String>,
}

#[derive(Serialize)]
enum Constraints {
    EncryptionContextSubset(BTreeMap<String, String>),
    EncryptionContextEquals(BTreeMap<String, String>),
}

pub(super) fn listed(page: Page<GrantView>) -> Answer {
    let constraints = |(kind, pairs)| match kind {
        ConstraintKind::Subset => Constraints::EncryptionContextSubset(pairs),
        ConstraintKind::Equals => Constraints::EncryptionContextEquals(pairs),
    };
    let grant = |one: GrantView| Grant {
        constraints: one.constraint.map(constraints),
        creation_date: Time::of(one.created_at),
        grant_id: one.id.to_string(),
        grantee_principal: one.grantee,
        issuing_account: one.issuing_account,
        key_id: one.key_arn,
        name: one.name,
        operations: one.operations,
        retiring_principal: one.retiring,
    };
    json(&GrantsAnswer {
        truncated: page.next_marker.is_some(),
        next_marker: page.next_marker,
        grants: page.items.into_iter().map(grant).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::operations::tests::input as read;
    use serde_json::{Value, json};

    fn of(constraints: Value) -> Result<CreateGrantInput, Failure> {
        let grantee = "arn:aws:iam::111122223333:user/app";
        let asked = json!({
            "KeyId": "k", "GranteePrincipal": grantee, "Operations": ["Decrypt"], "Constraints": constraints,
        });
        input(&read("CreateGrant", &asked))
    }

    #[test]
    fn a_constraint_is_of_one_kind() {
        let pairs = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        assert_eq!(of(json!({})).unwrap().constraint, None);
        let subset = of(json!({ "EncryptionContextSubset": pairs })).unwrap().constraint;
        assert_eq!(subset, Some((ConstraintKind::Subset, pairs.clone())));
        let equals = of(json!({ "EncryptionContextEquals": pairs })).unwrap().constraint;
        assert_eq!(equals, Some((ConstraintKind::Equals, pairs.clone())));
        let both = json!({ "EncryptionContextSubset": pairs, "EncryptionContextEquals": pairs });
        assert_eq!(of(both).unwrap_err().name, "ValidationException");
        // Not one that holds of every context.
        let empty = of(json!({ "EncryptionContextEquals": {} })).unwrap().constraint;
        assert_eq!(empty, Some((ConstraintKind::Equals, BTreeMap::new())));
    }

    #[test]
    fn what_is_of_services_is_refused() {
        let arn = "arn:aws:s3:eu-central-1:111122223333:bucket";
        assert_eq!(of(json!({ "SourceArn": arn })).unwrap_err().name, "UnsupportedOperationException");
        for member in ["GranteeServicePrincipal", "RetiringServicePrincipal"] {
            let asked = json!({ "KeyId": "k", "Operations": ["Decrypt"], member: "s3.amazonaws.com" });
            let failure = input(&read("CreateGrant", &asked)).unwrap_err();
            assert_eq!(failure.name, "UnsupportedOperationException");
            assert!(failure.message.starts_with(member), "{}", failure.message);
        }
        let failure = input(&read("CreateGrant", &json!({ "KeyId": "k", "Operations": ["Decrypt"] }))).unwrap_err();
        assert_eq!((failure.name, failure.message), ("ValidationException", absent("granteePrincipal").message));
    }
}
