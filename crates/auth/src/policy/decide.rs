//! The decision: from a request, policies and grants to a verdict with its reason.
//!
//! - A Deny that applies wins over everything, whichever policy it is in.
//! - For a key its policy is the root. It may allow the caller itself, or leave it to the identity policies of the
//!   caller's account by naming the account. A caller of another account needs an Allow on both sides in any case.
//! - Grants allow beside the policies.
//! - With what is no key, the identity policies of its own account decide alone.
//!
//! The order of statements and policies decides which reason is given, and never what is decided.

use std::fmt;
use std::sync::Arc;

use super::actions::{Asked, crosses_accounts};
use super::by_grant::{self, RETIRE};
use super::compiled::{Policy, Statement};
use super::condition::Effect;
use super::principal::About;
use super::request::{KEY_POLICY, Parameters, Request};
use super::scene::Scene;
use crate::grant::Grant;

/// What counts for a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules<'a> {
    /// Of the key that is the target. A key without one is as good as one whose policy allows nothing.
    pub key_policy: Option<&'a Policy>,
    /// All that are attached to the caller and to its groups.
    pub identity_policies: &'a [Arc<Policy>],
    /// Of the key, those of the caller at least; others do no harm.
    pub grants: &'a [Arc<Grant>],
}

/// A statement that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deciding<'a> {
    /// Whether it is one of the key's policy; else it is one of an identity policy.
    pub of_key: bool,
    /// The policy's name.
    pub policy: &'a str,
    /// The statement's place in its policy, from 0.
    pub index: usize,
    /// Its name, where it has one.
    pub sid: Option<&'a str>,
}

/// Allowed or not, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Allowed, by this statement, grant or right.
    Allow(Allowing<'a>),
    /// Denied, by a statement or because nothing allows it.
    Deny(Denying<'a>),
}

/// What allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowing<'a> {
    /// One statement alone.
    Statement(Deciding<'a>),
    /// The key's policy names the account, or the caller is of another one; and an identity policy allows as well.
    Both(Deciding<'a>, Deciding<'a>),
    /// The grant with this id.
    Grant(&'a str),
    /// The grant with this id, which is an account's or reaches into another one; and an identity policy as well.
    GrantAnd(&'a str, Deciding<'a>),
}

/// What denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denying<'a> {
    /// This statement.
    Statement(Deciding<'a>),
    /// That nothing allows it.
    Nothing(Missing),
}

/// Where an Allow is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// In the key's policy: identity policies allow, and it is not left to them.
    KeyPolicy,
    /// In the identity policies, to which the key's policy or a grant leaves it.
    IdentityPolicies,
    /// In the key's policy and in the identity policies: nothing allows it.
    Everywhere,
    /// Nowhere: callers of another account cannot be allowed this.
    OtherAccount,
    /// In the grant that is to be retired: policies do not decide that.
    TheGrant,
}

impl Verdict<'_> {
    /// Whether it is allowed.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }
}

/// Decides a request. Retiring a grant is decided by [`retire`].
#[must_use]
pub fn decide<'a>(request: &Request<'_>, rules: &Rules<'a>) -> Verdict<'a> {
    decide_over(request, rules, [])
}

/// The same, with further grants of the key, however they are kept: they are asked for only where policies leave it open.
#[must_use]
pub fn decide_over<'a>(
    request: &Request<'_>,
    rules: &Rules<'a>,
    further: impl IntoIterator<Item = &'a Arc<Grant>>,
) -> Verdict<'a> {
    let (scene, asked) = (Scene::of(request), Asked::of(request.action));
    let (caller, target) = (&request.caller, &request.target);
    if request.action == RETIRE {
        return Verdict::Deny(Denying::Nothing(Missing::TheGrant));
    }
    let (mut direct, mut left_to_account) = (None, None);
    let key_policy = rules.key_policy.filter(|_| target.key.is_some());
    for (index, statement) in key_policy.iter().flat_map(|policy| policy.statements.iter().enumerate()) {
        let deciding = || key_policy.map(|policy| deciding(policy, index, statement));
        match statement.effect {
            Effect::Deny => {
                if statement.whom.denies(caller) && statement.applies(&asked, &scene) {
                    return deciding().map_or(Verdict::Deny(Denying::Nothing(Missing::KeyPolicy)), deny);
                }
            }
            // What is known to be allowed is not looked for again.
            Effect::Allow if direct.is_some() => {}
            Effect::Allow => match statement.whom.allows(caller) {
                About::Nobody => {}
                About::ItsAccount if left_to_account.is_some() => {}
                About::ItsAccount if statement.applies(&asked, &scene) => left_to_account = deciding(),
                About::Caller if statement.applies(&asked, &scene) => direct = deciding(),
                About::ItsAccount | About::Caller => {}
            },
        }
    }
    let identity = match identity(rules.identity_policies, &asked, &scene) {
        Identity::Denies(deciding) => return deny(deciding),
        Identity::Allows(deciding) => Some(deciding),
        Identity::IsSilent => None,
    };
    let same_account = caller.account == target.account;
    if target.key.is_none() {
        return match identity {
            Some(deciding) if same_account => Verdict::Allow(Allowing::Statement(deciding)),
            _ if !same_account => Verdict::Deny(Denying::Nothing(Missing::OtherAccount)),
            _ => Verdict::Deny(Denying::Nothing(Missing::IdentityPolicies)),
        };
    }
    if !same_account && !crosses_accounts(request.action) {
        return Verdict::Deny(Denying::Nothing(Missing::OtherAccount));
    }
    if let (Some(deciding), true) = (direct, same_account) {
        return Verdict::Allow(Allowing::Statement(deciding));
    }
    let by_key = direct.or(left_to_account);
    if let (Some(by_key), Some(by_identity)) = (by_key, identity) {
        return Verdict::Allow(Allowing::Both(by_key, by_identity));
    }
    let mut left_by_grant = false;
    let sought = by_grant::Sought::of(request);
    for grant in rules.grants.iter().chain(further) {
        match (sought.as_ref().map_or(About::Nobody, |sought| sought.allowed_by(grant)), identity) {
            (About::Nobody, _) => {}
            (About::Caller, _) if same_account => return Verdict::Allow(Allowing::Grant(grant.id.as_str())),
            // AWS says of callers of other accounts that they need both sides, and nothing else of grants to them.
            (_, Some(deciding)) => return Verdict::Allow(Allowing::GrantAnd(grant.id.as_str(), deciding)),
            (_, None) => left_by_grant = true,
        }
    }
    Verdict::Deny(Denying::Nothing(match (by_key.is_some() || left_by_grant, identity) {
        (true, _) => Missing::IdentityPolicies,
        (false, Some(_)) => Missing::KeyPolicy,
        (false, None) => Missing::Everywhere,
    }))
}

