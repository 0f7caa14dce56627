//! What is asked: two accounts with their principals, a key and an alias of one of them, and what a request may say.
//!
//! The same facts are handed to the evaluator as its request, and to the oracle as AWS's condition keys. Which keys an
//! operation has is said here once more, by AWS's documentation: it is part of what is compared.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use auth::grant::{Constraint, ConstraintKind, GrantOperation, Party, Terms};
use auth::policy::{Caller, Circumstances, Key, NewGrant, Parameters, Request, Target};
use model::context::EncryptionContext;
use model::id::PrincipalId;

/// The account of the key.
pub(crate) const HERE: &str = "111122223333";
/// Another one.
pub(crate) const THERE: &str = "999900001111";
/// The key.
pub(crate) const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const ALIAS: &str = "arn:aws:kms:eu-central-1:111122223333:alias/app-1";
const SPEC: &str = "SYMMETRIC_DEFAULT";
const USAGE: &str = "ENCRYPT_DECRYPT";
const ORIGIN: &str = "AWS_CLOUDHSM";
const REGION: &str = "eu-central-1";

/// Condition keys that have several values.
pub(crate) const MANY: &[&str] =
    &["kms:EncryptionContextKeys", "kms:GrantOperations", "kms:ResourceAliases", "aws:TagKeys"];

/// Who asks, or is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Anna,
    Bert,
    Root,
    Carla,
    OtherRoot,
}

impl Who {
    pub(crate) const ALL: &[Self] = &[Self::Anna, Self::Bert, Self::Root, Self::Carla, Self::OtherRoot];

    pub(crate) fn arn(self) -> String {
        let name = match self {
            Self::Anna => "user/anna",
            Self::Bert => "user/team/bert",
            Self::Carla => "user/carla",
            Self::Root | Self::OtherRoot => "root",
        };
        format!("arn:aws:iam::{}:{name}", self.account())
    }

    pub(crate) const fn account(self) -> &'static str {
        match self {
            Self::Anna | Self::Bert | Self::Root => HERE,
            Self::Carla | Self::OtherRoot => THERE,
        }
    }

    pub(crate) const fn is_root(self) -> bool {
        matches!(self, Self::Root | Self::OtherRoot)
    }

    const fn id(self) -> &'static str {
        match self {
            Self::Anna => "AIDAANNA",
            Self::Bert => "AIDABERT",
            Self::Carla => "AIDACARLA",
            // AWS: a root's id is its account's.
            Self::Root | Self::OtherRoot => self.account(),
        }
    }

    /// The user's name; a root has none.
    const fn name(self) -> Option<&'static str> {
        match self {
            Self::Anna => Some("anna"),
            Self::Bert => Some("bert"),
            Self::Carla => Some("carla"),
            Self::Root | Self::OtherRoot => None,
        }
    }

    fn party(self) -> Party {
        if self.is_root() { Party::Account(self.account().into()) } else { Party::Principal(self.id().into()) }
    }
}

/// Whom an ARN means.
pub(crate) fn resolve(arn: &str) -> Option<PrincipalId> {
    Who::ALL.iter().find(|who| !who.is_root() && who.arn() == arn).map(|who| who.id().into())
}

/// With what something is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    Key,
    Alias,
    Nothing,
}

/// An operation, with what AWS documents of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) name: &'static str,
    pub(crate) thing: Thing,
    /// Whether callers of other accounts may be allowed it.
    pub(crate) across: bool,
    /// Whether it has an encryption context and an algorithm.
    context: bool,
    /// Whether the key may be named by an alias.
    by_alias: bool,
}

const fn action(name: &'static str, thing: Thing, across: bool) -> Action {
    Action { name, thing, across, context: false, by_alias: false }
}

const fn data(name: &'static str) -> Action {
    Action { name, thing: Thing::Key, across: true, context: true, by_alias: true }
}

/// Those that are drawn.
pub(crate) static ACTIONS: &[Action] = &[
    data("kms:Encrypt"),
    data("kms:Decrypt"),
    data("kms:GenerateDataKey"),
    data("kms:GenerateDataKeyWithoutPlaintext"),
    data("kms:ReEncryptFrom"),
    data("kms:ReEncryptTo"),
    Action { name: "kms:DescribeKey", thing: Thing::Key, across: true, context: false, by_alias: true },
    action("kms:CreateGrant", Thing::Key, true),
    action("kms:ListGrants", Thing::Key, true),
    action("kms:RevokeGrant", Thing::Key, true),
    action("kms:GetKeyPolicy", Thing::Key, false),
    action("kms:PutKeyPolicy", Thing::Key, false),
    action("kms:ScheduleKeyDeletion", Thing::Key, false),
    action("kms:EnableKeyRotation", Thing::Key, false),
    action("kms:DisableKey", Thing::Key, false),
    action("kms:TagResource", Thing::Key, false),
    action("kms:UntagResource", Thing::Key, false),
    action("kms:CreateAlias", Thing::Alias, false),
    action("kms:DeleteAlias", Thing::Alias, false),
    action("kms:CreateKey", Thing::Nothing, false),
    action("kms:ListKeys", Thing::Nothing, false),
];

