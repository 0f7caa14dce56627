//! ExplainAccess and CheckPolicy: why somebody may do something or may not, and what is wrong with a policy.

use std::collections::BTreeMap;

use crate::core::access::{Details, NO_KEY, Named, Said};
use crate::core::authority::{Judge, KEY_SPEC, Subject};
use crate::core::{Core, validate};
use crate::{Error, RequestContext, Service};
use auth::policy::{Denying, KEY_POLICY, Kind, Missing, Near, Parameters, Severity, Verdict, check};
use auth::request::NO_RESOURCE;
use model::id::{AccessKeyId, AliasName, GrantId, KeyId};
use model::limits::{self, DELETION_WINDOW_DAYS, ROTATION_PERIOD_DEFAULT};
use model::operation::{Operation, OperationSpec, Plane, Resource};

use super::grants::CreateGrantInput;
use super::policies::{home, now};

/// What is to be explained.
#[derive(Clone, Debug, Default)]
pub struct ExplainInput {
    /// The ARN of a principal, or the name of a certificate, such as `cn:app`.
    pub principal: String,
    /// A permission, such as `kms:Decrypt`.
    pub action: String,
    /// Key id, key ARN or alias; empty where it is not about a key. An alias is what `kms:RequestAlias` sees.
    pub key_id: String,
    /// The ARN of what else it is about, of at most 2,048 bytes; empty: nothing that has one.
    pub resource: String,
    /// Pairs of the encryption context.
    pub context: BTreeMap<String, String>,
    /// What else the operation would be called with.
    pub parameters: CallParameters,
}

/// Parameters of operations on which conditions may depend. What an operation does not have is not looked at, and what is
/// absent is as the operation has it then.
#[derive(Clone, Debug, Default)]
pub struct CallParameters {
    /// Tags that are to be given: of TagResource and CreateKey.
    pub tags: Vec<(String, String)>,
    /// Keys of tags that are to be taken away: of UntagResource.
    pub tag_keys: Vec<String>,
    /// Of ScheduleKeyDeletion.
    pub pending_window_days: Option<u32>,
    /// Of EnableKeyRotation.
    pub rotation_period_days: Option<u32>,
    /// Of PutKeyPolicy and CreateKey.
    pub bypass_lockout_check: bool,
    /// Of ReEncrypt: whether both keys are one.
    pub same_key: bool,
    /// The grant that CreateGrant is to make; which key it is of is said elsewhere.
    pub grant: Option<CreateGrantInput>,
    /// The grant that RetireGrant or RevokeGrant is to take away.
    pub grant_id: String,
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
    /// Where nothing allows it: statements that would but for one of their elements, the nearest first.
    pub nearest: Vec<NearStatement>,
}

/// A statement that would allow something but for one of its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearStatement {
    /// Whether it is one of the key's policy; else it is one of an identity policy.
    pub of_key: bool,
    /// The policy's name.
    pub policy: String,
    /// Its place in the policy, from 0.
    pub index: usize,
    /// Its name, where it has one.
    pub sid: Option<String>,
    /// The element's name.
    pub element: &'static str,
    /// What is in the way.
    pub why: String,
}

/// Whose policy is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckedPolicy {
    /// One that is attached to principals and groups.
    Identity,
    /// A key's, whichever key that is.
    AnyKey,
    /// That of a key, by its id or ARN.
    Key(String),
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
    /// What is wrong or doubtful there.
    pub problem: String,
}

impl Service {
    /// Says whether a principal may do something with something, and why, as if it called from where the caller does.
    pub async fn explain_access(&self, call: &RequestContext, input: ExplainInput) -> Result<Explained, Error> {
        let (of_task, said) = (call.clone(), input.clone());
        let resource = Named::nothing().asking(move |_, say| {
            let ExplainInput { principal, action, key_id, resource, context, parameters: _ } = &said;
            let context = context.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            say.text("principal", principal)
                .text("action", action)
                .text("keyId", key_id)
                .text("resource", resource)
                .pairs("encryptionContext", context)
        });
        let read = move |core: &Core| explain(core, &of_task, input);
        self.core.on_catalogue(call, Operation::ExplainAccess, resource, read).await
    }

