//! The world of the tests: an account with anna, bert and its root, another one with carla, and one key.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::context::EncryptionContext;
use model::id::PrincipalId;

use crate::grant::{Constraint, ConstraintKind, Grant, GrantOperation, Party, Terms};
use crate::policy::{
    Allowing, Caller, Circumstances, Deciding, Denying, Key, Kind, Missing, NewGrant, Parameters, Policy, Request,
    Rules, Target, Verdict,
};

pub(super) const HERE: &str = "111122223333";
pub(super) const THERE: &str = "999900001111";
pub(super) const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
/// 2026-11-29T12:00:00Z.
const NOW: u64 = 1_795_953_600;

/// The ARN of somebody by the name that the tables use.
pub(super) fn arn(name: &str) -> String {
    match name {
        "root" => format!("arn:aws:iam::{HERE}:root"),
        "other-root" => format!("arn:aws:iam::{THERE}:root"),
        "carla" => format!("arn:aws:iam::{THERE}:user/carla"),
        name => format!("arn:aws:iam::{HERE}:user/{name}"),
    }
}

/// Who there is: everybody but roots and `nobody`.
pub(super) fn resolve(arn: &str) -> Option<PrincipalId> {
    let (_, name) = arn.split_once(":user/")?;
    (name != "nobody").then(|| id(name))
}

pub(super) fn id(name: &str) -> PrincipalId {
    format!("AIDA{}", name.to_uppercase()).as_str().into()
}

/// A policy of a key from its statements in JSON.
pub(super) fn text(statements: &[String]) -> String {
    format!("{{\"Version\": \"2012-10-17\", \"Statement\": [{}]}}", statements.join(",\n"))
}

pub(super) fn compile(name: &str, text: &str, kind: Kind<'_>) -> Policy {
    Policy::compile(&name.into(), text, kind, &resolve).unwrap_or_else(|refused| panic!("{refused}\n{text}")).policy
}

pub(super) fn key_policy(statements: &[String]) -> Policy {
    compile("default", &text(statements), Kind::Key { arn: Some(KEY) })
}

pub(super) fn identity_policy(statements: &[String]) -> Vec<Arc<Policy>> {
    if statements.is_empty() {
        return Vec::new();
    }
    vec![Arc::new(compile("own", &text(statements), Kind::Identity))]
}

/// What a request says, as the tables write it: `ctx:tenant=7 ip=10.0.0.1`.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    pub(super) who: String,
    pub(super) action: String,
    pub(super) target: String,
    pub(super) more: Vec<(String, String)>,
}

impl Given {
    pub(super) fn parse(line: &str) -> Self {
        let mut words = line.split_whitespace().map(str::to_owned);
        let (who, action, target) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let pair = |word: String| {
            let (name, value) = word.split_once('=').unwrap_or_else(|| panic!("no pair: {word}"));
            (name.to_owned(), value.to_owned())
        };
        Self { who, action, target, more: words.map(pair).collect() }
    }