/// A request. What its operation does not have is drawn all the same, and left out.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) who: Who,
    pub(crate) action: &'static Action,
    pub(crate) context: BTreeMap<String, String>,
    pub(crate) principal_tags: BTreeMap<String, String>,
    pub(crate) key_tags: BTreeMap<String, String>,
    pub(crate) request_tags: BTreeMap<String, String>,
    pub(crate) aliases: Vec<String>,
    pub(crate) by_alias: bool,
    pub(crate) address: Option<&'static str>,
    pub(crate) agent: Option<&'static str>,
    pub(crate) interface: &'static str,
    pub(crate) secure: bool,
    /// Seconds since 1970, and the same as AWS writes it.
    pub(crate) now: (u64, &'static str),
    pub(crate) grant: Grant,
    pub(crate) days: u32,
    pub(crate) flag: Option<bool>,
}

/// A grant that is to be made.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) operations: Vec<GrantOperation>,
    pub(crate) grantee: Who,
    pub(crate) retiring: Option<Who>,
    pub(crate) equals: Option<bool>,
}

impl Grant {
    fn terms(&self) -> Terms {
        let kind = self.equals.map(|equals| if equals { ConstraintKind::Equals } else { ConstraintKind::Subset });
        let pairs = BTreeMap::from([("tenant".to_owned(), "7".to_owned())]);
        Terms {
            grantee: self.grantee.party(),
            retiring: self.retiring.map(Who::party),
            operations: self.operations.iter().copied().collect(),
            constraint: kind.map(|kind| Constraint::new(kind, pairs).expect("one pair is a constraint")),
        }
    }
}

