//! What is decided on: who asks, for what, with what, under which circumstances. Plain borrowed data; nothing of it is
//! looked at before a statement asks for it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use model::context::EncryptionContext;
use model::id::PrincipalId;

use crate::grant::Terms;

/// Pairs of names and values, as the caller of the evaluator happens to keep them.
pub trait Pairs {
    /// Hands out each pair once.
    fn each<'a>(&'a self, take: &mut dyn FnMut(&'a str, &'a str));
}

/// Names, as the caller of the evaluator happens to keep them.
pub trait Names {
    /// Hands out each name once.
    fn each<'a>(&'a self, take: &mut dyn FnMut(&'a str));
}

impl<K: AsRef<str>, V: AsRef<str>> Pairs for BTreeMap<K, V> {
    fn each<'a>(&'a self, take: &mut dyn FnMut(&'a str, &'a str)) {
        self.iter().for_each(|(name, value)| take(name.as_ref(), value.as_ref()));
    }
}

impl<K: AsRef<str>, V: AsRef<str>> Pairs for Vec<(K, V)> {
    fn each<'a>(&'a self, take: &mut dyn FnMut(&'a str, &'a str)) {
        self.iter().for_each(|(name, value)| take(name.as_ref(), value.as_ref()));
    }
}

impl Pairs for () {
    fn each<'a>(&'a self, _: &mut dyn FnMut(&'a str, &'a str)) {}
}

impl<T: AsRef<str>> Names for Vec<T> {
    fn each<'a>(&'a self, take: &mut dyn FnMut(&'a str)) {
        self.iter().for_each(|name| take(name.as_ref()));
    }
}

impl Names for () {
    fn each<'a>(&'a self, _: &mut dyn FnMut(&'a str)) {}
}

/// Who asks.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// By which policies and grants know it. The account root has one too, which no policy names.
    pub id: &'a PrincipalId,
    /// `arn:PARTITION:iam::ACCOUNT:user/NAME`, or `…:root`.
    pub arn: &'a str,
    /// Twelve digits.
    pub account: &'a str,
    /// `aws:PrincipalTag/…`.
    pub tags: &'a dyn Pairs,
}

impl Caller<'_> {
    /// Whether it is the account's root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.resource() == Some("root")
    }

    /// What follows the account in its ARN.
    pub(super) fn resource(&self) -> Option<&str> {
        self.arn.splitn(6, ':').nth(5)
    }
}

/// What a key is.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    /// `kms:KeySpec`.
    pub spec: &'a str,
    /// `kms:KeyUsage`.
    pub usage: &'a str,
    /// `kms:KeyOrigin`.
    pub origin: &'a str,
    /// `kms:ResourceAliases`, with their prefix.
    pub aliases: &'a dyn Names,
}

/// With what it is to be done.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Its ARN, or `*` where none is named.
    pub arn: &'a str,
    /// Whose it is.
    pub account: &'a str,
    /// Set for keys, which have policies and grants; with anything else identity policies decide alone.
    pub key: Option<Key<'a>>,
    /// `aws:ResourceTag/…`.
    pub tags: &'a dyn Pairs,
}

/// How, when and from where the call came.
#[derive(Clone, Copy)]
pub struct Circumstances<'a> {
    /// Now. Policies see whole seconds, as AWS's do.
    pub time: SystemTime,
    /// Where the connection came from; absent where an interface has no such thing.
    pub source: Option<IpAddr>,
    /// Whether the call came over TLS.
    pub secure: bool,
    /// What the client calls itself. It proves nothing.
    pub user_agent: Option<&'a str>,
    /// `keystored:Interface`.
    pub interface: &'a str,
    /// The region that this installation calls its own.
    pub region: &'a str,
}

/// The name of every key's policy.
pub const KEY_POLICY: &str = "default";

/// What the operation is called with. An operation sets what it has.
#[derive(Clone, Copy, Default)]
pub struct Parameters<'a> {
    /// Absent is the same as empty. Of ReEncrypt the one that belongs to the action that is asked about.
    pub encryption_context: Option<&'a EncryptionContext>,
    /// `kms:EncryptionAlgorithm`, of what encrypts or decrypts.
    pub encryption_algorithm: Option<&'a str>,
    /// `kms:RequestAlias`: the alias by which the request names the key, with its prefix.
    pub alias: Option<&'a str>,
    /// `aws:RequestTag/…` and `aws:TagKeys`: tags that the request brings.
    pub tags: Option<&'a dyn Pairs>,
    /// `aws:TagKeys` of a request that names keys of tags alone.
    pub tag_keys: Option<&'a dyn Names>,
    /// The grant that is to be made, or is to be revoked.
    pub grant: Option<NewGrant<'a>>,
    /// `kms:KeySpec` of a key that is to be made.
    pub key_spec: Option<&'a str>,
    /// `kms:KeyUsage` of a key that is to be made.
    pub key_usage: Option<&'a str>,
    /// `kms:KeyOrigin` of a key that is to be made.
    pub key_origin: Option<&'a str>,
    /// `kms:ScheduleKeyDeletionPendingWindowInDays`.
    pub pending_window_days: Option<u32>,
    /// `kms:RotationPeriodInDays`.
    pub rotation_period_days: Option<u32>,
    /// `kms:BypassPolicyLockoutSafetyCheck`.
    pub bypass_lockout_check: Option<bool>,
    /// `kms:PolicyName`, of a policy that is put; `default` where the request names none.
    pub policy_name: Option<&'a str>,
    /// `kms:ReEncryptOnSameKey`.
    pub same_key: Option<bool>,
}

/// A grant that a request is about.
#[derive(Clone, Copy)]
pub struct NewGrant<'a> {
    /// What it allows to whom.
    pub terms: &'a Terms,
    /// `kms:GranteePrincipal`, as the request has it.
    pub grantee: &'a str,
    /// `kms:RetiringPrincipal`, as the request has it.
    pub retiring: Option<&'a str>,
}

/// May this caller do this with that?
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Who asks.
    pub caller: Caller<'a>,
    /// The permission that the operation needs, such as `kms:Encrypt`.
    pub action: &'a str,
    /// With what.
    pub target: Target<'a>,
    /// How, when, from where.
    pub circumstances: Circumstances<'a>,
    /// Called with what.
    pub parameters: Parameters<'a>,
}
