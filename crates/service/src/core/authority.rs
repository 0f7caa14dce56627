//! Who decides on calls: policies and grants, for those whose certificates are mapped to principals, and nobody for the
//! administrators of the configuration.
//!
//! Every decision of every use case is one of [`Judge::allows`]. A judge is made for one look at a call: it sees the
//! keyring of one moment, and with it the policies of that moment.

mod explained;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Core;
use super::decisions::{Decision, Kept, Standing};
use super::granted::granted;
use super::keyring::{Entry, Keyring};
use crate::{Error, RequestContext};
use auth::grant::Grant;
use auth::policy::{self, Caller, Circumstances, Denying, Names, Pairs, Parameters, Policy, Request, Target, Verdict};
use auth::request::Interface;
use model::exception::Exception;
use model::id::{AccessKeyId, GrantId, KeyId};
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

/// Most reasons that a record gives: a batch may be of very many keys.
const REASONS: usize = 64;
/// Why somebody may do what it does whom no policy binds.
const ADMINISTRATOR: &str = "allowed: an administrator of the configuration";

/// Who asks.
enum Who {
    /// Somebody whom no policy binds; as which principal, where it is mapped to one.
    Administrator(Option<Arc<Principal>>),
    /// A principal, with what holds for it.
    Principal(Arc<Standing>),
    /// Somebody whose certificate is mapped to no principal.
    Nobody,
}

