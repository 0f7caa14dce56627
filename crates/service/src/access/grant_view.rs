//! What a grant is shown as.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::Core;
use crate::core::granted::kind_of;
use auth::grant::ConstraintKind;
use model::id::{GrantId, PrincipalId};
use store::access::Grant;

/// A grant as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantView {
    /// The key's ARN.
    pub key_arn: String,
    /// Its id.
    pub id: GrantId,
    /// Empty where it has none.
    pub name: String,
    /// The ARN of whom it allows something: an account's root where it is for all of it; the id where that one is gone.
    pub grantee: String,
    /// The same of who may retire it.
    pub retiring: Option<String>,
    /// The root of the account in which it was made.
    pub issuing_account: String,
    /// What it allows.
    pub operations: Vec<String>,
    /// For which encryption contexts.
    pub constraint: Option<(ConstraintKind, BTreeMap<String, String>)>,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
}

pub(super) fn view(core: &Core, grant: &Arc<Grant>) -> GrantView {
    let catalogue = core.store().catalogue();
    let who = |id: &PrincipalId| match (id.account(), catalogue.principal(id)) {
        (Some(account), _) => core.scope().root_arn(account),
        (None, Some(principal)) => principal.arn.to_string(),
        (None, None) => id.to_string(),
    };
    let constraint = grant.constraint.as_ref().map(|constraint| (kind_of(constraint.kind), constraint.pairs.clone()));
    GrantView {
        key_arn: core.scope().key_arn(grant.key),
        id: grant.id.clone(),
        name: grant.name.clone(),
        grantee: who(&grant.grantee),
        retiring: grant.retiring.as_ref().map(who),
        issuing_account: core.scope().root_arn(&grant.issuing_account),
        operations: grant.operations.clone(),
        constraint,
        created_at: grant.created_at,
    }
}