    /// Looks for what is wrong or doubtful about a policy of a key, or of a principal, before it is put.
    pub async fn check_policy(
        &self,
        call: &RequestContext,
        document: String,
        of: CheckedPolicy,
    ) -> Result<Vec<PolicyFinding>, Error> {
        let said = (document.clone(), of.clone());
        let resource = Named::nothing().asking(move |_, say| {
            let say = say.policy("policyDocument", &said.0, || None);
            match &said.1 {
                CheckedPolicy::Identity => say.text("kind", "IDENTITY"),
                CheckedPolicy::AnyKey => say.text("kind", "KEY"),
                CheckedPolicy::Key(key) => say.text("kind", "KEY").text("keyId", key),
            }
        });
        let of_task = call.clone();
        let read = move |core: &Core| {
            let catalogue = core.store().catalogue();
            // Whether there is such a key is not looked at: its ARN is enough.
            let arn = match &of {
                CheckedPolicy::Key(key) => {
                    Some(core.scope().key_arn(core.key_named(&of_task, Operation::PutKeyPolicy, key, &catalogue)?))
                }
                CheckedPolicy::Identity | CheckedPolicy::AnyKey => None,
            };
            let kind = if of == CheckedPolicy::Identity { Kind::Identity } else { Kind::Key { arn: arn.as_deref() } };
            let findings = check(&document, kind, Some(home(core.scope())), &|arn| now(&catalogue, arn));
            let findings = findings.into_iter().map(|finding| PolicyFinding {
                is_error: finding.severity == Severity::Error,
                place: finding.place,
                line: finding.line,
                problem: finding.problem.to_string(),
            });
            Ok(findings.collect())
        };
        self.core.on_catalogue(call, Operation::CheckPolicy, resource, read).await
    }
}

fn explain(core: &Core, call: &RequestContext, input: ExplainInput) -> Result<Explained, Error> {
    validate::length("action", input.action.len(), 1, limits::ACTION_CHARS)?;
    validate::length("resource", input.resource.len(), 0, limits::RESOURCE_ARN_BYTES)?;
    validate::length("grantId", input.parameters.grant_id.len(), 0, limits::GRANT_ID_CHARS)?;
    let (keyring, authority) = (core.keyring(), core.authority());
    let named = input.principal.as_str();
    validate::length("principal", named.len(), 1, limits::IDENTITY_BYTES)?;
    // Whom the name of a certificate or of an access key means, and which names of the same principal stand in the configuration.
    let is_arn = named.starts_with("arn:");
    let principal = match is_arn {
        true => Some(core.principal(named)?),
        false => {
            if AccessKeyId::of_identity(named).is_none() {
                validate::identity(named)?;
            }
            keyring.catalogue.principal_known_as(named).cloned()
        }
    };
    let identities = principal.iter().flat_map(|principal| {
        let active = principal.access_keys.iter().filter(|key| key.active);
        principal.identities.iter().map(|one| one.name.clone()).chain(active.map(|key| key.id.identity()))
    });
    let names: Vec<String> = if is_arn { identities.collect() } else { vec![named.to_owned()] };
    let administrators: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| authority.is_administrator(name)).collect();
    Ok(match &principal {
        _ if input.action.eq_ignore_ascii_case(Operation::WhoAmI.spec().permission) => {
            explained(true, "allowed: everybody may ask who he is", "nothing would change it")
        }
        _ if !names.is_empty() && administrators.len() == names.len() => unbound(&administrators),
        None => explained(
            false,
            format!("denied: {named} is mapped to no principal"),
            "an administrator has to make a principal for it, or to give it to one that there is",
        ),
        Some(principal) => {
            let judge = Judge::of_other(core, &keyring, call, principal);
            let told = by_policies(&judge, &input)?;
            match administrators.is_empty() {
                true => told,
                false => Explained { reason: format!("{}; {}", told.reason, unbound(&administrators).reason), ..told },
            }
        }
    })
}

