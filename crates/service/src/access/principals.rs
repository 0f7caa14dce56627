//! Principals: who may call, by which certificates they are known, their tags.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::core::access::Named;
use crate::core::meant::Whom;
use crate::core::page::{self, Bounds};
use crate::core::proposal::Proposal;
use crate::core::room;
use crate::core::{Core, validate};
use crate::{Error, Page, RequestContext, Service};
use model::exception::Exception;
use model::id::PrincipalId;
use model::limits;
use model::operation::Operation;
use store::access::{NewPrincipal, Principal};
use store::{AccessError, Catalogue};

/// What is to be made.
#[derive(Clone, Debug, Default)]
pub struct CreatePrincipalInput {
    /// `arn:PARTITION:iam::ACCOUNT:user/NAME`, or `…:role/NAME`.
    pub arn: String,
    /// At most 8,192 characters.
    pub description: String,
    /// Names of certificates by which it is known, such as `cn:app`.
    pub identities: Vec<String>,
    /// Key and value; no key twice.
    pub tags: Vec<(String, String)>,
}

/// A principal as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipalView {
    /// Its id, which nobody else will ever have.
    pub id: PrincipalId,
    /// Its ARN.
    pub arn: String,
    /// The creator's words.
    pub description: String,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
    /// Names of certificates by which it is known, each with when it was given it.
    pub identities: Vec<(String, i64)>,
    /// By name.
    pub tags: BTreeMap<String, String>,
    /// The groups that it is in.
    pub groups: Vec<String>,
    /// The policies that are attached to itself.
    pub policies: Vec<String>,
}

/// Who a caller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// The name of its certificate.
    pub identity: String,
    /// The principal that it is mapped to; absent where it is to none.
    pub principal: Option<PrincipalView>,
    /// Whether it is one of the configuration's administrators, whom no policy binds.
    pub administrator: bool,
}

impl Service {
    /// Says who the caller is. Everybody may ask that.
    pub async fn who_am_i(&self, call: &RequestContext) -> Result<Identified, Error> {
        let asked = call.clone();
        let read = move |core: &Core| {
            Ok(core.judged(&asked, |judge| Identified {
                identity: asked.principal.as_str().to_owned(),
                principal: judge.principal().map(|principal| view(principal)),
                administrator: judge.is_administrator(),
            }))
        };
        self.core.on_catalogue(call, Operation::WhoAmI, Named::nothing(), read).await
    }

    /// Makes a principal. One of an ARN that there was before is somebody else, and inherits nothing.
    pub async fn create_principal(
        &self,
        call: &RequestContext,
        input: CreatePrincipalInput,
    ) -> Result<PrincipalView, Error> {
        let operation = Operation::CreatePrincipal;
        let (core, of_task) = (self.core.clone(), call.clone());
        let arn = input.arn.clone();
        let input = Arc::new(input);
        let [said, looked] = [&input; 2].map(Arc::clone);
        let proposal = move |_: &Core, say: Proposal| {
            let CreatePrincipalInput { description, identities, tags, .. } = &*said;
            say.text("description", description).texts("identities", identities.iter().map(String::as_str)).tags(tags)
        };
        let look = move |core: &Core, call: &RequestContext| {
            let new = wanted(core, call, &looked)?;
            let catalogue = core.store().catalogue();
            if catalogue.principal_with_arn(&new.arn).is_some() {
                return Err(core.of_store(AccessError::ArnInUse(new.arn).into()));
            }
            let taken = new.identities.iter().try_for_each(|identity| is_nobodys(&catalogue, identity));
            taken.map_err(|error| core.of_store(error.into()))?;
            core.has_room(room::for_principal)
        };
        let resource = match validate::principal_arn(self.core.scope(), "principalArn", &arn) {
            Ok(()) => self.core.arn_of(operation, &arn),
            Err(error) => Named::refused(error).named_by("principalArn", &arn),
        };
        let resource = resource.asking(proposal).if_before(look);
        let work = async move {
            let new = wanted(&core, &of_task, &input)?;
            let id = core.store().create_principal(new).await.map_err(|error| core.of_store(error))?;
            tracing::info!(%id, arn, "principal created");
            core.principal(&arn).map(|principal| view(&principal))
        };
        self.core.on_one(call, operation, resource, work).await
    }

