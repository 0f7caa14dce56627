//! What a request says of a condition key: looked up when a statement asks, and never before.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use super::decimal::Decimal;
use super::keys::{Family, Key, Named};
use super::request::{Pairs, Request};
use super::value::{seconds, written};
use crate::fold::fold;

/// A value as it is in the request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// Text.
    Text(&'a str),
    /// A number.
    Number(u32),
    /// `true` or `false`.
    Flag(bool),
    /// Seconds since 1970, written as a date.
    Moment(i64),
    /// Seconds since 1970, written as a number.
    Epoch(i64),
    /// An IP address.
    Address(IpAddr),
}

impl<'a> Value<'a> {
    /// As operators on text see it.
    pub(super) fn text(&self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => (*text).into(),
            Self::Number(number) => number.to_string().into(),
            Self::Flag(flag) => if *flag { "true" } else { "false" }.into(),
            Self::Moment(seconds) => written(*seconds).into(),
            Self::Epoch(seconds) => seconds.to_string().into(),
            Self::Address(address) => address.to_canonical().to_string().into(),
        }
    }

    /// As operators on numbers see it.
    pub(super) fn number(&self) -> Option<Decimal> {
        match self {
            Self::Text(text) => Decimal::parse(text),
            Self::Number(number) => Decimal::of((*number).into()),
            Self::Epoch(seconds) => Decimal::of(*seconds),
            Self::Flag(_) | Self::Moment(_) | Self::Address(_) => None,
        }
    }

    /// As operators on dates see it, in milliseconds since 1970.
    pub(super) fn moment(&self) -> Option<i64> {
        match self {
            Self::Text(text) => super::value::moment(text),
            Self::Moment(seconds) | Self::Epoch(seconds) => seconds.checked_mul(1_000),
            Self::Number(_) | Self::Flag(_) | Self::Address(_) => None,
        }
    }

    /// As `Bool` sees it.
    pub(super) fn flag(&self) -> Option<bool> {
        match self {
            Self::Text(text) => super::value::flag(text),
            Self::Flag(flag) => Some(*flag),
            _ => None,
        }
    }

    /// As operators on addresses see it.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Text(text) => text.parse().ok(),
            Self::Address(address) => Some(*address),
            _ => None,
        }
    }
}

/// Pairs by their folded names, sorted. Each name is folded once, however many conditions and variables ask for one of them.
type Index<'a> = Vec<(Cow<'a, str>, &'a str)>;

/// A request while it is decided on.
pub(super) struct Scene<'a> {
    /// The request.
    pub(super) request: &'a Request<'a>,
    /// Each made when a condition asks for one of its pairs.
    context: OnceCell<Index<'a>>,
    principal_tags: OnceCell<Index<'a>>,
    resource_tags: OnceCell<Index<'a>>,
    request_tags: OnceCell<Index<'a>>,
    /// Texts of the request that were asked for without their case. Each is folded once, for all conditions: that costs by
    /// each letter that somebody sends.
    folded: RefCell<BTreeMap<&'a str, Rc<str>>>,
}

impl<'a> Scene<'a> {
    pub(super) fn of(request: &'a Request<'a>) -> Self {
        Self {
            request,
            context: OnceCell::new(),
            principal_tags: OnceCell::new(),
            resource_tags: OnceCell::new(),
            request_tags: OnceCell::new(),
            folded: RefCell::default(),
        }
    }

    /// A value's text without its case.
    pub(super) fn folded(&self, value: &Value<'a>) -> Rc<str> {
        match value.text() {
            Cow::Borrowed(text) => {
                let mut known = self.folded.borrow_mut();
                Rc::clone(known.entry(text).or_insert_with(|| fold(text).into()))
            }
            Cow::Owned(short) => fold(&short).into(),
        }
    }

    /// Hands out each value of a key. Names that differ only by case are one key, so that even a key for one value may
    /// have several.
    pub(super) fn each(&self, key: &Key, take: &mut dyn FnMut(Value<'a>)) {
        match key {
            Key::Named(named) => self.named(*named, take),
            Key::Of(family, name) => self.of_family(*family, name, take),
            Key::Never(..) => {}
        }
    }

    /// The only value of a key; nothing where there are several that differ.
    pub(super) fn only(&self, key: &Key) -> Only<'a> {
        let mut found = Only::Nothing;
        self.each(key, &mut |value| {
            found = match std::mem::replace(&mut found, Only::Several) {
                Only::Nothing => Only::Value(value),
                Only::Value(other) if other == value => Only::Value(value),
                Only::Value(_) | Only::Several => Only::Several,
            };
        });
        found
    }

