//! What a judge says to those who ask why, and not whether.

use super::{Authority, Judge, Subject, Who, granted, of_principal};
use crate::core::Core;
use crate::core::keyring::Keyring;
use crate::{Error, RequestContext};
use auth::policy::{self, Denying, Near, Parameters, Request, Rules, Verdict};
use model::id::{GrantId, KeyId};
use model::operation::Operation;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use store::access::Principal;

impl Authority {
    /// Whether a name of a certificate is one of the configuration's administrators.
    pub(crate) fn is_administrator(&self, name: &str) -> bool {
        self.administrators.contains(name)
    }
}

impl<'a> Judge<'a> {
    /// What another principal than the caller may do, by policies and grants.
    pub(crate) fn of_other(
        core: &'a Core,
        keyring: &'a Keyring,
        call: &'a RequestContext,
        principal: &Arc<Principal>,
    ) -> Self {
        let who = of_principal(keyring, principal);
        Self { core, keyring, call, who, last: Cell::default(), reasons: RefCell::default() }
    }

    /// What policies and grants say of the principal; where nothing allows it, so many statements at most that nearly do.
    pub(crate) fn explained<T>(
        &self,
        action: &str,
        subject: Subject<'_>,
        parameters: Parameters<'_>,
        most: usize,
        take: impl FnOnce(Verdict<'_>, Vec<Near<'_>>) -> T,
    ) -> Result<T, Error> {
        let told = |verdict: Verdict<'_>, request: &Request<'_>, rules: &Rules<'_>| {
            let nearest = match verdict {
                Verdict::Deny(Denying::Nothing(_)) => policy::nearest(request, rules, most),
                _ => Vec::new(),
            };
            take(verdict, nearest)
        };
        match &self.who {
            Who::Principal(standing) => self.by_policies(standing, action, subject, parameters, told),
            _ => Err(self.unmapped()),
        }
    }

    /// The same of the retiring of a grant, which that grant decides.
    pub(crate) fn explained_retiring<T>(
        &self,
        key: KeyId,
        id: &GrantId,
        take: impl FnOnce(Verdict<'_>) -> T,
    ) -> Result<T, Error> {
        let grant = granted(self.keyring.catalogue.grant(key, id).ok_or_else(|| Error::no_grant(id))?);
        let Who::Principal(standing) = &self.who else { return Err(self.unmapped()) };
        let (arn, permission) = (self.core.scope().key_arn(key), Operation::RetireGrant.spec().permission);
        let subject = Subject::key(self.keyring, key, &arn);
        Ok(self.asked(&standing.principal, permission, subject, Parameters::default(), |request| {
            take(policy::retire(request, &grant, &standing.policies))
        }))
    }

    /// Which policy has a say in what a principal does with this, and cannot be read.
    pub(crate) fn unreadable(&self, subject: Subject<'_>) -> Option<String> {
        let of_key = match subject {
            Subject::Key(entry) => entry.policy.is_none(),
            Subject::NoKey(_) | Subject::Other(_) => false,
        };
        let own = match &self.who {
            Who::Principal(standing) => standing.unreadable.first(),
            _ => None,
        };
        own.map(|name| format!("identity policy {name}"))
            .or_else(|| of_key.then(|| format!("the policy of {}", subject.arn())))
    }
}
