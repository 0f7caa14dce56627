//! What would allow a request but for one of its elements: what would have to change, for people who ask why not.

use std::fmt;

use super::actions::{Asked, crosses_accounts};
use super::compiled::{Policy, Statement};
use super::condition::{Condition, Effect};
use super::decide::{Deciding, Rules, deciding};
use super::principal::About;
use super::request::Request;
use super::scene::Scene;

/// Values of a condition key that are shown.
const VALUES: usize = 5;
/// Characters of one that are shown.
const VALUE_CHARS: usize = 100;

/// A statement that would allow a request but for one of its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Near<'a> {
    /// Which it is.
    pub statement: Deciding<'a>,
    /// Which element it is.
    pub lacks: Lack,
}

/// Which element keeps a statement from allowing a request. The first ones are the nearest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// These of its conditions.
    Condition(Vec<Unmet>),
    /// It is about other resources than this one.
    Resource(String),
    /// It is about other actions than this one.
    Action(String),
    /// It is about others than this caller.
    Principal(String),
}

/// A condition that a request does not meet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unmet {
    /// Such as `StringEquals`.
    pub operator: String,
    /// Such as `aws:SourceIp`.
    pub key: String,
    /// The values that the request has of it, some of them, cut; none where the key is absent.
    pub seen: Vec<String>,
}

impl Lack {
    /// The element's name.
    #[must_use]
    pub const fn element(&self) -> &'static str {
        match self {
            Self::Condition(_) => "Condition",
            Self::Resource(_) => "Resource",
            Self::Action(_) => "Action",
            Self::Principal(_) => "Principal",
        }
    }
}

/// Statements of a request's policies that would allow it but for one element, the nearest first; so many at most.
#[must_use]
pub fn nearest<'a>(request: &Request<'_>, rules: &Rules<'a>, most: usize) -> Vec<Near<'a>> {
    let (caller, target) = (&request.caller, &request.target);
    // No statement helps these.
    if caller.account != target.account && (target.key.is_none() || !crosses_accounts(request.action)) {
        return Vec::new();
    }
    let (scene, asked) = (Scene::of(request), Asked::of(request.action));
    let key_policy = rules.key_policy.filter(|_| target.key.is_some());
    let identity = rules.identity_policies.iter().map(|policy| &**policy).filter(|policy| !policy.of_key);
    // Where the key's policy leaves it to the account already, another statement that would is of no use.
    let leaves = |statement: &Statement| statement.whom.allows(caller) == About::ItsAccount;
    let mut of_key = key_policy.iter().flat_map(|policy| &policy.statements);
    let is_left = of_key.any(|one| one.effect == Effect::Allow && leaves(one) && one.applies(&asked, &scene));
    let is_of_use = |statement: &Statement| !is_left || !leaves(statement);
    let mut all: Vec<Near<'_>> =
        key_policy.into_iter().chain(identity).flat_map(|policy| near_in(policy, &asked, &scene, &is_of_use)).collect();
    // Those of one kind stay in their order.
    all.sort_by_key(|near| near.lacks.element_rank());
    all.truncate(most);
    all
}

impl Lack {
    const fn element_rank(&self) -> u8 {
        match self {
            Self::Condition(_) => 0,
            Self::Resource(_) => 1,
            Self::Action(_) => 2,
            Self::Principal(_) => 3,
        }
    }
}

fn near_in<'a>(
    policy: &'a Policy,
    asked: &Asked<'_>,
    scene: &Scene<'_>,
    is_of_use: &dyn Fn(&Statement) -> bool,
) -> Vec<Near<'a>> {
    let allows = policy.statements.iter().enumerate();
    let allows = allows.filter(|(_, statement)| statement.effect == Effect::Allow && is_of_use(statement));
    let near = allows.filter_map(|(index, statement)| {
        Some(Near { statement: deciding(policy, index, statement), lacks: lack(statement, asked, scene)? })
    });
    near.collect()
}

/// The one element that keeps it from allowing; nothing where it is none, or several.
fn lack(statement: &Statement, asked: &Asked<'_>, scene: &Scene<'_>) -> Option<Lack> {
    let (actions, resources) = (statement.actions.as_ref()?, statement.resources.as_ref()?);
    let (caller, request) = (&scene.request.caller, scene.request);
    let unmet: Vec<&Condition> =
        statement.conditions.iter().filter(|condition| !condition.met(scene, statement.effect)).collect();
    let condition = || Lack::Condition(unmet.iter().map(|condition| condition.unmet(scene)).collect());
    let wrong = [
        (!unmet.is_empty()).then(condition),
        (!resources.fit(scene, statement.effect)).then(|| Lack::Resource(request.target.arn.to_owned())),
        (!actions.have(asked)).then(|| Lack::Action(request.action.to_owned())),
        (statement.whom.allows(caller) == About::Nobody).then(|| Lack::Principal(caller.arn.to_owned())),
    ];
    let mut wrong = wrong.into_iter().flatten();
    wrong.next().filter(|_| wrong.next().is_none())
}

impl Condition {
    fn unmet(&self, scene: &Scene<'_>) -> Unmet {
        let mut seen = Vec::new();
        scene.each(self.key(), &mut |value| {
            if seen.len() < VALUES {
                let text = value.text();
                let cut: String = text.chars().take(VALUE_CHARS).collect();
                seen.push(if cut.len() == text.len() { cut } else { cut + "…" });
            }
        });
        Unmet { operator: self.operator().to_string(), key: self.key().to_string(), seen }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Condition(all) => {
                for (at, unmet) in all.iter().enumerate() {
                    if at > 0 {
                        f.write_str("; ")?;
                    }
                    write!(f, "{unmet}")?;
                }
                Ok(())
            }
            Self::Resource(arn) => write!(f, "it is not about {arn}"),
            Self::Action(action) => write!(f, "it is not about {action}"),
            Self::Principal(arn) => write!(f, "it is not about {arn}"),
        }
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operator, key, seen } = self;
        write!(f, "{operator} of {key} is not met: ")?;
        match seen.is_empty() {
            true => f.write_str("the request does not have it"),
            false => {
                let shown: Vec<String> = seen.iter().map(|value| format!("{value:?}")).collect();
                write!(f, "the request has {}", shown.join(", "))
            }
        }
    }
}
