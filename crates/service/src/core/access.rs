//! What a call names, and what it says of itself on which conditions of policies may depend.
//!
//! Whether there is such a thing is told only to callers who may do with it what they ask for: who may is asked about the
//! ARN before anything is looked up, and a denial reads the same whether there is a key, key store or cluster of that name
//! or none.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::authority::{Authority, Judge, KEY_ORIGIN, KEY_SPEC, KEY_USAGE, Subject, in_words};
use super::keyring::Keyring;
use super::naming::alias_in;
use super::notes::Notes;
use super::proposal::Proposal;
use super::recorder::About;
use super::repeated::Again;
use super::{Core, approval, validate};
use crate::{Error, RequestContext};
use audit::event::Fields;
use auth::grant::Terms;
use auth::policy::{Names, NewGrant, Pairs, Parameters};
use auth::request::NO_RESOURCE;
use model::context::EncryptionContext;
use model::id::{AliasName, ApprovalId, GrantId, KeyId, Scope};
use model::operation::Operation;

/// The id of no key: who may do something with it may do it with any key that its own policy does not take away.
pub(crate) const NO_KEY: KeyId = KeyId::from_bytes([0; 16]);

/// The id of no key store: who may do something with it may do it with any that no policy takes out.
const NO_KEY_STORE: &str = "cks-00000000000000000";

/// What a call names, whether there is such a thing or not.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// [`NO_RESOURCE`] where it names nothing.
    pub(crate) arn: Arc<str>,
    /// Of a key.
    key: Option<KeyId>,
    /// What else it says.
    details: Details,
    /// The grant that is to be retired.
    retires: Option<GrantId>,
    /// The approval that it is about.
    approval: Option<ApprovalId>,
    /// What refusals call it instead of its ARN, which the caller has not named.
    called: Option<String>,
    /// Whether there is no such thing, and the ARN that permission is asked about is nothing's.
    is_none: bool,
    /// What it names cannot be a name.
    refused: Option<Error>,
}

/// A look at what a call needs beside permission to do this with what it names, and beside secrets and HSMs.
#[derive(Clone)]
pub(crate) struct Before(Arc<Look>);

/// With the key that the call names; [`NO_KEY`] where it names none.
type Look = dyn Fn(&Core, &RequestContext, KeyId) -> Result<(), Error> + Send + Sync;

impl fmt::Debug for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Before")
    }
}

/// How what a call asks for is said. To others it costs digests, and is done only where they may have to approve the call,
/// once that has been let in; to the record it is said of each call.
#[derive(Clone)]
pub(crate) struct Asking(Arc<Asked>);

type Asked = dyn Fn(&Core, Proposal) -> Proposal + Send + Sync;

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asking")
    }
}

/// What a call says of itself beside what it names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Details {
    /// The alias by which it names the key.
    pub(crate) alias: Option<AliasName>,
    /// It makes a key.
    pub(crate) makes_key: bool,
    /// Tags that it brings.
    pub(crate) tags: Option<Vec<(String, String)>>,
    /// Tags that it takes away.
    pub(crate) tag_keys: Option<Vec<String>>,
    /// The waiting period of a deletion.
    pub(crate) pending_window_days: Option<u32>,
    /// How often the key is to be rotated.
    pub(crate) rotation_period_days: Option<u32>,
    /// Whether a policy is put that its caller may not be able to change.
    pub(crate) bypass_lockout_check: Option<bool>,
    /// The policy of a key that it puts.
    pub(crate) policy_name: Option<&'static str>,
    /// The grant that it is about.
    pub(crate) grant: Option<Granting>,
    /// What it changes may be what allows it: there is no second look once it is done.
    pub(crate) decided_once: bool,
    /// The parameter by which it names what it is about, and what that says.
    pub(crate) named_by: Option<(&'static str, String)>,
    /// All else that it asks for.
    pub(crate) asking: Option<Asking>,
    /// What it tells its record while it is carried out.
    pub(crate) notes: Notes,
    /// What else it needs.
    pub(crate) before: Option<Before>,
    /// Whether it was carried out before, where the same call again changes nothing.
    pub(crate) again: Option<Again>,
}

