//! Grants: what somebody may do with a key beside its policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::grant_view::{GrantView, view};
use super::principals::no_principal;
use crate::core::access::{Details, Granting, Named};
use crate::core::authority::account_of;
use crate::core::grant_token::GrantTokens;
use crate::core::granted::granted;
use crate::core::meant::Whom;
use crate::core::notes::Notes;
use crate::core::proposal::Proposal;
use crate::core::repeated::{Again, Done};
use crate::core::room;
use crate::core::{Core, page, validate};
use crate::keys::token::digest;
use crate::{Error, Page, RequestContext, Service};
use audit::event::{Fields, Value};
use auth::grant::{Constraint, ConstraintKind, GrantOperation, GrantOperations, Party, Terms};
use model::exception::Exception;
use model::id::{GrantId, KeyId, PrincipalId};
use model::limits;
use model::operation::Operation;
use store::access::{Grant, Granted, NewGrant};
use store::{Admits, Key};

/// What is to be granted.
#[derive(Clone, Debug, Default)]
pub struct CreateGrantInput {
    /// Key id or key ARN.
    pub key_id: String,
    /// The ARN of whom it allows something: of a principal, or of an account's root for all of the account.
    pub grantee: String,
    /// The ARN of who may retire it, likewise; empty: nobody but those who always may.
    pub retiring: String,
    /// What it allows, by AWS's names.
    pub operations: Vec<String>,
    /// For which encryption contexts; any, where it is absent.
    pub constraint: Option<(ConstraintKind, BTreeMap<String, String>)>,
    /// With it the same call makes nothing again. Empty: none.
    pub name: String,
    /// They add nothing: a grant counts from when it was made.
    pub grant_tokens: GrantTokens,
    /// Everything is to be decided, and nothing made.
    pub dry_run: bool,
}

/// A grant that was made.
#[derive(Clone)]
pub struct CreatedGrant {
    /// Its id.
    pub id: GrantId,
    /// Names it, to whoever may retire it. It is not to be logged.
    pub token: String,
}

/// Which grant is to be retired: by its token, or by its key's ARN and its id.
#[derive(Clone, Default)]
pub struct RetireGrantInput {
    /// Empty: by the other two.
    pub token: String,
    /// The key's ARN.
    pub key_arn: String,
    /// The grant's id.
    pub grant_id: String,
    /// Everything is to be decided, and nothing done.
    pub dry_run: bool,
}

impl Service {
    /// Makes a grant, which counts when this returns. With a name, the same call gives the same grant again.
    pub async fn create_grant(&self, call: &RequestContext, input: CreateGrantInput) -> Result<CreatedGrant, Error> {
        let operation = Operation::CreateGrant;
        let granting = self.core.granting(&input);
        let notes = Notes::default();
        let details = Details { grant: granting.clone().ok(), ..Details::default() }.noting(&notes);
        let (of_task, key_id) = (call.clone(), input.key_id.clone());
        let [grantee, retiring] = [&input.grantee, &input.retiring].map(|arn| Whom::named(arn));
        let wanted = Arc::new(Wanted { input, granting, grantee, retiring });
        let [said, looked, repeated] = [&wanted; 3].map(Arc::clone);
        let done = Done::default();
        let name = &wanted.input.name;
        let again = (!name.is_empty())
            .then(|| Again::seen(&done, name, move |core, call, key| repeated.made_before(core, call, key).is_some()));
        let details = details
            .asking(move |core, say| said.proposal(core, say))
            .if_before(move |core, _, key| {
                let (_, grantee, _) = looked.checked(core)?;
                core.has_room(|catalogue| room::for_grant(catalogue, key, &grantee))
            })
            .unless_done(again);
        let work = move |core: Core, key: Arc<Key>| async move {
            let (terms, grantee, retiring) = wanted.checked(&core)?;
            let input = &wanted.input;
            if input.dry_run {
                return Err(Error::dry_run());
            }
            if done.is_found() {
                let id = wanted.made_before(&core, &of_task, key.id).ok_or_else(|| Done::gone("the grant"))?;
                notes.answer(Fields::new().text("grantId", id.as_str()));
                return Ok(CreatedGrant { token: core.grant_token(key.id, &id)?, id });
            }
            let (issuer, issuing_account) = issuer(&core, &of_task);
            let new = NewGrant {
                key: key.id,
                parameters: parameters(terms, &grantee, retiring.as_ref()),
                name: input.name.clone(),
                grantee,
                retiring,
                issuing_account,
                issuer,
                operations: terms.operations.iter().map(|one| one.name().to_owned()).collect(),
                constraint: terms.constraint.as_ref().map(kept),
            };
            let admits = Admits { states: operation.spec().allowed_states, most: limits::GRANTS_PER_KEY };
            let made = core.store().create_grant(new, admits).await.map_err(|error| core.of_store(error))?;
            let (Granted::New(id) | Granted::Existing(id)) = made;
            notes.answer(Fields::new().text("grantId", id.as_str()));
            tracing::info!(key = %key.id, grant = %id, "grant made");
            Ok(CreatedGrant { token: core.grant_token(key.id, &id)?, id })
        };
        self.core.on_key_with(call, operation, &key_id, details, work).await
    }