fn explained(allowed: bool, reason: impl Into<String>, change: &str) -> Explained {
    Explained { allowed, reason: reason.into(), change: change.to_owned(), nearest: Vec::new() }
}

fn unbound(administrators: &[&str]) -> Explained {
    let names = administrators.join(", ");
    let reason = format!("allowed to {names}, an administrator of the configuration: no policy binds it");
    explained(true, reason, "the name has to be taken out of the configuration's administrators")
}

fn by_policies(judge: &Judge<'_>, input: &ExplainInput) -> Result<Explained, Error> {
    let (core, keyring) = (judge.core(), judge.keyring());
    let ExplainInput { action, key_id, resource, context, parameters, .. } = input;
    // Any operation whose keys may be named by an alias.
    let key = match key_id.as_str() {
        // A key's ARN is a key, wherever it stands: its policy has its say.
        "" if resource.starts_with(core.scope().key_arn(NO_KEY).trim_end_matches(|c| c != '/')) => {
            Some(core.key_named(judge.call(), Operation::GetKeyPolicy, resource, &keyring.catalogue)?)
        }
        "" => None,
        text => Some(core.key_named(judge.call(), Operation::DescribeKey, text, &keyring.catalogue)?),
    };
    if let Some(key) = key.filter(|key| keyring.key(*key).is_none()) {
        return Err(Error::no_key(&core.scope().key_arn(key)));
    }
    let spec = spec_of(action).ok_or_else(|| {
        let action = validate::shown(action);
        Error::validation(format!("action: no operation needs the permission '{action}'; they read like kms:Decrypt"))
    })?;
    can_be_about(&spec, key, resource)?;
    let arn = match key {
        Some(key) => core.scope().key_arn(key),
        None if resource.is_empty() => NO_RESOURCE.to_owned(),
        None => resource.clone(),
    };
    // On approvals of what is to be done with a key, and on its being put back, its policy has no say.
    let with_key = key.filter(|_| spec.resource != Resource::Approval && !puts_back(&spec));
    let subject = with_key.map_or(Subject::Other(&arn), |key| Subject::key(keyring, key, &arn));
    if let Some(policy) = judge.unreadable(subject) {
        let reason = format!("denied: {policy} cannot be read by this release, and may deny anything");
        return Ok(explained(false, reason, "that policy has to be put anew"));
    }
    let is = |operation: Operation| action.eq_ignore_ascii_case(operation.spec().permission);
    if let (Some(key), true, false) = (key, is(Operation::RetireGrant), parameters.grant_id.is_empty()) {
        return judge
            .explained_retiring(key, &GrantId::from(parameters.grant_id.as_str()), |verdict| told(verdict, &[]));
    }
    let said = Said::new(validate::context(context.clone())?, key_id);
    let details = details(core, key, parameters, &is)?;
    details.can_be()?;
    let uses_key = spec.plane() == Plane::Data && spec.resource == Resource::KeyOrAlias;
    let re_encrypts = spec.source_permission.is_some();
    let asked = Parameters {
        encryption_context: uses_key.then_some(&said.context),
        encryption_algorithm: uses_key.then_some(KEY_SPEC),
        alias: said.alias.as_ref().map(AliasName::as_str),
        same_key: re_encrypts.then_some(parameters.same_key),
        ..details.parameters()
    };
    // Grants compare names with their case, and policies do not.
    let named = spec.source_permission.filter(|source| action.eq_ignore_ascii_case(source)).unwrap_or(spec.permission);
    judge.explained(named, subject, asked, NEAREST, |verdict, nearest| told(verdict, &nearest))
}