/// A grant that a call is about.
#[derive(Clone, Debug)]
pub(crate) struct Granting {
    pub(crate) terms: Terms,
    /// The grantee, as the request has it.
    pub(crate) grantee: String,
    /// The retiring principal, likewise.
    pub(crate) retiring: Option<String>,
}

/// What an item says of the key that it is to be done with.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) context: EncryptionContext,
    /// The alias by which it names the key.
    pub(crate) alias: Option<AliasName>,
}

impl Named {
    /// Something that is no key.
    pub(crate) fn other(arn: impl Into<Arc<str>>) -> Self {
        let (arn, details) = (arn.into(), Details::default());
        Self { arn, key: None, details, retires: None, approval: None, called: None, is_none: false, refused: None }
    }

    /// What cannot be a name.
    pub(crate) fn refused(error: Error) -> Self {
        Self { refused: Some(error), ..Self::nothing() }
    }

    /// Refuses what cannot be a name, and tags that none can be. It is told as such to everybody: there is nothing to be
    /// learnt from it.
    pub(crate) fn is_a_name(&self) -> Result<(), Error> {
        self.refused.clone().map_or(Ok(()), Err)?;
        self.details.can_be()
    }

    /// What a call names that is about nothing in particular.
    pub(crate) fn nothing() -> Self {
        Self::other(NO_RESOURCE)
    }

    /// What would be a key if there were an alias that a call names.
    pub(crate) fn no_key(scope: &Scope) -> Self {
        Self::key(NO_KEY, scope.key_arn(NO_KEY))
    }

    /// Whether there is something that a record can name.
    pub(crate) fn is_something(&self) -> bool {
        &*self.arn != NO_RESOURCE && self.key != Some(NO_KEY) && !self.is_none
    }

    /// The key store that a call names by its name, or what would be one if there were one of this name.
    pub(crate) fn key_store_called(scope: &Scope, id: Option<&str>, name: &str) -> Self {
        let called = format!("the key store named '{}'", validate::shown(name));
        let arn = scope.key_store_arn(id.unwrap_or(NO_KEY_STORE));
        Self { called: Some(called), is_none: id.is_none(), ..Self::other(arn) }
    }

    pub(crate) fn key(id: KeyId, arn: impl Into<Arc<str>>) -> Self {
        Self { key: Some(id), ..Self::other(arn) }
    }

    /// The same, of a change that may be the end of what allows it.
    pub(crate) fn decided_once(self) -> Self {
        Self { details: Details { decided_once: true, ..self.details }, ..self }
    }

    /// The same, of a call that retires this grant of the key.
    pub(crate) fn retiring(self, grant: GrantId) -> Self {
        Self { retires: Some(grant), ..self }
    }

    /// The same, of a call about this approval.
    pub(crate) fn of_approval(self, approval: ApprovalId) -> Self {
        Self { approval: Some(approval), ..self }
    }

    /// The same, of a call that asks for this.
    pub(crate) fn asking(self, say: impl Fn(&Core, Proposal) -> Proposal + Send + Sync + 'static) -> Self {
        Self { details: self.details.asking(say), ..self }
    }

    /// The same, of a call that names it by this parameter.
    pub(crate) fn named_by(self, name: &'static str, value: &str) -> Self {
        Self { details: self.details.named_by(name, value), ..self }
    }

    /// The same, of a call that tells its record more while it is carried out.
    pub(crate) fn noting(self, notes: &Notes) -> Self {
        Self { details: Details { notes: notes.clone(), ..self.details }, ..self }
    }

