//! Policies as they are decided by: everything that does not depend on a request has been done.

use std::sync::Arc;

use model::id::PolicyName;

use super::actions::{Actions, Asked};
use super::condition::{Condition, Effect};
use super::finding::{Finding, Severity};
use super::principal::{Bindings, Whom};
use super::resource::Resources;
use super::scene::Scene;
use super::variable::Template;

/// Whose policy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A key's. With the key's ARN, where it is known, it is looked at whether its resources can be the key.
    Key {
        /// The key's ARN.
        arn: Option<&'a str>,
    },
    /// A principal's or a group's.
    Identity,
}

/// Since when a policy is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// It is put now, or looked at before that.
    Now,
    /// It was put before, and is read again.
    Before,
}

/// A policy, ready to be decided by.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(super) name: PolicyName,
    pub(super) of_key: bool,
    pub(super) statements: Box<[Statement]>,
    pub(super) bindings: Bindings,
}

/// A policy that can be put, and what is doubtful about it.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The policy.
    pub policy: Policy,
    /// None of them an error.
    pub warnings: Vec<Finding>,
}

/// Why a policy cannot be put: its findings, one error among them at least.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", sentence(.0))]
pub struct Refused(pub Vec<Finding>);

/// The errors in one line.
fn sentence(findings: &[Finding]) -> String {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    errors.map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// One statement.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) sid: Option<Arc<str>>,
    pub(super) effect: Effect,
    pub(super) whom: Whom,
    /// Absent where the statement has none, and so no effect.
    pub(super) actions: Option<Actions>,
    /// As `actions`.
    pub(super) resources: Option<Resources>,
    pub(super) conditions: Box<[Condition]>,
}

impl Policy {
    /// Its name: `default` for that of a key.
    #[must_use]
    pub fn name(&self) -> &PolicyName {
        &self.name
    }

    /// Whom its ARNs mean. Whoever keeps the text keeps this too, and gives it to [`Policy::compile_saved`] to have
    /// the same policy again.
    #[must_use]
    pub fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// Whether it has a statement that allows an action, whatever else that one says: whoever has none but policies without
    /// one is not allowed it by any of them.
    #[must_use]
    pub fn may_allow(&self, action: &str) -> bool {
        let asked = Asked::of(action);
        self.statements.iter().any(|one| one.effect == Effect::Allow && one.is_about_action(&asked))
    }

    /// Whether what it says about an action may be another thing at the next request of the same caller with the same
    /// key. If it may not, a verdict can be kept until something of the policies, the key or the caller changes, their
    /// tags and aliases included. That is for keys: what a key to be made will be is the request's. Grants have an answer
    /// of their own.
    #[must_use]
    pub fn depends_on_request(&self, action: &str) -> bool {
        let asked = Asked::of(action);
        let of_request = |statement: &Statement| {
            let mut resources = statement.resources.iter().flat_map(Resources::templates);
            statement.conditions.iter().any(Condition::is_of_request) || resources.any(Template::is_of_request)
        };
        self.statements.iter().any(|statement| statement.is_about_action(&asked) && of_request(statement))
    }
}

impl Statement {
    /// Whether it says anything about an action.
    pub(super) fn is_about_action(&self, asked: &Asked<'_>) -> bool {
        self.resources.is_some() && self.actions.as_ref().is_some_and(|actions| actions.have(asked))
    }

    /// Whether everything but the principal fits. What costs least is looked at first.
    pub(super) fn applies(&self, asked: &Asked<'_>, scene: &Scene<'_>) -> bool {
        let fits = |resources: &Resources| resources.fit(scene, self.effect);
        self.is_about_action(asked)
            && self.resources.as_ref().is_some_and(fits)
            && self.conditions.iter().all(|condition| condition.met(scene, self.effect))
    }
}