    /// Lists the grants of a key: of one id, or of one grantee, where these are not empty.
    pub async fn list_grants(
        &self,
        call: &RequestContext,
        key_id: &str,
        grant_id: &str,
        grantee: &str,
        limit: Option<u32>,
        marker: &str,
    ) -> Result<Page<GrantView>, Error> {
        let (grant_id, grantee, marker) = (grant_id.to_owned(), grantee.to_owned(), marker.to_owned());
        let said = (grant_id.clone(), grantee.clone(), marker.clone());
        let details = Details::default()
            .asking(move |_, say| say.text("grantId", &said.0).text("granteePrincipal", &said.1).page(limit, &said.2));
        let work = move |core: Core, key: Arc<Key>| async move {
            let limit = validate::page_limit_of(limit, limits::LIST_GRANTS_DEFAULT, limits::LIST_GRANTS_LIMIT)?;
            validate::length("grantId", grant_id.len(), 0, limits::GRANT_ID_CHARS)?;
            let after = page::after('h', &marker, |text| Some(GrantId::from(text)))?;
            let catalogue = core.store().catalogue();
            // Whoever is gone is named by id, here as in what is shown.
            let account = core.scope().account_of_root(&grantee).and_then(PrincipalId::of_account);
            let who = account.or_else(|| Some(catalogue.principal_with_arn(&grantee)?.id.clone()));
            let who = (!grantee.is_empty()).then(|| who.unwrap_or_else(|| PrincipalId::from(grantee.as_str())));
            let wanted = |grant: &&Arc<Grant>| {
                (grant_id.is_empty() || grant.id.as_str() == grant_id)
                    && who.as_ref().is_none_or(|who| grant.grantee == *who)
            };
            let grants = catalogue.grants_after(key.id, after.as_ref()).filter(wanted);
            Ok(page::cut('h', grants.map(|grant| view(&core, grant)), limit, |grant| grant.id.clone()))
        };
        self.core.on_key_with(call, Operation::ListGrants, key_id, details, work).await
    }

    /// Lists the grants, of whatever key, that a principal may retire because they name it.
    pub async fn list_retirable_grants(
        &self,
        call: &RequestContext,
        retiring: &str,
        limit: Option<u32>,
        marker: &str,
    ) -> Result<Page<GrantView>, Error> {
        let (retiring, marker) = (retiring.to_owned(), marker.to_owned());
        let said = (retiring.clone(), marker.clone());
        let resource =
            Named::nothing().asking(move |_, say| say.text("retiringPrincipal", &said.0).page(limit, &said.1));
        let read = move |core: &Core| {
            let limit = validate::page_limit_of(limit, limits::LIST_GRANTS_DEFAULT, limits::LIST_GRANTS_LIMIT)?;
            let after = page::after('i', &marker, |text| Some(GrantId::from(text)))?;
            validate::party_arn(core.scope(), "retiringPrincipal", &retiring)?;
            let party = core.party(&Whom::named(&retiring))?;
            let catalogue = core.store().catalogue();
            let grants = catalogue.retirable_after(&party, after.as_ref()).map(|grant| view(core, grant));
            Ok(page::cut('i', grants, limit, |grant| grant.id.clone()))
        };
        self.core.on_catalogue(call, Operation::ListRetirableGrants, resource, read).await
    }