    fn of_family(&self, family: Family, name: &str, take: &mut dyn FnMut(Value<'a>)) {
        let index = self.index(family);
        let from = index.partition_point(|(folded, _)| **folded < *name);
        let same = index[from..].iter().take_while(|(folded, _)| **folded == *name);
        same.for_each(|(_, value)| take(Value::Text(value)));
    }

    fn index(&self, family: Family) -> &[(Cow<'a, str>, &'a str)] {
        let Request { caller, target, parameters, .. } = self.request;
        let of = |pairs: &'a dyn Pairs| {
            let mut all = Index::new();
            pairs.each(&mut |name, value| all.push((fold(name), value)));
            all.sort_unstable();
            all
        };
        match family {
            Family::EncryptionContext => self
                .context
                .get_or_init(|| parameters.encryption_context.map_or_else(Index::new, |context| of(context.pairs()))),
            Family::PrincipalTag => self.principal_tags.get_or_init(|| of(caller.tags)),
            Family::ResourceTag => self.resource_tags.get_or_init(|| of(target.tags)),
            Family::RequestTag => self.request_tags.get_or_init(|| parameters.tags.map_or_else(Index::new, of)),
        }
    }

    fn named(&self, named: Named, take: &mut dyn FnMut(Value<'a>)) {
        let Request { caller, target, circumstances, parameters, action } = self.request;
        let key = target.key.as_ref();
        let text = |text: Option<&'a str>| text.map(Value::Text);
        let grant = parameters.grant.as_ref();
        let value = match named {
            Named::EncryptionContextKeys => {
                let pairs = parameters.encryption_context.map(|context| context.pairs());
                return pairs.into_iter().flat_map(|pairs| pairs.keys()).for_each(|name| take(Value::Text(name)));
            }
            Named::GrantOperations => {
                let operations = grant.map(|grant| grant.terms.operations);
                return operations.iter().flat_map(|all| all.iter()).for_each(|one| take(Value::Text(one.name())));
            }
            Named::ResourceAliases => {
                return key.into_iter().for_each(|key| key.aliases.each(&mut |alias| take(Value::Text(alias))));
            }
            Named::TagKeys => {
                parameters.tags.into_iter().for_each(|tags| tags.each(&mut |tag, _| take(Value::Text(tag))));
                let more = parameters.tag_keys;
                return more.into_iter().for_each(|names| names.each(&mut |tag| take(Value::Text(tag))));
            }
            Named::EncryptionAlgorithm => text(parameters.encryption_algorithm),
            Named::CallerAccount | Named::PrincipalAccount => text(Some(caller.account)),
            // Of the operations on grants that AWS has the key for; services of AWS's make none here.
            Named::GrantIsForAwsResource => {
                let has = ["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"].contains(action);
                has.then_some(Value::Flag(false))
            }
            Named::GrantConstraintType => {
                text(grant.and_then(|grant| grant.terms.constraint.as_ref()).map(|c| c.name()))
            }
            Named::GranteePrincipal => text(grant.map(|grant| grant.grantee)),
            Named::RetiringPrincipal => text(grant.and_then(|grant| grant.retiring)),
            Named::KeySpec | Named::CustomerMasterKeySpec => text(key.map(|key| key.spec).or(parameters.key_spec)),
            Named::KeyUsage | Named::CustomerMasterKeyUsage => text(key.map(|key| key.usage).or(parameters.key_usage)),
            Named::KeyOrigin => text(key.map(|key| key.origin).or(parameters.key_origin)),
            Named::MultiRegion => (key.is_some() || parameters.key_spec.is_some()).then_some(Value::Flag(false)),
            Named::RequestAlias => text(parameters.alias),
            Named::PendingWindow => parameters.pending_window_days.map(Value::Number),
            Named::RotationPeriod => parameters.rotation_period_days.map(Value::Number),
            Named::BypassLockoutCheck => parameters.bypass_lockout_check.map(Value::Flag),
            Named::PolicyName => text(parameters.policy_name),
            Named::ReEncryptOnSameKey => parameters.same_key.map(Value::Flag),
            Named::PrincipalArn => text(Some(caller.arn)),
            Named::PrincipalType => {
                let user = caller.resource().is_some_and(|name| name.starts_with("user/"));
                text(if caller.is_root() { Some("Account") } else { user.then_some("User") })
            }
            Named::UserId => text(Some(caller.id.as_str())),
            Named::UserName => {
                // The last part of a user's path; nobody else has one.
                let user = caller.arn.splitn(6, ':').nth(5).and_then(|resource| resource.strip_prefix("user/"));
                text(user.and_then(|path| path.rsplit('/').next()))
            }
            Named::PrincipalIsAwsService | Named::ViaAwsService => Some(Value::Flag(false)),
            Named::ResourceAccount => text(Some(target.account)),
            Named::RequestedRegion => text(Some(circumstances.region)),
            Named::SourceIp => circumstances.source.map(Value::Address),
            Named::SecureTransport => Some(Value::Flag(circumstances.secure)),
            Named::CurrentTime => Some(Value::Moment(seconds(circumstances.time))),
            Named::EpochTime => Some(Value::Epoch(seconds(circumstances.time))),
            Named::UserAgent => text(circumstances.user_agent),
            Named::Interface => text(Some(circumstances.interface)),
        };
        value.into_iter().for_each(take);
    }
}

/// What [`Scene::only`] found.
#[derive(Debug, PartialEq)]
pub(super) enum Only<'a> {
    /// No value.
    Nothing,
    /// This one.
    Value(Value<'a>),
    /// Several that differ, so that none is the value.
    Several,
}