/// Refuses what no call with this permission is about: a verdict on it would be none on the call.
fn can_be_about(spec: &OperationSpec, key: Option<KeyId>, resource: &str) -> Result<(), Error> {
    let needs_key = matches!(spec.resource, Resource::Key | Resource::KeyOrAlias);
    // Keys are asked about as well where they are put back, and where they get and lose aliases.
    let takes_key = needs_key || puts_back(spec) || matches!(spec.resource, Resource::Alias | Resource::Approval);
    Err(Error::validation(match key {
        None if needs_key => "keyId: what decides on this permission is a key's policy; name the key",
        Some(_) if !takes_key => {
            "keyId: no key decides on this permission; leave it out, and name the ARN of what the call is about, if it is about \
             anything"
        }
        None if spec.resource == Resource::Account && !["", NO_RESOURCE].contains(&resource) => {
            "resource: what needs this permission is about nothing that has an ARN; leave it out"
        }
        _ => return Ok(()),
    }))
}

/// Whether it is the permission to put keys back, of which identity policies alone are asked.
fn puts_back(spec: &OperationSpec) -> bool {
    spec.permission == Operation::ResyncKeys.spec().permission
}

/// The operation that needs a permission.
fn spec_of(action: &str) -> Option<OperationSpec> {
    Operation::ALL.iter().map(|operation| operation.spec()).find(|spec| {
        let names = [Some(spec.permission), spec.source_permission];
        names.into_iter().flatten().any(|permission| action.eq_ignore_ascii_case(permission))
    })
}

/// What an operation says of itself, as its use case has it.
fn details(
    core: &Core,
    key: Option<KeyId>,
    parameters: &CallParameters,
    is: &impl Fn(Operation) -> bool,
) -> Result<Details, Error> {
    let CallParameters { tags, tag_keys, bypass_lockout_check, grant, grant_id, .. } = parameters;
    let tagged = is(Operation::TagResource) || is(Operation::CreateKey) && !tags.is_empty();
    let grant = match (grant, key) {
        (Some(grant), _) if is(Operation::CreateGrant) => Some(core.granting(grant)?),
        (_, Some(key)) if is(Operation::RevokeGrant) => core.granting_of(key, &GrantId::from(grant_id.as_str())),
        _ => None,
    };
    let (window, period) = (parameters.pending_window_days, parameters.rotation_period_days);
    Ok(Details {
        makes_key: is(Operation::CreateKey),
        tags: tagged.then(|| tags.clone()),
        tag_keys: is(Operation::UntagResource).then(|| tag_keys.clone()),
        pending_window_days: is(Operation::ScheduleKeyDeletion).then(|| window.unwrap_or(DELETION_WINDOW_DAYS.1)),
        rotation_period_days: is(Operation::EnableKeyRotation).then(|| period.unwrap_or(ROTATION_PERIOD_DEFAULT)),
        bypass_lockout_check: (is(Operation::PutKeyPolicy) || is(Operation::CreateKey))
            .then_some(*bypass_lockout_check),
        policy_name: is(Operation::PutKeyPolicy).then_some(KEY_POLICY),
        grant,
        ..Details::default()
    })
}

/// So many statements are named that would nearly allow something.
const NEAREST: usize = 5;

fn told(verdict: Verdict<'_>, nearest: &[Near<'_>]) -> Explained {
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
    let nearest = nearest.iter().map(|Near { statement, lacks }| NearStatement {
        of_key: statement.of_key,
        policy: statement.policy.to_owned(),
        index: statement.index,
        sid: statement.sid.map(str::to_owned),
        element: lacks.element(),
        why: lacks.to_string(),
    });
    let nearest = nearest.collect();
    Explained { allowed: verdict.is_allowed(), reason: verdict.to_string(), change: change.to_owned(), nearest }
}