    /// Takes a principal away: when this returns, nobody can do anything as it any more. What names it shows its id.
    pub async fn delete_principal(&self, call: &RequestContext, arn: &str) -> Result<(), Error> {
        let work = |core: Core, id: PrincipalId| async move {
            core.store().delete_principal(&id).await.map_err(|error| core.of_store(error))
        };
        let say = |say: Proposal| say;
        let look = |_: &Core, _: &RequestContext, _: &Principal| Ok(());
        self.on_principal(call, Operation::DeletePrincipal, arn, (say, look), work).await
    }

    /// Shows a principal.
    pub async fn describe_principal(&self, call: &RequestContext, arn: &str) -> Result<PrincipalView, Error> {
        let (operation, arn) = (Operation::DescribePrincipal, arn.to_owned());
        let resource = self.core.arn_of(operation, &arn);
        let read = move |core: &Core| core.principal(&arn).map(|principal| view(&principal));
        self.core.on_catalogue(call, operation, resource, read).await
    }

    /// Lists principals in the order of their ARNs.
    pub async fn list_principals(
        &self,
        call: &RequestContext,
        limit: Option<u32>,
        marker: &str,
    ) -> Result<Page<PrincipalView>, Error> {
        let [said, marker] = [marker; 2].map(str::to_owned);
        let resource = Named::nothing().asking(move |_, say| say.page(limit, &said));
        let read = move |core: &Core| {
            let limit = validate::page_limit(limit)?;
            let after = page::after('p', &marker, |text| Some(text.to_owned()))?;
            let catalogue = core.store().catalogue();
            let principals = catalogue.principals_after(after.as_deref());
            let show = |principal: &&Arc<Principal>| {
                let shown = view(principal);
                let weight = shown.weight();
                Some((shown, weight))
            };
            Ok(page::sift('p', principals, Bounds::details(limit), |principal| principal.arn.clone(), show))
        };
        self.core.on_catalogue(call, Operation::ListPrincipals, resource, read).await
    }

    /// Has a principal be known by a further certificate.
    pub async fn add_principal_identity(&self, call: &RequestContext, arn: &str, identity: &str) -> Result<(), Error> {
        let [said, looked, identity] = [identity; 3].map(str::to_owned);
        let of_task = call.clone();
        let say = move |say: Proposal| say.text("identity", &said);
        let look = move |core: &Core, call: &RequestContext, principal: &Principal| {
            validate::identity(&looked)?;
            core.may_map(call, [looked.as_str()])?;
            is_nobodys(&core.store().catalogue(), &looked).map_err(|error| core.of_store(error.into()))?;
            core.has_room(|_| room::for_identity(principal))
        };
        let work = |core: Core, id: PrincipalId| async move {
            validate::identity(&identity)?;
            core.may_map(&of_task, [identity.as_str()])?;
            let most = limits::IDENTITIES_PER_PRINCIPAL;
            core.store().add_identity(&id, &identity, most).await.map_err(|error| core.of_store(error))
        };
        self.on_principal(call, Operation::AddPrincipalIdentity, arn, (say, look), work).await
    }

