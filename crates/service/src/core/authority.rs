//! Who decides on calls: policies and grants, for those whose certificates are mapped to principals, and nobody for the
//! administrators of the configuration.
//!
//! Every decision of every use case is one of [`Judge::allows`]. A judge is made for one look at a call: it sees the
//! keyring of one moment, and with it the policies of that moment.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Core;
use super::directory::Compiled;
use super::keyring::{Entry, Keyring};
use crate::{Error, RequestContext};
use auth::grant::{Constraint, ConstraintKind, Grant, GrantOperation, Party, Terms};
use auth::policy::{self, Caller, Circumstances, Denying, Names, Pairs, Parameters, Policy, Request, Target, Verdict};
use auth::request::Interface;
use model::exception::Exception;
use model::id::{GrantId, KeyId, PrincipalId};
use model::operation::Operation;
use store::Alias;
use store::access::Principal;

/// `kms:KeySpec` of every key.
pub(crate) const KEY_SPEC: &str = "SYMMETRIC_DEFAULT";
/// `kms:KeyUsage` of every key.
pub(crate) const KEY_USAGE: &str = "ENCRYPT_DECRYPT";
/// `kms:KeyOrigin` of every key.
pub(crate) const KEY_ORIGIN: &str = "AWS_CLOUDHSM";

/// Whom no policy binds: names of certificates, such as `cn:admin`.
#[derive(Default)]
pub(crate) struct Authority {
    pub(crate) administrators: BTreeSet<String>,
}