impl Ask {
    pub(crate) fn arn(&self) -> &'static str {
        match self.action.thing {
            Thing::Key => KEY,
            Thing::Alias => ALIAS,
            Thing::Nothing => "*",
        }
    }

    pub(crate) fn is(&self, names: &[&str]) -> bool {
        names.contains(&self.action.name)
    }

    /// The address as a daemon knows it: IPv4 in IPv6 is IPv4.
    fn source(&self) -> Option<IpAddr> {
        self.address.map(|text| text.parse().expect("addresses that are drawn are addresses"))
    }

    /// As the evaluator is asked.
    pub(crate) fn with_request<T>(&self, act: impl FnOnce(&Request<'_>) -> T) -> T {
        let (of_key, makes_key) = (self.action.thing == Thing::Key, self.is(&["kms:CreateKey"]));
        let (id, arn) = (PrincipalId::from(self.who.id()), self.who.arn());
        let context = EncryptionContext::new(self.context.clone()).expect("a context that is drawn is small");
        let (terms, grantee) = (self.grant.terms(), self.grant.grantee.arn());
        let retiring = self.grant.retiring.map(Who::arn);
        let key = Key { spec: SPEC, usage: USAGE, origin: ORIGIN, aliases: &self.aliases };
        let tag_keys: Vec<&String> = self.request_tags.keys().collect();
        let has_tags = self.is(&["kms:CreateKey", "kms:TagResource"]);
        act(&Request {
            caller: Caller { id: &id, arn: &arn, account: self.who.account(), tags: &self.principal_tags },
            action: self.action.name,
            target: Target {
                arn: self.arn(),
                account: HERE,
                key: of_key.then_some(key),
                tags: if of_key { &self.key_tags } else { &() },
            },
            circumstances: Circumstances {
                time: UNIX_EPOCH + Duration::from_secs(self.now.0),
                source: self.source(),
                secure: self.secure,
                user_agent: self.agent,
                interface: self.interface,
                region: REGION,
            },
            parameters: Parameters {
                encryption_context: self.action.context.then_some(&context),
                encryption_algorithm: self.action.context.then_some(SPEC),
                alias: (self.action.by_alias && self.by_alias).then_some("alias/app-1"),
                tags: has_tags.then_some(&self.request_tags),
                tag_keys: self.is(&["kms:UntagResource"]).then_some(&tag_keys),
                grant: self.is(&["kms:CreateGrant"]).then_some(NewGrant {
                    terms: &terms,
                    grantee: &grantee,
                    retiring: retiring.as_deref(),
                }),
                key_spec: makes_key.then_some(SPEC),
                key_usage: makes_key.then_some(USAGE),
                key_origin: makes_key.then_some(ORIGIN),
                pending_window_days: self.is(&["kms:ScheduleKeyDeletion"]).then_some(self.days),
                rotation_period_days: self.is(&["kms:EnableKeyRotation"]).then_some(self.days),
                bypass_lockout_check: self.flag.filter(|_| self.is(&["kms:CreateKey", "kms:PutKeyPolicy"])),
                policy_name: self.is(&["kms:PutKeyPolicy"]).then_some("default"),
                same_key: self.flag.filter(|_| self.is(&["kms:ReEncryptFrom", "kms:ReEncryptTo"])),
            },
        })
    }

    /// The condition keys that the request has, by AWS's names and ours, each with its values.
    pub(crate) fn condition_keys(&self) -> BTreeMap<String, Vec<String>> {
        let mut all = BTreeMap::new();
        let mut add = |key: &str, values: Vec<String>| {
            if !values.is_empty() {
                all.insert(key.to_owned(), values);
            }
        };
        let mut one = |key: &str, value: Option<&str>| add(key, value.map(str::to_owned).into_iter().collect());
        let of_key = self.action.thing == Thing::Key || self.is(&["kms:CreateKey"]);
        let flag = |flag: bool| Some(if flag { "true" } else { "false" });
        one("aws:PrincipalArn", Some(&self.who.arn()));
        one("aws:PrincipalAccount", Some(self.who.account()));
        one("kms:CallerAccount", Some(self.who.account()));
        one("aws:PrincipalType", Some(if self.who.is_root() { "Account" } else { "User" }));
        one("aws:userid", Some(self.who.id()));
        one("aws:username", self.who.name());
        one("aws:PrincipalIsAWSService", Some("false"));
        one("aws:ViaAWSService", Some("false"));
        one("aws:ResourceAccount", Some(HERE));
        one("aws:RequestedRegion", Some(REGION));
        one("aws:SourceIp", self.source().map(|address| address.to_canonical().to_string()).as_deref());
        one("aws:SecureTransport", flag(self.secure));
        one("aws:CurrentTime", Some(self.now.1));
        one("aws:EpochTime", Some(&self.now.0.to_string()));
        one("aws:UserAgent", self.agent);
        one("keystored:Interface", Some(self.interface));
        for (key, value) in [("kms:KeySpec", SPEC), ("kms:KeyUsage", USAGE), ("kms:KeyOrigin", ORIGIN)] {
            one(key, of_key.then_some(value));
        }
        one("kms:MultiRegion", of_key.then_some("false"));
        one("kms:EncryptionAlgorithm", self.action.context.then_some(SPEC));
        one("kms:RequestAlias", (self.action.by_alias && self.by_alias).then_some("alias/app-1"));
        let grants = self.is(&["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"]);
        one("kms:GrantIsForAWSResource", grants.then_some("false"));
        if self.is(&["kms:CreateGrant"]) {
            one("kms:GranteePrincipal", Some(&self.grant.grantee.arn()));
            one("kms:RetiringPrincipal", self.grant.retiring.map(Who::arn).as_deref());
            let kind = |equals| if equals { "EncryptionContextEquals" } else { "EncryptionContextSubset" };
            one("kms:GrantConstraintType", self.grant.equals.map(kind));
        }
        let days = self.days.to_string();
        one("kms:ScheduleKeyDeletionPendingWindowInDays", self.is(&["kms:ScheduleKeyDeletion"]).then_some(&days));
        one("kms:RotationPeriodInDays", self.is(&["kms:EnableKeyRotation"]).then_some(&days));
        if self.is(&["kms:CreateKey", "kms:PutKeyPolicy"]) {
            one("kms:BypassPolicyLockoutSafetyCheck", self.flag.and_then(flag));
        }
        if self.is(&["kms:ReEncryptFrom", "kms:ReEncryptTo"]) {
            one("kms:ReEncryptOnSameKey", self.flag.and_then(flag));
        }
        let mut family = |prefix: &str, pairs: &BTreeMap<String, String>| {
            pairs.iter().for_each(|(name, value)| one(&format!("{prefix}{name}"), Some(value)));
        };
        family("aws:PrincipalTag/", &self.principal_tags);
        if self.action.thing == Thing::Key {
            family("aws:ResourceTag/", &self.key_tags);
            add("kms:ResourceAliases", self.aliases.clone());
        }
        let mut family = |prefix: &str, pairs: &BTreeMap<String, String>| {
            pairs.iter().for_each(|(name, value)| add(&format!("{prefix}{name}"), vec![value.clone()]));
        };
        if self.action.context {
            family("kms:EncryptionContext:", &self.context);
        }
        if self.is(&["kms:CreateKey", "kms:TagResource"]) {
            family("aws:RequestTag/", &self.request_tags);
        }
        if self.action.context {
            add("kms:EncryptionContextKeys", self.context.keys().cloned().collect());
        }
        if self.is(&["kms:CreateKey", "kms:TagResource", "kms:UntagResource"]) {
            add("aws:TagKeys", self.request_tags.keys().cloned().collect());
        }
        if self.is(&["kms:CreateGrant"]) {
            // As AWS's list orders them, and each once.
            let all = GrantOperation::ALL.iter().filter(|one| self.grant.operations.contains(one));
            add("kms:GrantOperations", all.map(|one| one.name().to_owned()).collect());
        }
        all
    }
}