    /// What the record of a call is about.
    pub(crate) fn about(&self, core: &Core) -> About {
        let named = self.details.named_by.iter().fold(Fields::new(), |fields, (name, value)| fields.given(name, value));
        let proposal = Proposal::for_record(named);
        let said = match &self.details.asking {
            Some(Asking(say)) => say(core, proposal),
            None => proposal,
        };
        let notes = self.details.notes.clone();
        if let Some(("customKeyStoreId", id)) = &self.details.named_by
            && let Some(store) = core.store().catalogue().key_store(&id.as_str().into())
        {
            notes.add("customKeyStoreName", store.name.as_str());
            notes.add("clusterId", store.cluster.as_str());
        }
        About::One(said.into_recorded().bounded(), notes)
    }

    /// The same, of a call that needs more, which its work looks at: others are asked only if this look finds it.
    pub(crate) fn if_before(
        self,
        look: impl Fn(&Core, &RequestContext) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Self {
        Self { details: self.details.if_before(move |core, call, _| look(core, call)), ..self }
    }

    /// The same, of a call that changes nothing where this look, if there is one, finds that it was carried out before.
    pub(crate) fn unless_done(self, again: impl Into<Option<Again>>) -> Self {
        Self { details: self.details.unless_done(again), ..self }
    }

    /// The look whether it was carried out before.
    pub(super) fn again(&self) -> Option<&Again> {
        self.details.again.as_ref()
    }

    /// The key that it names; [`NO_KEY`] where it names none.
    pub(super) fn key_or_none(&self) -> KeyId {
        self.key.unwrap_or(NO_KEY)
    }

    /// What it asks for, said to others.
    pub(crate) fn proposal(&self, core: &Core) -> Option<Proposal> {
        self.details.asking.as_ref().map(|Asking(say)| say(core, Proposal::for_others()))
    }

    /// Whether the caller may do this with it, as things are now, and with a key in its present state, and has what else
    /// the call needs.
    pub(crate) fn is_open(&self, core: &Core, call: &RequestContext, operation: Operation) -> Result<(), Error> {
        match self.key {
            Some(id) if self.retires.is_none() => core.open_key(call, operation, id, &self.details).map(drop),
            _ => self.is_allowed(core, call, operation),
        }?;
        self.details.before.as_ref().map_or(Ok(()), |Before(look)| look(core, call, self.key_or_none()))
    }

    /// Whether it is still allowed once it is done.
    pub(crate) fn is_still_allowed(
        &self,
        core: &Core,
        call: &RequestContext,
        operation: Operation,
    ) -> Result<(), Error> {
        if self.details.decided_once { Ok(()) } else { self.is_allowed(core, call, operation) }
    }

    pub(crate) fn with(self, details: Details) -> Self {
        Self { details, ..self }
    }

    /// Whether the caller may do this with it, as things are now.
    pub(crate) fn is_allowed(&self, core: &Core, call: &RequestContext, operation: Operation) -> Result<(), Error> {
        core.judged(call, |judge| self.is_allowed_by(judge, call, operation))
    }

    /// The same, with why, for the record.
    pub(crate) fn is_allowed_because(
        &self,
        core: &Core,
        call: &RequestContext,
        operation: Operation,
    ) -> (Result<(), Error>, Option<Arc<str>>) {
        let (keyring, authority): (Arc<Keyring>, _) = (core.keyring(), core.authority());
        let judge = Judge::new(core, &keyring, &authority, call);
        let allowed = self.is_allowed_by(&judge, call, operation);
        (allowed, in_words(&judge.reasons()))
    }

    fn is_allowed_by(&self, judge: &Judge<'_>, call: &RequestContext, operation: Operation) -> Result<(), Error> {
        if let Some(id) = &self.approval {
            return approval::allows(judge, call, operation, id);
        }
        if let (Some(key), Some(grant)) = (self.key, &self.retires) {
            return judge.may_retire(key, grant);
        }
        let subject = match self.key {
            Some(id) => Subject::key(judge.keyring(), id, &self.arn),
            None => Subject::Other(&self.arn),
        };
        let permission = operation.spec().permission;
        let allowed = judge.allows(permission, subject, self.details.parameters());
        match &self.called {
            // The same words whether there is such a thing or not, and nothing of why: that may depend on which it is.
            Some(called) => allowed.map_err(|error| judge.denied_of(error, permission, called)),
            None => allowed,
        }
    }
}

impl Details {
    /// The same, of a call that asks for this.
    pub(crate) fn asking(self, say: impl Fn(&Core, Proposal) -> Proposal + Send + Sync + 'static) -> Self {
        Self { asking: Some(Asking(Arc::new(say))), ..self }
    }