    /// Has a principal no longer be known by a certificate: when this returns, calls on its open connections are refused.
    pub async fn remove_principal_identity(
        &self,
        call: &RequestContext,
        arn: &str,
        identity: &str,
    ) -> Result<(), Error> {
        let [said, looked, identity] = [identity; 3].map(str::to_owned);
        let say = move |say: Proposal| say.text("identity", &said);
        let look = move |core: &Core, _: &RequestContext, principal: &Principal| {
            let has = principal.identities.iter().any(|one| one.name == looked);
            let none = || AccessError::NoIdentity(principal.id.clone(), looked.clone());
            if has { Ok(()) } else { Err(core.of_store(none().into())) }
        };
        let work = |core: Core, id: PrincipalId| async move {
            core.store().remove_identity(&id, &identity).await.map_err(|error| core.of_store(error))
        };
        self.on_principal(call, Operation::RemovePrincipalIdentity, arn, (say, look), work).await
    }

    /// Gives a principal tags; one with a name that it has already takes the other one's place.
    pub async fn tag_principal(
        &self,
        call: &RequestContext,
        arn: &str,
        tags: Vec<(String, String)>,
    ) -> Result<(), Error> {
        let [said, looked] = [&tags, &tags].map(Clone::clone);
        let say = move |say: Proposal| say.tags(&said);
        let look = move |core: &Core, _: &RequestContext, principal: &Principal| {
            let tags = validate::tags(looked.clone(), limits::TAGS_PER_PRINCIPAL)?;
            core.has_room(|_| room::for_principal_tags(principal, &tags))
        };
        let work = |core: Core, id: PrincipalId| async move {
            let most = limits::TAGS_PER_PRINCIPAL;
            let tags = validate::tags(tags, most)?;
            core.store().tag_principal(&id, &tags, most).await.map_err(|error| core.of_store(error))
        };
        self.on_principal(call, Operation::TagPrincipal, arn, (say, look), work).await
    }

    /// Takes tags away from a principal; a success where it has none of them.
    pub async fn untag_principal(&self, call: &RequestContext, arn: &str, names: Vec<String>) -> Result<(), Error> {
        let [said, looked] = [&names, &names].map(Clone::clone);
        let say = move |say: Proposal| say.texts("tagKeys", said.iter().map(String::as_str));
        let look = move |_: &Core, _: &RequestContext, _: &Principal| {
            validate::tag_keys(looked.clone(), limits::TAGS_PER_PRINCIPAL).map(drop)
        };
        let work = |core: Core, id: PrincipalId| async move {
            let names = validate::tag_keys(names, limits::TAGS_PER_PRINCIPAL)?;
            core.store().untag_principal(&id, &names).await.map_err(|error| core.of_store(error))
        };
        self.on_principal(call, Operation::UntagPrincipal, arn, (say, look), work).await
    }

    /// Changes a principal that there is. The change may be the end of what allowed it.
    pub(super) async fn on_principal<W>(
        &self,
        call: &RequestContext,
        operation: Operation,
        arn: &str,
        (say, look): (
            impl Fn(Proposal) -> Proposal + Send + Sync + 'static,
            impl Fn(&Core, &RequestContext, &Principal) -> Result<(), Error> + Send + Sync + 'static,
        ),
        work: impl FnOnce(Core, PrincipalId) -> W + Send + 'static,
    ) -> Result<(), Error>
    where
        W: Future<Output = Result<(), Error>> + Send,
    {
        let (core, arn) = (self.core.clone(), arn.to_owned());
        let whom = Whom::named(&arn);
        let [said, looked] = [&whom, &whom].map(Clone::clone);
        let resource = self.core.arn_of(operation, &arn).decided_once();
        let resource = resource.asking(move |core, proposal| say(proposal).principal(core, "principalArn", &said));
        let resource = resource.if_before(move |core, call| look(core, call, &*looked.now(core)?));
        let work = async move {
            let principal = whom.now(&core)?;
            work(core.clone(), principal.id.clone()).await?;
            tracing::info!(arn, id = %principal.id, operation = operation.spec().label, "principal changed");
            Ok(())
        };
        self.core.on_one(call, operation, resource, work).await
    }
}

