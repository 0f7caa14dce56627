//! A case: a request and the policies that count for it, decided by the evaluator, and written as a question.

use std::fmt;
use std::sync::Arc;

use auth::policy::{self, Denying, Kind, Policy, Rules};
use serde_json::{Map, Value, json};

use crate::policy::{Document, Reader};
use crate::world::{Ask, HERE, KEY, MANY, Thing, resolve};

/// A request and the policies that count for it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) ask: Ask,
    pub(crate) key: Option<Document>,
    pub(crate) own: Vec<Document>,
}

/// What is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Allowed,
    ExplicitlyDenied,
    ImplicitlyDenied,
}

impl Case {
    /// What the evaluator decides, with its reason.
    pub(crate) fn decide(&self) -> Result<(Verdict, String), String> {
        let compile = |document: &Document, kind| {
            let text = document.json(kind != Kind::Identity, Reader::Ours).to_string();
            let compiled = Policy::compile(&"drawn".into(), &text, kind, &resolve);
            compiled.map(|one| one.policy).map_err(|refused| format!("a policy is drawn that is refused: {refused}"))
        };
        let key = self.key.as_ref().map(|document| compile(document, Kind::Key { arn: Some(KEY) })).transpose()?;
        let own = self.own.iter().map(|document| compile(document, Kind::Identity).map(Arc::new));
        let own = own.collect::<Result<Vec<_>, _>>()?;
        let rules = Rules { key_policy: key.as_ref(), identity_policies: &own, grants: &[] };
        self.ask.with_request(|request| {
            let verdict = policy::decide(request, &rules);
            let short = match verdict {
                policy::Verdict::Allow(_) => Verdict::Allowed,
                policy::Verdict::Deny(Denying::Statement(_)) => Verdict::ExplicitlyDenied,
                policy::Verdict::Deny(Denying::Nothing(_)) => Verdict::ImplicitlyDenied,
            };
            Ok((short, verdict.to_string()))
        })
    }

    /// The case as the oracle is asked.
    pub(crate) fn question(&self) -> Value {
        let (ask, of_key) = (&self.ask, self.ask.action.thing == Thing::Key);
        let reader = Reader::Oracle { caller_account: !ask.is(&["kms:ListKeys"]) };
        let mut keys = Map::new();
        for (key, values) in ask.condition_keys() {
            let value = if MANY.contains(&&*key) { json!(values) } else { json!(values[0]) };
            keys.insert(reader.key(&key), value);
        }
        let policies = self.own.iter().enumerate();
        let mut own: Vec<_> =
            policies.map(|(at, one)| json!({"name": format!("own{at}"), "policy": one.json(false, reader)})).collect();
        if of_key && ask.who.is_root() && ask.who.account() == HERE {
            // A root has no policies with AWS, and every permission that its account has. The oracle does not know that.
            let everything = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
            own.push(json!({"name": "root", "policy": {"Version": "2012-10-17", "Statement": [everything]}}));
        }
        let mut question = json!({
            "request": {
                "principal": ask.who.arn(),
                "action": ask.action.name,
                "resource": {"resource": ask.arn(), "accountId": HERE},
                "contextVariables": keys,
            },
            "identityPolicies": own,
            "serviceControlPolicies": [],
            "resourceControlPolicies": [],
        });
        if let Some(document) = self.key.as_ref().filter(|_| of_key) {
            question["resourcePolicy"] = document.json(true, reader);
        }
        question
    }
}

/// Everything that counts, for people.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ask, key, own } = self;
        writeln!(f, "{} asks for {} with {}", ask.who.arn(), ask.action.name, ask.arn())?;
        writeln!(f, "condition keys: {:#}", json!(ask.condition_keys()))?;
        if let Some(document) = key {
            writeln!(f, "key policy: {:#}", document.json(true, Reader::Ours))?;
        }
        own.iter().try_for_each(|document| writeln!(f, "identity policy: {:#}", document.json(false, Reader::Ours)))
    }
}