    /// Revokes a grant: when this returns, it allows nothing any more.
    pub async fn revoke_grant(
        &self,
        call: &RequestContext,
        key_id: &str,
        grant_id: &str,
        dry_run: bool,
    ) -> Result<(), Error> {
        let id = GrantId::from(grant_id);
        // What it grants is the request's too, for conditions.
        let details =
            Details { grant: self.core.granting_of_named(call, key_id, &id), decided_once: true, ..Details::default() };
        let details = {
            let (said, looked) = (id.clone(), id.clone());
            let details = details.asking(move |_, say| say.dry_run(dry_run).text("grantId", said.as_str()));
            details.if_before(move |core, _, key| {
                validate::grant_id(looked.as_str())?;
                let known = core.store().catalogue().grant(key, &looked).is_some();
                if known { Ok(()) } else { Err(Error::no_grant(&looked)) }
            })
        };
        let work = move |core: Core, key: Arc<Key>| async move {
            validate::grant_id(id.as_str())?;
            core.remove_grant(key.id, &id, dry_run).await
        };
        self.core.on_key_with(call, Operation::RevokeGrant, key_id, details, work).await
    }

    /// Retires a grant: the grant says who may. When this returns, it allows nothing any more.
    pub async fn retire_grant(&self, call: &RequestContext, input: RetireGrantInput) -> Result<(), Error> {
        let (core, dry_run) = (self.core.clone(), input.dry_run);
        let named = self.core.grant_named(call, &input);
        let resource = match named.clone() {
            Ok((key, id)) => {
                let notes = Notes::default();
                // AWS has it there, whichever way the grant was named.
                notes.add("grantId", id.as_str());
                let (said, arn) = (id.clone(), self.core.scope().key_arn(key));
                let say = move |_: &Core, say: Proposal| {
                    say.dry_run(dry_run).others_alone(|say| say.text("grantId", said.as_str()))
                };
                Named::key(key, arn).retiring(id).decided_once().noting(&notes).asking(say)
            }
            Err(error) => Named::refused(error),
        };
        let work = async move {
            let (key, id) = named?;
            core.remove_grant(key, &id, dry_run).await
        };
        self.core.on_one(call, Operation::RetireGrant, resource, work).await
    }
}

/// What is to be granted, and to whom once others are told of it.
struct Wanted {
    input: CreateGrantInput,
    granting: Result<Granting, Error>,
    grantee: Whom,
    retiring: Whom,
}

impl Wanted {
    fn proposal(&self, core: &Core, say: Proposal) -> Proposal {
        let CreateGrantInput { operations, constraint, name, dry_run, .. } = &self.input;
        say.dry_run(*dry_run)
            .principal(core, "granteePrincipal", &self.grantee)
            .principal(core, "retiringPrincipal", &self.retiring)
            .texts("operations", operations.iter().map(String::as_str))
            .others_alone(|say| {
                let pairs = constraint.iter().flat_map(|(_, pairs)| pairs);
                say.maybe("constraint", constraint.as_ref().map(|(kind, _)| kept_kind(*kind).name()))
                    .pairs("encryptionContext", pairs.map(|(name, value)| (name.as_str(), value.as_str())))
            })
            .in_record(|fields| match constraint {
                Some((kind, pairs)) => fields.with("constraints", Value::Object(constraints(*kind, pairs))),
                None => fields,
            })
            .text("name", name)
    }

    /// What it is, if it may be granted; to whom, and who may retire it.
    fn checked(&self, core: &Core) -> Result<(&Terms, PrincipalId, Option<PrincipalId>), Error> {
        let terms = &self.granting.as_ref().map_err(Clone::clone)?.terms;
        core.check_grant_tokens(self.input.grant_tokens.clone())?;
        validate::length("name", self.input.name.chars().count(), 0, limits::GRANT_NAME_CHARS)?;
        let grantee = core.party(&self.grantee)?;
        let retiring = match self.retiring.arn() {
            "" => None,
            _ => Some(core.party(&self.retiring)?),
        };
        Ok((terms, grantee, retiring))
    }