/// With what something is to be done.
#[derive(Clone, Copy)]
pub(crate) enum Subject<'a> {
    /// A key.
    Key(&'a Entry),
    /// What would be a key, by its ARN: there is none.
    NoKey(&'a str),
    /// Anything else, by its ARN, whether there is such a thing or not.
    Other(&'a str),
}

impl<'a> Subject<'a> {
    /// The key with this id, or that there is none.
    pub(crate) fn key(keyring: &'a Keyring, id: KeyId, arn: &'a str) -> Self {
        keyring.key(id).map_or(Self::NoKey(arn), Self::Key)
    }

    fn arn(self) -> &'a str {
        match self {
            Self::Key(entry) => &entry.arn,
            Self::NoKey(arn) | Self::Other(arn) => arn,
        }
    }
}

/// Who asks.
enum Who {
    /// Somebody whom no policy binds; as which principal, where it is mapped to one.
    Administrator(Option<Arc<Principal>>),
    /// A principal, and its policies.
    Principal(Arc<Principal>, Vec<Compiled>),
    /// Somebody whose certificate is mapped to no principal.
    Nobody,
}

/// Decides what one caller may do, as things are at one moment.
pub(crate) struct Judge<'a> {
    core: &'a Core,
    keyring: &'a Keyring,
    call: &'a RequestContext,
    who: Who,
    /// Of the principal, where each could be read.
    policies: Vec<Arc<Policy>>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(
        core: &'a Core,
        keyring: &'a Keyring,
        authority: &'a Authority,
        call: &'a RequestContext,
    ) -> Self {
        let name = call.principal.as_str();
        let who = match keyring.catalogue.principal_known_as(name).cloned() {
            principal if authority.administrators.contains(name) => Who::Administrator(principal),
            Some(principal) => of_principal(keyring, principal),
            None => Who::Nobody,
        };
        Self::by(core, keyring, call, who)
    }

    /// What another principal than the caller may do, by policies and grants.
    pub(crate) fn of_other(
        core: &'a Core,
        keyring: &'a Keyring,
        call: &'a RequestContext,
        principal: Arc<Principal>,
    ) -> Self {
        let who = of_principal(keyring, principal);
        Self::by(core, keyring, call, who)
    }

    fn by(core: &'a Core, keyring: &'a Keyring, call: &'a RequestContext, who: Who) -> Self {
        let policies = match &who {
            Who::Principal(_, all) => all.iter().filter_map(Clone::clone).collect(),
            _ => Vec::new(),
        };
        Self { core, keyring, call, who, policies }
    }

    pub(crate) fn core(&self) -> &'a Core {
        self.core
    }

    pub(crate) fn keyring(&self) -> &'a Keyring {
        self.keyring
    }

    /// The principal that calls.
    pub(crate) fn principal(&self) -> Option<&Arc<Principal>> {
        match &self.who {
            Who::Administrator(principal) => principal.as_ref(),
            Who::Principal(principal, _) => Some(principal),
            Who::Nobody => None,
        }
    }

    /// Whether the caller is one of the configuration's administrators.
    pub(crate) fn is_administrator(&self) -> bool {
        matches!(self.who, Who::Administrator(_))
    }

    /// Refuses whom nobody knows.
    fn is_somebody(&self) -> Result<(), Error> {
        if matches!(self.who, Who::Nobody) { Err(self.unmapped()) } else { Ok(()) }
    }

    /// Whether the caller may retire a grant, which the grant says.
    pub(crate) fn may_retire(&self, key: KeyId, id: &GrantId) -> Result<(), Error> {
        self.is_somebody()?;
        let grant = self.keyring.catalogue.grant(key, id).ok_or_else(|| Error::no_grant(id))?;
        self.retires(&granted(grant), key)
    }

    fn retires(&self, grant: &Grant, key: KeyId) -> Result<(), Error> {
        let arn = self.core.scope().key_arn(key);
        let permission = Operation::RetireGrant.spec().permission;
        let subject = Subject::key(self.keyring, key, &arn);
        let Who::Principal(principal, all) = &self.who else {
            return self.allows(permission, subject, Parameters::default());
        };
        if all.iter().any(Option::is_none) {
            return Err(self.denied(permission, &arn, UNREADABLE));
        }
        self.asked(principal, permission, subject, Parameters::default(), |request| {
            match policy::retire(request, grant, &self.policies) {
                Verdict::Allow(_) => Ok(()),
                Verdict::Deny(Denying::Statement(_)) => Err(self.denied(permission, &arn, "with an explicit deny")),
                Verdict::Deny(Denying::Nothing(_)) => {
                    Err(self.denied(permission, &arn, "because the grant does not let it"))
                }
            }
        })
    }

    /// Whether the caller could still change the policy of a key if it were this one.
    pub(crate) fn would_keep_control(&self, policy: &Policy, subject: Subject<'_>) -> bool {
        let Who::Principal(principal, _) = &self.who else { return true };
        let permission = Operation::PutKeyPolicy.spec().permission;
        self.asked(principal, permission, subject, Parameters::default(), |request| {
            policy::keeps_control(policy, request, &self.policies)
        })
    }

    /// What policies and grants say of the principal.
    pub(crate) fn explained<T>(
        &self,
        action: &str,
        subject: Subject<'_>,
        parameters: Parameters<'_>,
        take: impl FnOnce(Verdict<'_>) -> T,
    ) -> Result<T, Error> {
        match &self.who {
            Who::Principal(principal, _) => self.by_policies(principal, action, subject, parameters, take),
            _ => Err(self.unmapped()),
        }
    }

    /// Whether the caller may do this with that.
    pub(crate) fn allows(
        &self,
        permission: &'static str,
        subject: Subject<'_>,
        parameters: Parameters<'_>,
    ) -> Result<(), Error> {
        // Who asks is told to everybody.
        if permission == Operation::WhoAmI.spec().permission {
            return Ok(());
        }
        let explicit = match &self.who {
            Who::Administrator(_) => return Ok(()),
            Who::Nobody => return Err(self.unmapped()),
            Who::Principal(principal, _) => {
                match self.by_policies(principal, permission, subject, parameters, |verdict| match verdict {
                    Verdict::Allow(_) => None,
                    Verdict::Deny(denying) => Some(matches!(denying, Denying::Statement(_))),
                })? {
                    None => return Ok(()),
                    Some(explicit) => explicit,
                }
            }
        };
        // Nothing of which policy it was: whether there is a key of this name must not show.
        let because = if explicit { "with an explicit deny" } else { "because nothing allows it" };
        Err(self.denied(permission, subject.arn(), because))
    }

    fn denied(&self, permission: &str, arn: &str, because: &str) -> Error {
        let who = match &self.who {
            Who::Principal(principal, _) => &*principal.arn,
            _ => self.call.principal.as_str(),
        };
        let what = format!("{who} is not authorized to perform {permission} on {arn} {because}");
        Error::permanent(Exception::AccessDenied, what)
    }

    fn unmapped(&self) -> Error {
        let name = self.call.principal.as_str();
        let what = format!(
            "{name} is mapped to no principal, so that it may do nothing but ask who it is; an administrator makes a \
             principal for it, or gives this identity to one that there is"
        );
        Error::permanent(Exception::AccessDenied, what)
    }

    /// What policies and grants say of a principal. A policy that this release cannot read may deny anything.
    fn by_policies<T>(
        &self,
        principal: &Principal,
        action: &str,
        subject: Subject<'_>,
        parameters: Parameters<'_>,
        take: impl FnOnce(Verdict<'_>) -> T,
    ) -> Result<T, Error> {
        if matches!(&self.who, Who::Principal(_, all) if all.iter().any(Option::is_none)) {
            return Err(self.denied(action, subject.arn(), UNREADABLE));
        }
        let unreadable = || self.denied(action, subject.arn(), UNREADABLE);
        let key_policy = match subject {
            Subject::Key(entry) => Some(entry.policy.as_ref().ok_or_else(unreadable)?),
            Subject::NoKey(_) => Some(self.core.default_policy().ok_or_else(unreadable)?),
            Subject::Other(_) => None,
        };
        let told = self.asked(principal, action, subject, parameters, |request| {
            let of = |grants| policy::Rules {
                key_policy: key_policy.map(|policy| &**policy),
                identity_policies: &self.policies,
                grants,
            };
            let verdict = policy::decide(request, &of(&[]));
            let (Subject::Key(entry), Verdict::Deny(Denying::Nothing(_))) = (subject, verdict) else {
                return take(verdict);
            };
            let grants = self.keyring.catalogue.grants_of(&principal.id, entry.key.id);
            let grants: Vec<Arc<Grant>> = grants.map(|grant| Arc::new(granted(grant))).collect();
            take(if grants.is_empty() { verdict } else { policy::decide(request, &of(&grants)) })
        });
        Ok(told)
    }

    /// What is asked, as policies see it.
    fn asked<T>(
        &self,
        principal: &Principal,
        action: &str,
        subject: Subject<'_>,
        parameters: Parameters<'_>,
        take: impl FnOnce(&Request<'_>) -> T,
    ) -> T {
        let scope = self.core.scope();
        let millis = u64::try_from(self.core.clock().unix_millis()).unwrap_or(0);
        let aliases;
        let (names, tags): (&dyn Names, &dyn Pairs) = match subject {
            Subject::Key(entry) => {
                aliases = Aliases(&entry.key.aliases);
                (&aliases, &entry.key.tags)
            }
            Subject::NoKey(_) | Subject::Other(_) => (&(), &()),
        };
        let key = policy::Key { spec: KEY_SPEC, usage: KEY_USAGE, origin: KEY_ORIGIN, aliases: names };
        let target = Target {
            arn: subject.arn(),
            account: &scope.account,
            key: (!matches!(subject, Subject::Other(_))).then_some(key),
            tags,
        };
        let caller = Caller {
            id: &principal.id,
            arn: &principal.arn,
            account: account_of(&principal.arn),
            tags: &principal.tags,
        };
        let circumstances = Circumstances {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(millis),
            source: self.call.source,
            secure: match self.call.interface {
                Interface::Grpc => true,
            },
            user_agent: self.call.user_agent.as_deref(),
            interface: self.call.interface.label(),
            region: &scope.region,
        };
        take(&Request { caller, action, target, circumstances, parameters })
    }
}

/// Why nothing is allowed whose policy this release does not understand.
const UNREADABLE: &str = "because a policy that has a say in it cannot be read; have it put anew";

fn of_principal(keyring: &Keyring, principal: Arc<Principal>) -> Who {
    let names = keyring.catalogue.policies_of(&principal.id);
    let policies = names.map(|name| keyring.directory.policy(name)).collect();
    Who::Principal(principal, policies)
}

/// The account in an ARN.
pub(crate) fn account_of(arn: &str) -> &str {
    arn.split(':').nth(4).unwrap_or_default()
}

/// The aliases of a key.
struct Aliases<'a>(&'a [Alias]);

impl Names for Aliases<'_> {
    fn each<'a>(&'a self, take: &mut dyn FnMut(&'a str)) {
        self.0.iter().for_each(|alias| take(alias.name.as_str()));
    }
}

/// A grant as it is decided by. An operation that this release does not know is none that it carries out.
pub(crate) fn granted(grant: &store::access::Grant) -> Grant {
    let party = |id: &PrincipalId| Party::Principal(id.clone());
    let operations = grant.operations.iter().filter_map(|name| GrantOperation::parse(name)).collect();
    let constraint = grant.constraint.as_ref().map(|constraint| {
        let kind = match constraint.kind {
            store::access::ConstraintKind::Subset => ConstraintKind::Subset,
            store::access::ConstraintKind::Equals => ConstraintKind::Equals,
        };
        Constraint::new(kind, constraint.pairs.clone())
    });
    // What is no constraint any more lets nothing pass.
    let (operations, constraint) = match constraint {
        Some(Err(_)) => (auth::grant::GrantOperations::default(), None),
        Some(Ok(constraint)) => (operations, Some(constraint)),
        None => (operations, None),
    };
    let terms =
        Terms { grantee: party(&grant.grantee), retiring: grant.retiring.as_ref().map(party), operations, constraint };
    Grant { id: grant.id.clone(), terms, issuing_account: grant.issuing_account.as_str().into() }
}