/// Decides what one caller may do, as things are at one moment.
pub(crate) struct Judge<'a> {
    core: &'a Core,
    keyring: &'a Keyring,
    call: &'a RequestContext,
    who: Who,
    /// The last decision that is kept: a batch asks for one many times.
    last: Cell<Option<(KeyId, &'static str, Kept)>>,
    /// Why it was decided so, each reason once.
    reasons: RefCell<Vec<Arc<str>>>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(
        core: &'a Core,
        keyring: &'a Keyring,
        authority: &'a Authority,
        call: &'a RequestContext,
    ) -> Self {
        let name = call.principal.as_str();
        let who = match keyring.catalogue.principal_known_as(name) {
            principal if authority.is_administrator(name) => Who::Administrator(principal.cloned()),
            Some(principal) => of_principal(keyring, principal),
            None => Who::Nobody,
        };
        Self { core, keyring, call, who, last: Cell::default(), reasons: RefCell::default() }
    }

    pub(crate) fn core(&self) -> &'a Core {
        self.core
    }

    pub(crate) fn call(&self) -> &'a RequestContext {
        self.call
    }

    pub(crate) fn keyring(&self) -> &'a Keyring {
        self.keyring
    }

    /// The principal that calls.
    pub(crate) fn principal(&self) -> Option<&Arc<Principal>> {
        match &self.who {
            Who::Administrator(principal) => principal.as_ref(),
            Who::Principal(standing) => Some(&standing.principal),
            Who::Nobody => None,
        }
    }

    /// Whether the caller is one of the configuration's administrators.
    pub(crate) fn is_administrator(&self) -> bool {
        matches!(self.who, Who::Administrator(_))
    }

    /// Why it was decided as it was, for records: statements and grants that allow or deny it.
    pub(crate) fn reasons(self) -> Vec<Arc<str>> {
        self.reasons.into_inner()
    }

    fn note(&self, reason: Arc<str>) {
        let mut reasons = self.reasons.borrow_mut();
        if !reasons.contains(&reason) && reasons.len() < REASONS {
            reasons.push(reason);
        }
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
        let Who::Principal(standing) = &self.who else {
            return self.allows(permission, subject, Parameters::default());
        };
        if !standing.unreadable.is_empty() {
            return Err(self.denied(permission, &arn, UNREADABLE));
        }
        self.asked(&standing.principal, permission, subject, Parameters::default(), |request| {
            let verdict = policy::retire(request, grant, &standing.policies);
            self.note(verdict.to_string().into());
            match verdict {
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
        let Who::Principal(standing) = &self.who else { return true };
        let permission = Operation::PutKeyPolicy.spec().permission;
        self.asked(&standing.principal, permission, subject, Parameters::default(), |request| {
            policy::keeps_control(policy, request, &standing.policies)
        })
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
            Who::Administrator(_) => {
                if self.reasons.borrow().is_empty() {
                    self.note(ADMINISTRATOR.into());
                }
                return Ok(());
            }
            Who::Nobody => return Err(self.unmapped()),
            Who::Principal(standing) => match self.decision(standing, permission, subject, parameters)? {
                Decision::Allowed => return Ok(()),
                Decision::Denied => false,
                Decision::DeniedExplicitly => true,
            },
        };
        // Nothing of which policy it was: whether there is a key of this name must not show.
        let because = if explicit { "with an explicit deny" } else { "because nothing allows it" };
        Err(self.denied(permission, &self.shown(subject, parameters), because))
    }

    /// What a refusal names: an alias as the request has it, since which key has it is not told either.
    fn shown<'s>(&self, subject: Subject<'s>, parameters: Parameters<'_>) -> Cow<'s, str> {
        parameters.alias.map_or(Cow::Borrowed(subject.arn()), |alias| self.core.scope().alias_arn(alias).into())
    }

    fn denied(&self, permission: &str, arn: &str, because: &str) -> Error {
        let who = match &self.who {
            Who::Principal(standing) => &*standing.principal.arn,
            _ => self.call.principal.as_str(),
        };
        let what = format!("User: {who} is not authorized to perform: {permission} on resource: {arn} {because}");
        Error::permanent(Exception::AccessDenied, what)
    }

    /// A denial of what the caller has not named by its ARN, in words that are the same whatever it is.
    pub(crate) fn denied_of(&self, error: Error, permission: &str, what: &str) -> Error {
        match self.principal() {
            Some(principal) if error.exception == Exception::AccessDenied => {
                let who = &principal.arn;
                let what = format!("User: {who} is not authorized to perform: {permission} on {what}");
                Error::permanent(Exception::AccessDenied, what)
            }
            _ => error,
        }
    }

    /// What somebody is told who is nobody.
    pub(crate) fn unmapped(&self) -> Error {
        let name = self.call.principal.as_str();
        if let Some(id) = AccessKeyId::of_identity(name) {
            let what =
                format!("the access key {id} was disabled or deleted, so that calls are not made with it any more");
            return Error::permanent(Exception::AccessDenied, what);
        }
        let what = format!(
            "{name} is mapped to no principal, so that it may do nothing but ask who it is; an administrator makes a \
             principal for it, or gives this identity to one that there is"
        );
        Error::permanent(Exception::AccessDenied, what)
    }

    /// What is decided on a principal: what was decided before with this keyring, where that cannot be another thing.
    fn decision(
        &self,
        standing: &Standing,
        permission: &'static str,
        subject: Subject<'_>,
        parameters: Parameters<'_>,
    ) -> Result<Decision, Error> {
        // A reason is put into words where it is not known already: at the first look, and once for each key of a call.
        let decide = |in_words: bool| {
            self.by_policies(standing, permission, subject, parameters, |verdict, _, _| {
                (Decision::from(&verdict), in_words.then(|| verdict.to_string()))
            })
        };
        let Subject::Key(entry) = subject else {
            let (decision, reason) = decide(true)?;
            reason.into_iter().for_each(|reason| self.note(reason.into()));
            return Ok(decision);
        };
        let of = (entry.key.id, permission);
        let last = self.last.get().filter(|(key, action, _)| (*key, *action) == of);
        let known = last.map_or_else(|| standing.kept(of), |(.., known)| Some(known));
        let decision = match known {
            Some(Kept::Always(decision, reason)) => {
                if last.is_none() {
                    standing.reason(reason).into_iter().for_each(|reason| self.note(reason));
                }
                decision
            }
            Some(Kept::ByRequest) | None => {
                let (decision, reason) = decide(last.is_none())?;
                let known = known.unwrap_or_else(|| match depends_on_request(standing, entry, permission) {
                    true => Kept::ByRequest,
                    false => Kept::Always(decision, standing.reason_at(reason.as_deref().unwrap_or_default())),
                });
                if last.is_none() {
                    standing.keep(of, known);
                }
                self.last.set(Some((entry.key.id, permission, known)));
                reason.into_iter().for_each(|reason| self.note(reason.into()));
                return Ok(decision);
            }
        };
        self.last.set(known.map(|known| (entry.key.id, permission, known)));
        Ok(decision)
    }

    /// What policies and grants say of a principal. A policy that this release cannot read may deny anything.
    fn by_policies<T>(
        &self,
        standing: &Standing,
        action: &str,
        subject: Subject<'_>,
        parameters: Parameters<'_>,
        take: impl FnOnce(Verdict<'_>, &Request<'_>, &policy::Rules<'_>) -> T,
    ) -> Result<T, Error> {
        let unreadable = || self.denied(action, &self.shown(subject, parameters), UNREADABLE);
        if !standing.unreadable.is_empty() {
            return Err(unreadable());
        }
        let (key_policy, key) = match subject {
            Subject::Key(entry) => (Some(entry.policy.as_ref().ok_or_else(unreadable)?), Some(entry.key.id)),
            Subject::NoKey(_) => (Some(self.core.default_policy().ok_or_else(unreadable)?), None),
            Subject::Other(_) => (None, None),
        };
        Ok(self.asked(&standing.principal, action, subject, parameters, |request| {
            let rules = policy::Rules {
                key_policy: key_policy.map(|policy| &**policy),
                identity_policies: &standing.policies,
                grants: &[],
            };
            let grants = key.into_iter().flat_map(|key| standing.grants.of(key));
            take(policy::decide_over(request, &rules, grants), request, &rules)
        }))
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
                Interface::Grpc | Interface::AwsJson => true,
            },
            user_agent: self.call.user_agent.as_deref(),
            interface: self.call.interface.label(),
            region: &scope.region,
        };
        take(&Request { caller, action, target, circumstances, parameters })
    }
}