    /// The grant of this name that the same principal has made with the same parameters. Of administrators without a
    /// principal it is not on record which of them made a grant.
    fn made_before(&self, core: &Core, call: &RequestContext, key: KeyId) -> Option<GrantId> {
        let issuer = core.judged(call, |judge| judge.principal().map(|principal| principal.id.clone()))?;
        // What is wrong with it is told where it is looked at.
        let (terms, grantee, retiring) = self.checked(core).ok()?;
        let constraint = terms.constraint.as_ref().map(kept);
        let operations = || terms.operations.iter().map(|one| one.name());
        let catalogue = core.store().catalogue();
        let mut granted = catalogue.grants_of(&grantee, key);
        let same = granted.find(|one| {
            (&one.name, &one.issuer, &one.retiring) == (&self.input.name, &issuer, &retiring)
                && one.constraint == constraint
                && one.operations.iter().map(String::as_str).eq(operations())
        });
        same.map(|one| one.id.clone())
    }
}

/// Who makes a grant, and in which account.
fn issuer(core: &Core, call: &RequestContext) -> (PrincipalId, String) {
    core.judged(call, |judge| match judge.principal() {
        Some(principal) => (principal.id.clone(), account_of(&principal.arn).to_owned()),
        // An administrator without a principal is as good as the account's root.
        None => (PrincipalId::from(&*core.scope().account), core.scope().account.to_string()),
    })
}

/// Whoever is named in a grant and is not there is so by AWS's name: NotFoundException would say that the key is gone, and
/// Terraform waits for a principal that was just made under this name alone.
fn no_party(error: Error) -> Error {
    match error.exception {
        Exception::NotFound => Error { exception: Exception::InvalidArn, ..error },
        _ => error,
    }
}

