//! ExplainAccess and CheckPolicy: why somebody may do something or may not, and what is wrong with a policy.

use std::collections::BTreeMap;

use crate::core::access::{Named, Said};
use crate::core::authority::{Judge, Subject};
use crate::core::{Core, validate};
use crate::{Error, RequestContext, Service};
use auth::policy::{Denying, Kind, Missing, Severity, Verdict, check};
use auth::request::NO_RESOURCE;
use model::limits;
use model::operation::Operation;

use super::policies::now;

/// What is to be explained.
#[derive(Clone, Debug, Default)]
pub struct ExplainInput {
    /// The ARN of a principal.
    pub principal: String,
    /// A permission, such as `kms:Decrypt`.
    pub action: String,
    /// Key id, key ARN or alias; empty where it is not about a key.
    pub key_id: String,
    /// The ARN of what else it is about; empty: nothing that has one.
    pub resource: String,
    /// Pairs of the encryption context.
    pub context: BTreeMap<String, String>,
}

/// Why somebody may do something or may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Whether it is allowed.
    pub allowed: bool,
    /// By which statement or grant, or where one is missing.
    pub reason: String,
    /// What would have to change for it to be otherwise.
    pub change: String,
}

/// What is wrong or doubtful about a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFinding {
    /// It cannot be put because of this.
    pub is_error: bool,
    /// Such as `Statement[2].Condition`; empty for the whole.
    pub place: String,
    /// The line in the text, from 1.
    pub line: usize,
    /// What it is.
    pub problem: String,
}

impl Service {
    /// Says whether a principal may do something with something, and why, as if it called from where the caller does.
    pub async fn explain_access(&self, call: &RequestContext, input: ExplainInput) -> Result<Explained, Error> {
        let of_task = call.clone();
        let read = move |core: &Core| explain(core, &of_task, input);
        self.core.on_catalogue(call, Operation::ExplainAccess, Ok(Named::nothing()), read).await
    }

    /// Looks for what is wrong or doubtful about a policy of a key, or of a principal, before it is put.
    pub async fn check_policy(
        &self,
        call: &RequestContext,
        document: String,
        of_key: bool,
    ) -> Result<Vec<PolicyFinding>, Error> {
        let read = move |core: &Core| {
            let catalogue = core.store().catalogue();
            let kind = if of_key { Kind::Key { arn: None } } else { Kind::Identity };
            let findings =
                check(&document, kind, &|arn| now(&catalogue, arn)).into_iter().map(|finding| PolicyFinding {
                    is_error: finding.severity == Severity::Error,
                    place: finding.place,
                    line: finding.line,
                    problem: finding.problem.to_string(),
                });
            Ok(findings.collect())
        };
        self.core.on_catalogue(call, Operation::CheckPolicy, Ok(Named::nothing()), read).await
    }
}

fn explain(core: &Core, call: &RequestContext, input: ExplainInput) -> Result<Explained, Error> {
    let ExplainInput { principal, action, key_id, resource, context } = input;
    validate::length("action", action.len(), 1, limits::ACTION_CHARS)?;
    let said = Said::new(validate::context(context)?, &key_id);
    let principal = core.principal(&principal)?;
    let keyring = core.keyring();
    let judge = Judge::of_other(core, &keyring, call, principal);
    let verdict = |subject: Subject<'_>| judge.explained(&action, subject, said.parameters(), told);
    if key_id.is_empty() {
        let named = if resource.is_empty() { NO_RESOURCE } else { resource.as_str() };
        return verdict(Subject::Other(named));
    }
    // Any operation whose keys may be named by an alias.
    let id = core.key_named(Operation::DescribeKey, &key_id, &keyring.catalogue)?;
    verdict(Subject::key(&keyring, id, &core.scope().key_arn(id)))
}

fn told(verdict: Verdict<'_>) -> Explained {
    let change = match verdict {
        Verdict::Allow(_) => "a statement that denies it in any of the policies, or the end of what allows it",
        Verdict::Deny(Denying::Statement(_)) => "that statement has to go, or its conditions not to be met",
        Verdict::Deny(Denying::Nothing(missing)) => match missing {
            Missing::KeyPolicy => {
                "the key's policy has to allow it to the principal, or to name the account; or a grant has to allow it"
            }
            Missing::IdentityPolicies => "a policy that allows it has to be attached to the principal or a group of it",
            Missing::Everywhere => {
                "the key's policy has to allow it to the principal; or to name the account, and a policy that is attached \
                 to the principal or a group of it to allow it; or a grant has to allow it"
            }
            Missing::OtherAccount => "a principal of the account of this installation has to do it",
            Missing::TheGrant => "the grant's retiring principal, or one of its account, has to do it",
        },
    };
    Explained { allowed: verdict.is_allowed(), reason: verdict.to_string(), change: change.to_owned() }
}