/// Reasons as a record has them.
pub(crate) fn in_words(reasons: &[Arc<str>]) -> Option<Arc<str>> {
    match reasons {
        [] => None,
        [one] => Some(Arc::clone(one)),
        several => Some(several.join("; ").into()),
    }
}

/// Why nothing is allowed whose policy this release does not understand.
const UNREADABLE: &str = "because a policy that has a say in it cannot be read; have it put anew";

fn of_principal(keyring: &Keyring, principal: &Arc<Principal>) -> Who {
    let look_up = || {
        let (mut policies, mut unreadable) = (Vec::new(), Vec::new());
        for name in keyring.catalogue.policies_of(&principal.id) {
            match keyring.directory.policy(name) {
                Some(policy) => policies.push(policy),
                None => unreadable.push(name.clone()),
            }
        }
        (policies, unreadable, keyring.grants.of(&principal.id, account_of(&principal.arn)))
    };
    Who::Principal(keyring.decisions.standing(principal, look_up))
}

/// Whether another request of a principal for an action with a key may be decided otherwise.
fn depends_on_request(standing: &Standing, entry: &Entry, action: &str) -> bool {
    let mut policies = entry.policy.iter().chain(&standing.policies);
    policies.any(|policy| policy.depends_on_request(action))
        || standing.grants.of(entry.key.id).any(|grant| grant.depends_on_request(action))
}

impl From<&Verdict<'_>> for Decision {
    fn from(verdict: &Verdict<'_>) -> Self {
        match verdict {
            Verdict::Allow(_) => Self::Allowed,
            Verdict::Deny(Denying::Statement(_)) => Self::DeniedExplicitly,
            Verdict::Deny(Denying::Nothing(_)) => Self::Denied,
        }
    }
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