/// A constraint by AWS's names.
fn constraints(kind: ConstraintKind, pairs: &BTreeMap<String, String>) -> Fields {
    let pairs = Value::pairs(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let name = match kind {
        ConstraintKind::Equals => "encryptionContextEquals",
        ConstraintKind::Subset => "encryptionContextSubset",
    };
    Fields::new().with(name, pairs)
}

impl Core {
    /// Whom a grant names: a principal, if it is who was meant at the first look, or an account as a whole.
    fn party(&self, whom: &Whom) -> Result<PrincipalId, Error> {
        let Some(account) = self.scope().account_of_root(whom.arn()) else {
            return whom.now(self).map_err(no_party).map(|principal| principal.id.clone());
        };
        let catalogue = self.store().catalogue();
        let is_here = account == &*self.scope().account
            || catalogue.principals_after(None).any(|principal| account_of(&principal.arn) == account);
        let known = PrincipalId::of_account(account).filter(|_| is_here);
        known.ok_or_else(|| no_party(no_principal(whom.arn())))
    }

    async fn remove_grant(&self, key: KeyId, id: &GrantId, dry_run: bool) -> Result<(), Error> {
        if dry_run {
            let known = self.store().catalogue().grant(key, id).is_some();
            return Err(if known { Error::dry_run() } else { Error::no_grant(id) });
        }
        self.store().remove_grant(key, id).await.map_err(|error| self.of_store(error))?;
        tracing::info!(%key, grant = %id, "grant removed");
        Ok(())
    }

    /// What a call would grant, as conditions see it.
    pub(super) fn granting(&self, input: &CreateGrantInput) -> Result<Granting, Error> {
        let CreateGrantInput { grantee, retiring, operations, constraint, .. } = input;
        validate::party_arn(self.scope(), "granteePrincipal", grantee)?;
        if !retiring.is_empty() {
            validate::party_arn(self.scope(), "retiringPrincipal", retiring)?;
        }
        validate::length("operations", operations.len(), 1, GrantOperation::ALL.len())?;
        let operation = |name: &String| {
            GrantOperation::parse(name).filter(|one| one.fits_symmetric_key()).ok_or_else(|| {
                let fit = GrantOperation::ALL.iter().filter(|one| one.fits_symmetric_key());
                let fit: Vec<_> = fit.map(|one| one.name()).collect();
                let name = validate::shown(name);
                Error::validation(format!(
                    "operations: '{name}' is nothing that a grant can allow with a symmetric key; it can allow {}",
                    fit.join(", ")
                ))
            })
        };
        let operations = operations.iter().map(operation).collect::<Result<GrantOperations, Error>>()?;
        if operations.iter().eq([GrantOperation::CreateGrant]) {
            return Err(Error::validation("Grants must not contain only the CreateGrant operation."));
        }
        let constraint = constraint.clone().map(|(kind, pairs)| Constraint::new(kind, pairs)).transpose();
        let constraint = constraint.map_err(|error| Error::validation(format!("constraints: {error}")))?;
        let catalogue = self.store().catalogue();
        // Somebody whom there is not is told of when the caller may make grants.
        let party = |arn: &str| match (self.scope().account_of_root(arn), catalogue.principal_with_arn(arn)) {
            (Some(account), _) => Party::Account(account.into()),
            (None, Some(principal)) => Party::Principal(principal.id.clone()),
            (None, None) => Party::Account("".into()),
        };
        let retiring = (!retiring.is_empty()).then(|| retiring.clone());
        let terms = Terms { grantee: party(grantee), retiring: retiring.as_deref().map(party), operations, constraint };
        Ok(Granting { terms, grantee: grantee.clone(), retiring })
    }

    fn granting_of_named(&self, call: &RequestContext, key_id: &str, id: &GrantId) -> Option<Granting> {
        let catalogue = self.store().catalogue();
        self.granting_of(self.key_named(call, Operation::RevokeGrant, key_id, &catalogue).ok()?, id)
    }

    /// The same of a grant that there is.
    pub(super) fn granting_of(&self, key: KeyId, id: &GrantId) -> Option<Granting> {
        let catalogue = self.store().catalogue();
        let grant = catalogue.grant(key, id)?;
        let GrantView { grantee, retiring, .. } = view(self, grant);
        Some(Granting { terms: granted(grant).terms, grantee, retiring })
    }

    /// Which grant a call to retire one is about.
    fn grant_named(&self, call: &RequestContext, input: &RetireGrantInput) -> Result<(KeyId, GrantId), Error> {
        if !input.token.is_empty() {
            if !(input.key_arn.is_empty() && input.grant_id.is_empty()) {
                return Err(Error::validation("grantToken: give a token, or a key's ARN and a grant's id, not both"));
            }
            validate::length("grantToken", input.token.chars().count(), 1, limits::GRANT_TOKEN_CHARS)?;
            return self.grant_of_token(&input.token);
        }
        validate::grant_id(&input.grant_id)?;
        let key = self.key_named(call, Operation::RetireGrant, &input.key_arn, &self.store().catalogue())?;
        Ok((key, GrantId::from(input.grant_id.as_str())))
    }
}

/// What must be the same for a grant of one name to be the same.
fn parameters(terms: &Terms, grantee: &PrincipalId, retiring: Option<&PrincipalId>) -> [u8; 32] {
    let mut said: Vec<&str> = vec![grantee.as_str(), retiring.map_or("", PrincipalId::as_str)];
    said.extend(terms.operations.iter().map(|one| one.name()));
    said.push("");
    if let Some(constraint) = &terms.constraint {
        said.push(constraint.name());
        said.extend(constraint.pairs().iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]));
    }
    digest(said)
}

fn kept(constraint: &Constraint) -> store::access::Constraint {
    store::access::Constraint { kind: kept_kind(constraint.kind()), pairs: constraint.pairs().clone() }
}

const fn kept_kind(kind: ConstraintKind) -> store::access::ConstraintKind {
    match kind {
        ConstraintKind::Subset => store::access::ConstraintKind::Subset,
        ConstraintKind::Equals => store::access::ConstraintKind::Equals,
    }
}
