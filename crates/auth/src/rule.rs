//! Who may do what. Pure: statements and a request in, a verdict with its reason out.
//!
//! A statement that denies wins over all that allow; what no statement allows is denied.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::request::AuthorizationRequest;

/// Whether a statement allows or denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It allows.
    Allow,
    /// It denies, whatever else allows.
    Deny,
}

/// What a statement says about one property of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Matcher {
    /// Nothing.
    #[default]
    Any,
    /// That it is this.
    Is(Arc<str>),
}

impl Matcher {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Is(only) => **only == *text,
        }
    }
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// By which it is named as a reason.
    pub id: Arc<str>,
    /// What it does.
    pub effect: Effect,
    /// To whom.
    pub principal: Matcher,
    /// Of which permission.
    pub action: Matcher,
    /// With which ARN.
    pub resource: Matcher,
    /// Only where the encryption context has all of these pairs.
    pub encryption_context: BTreeMap<String, String>,
}

impl Statement {
    fn applies(&self, request: &AuthorizationRequest<'_>) -> bool {
        let pair = |(name, value)| {
            request.conditions.encryption_context.is_some_and(|given| given.pairs().get(name) == Some(value))
        };
        self.principal.matches(request.context.principal.as_str())
            && self.action.matches(request.action)
            && self.resource.matches(request.resource)
            && self.encryption_context.iter().all(pair)
    }
}

/// Every statement that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    statements: Vec<Statement>,
}

/// What decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason<'a> {
    /// The statement with this id.
    Statement(&'a str),
    /// That no statement allows it.
    NothingAllows,
}

/// What the rules say of a request, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Allowed.
    Allow(Reason<'a>),
    /// Denied.
    Deny(Reason<'a>),
}

impl Rules {
    /// These statements and no other.
    #[must_use]
    pub fn new(statements: Vec<Statement>) -> Self {
        Self { statements }
    }

    /// What holds until there are policies: every certificate of the client CA may call everything.
    #[must_use]
    pub fn built_in() -> Self {
        Self::new(vec![Statement {
            id: "every-client".into(),
            effect: Effect::Allow,
            principal: Matcher::Any,
            action: Matcher::Any,
            resource: Matcher::Any,
            encryption_context: BTreeMap::new(),
        }])
    }

    /// Decides one request.
    #[must_use]
    pub fn decide(&self, request: &AuthorizationRequest<'_>) -> Verdict<'_> {
        let mut allowed = None;
        for statement in self.statements.iter().filter(|statement| statement.applies(request)) {
            match statement.effect {
                Effect::Deny => return Verdict::Deny(Reason::Statement(&statement.id)),
                Effect::Allow => allowed = allowed.or(Some(statement)),
            }
        }
        match allowed {
            Some(statement) => Verdict::Allow(Reason::Statement(&statement.id)),
            None => Verdict::Deny(Reason::NothingAllows),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Principal;
    use crate::request::{Conditions, Interface, NO_RESOURCE, RequestContext};
    use model::clock::Clock;
    use model::context::EncryptionContext;

    fn context(principal: &str) -> RequestContext {
        RequestContext {
            principal: Principal::new(principal),
            source: None,
            user_agent: None,
            interface: Interface::Grpc,
            request_id: "r-1".into(),
            deadline: Clock::manual().now(),
            charge: None,
        }
    }

    fn statement(id: &str, effect: Effect) -> Statement {
        let (any, encryption_context) = (Matcher::Any, BTreeMap::new());
        Statement {
            id: id.into(),
            effect,
            principal: any.clone(),
            action: any.clone(),
            resource: any,
            encryption_context,
        }
    }

    fn asked<'a>(context: &'a RequestContext, resource: &'a str) -> AuthorizationRequest<'a> {
        AuthorizationRequest { context, action: "kms:Encrypt", resource, conditions: Conditions::default() }
    }

    fn allows(rules: &Rules, request: AuthorizationRequest<'_>) -> bool {
        matches!(rules.decide(&request), Verdict::Allow(_))
    }

    #[test]
    fn what_nothing_allows_is_denied_and_a_denial_wins() {
        let anna = context("cn:anna");
        let nothing = Rules::new(Vec::new());
        assert_eq!(nothing.decide(&asked(&anna, NO_RESOURCE)), Verdict::Deny(Reason::NothingAllows));
        let (allow, deny) = (statement("all", Effect::Allow), statement("none", Effect::Deny));
        for both in [vec![allow.clone(), deny.clone()], vec![deny, allow.clone()]] {
            let rules = Rules::new(both);
            assert_eq!(rules.decide(&asked(&anna, NO_RESOURCE)), Verdict::Deny(Reason::Statement("none")));
        }
        assert_eq!(
            Rules::new(vec![allow]).decide(&asked(&anna, NO_RESOURCE)),
            Verdict::Allow(Reason::Statement("all"))
        );
    }

    #[test]
    fn a_statement_counts_only_for_what_it_is_about() {
        let (anna, bert) = (context("cn:anna"), context("cn:bert"));
        let only = |narrow: fn(&mut Statement)| {
            let mut statement = statement("narrow", Effect::Allow);
            narrow(&mut statement);
            Rules::new(vec![statement])
        };
        let to_anna = only(|statement| statement.principal = Matcher::Is("cn:anna".into()));
        assert!(allows(&to_anna, asked(&anna, "arn:a")) && !allows(&to_anna, asked(&bert, "arn:a")));
        let of_a = only(|statement| statement.resource = Matcher::Is("arn:a".into()));
        assert!(allows(&of_a, asked(&anna, "arn:a")) && !allows(&of_a, asked(&anna, "arn:b")));
        let decrypt = only(|statement| statement.action = Matcher::Is("kms:Decrypt".into()));
        assert!(!allows(&decrypt, asked(&anna, "arn:a")));
        let tenant = only(|statement| {
            statement.encryption_context.insert("tenant".to_owned(), "7".to_owned());
        });
        assert!(!allows(&tenant, asked(&anna, "arn:a")), "no encryption context at all");
        let pairs = |value: &str| {
            let pairs = [("tenant", value), ("more", "x")].map(|(name, value)| (name.to_owned(), value.to_owned()));
            EncryptionContext::new(pairs.into()).unwrap()
        };
        let with = |given: &EncryptionContext| {
            let conditions = Conditions { encryption_context: Some(given) };
            allows(&tenant, AuthorizationRequest { conditions, ..asked(&anna, "arn:a") })
        };
        assert!(with(&pairs("7")) && !with(&pairs("8")));
    }
}