    fn one(&self, name: &str) -> Option<&str> {
        self.more.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn family(&self, prefix: &str) -> Vec<(String, String)> {
        let pair = |(name, value): &(String, String)| Some((name.strip_prefix(prefix)?.to_owned(), value.clone()));
        self.more.iter().filter_map(pair).collect()
    }

    fn list(&self, name: &str) -> Option<Vec<String>> {
        self.one(name).map(|value| value.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect())
    }

    /// Has the request made, and something done with it.
    pub(super) fn with<T>(&self, act: impl FnOnce(&Request<'_>) -> T) -> T {
        let (caller_id, caller_arn) = (id(&self.who), arn(&self.who));
        let away = self.who == "carla" || self.who == "other-root";
        let (tags, key_tags, request_tags) = (self.family("tag:"), self.family("keytag:"), self.family("reqtag:"));
        let tag_keys = self.list("tagkeys");
        let context = self.family("ctx:");
        let context = EncryptionContext::new(context.into_iter().collect()).unwrap();
        let aliases = self.list("aliases").unwrap_or_default();
        let terms = self.list("grantops").map(|operations| Terms {
            grantee: party(self.one("grantee").unwrap_or("bert")),
            retiring: self.one("retiring").map(party),
            operations: operations.iter().map(|name| GrantOperation::parse(name).unwrap()).collect(),
            constraint: self.one("constraint").map(constraint),
        });
        let (grantee, retiring) = (arn(self.one("grantee").unwrap_or("bert")), self.one("retiring").map(arn));
        let key = Key {
            spec: self.one("spec").unwrap_or("SYMMETRIC_DEFAULT"),
            usage: "ENCRYPT_DECRYPT",
            origin: "AWS_CLOUDHSM",
            aliases: &aliases,
        };
        let (target_arn, account) = match &*self.target {
            "key" => (KEY.to_owned(), HERE),
            "*" => ("*".to_owned(), HERE),
            other => (format!("arn:aws:kms:eu-central-1:{HERE}:{other}"), HERE),
        };
        let flag = |name: &str| self.one(name).map(|value| value == "true");
        let seconds = self.one("time").map_or(NOW, |text| text.parse().unwrap());
        let time: SystemTime = UNIX_EPOCH + Duration::from_millis(seconds * 1_000 + 999);
        act(&Request {
            caller: Caller { id: &caller_id, arn: &caller_arn, account: if away { THERE } else { HERE }, tags: &tags },
            action: &self.action,
            target: Target { arn: &target_arn, account, key: (self.target == "key").then_some(key), tags: &key_tags },
            circumstances: Circumstances {
                time,
                source: self.one("ip").map(|text| text.parse::<IpAddr>().unwrap()),
                secure: flag("tls").unwrap_or(true),
                user_agent: self.one("agent"),
                interface: self.one("interface").unwrap_or("grpc"),
                region: "eu-central-1",
            },
            parameters: Parameters {
                encryption_context: Some(&context),
                encryption_algorithm: self.one("algorithm"),
                alias: self.one("alias"),
                tags: (!request_tags.is_empty()).then_some(&request_tags),
                tag_keys: tag_keys.as_ref().map(|all| all as _),
                grant: terms.as_ref().map(|terms| NewGrant { terms, grantee: &grantee, retiring: retiring.as_deref() }),
                key_spec: self.one("newspec"),
                key_usage: None,
                key_origin: None,
                pending_window_days: self.one("window").map(|text| text.parse().unwrap()),
                rotation_period_days: self.one("period").map(|text| text.parse().unwrap()),
                bypass_lockout_check: flag("bypass"),
                policy_name: self.one("policy"),
                same_key: flag("samekey"),
            },
        })
    }
}

pub(super) fn party(name: &str) -> Party {
    match name {
        "root" => Party::Account(HERE.into()),
        "other-root" => Party::Account(THERE.into()),
        name => Party::Principal(id(name)),
    }
}

/// `subset:tenant:7` or `equals:tenant:7,more:x`.
pub(super) fn constraint(text: &str) -> Constraint {
    let (kind, pairs) = text.split_once(':').unwrap();
    let pair = |pair: &str| pair.split_once(':').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
    let pairs: BTreeMap<_, _> = pairs.split(',').map(pair).collect();
    let kind = if kind == "subset" { ConstraintKind::Subset } else { ConstraintKind::Equals };
    Constraint::new(kind, pairs).unwrap()
}

/// `ID GRANTEE OPERATION,OPERATION [constraint] [retiring=NAME]`.
pub(super) fn grant(line: &str) -> Arc<Grant> {
    let mut words = line.split_whitespace();
    let (id, grantee, operations) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
    let (mut constraint_of, mut retiring) = (None, None);
    for word in words {
        match word.strip_prefix("retiring=") {
            Some(name) => retiring = Some(party(name)),
            None => constraint_of = Some(constraint(word)),
        }
    }
    let operations = operations.split(',').map(|name| GrantOperation::parse(name).unwrap()).collect();
    let terms = Terms { grantee: party(grantee), retiring, operations, constraint: constraint_of };
    Arc::new(Grant { id: id.into(), terms, issuing_account: HERE.into() })
}

/// A verdict as the tables write it.
pub(super) fn short(verdict: Verdict<'_>) -> String {
    let one = |one: Deciding<'_>| format!("{}[{}]", if one.of_key { "key" } else { one.policy }, one.index);
    match verdict {
        Verdict::Allow(Allowing::Statement(by)) => format!("allow {}", one(by)),
        Verdict::Allow(Allowing::Both(by, and)) => format!("allow {} {}", one(by), one(and)),
        Verdict::Allow(Allowing::Grant(id)) => format!("allow {id}"),
        Verdict::Allow(Allowing::GrantAnd(id, and)) => format!("allow {id} {}", one(and)),
        Verdict::Deny(Denying::Statement(by)) => format!("deny {}", one(by)),
        Verdict::Deny(Denying::Nothing(missing)) => match missing {
            Missing::KeyPolicy => "no key policy",
            Missing::IdentityPolicies => "no identity policy",
            Missing::Everywhere => "no policy",
            Missing::OtherAccount => "no: other account",
            Missing::TheGrant => "no: the grant",
        }
        .to_owned(),
    }
}

/// Everything that counts in a case.
#[derive(Clone, Default)]
pub(super) struct Case {
    pub(super) key: Vec<String>,
    pub(super) own: Vec<String>,
    pub(super) grants: Vec<Arc<Grant>>,
}

impl Case {
    pub(super) fn decide(&self, given: &Given) -> String {
        let key = (!self.key.is_empty()).then(|| key_policy(&self.key));
        let own = identity_policy(&self.own);
        let rules = Rules { key_policy: key.as_ref(), identity_policies: &own, grants: &self.grants };
        given.with(|request| {
            if let ("kms:RetireGrant", [grant]) = (request.action, &*self.grants) {
                return short(crate::policy::retire(request, grant, &own));
            }
            short(crate::policy::decide(request, &rules))
        })
    }
}