/// Decides whether the caller of a request may retire a grant. The grant says who may: its retiring principal, its grantee
/// if it has the operation, and the account in which it was made. An account leaves it to its identity policies. Key
/// policies have no say; a Deny of an identity policy has.
#[must_use]
pub fn retire<'a>(request: &Request<'_>, grant: &'a Grant, identity_policies: &'a [Arc<Policy>]) -> Verdict<'a> {
    let request = Request { action: RETIRE, ..*request };
    let (scene, asked) = (Scene::of(&request), Asked::of(RETIRE));
    match (identity(identity_policies, &asked, &scene), by_grant::retires(grant, &request.caller)) {
        (Identity::Denies(deciding), _) => deny(deciding),
        (_, About::Caller) => Verdict::Allow(Allowing::Grant(grant.id.as_str())),
        (Identity::Allows(deciding), About::ItsAccount) => {
            Verdict::Allow(Allowing::GrantAnd(grant.id.as_str(), deciding))
        }
        (Identity::IsSilent, About::ItsAccount) => Verdict::Deny(Denying::Nothing(Missing::IdentityPolicies)),
        (_, About::Nobody) => Verdict::Deny(Denying::Nothing(Missing::TheGrant)),
    }
}

/// The lock-out check: whether the caller who makes this the policy of the key that a request is about could call
/// PutKeyPolicy after it.
#[must_use]
pub fn keeps_control(policy: &Policy, request: &Request<'_>, identity_policies: &[Arc<Policy>]) -> bool {
    // Of the later call all that is known is that it comes by the same way.
    let (bypass_lockout_check, policy_name) = (Some(false), Some(KEY_POLICY));
    let parameters = Parameters { bypass_lockout_check, policy_name, ..Parameters::default() };
    let later = Request { action: "kms:PutKeyPolicy", parameters, ..*request };
    decide(&later, &Rules { key_policy: Some(policy), identity_policies, grants: &[] }).is_allowed()
}

enum Identity<'a> {
    Denies(Deciding<'a>),
    Allows(Deciding<'a>),
    IsSilent,
}

fn identity<'a>(policies: &'a [Arc<Policy>], asked: &Asked<'_>, scene: &Scene<'_>) -> Identity<'a> {
    let mut allows = None;
    // A key policy that is attached to somebody says nothing about whom it is about.
    for policy in policies.iter().filter(|policy| !policy.of_key) {
        for (index, statement) in policy.statements.iter().enumerate() {
            match statement.effect {
                Effect::Allow if allows.is_some() => {}
                _ if !statement.applies(asked, scene) => {}
                Effect::Deny => return Identity::Denies(deciding(policy, index, statement)),
                Effect::Allow => allows = Some(deciding(policy, index, statement)),
            }
        }
    }
    allows.map_or(Identity::IsSilent, Identity::Allows)
}

/// Which statement it is.
pub(super) fn deciding<'a>(policy: &'a Policy, index: usize, statement: &'a Statement) -> Deciding<'a> {
    Deciding { of_key: policy.of_key, policy: policy.name.as_str(), index, sid: statement.sid.as_deref() }
}

fn deny(deciding: Deciding<'_>) -> Verdict<'_> {
    Verdict::Deny(Denying::Statement(deciding))
}

impl fmt::Display for Deciding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.of_key { "key policy" } else { "identity policy" };
        write!(f, "{kind} {} statement {}", self.policy, self.index)?;
        self.sid.map_or(Ok(()), |sid| write!(f, " ({sid})"))
    }
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow(Allowing::Statement(one)) => write!(f, "allowed by {one}"),
            Self::Allow(Allowing::Both(one, other)) => write!(f, "allowed by {one} and {other}"),
            Self::Allow(Allowing::Grant(id)) => write!(f, "allowed by grant {id}"),
            Self::Allow(Allowing::GrantAnd(id, one)) => write!(f, "allowed by grant {id} and {one}"),
            Self::Deny(Denying::Statement(one)) => write!(f, "denied by {one}"),
            Self::Deny(Denying::Nothing(missing)) => f.write_str(match missing {
                Missing::KeyPolicy => "denied: the key policy neither allows it nor leaves it to identity policies",
                Missing::IdentityPolicies => "denied: no identity policy allows it",
                Missing::Everywhere => "denied: neither the key policy nor an identity policy nor a grant allows it",
                Missing::OtherAccount => "denied: callers of another account cannot be allowed this",
                Missing::TheGrant => "denied: the grant lets its retiring principal, its grantee with RetireGrant or its account retire it",
            }),
        }
    }
}