    /// The same, of a call that names what it is about by this parameter.
    pub(crate) fn named_by(self, name: &'static str, value: &str) -> Self {
        Self { named_by: Some((name, value.to_owned())), ..self }
    }

    /// The same, of a call that tells its record more while it is carried out.
    pub(crate) fn noting(self, notes: &Notes) -> Self {
        Self { notes: notes.clone(), ..self }
    }

    /// The same, of a call that needs more, which its work looks at: others are asked only if this look finds it. It gets
    /// the key that is named.
    pub(crate) fn if_before(
        self,
        look: impl Fn(&Core, &RequestContext, KeyId) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Self {
        Self { before: Some(Before(Arc::new(look))), ..self }
    }

    /// The same, of a call that changes nothing where this look, if there is one, finds that it was carried out before.
    pub(crate) fn unless_done(self, again: impl Into<Option<Again>>) -> Self {
        Self { again: again.into(), ..self }
    }

    /// Refuses more than conditions have to look at.
    pub(crate) fn can_be(&self) -> Result<(), Error> {
        let tags = self.tags.as_deref().unwrap_or_default();
        validate::can_be_tags(tags.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
        let names = self.tag_keys.as_deref().unwrap_or_default();
        validate::can_be_tags(names.iter().map(|name| (name.as_str(), "")))
    }

    pub(crate) fn parameters(&self) -> Parameters<'_> {
        let Self { alias, makes_key, tags, tag_keys, pending_window_days, rotation_period_days, .. } = self;
        Parameters {
            alias: alias.as_ref().map(AliasName::as_str),
            tags: tags.as_ref().map(|tags| tags as &dyn Pairs),
            tag_keys: tag_keys.as_ref().map(|names| names as &dyn Names),
            key_spec: makes_key.then_some(KEY_SPEC),
            key_usage: makes_key.then_some(KEY_USAGE),
            key_origin: makes_key.then_some(KEY_ORIGIN),
            pending_window_days: *pending_window_days,
            rotation_period_days: *rotation_period_days,
            bypass_lockout_check: self.bypass_lockout_check,
            policy_name: self.policy_name,
            grant: self.grant.as_ref().map(|Granting { terms, grantee, retiring }| NewGrant {
                terms,
                grantee,
                retiring: retiring.as_deref(),
            }),
            ..Parameters::default()
        }
    }
}

impl Said {
    pub(crate) fn new(context: EncryptionContext, named_by: &str) -> Self {
        Self { context, alias: alias_in(named_by) }
    }

    pub(crate) fn parameters(&self) -> Parameters<'_> {
        Parameters {
            encryption_context: Some(&self.context),
            alias: self.alias.as_ref().map(AliasName::as_str),
            ..Parameters::default()
        }
    }
}

impl Core {
    /// Who decides at this moment.
    pub(crate) fn authority(&self) -> Arc<Authority> {
        self.inner.authority.load_full()
    }

    /// Has these be the administrators from now on, and nobody else: when this returns, nothing is given out any more that
    /// needs one who is none.
    pub(crate) fn set_administrators(&self, administrators: BTreeSet<String>) {
        self.inner.authority.store(Arc::new(Authority { administrators }));
        self.wait_for_releases();
    }

    /// Has one look at what a caller may do.
    pub(crate) fn judged<T>(&self, call: &RequestContext, look: impl FnOnce(&Judge<'_>) -> T) -> T {
        let (keyring, authority): (Arc<Keyring>, _) = (self.keyring(), self.authority());
        look(&Judge::new(self, &keyring, &authority, call))
    }
}