/// A principal that is to be made, if it may be one.
fn wanted(core: &Core, call: &RequestContext, input: &CreatePrincipalInput) -> Result<NewPrincipal, Error> {
    let CreatePrincipalInput { arn, description, identities, tags } = input;
    validate::description(description)?;
    validate::length("identities", identities.len(), 0, limits::IDENTITIES_PER_PRINCIPAL)?;
    identities.iter().try_for_each(|identity| validate::identity(identity))?;
    let identities: BTreeSet<String> = identities.iter().cloned().collect();
    core.may_map(call, identities.iter().map(String::as_str))?;
    let tags = validate::tags(tags.clone(), limits::TAGS_PER_PRINCIPAL)?;
    let (arn, description) = (arn.clone(), description.clone());
    Ok(NewPrincipal { arn, description, identities, tags, most: limits::PRINCIPALS })
}

/// Whether no principal is known by a name of a certificate.
fn is_nobodys(catalogue: &Catalogue, identity: &str) -> Result<(), AccessError> {
    match catalogue.principal_known_as(identity) {
        Some(principal) => Err(AccessError::IdentityInUse(identity.to_owned(), principal.id.clone())),
        None => Ok(()),
    }
}

impl Core {
    /// Whether the caller may give these names of certificates to a principal. Who has given itself an administrator's
    /// would have a part in whatever is counted and kept by principal, so that only administrators give these away.
    fn may_map<'n>(&self, call: &RequestContext, names: impl IntoIterator<Item = &'n str>) -> Result<(), Error> {
        self.administrators_alone(call, names, "whom only administrators map to a principal")
    }

    /// Whether the caller may make an access key of a principal that is known by these names of certificates: it is one
    /// more name of that principal.
    pub(super) fn may_sign_for<'n>(
        &self,
        call: &RequestContext,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<(), Error> {
        self.administrators_alone(call, names, "to whose principal only administrators give access keys")
    }

    fn administrators_alone<'n>(
        &self,
        call: &RequestContext,
        names: impl IntoIterator<Item = &'n str>,
        what: &str,
    ) -> Result<(), Error> {
        let authority = self.authority();
        let Some(name) = names.into_iter().find(|name| authority.is_administrator(name)) else { return Ok(()) };
        if authority.is_administrator(call.principal.as_str()) {
            return Ok(());
        }
        let what = format!("{name} is an administrator of the configuration, {what}");
        Err(Error::permanent(Exception::AccessDenied, what))
    }

    /// The principal that has this ARN now.
    pub(crate) fn principal(&self, arn: &str) -> Result<Arc<Principal>, Error> {
        let catalogue = self.store().catalogue();
        catalogue.principal_with_arn(arn).cloned().ok_or_else(|| no_principal(arn))
    }
}

pub(crate) fn no_principal(arn: &str) -> Error {
    Error::permanent(Exception::NotFound, format!("there is no principal {}", validate::shown(arn)))
}

impl PrincipalView {
    /// The bytes that callers may have made it hold.
    fn weight(&self) -> usize {
        let identities: usize = self.identities.iter().map(|(name, _)| name.len()).sum();
        let tags: usize = self.tags.iter().map(|(name, value)| name.len() + value.len()).sum();
        let names: usize = self.groups.iter().chain(&self.policies).map(String::len).sum();
        self.arn.len() + self.description.len() + identities + tags + names
    }
}

pub(super) fn view(principal: &Principal) -> PrincipalView {
    // Access keys have a list of their own.
    let Principal { id, arn, description, created_at, identities, tags, groups, policies, access_keys: _ } = principal;
    PrincipalView {
        id: id.clone(),
        arn: arn.to_string(),
        description: description.clone(),
        created_at: *created_at,
        identities: identities.iter().map(|one| (one.name.clone(), one.created_at)).collect(),
        tags: tags.clone(),
        groups: groups.iter().map(ToString::to_string).collect(),
        policies: policies.iter().map(ToString::to_string).collect(),
    }
}
