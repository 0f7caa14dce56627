//! Identity policies, and to whom they are attached.

use std::sync::Arc;

use super::groups::GroupMeant;
use crate::core::access::Named;
use crate::core::directory::{Managed, all_managed, managed};
use crate::core::meant::{Meant, Whom, others};
use crate::core::page::{self, Bounds};
use crate::core::proposal::Proposal;
use crate::core::room;
use crate::core::{Core, validate};
use crate::{Error, Page, RequestContext, Service};
use auth::policy::{self, Bindings, Compiled, Home, Kind, POLICY_BYTES};
use model::exception::Exception;
use model::id::{PolicyName, PrincipalId, Scope};
use model::limits;
use model::operation::Operation;
use store::Catalogue;
use store::access::{Holder, Names, NewAttachment, NewPolicy};

/// What is to be put.
#[derive(Clone, Debug, Default)]
pub struct PutPolicyInput {
    /// Its name.
    pub name: String,
    /// At most 8,192 characters. Absent: that of the policy that is there, or none.
    pub description: Option<String>,
    /// The policy.
    pub document: String,
}

/// To whom a policy is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    /// The principal with this ARN.
    Principal(String),
    /// The group of this name.
    Group(String),
}

/// An identity policy as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyView {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// For people.
    pub description: String,
    /// As it was put.
    pub document: String,
    /// It is part of the program.
    pub built_in: bool,
    /// When it was put the last time, in milliseconds since the Unix epoch; absent where it is part of the program.
    pub updated_at: Option<i64>,
}

impl Service {
    /// Makes a policy, or puts it in the place of the one of its name. Gives what is doubtful about it. When this
    /// returns, the former one no longer counts.
    pub async fn put_policy(&self, call: &RequestContext, input: PutPolicyInput) -> Result<Vec<String>, Error> {
        let operation = Operation::PutPolicy;
        let core = self.core.clone();
        let resource = self.core.arn_of(operation, &input.name);
        let wanted = Arc::new(Wanted { input, names: Meant::default() });
        let [said, looked] = [&wanted; 2].map(Arc::clone);
        let resource = resource.decided_once().asking(move |core, say| said.proposal(core, say));
        let resource = resource.if_before(move |core, _| {
            let (name, _) = looked.read(core)?;
            core.has_room(|catalogue| room::for_policy(catalogue, &name))
        });
        let work = async move {
            let (name, read) = wanted.read(&core)?;
            let (names, warnings) = read.taken(&wanted.names)?;
            let PutPolicyInput { description, document, .. } = &wanted.input;
            // Whoever puts another document does not say anew what the policy is for.
            let kept = || core.store().catalogue().policy(&name).map(|policy| policy.description.clone());
            let (description, document) = (description.clone().or_else(kept).unwrap_or_default(), document.clone());
            let new = NewPolicy { name: name.clone(), description, document, names, most: limits::POLICIES };
            core.store().put_policy(new).await.map_err(|error| core.of_store(error))?;
            tracing::info!(policy = %name, "policy put");
            Ok(warnings)
        };
        self.core.on_one(call, operation, resource, work).await
    }

    /// Takes a policy away that is attached to nobody.
    pub async fn delete_policy(&self, call: &RequestContext, name: &str) -> Result<(), Error> {
        let (operation, core, name) = (Operation::DeletePolicy, self.core.clone(), name.to_owned());
        let text = PolicyText::of(&PolicyName::from(name.as_str()));
        let (said, looked) = (text.clone(), name.clone());
        let resource = self.core.arn_of(operation, &name).decided_once().asking(move |core, say| said.said(core, say));
        let resource = resource.if_before(move |core, _| {
            let name = own_name(&looked)?;
            core.store().catalogue().policy(&name).map(drop).ok_or_else(|| no_policy(&name))?;
            core.has_room(|catalogue| room::is_nobodys(catalogue, &name))
        });
        let work = async move {
            let name = own_name(&name)?;
            text.is_still(&core)?;
            core.store().delete_policy(&name).await.map_err(|error| core.of_store(error))?;
            tracing::info!(policy = %name, "policy deleted");
            Ok(())
        };
        self.core.on_one(call, operation, resource, work).await
    }

    /// Shows a policy as it was put.
    pub async fn get_policy(&self, call: &RequestContext, name: &str) -> Result<PolicyView, Error> {
        let (operation, name) = (Operation::GetPolicy, PolicyName::from(name));
        let resource = self.core.arn_of(operation, name.as_str());
        let read = move |core: &Core| {
            if let Some(managed) = managed(&name) {
                return Ok(view_of_managed(core, managed));
            }
            let catalogue = core.store().catalogue();
            let policy = catalogue.policy(&name).ok_or_else(|| no_policy(&name))?;
            Ok(view(core, policy))
        };
        self.core.on_catalogue(call, operation, resource, read).await
    }

    /// Lists policies: on the first page those that are part of the program, then the others in the order of their
    /// names.
    pub async fn list_policies(
        &self,
        call: &RequestContext,
        limit: Option<u32>,
        marker: &str,
    ) -> Result<Page<PolicyView>, Error> {
        let [said, marker] = [marker; 2].map(str::to_owned);
        let resource = Named::nothing().asking(move |_, say| say.page(limit, &said));
        let read = move |core: &Core| {
            let limit = validate::page_limit_of(limit, limits::LIST_POLICIES, limits::LIST_POLICIES)?;
            let after = page::after('y', &marker, |text| Some(PolicyName::from(text)))?;
            let catalogue = core.store().catalogue();
            let show = |policy: &&Arc<store::access::Policy>| {
                let shown = view(core, policy);
                let weight = shown.description.len() + shown.document.len();
                Some((shown, weight))
            };
            let policies = catalogue.policies_after(after.as_ref());
            let mut page = page::sift('y', policies, Bounds::details(limit), |policy| policy.name.clone(), show);
            if after.is_none() {
                let built_in = all_managed().iter().map(|managed| view_of_managed(core, managed));
                drop(page.items.splice(0..0, built_in));
            }
            Ok(page)
        };
        self.core.on_catalogue(call, Operation::ListPolicies, resource, read).await
    }

    /// Attaches a policy to a principal or a group; a success where it is.
    pub async fn attach_policy(&self, call: &RequestContext, policy: &str, to: Attached) -> Result<(), Error> {
        let (operation, core, policy) = (Operation::AttachPolicy, self.core.clone(), PolicyName::from(policy));
        let attaching = Attaching { policy: PolicyText::of(&policy), to: Side::of(&to) };
        let resource = attaching.on(self.core.arn_of(operation, policy.as_str()), room::for_attachment);
        let work = async move {
            let (holder, built_in) = (attaching.holder(&core)?, managed(&policy).is_some());
            let most = limits::POLICIES_PER_HOLDER;
            let new = NewAttachment { policy: policy.clone(), built_in, holder: holder.clone(), most };
            core.store().attach_policy(new).await.map_err(|error| core.of_store(error))?;
            tracing::info!(%policy, to = %holder, "policy attached");
            Ok(())
        };
        self.core.on_one(call, operation, resource, work).await
    }

    /// Detaches a policy.
    pub async fn detach_policy(&self, call: &RequestContext, policy: &str, from: Attached) -> Result<(), Error> {
        let (operation, core, policy) = (Operation::DetachPolicy, self.core.clone(), PolicyName::from(policy));
        let attaching = Attaching { policy: PolicyText::of(&policy), to: Side::of(&from) };
        let resource = attaching.on(self.core.arn_of(operation, policy.as_str()), room::is_attached);
        let work = async move {
            let holder = attaching.holder(&core)?;
            core.store().detach_policy(&policy, &holder).await.map_err(|error| core.of_store(error))?;
            tracing::info!(%policy, from = %holder, "policy detached");
            Ok(())
        };
        self.core.on_one(call, operation, resource, work).await
    }
}

/// A policy that was read: whom it names, and what is doubtful about it.
pub(super) struct Read(pub(super) Compiled);

impl Read {
    /// If it names whom it named when the call began.
    pub(super) fn taken(self, meant: &Meant<Names>) -> Result<(Names, Vec<String>), Error> {
        let Compiled { policy, warnings } = self.0;
        let names = policy.bindings().pairs().clone();
        if !meant.is_still(&names) {
            return Err(others("one of those whom the policy names"));
        }
        Ok((names, warnings.iter().map(ToString::to_string).collect()))
    }
}

/// What is to be put, and whom it names once others are told of it.
struct Wanted {
    input: PutPolicyInput,
    names: Meant<Names>,
}

impl Wanted {
    fn proposal(&self, core: &Core, say: Proposal) -> Proposal {
        let PutPolicyInput { description, document, .. } = &self.input;
        let names = || core.whom_it_names(document, Kind::Identity, &self.names);
        say.maybe("description", description.as_deref()).policy("policyDocument", document, names)
    }

    fn read(&self, core: &Core) -> Result<(PolicyName, Read), Error> {
        let PutPolicyInput { name, description, document } = &self.input;
        let name = own_name(name)?;
        validate::description(description.as_deref().unwrap_or_default())?;
        let read = core.read_policy(&name, document, Kind::Identity)?;
        Ok((name, read))
    }
}

/// A policy by its name, and what it says once others are told of it: one that is put in its place means something else.
#[derive(Clone)]
struct PolicyText {
    name: PolicyName,
    meant: Meant<(Arc<str>, Names)>,
}

impl PolicyText {
    fn of(name: &PolicyName) -> Self {
        Self { name: name.clone(), meant: Meant::default() }
    }

    /// `None` where there is no such policy.
    fn now(&self, core: &Core) -> Option<(Arc<str>, Names)> {
        match managed(&self.name) {
            Some(managed) => Some((managed.document.into(), Names::new())),
            None => {
                core.store().catalogue().policy(&self.name).map(|one| (Arc::clone(&one.document), one.names.clone()))
            }
        }
    }

    fn said(&self, core: &Core, proposal: Proposal) -> Proposal {
        proposal.others_alone(|proposal| match self.meant.look(|| self.now(core)) {
            Some((document, names)) => proposal.policy("policyDocument", document, || Some(names)),
            None => proposal,
        })
    }

    /// Refuses where there is no such policy, or another one than others were told of.
    fn is_still(&self, core: &Core) -> Result<(), Error> {
        let now = self.now(core).ok_or_else(|| no_policy(&self.name))?;
        match self.meant.is_still(&now) {
            true => Ok(()),
            false => Err(others(&format!("the policy {}", validate::shown(self.name.as_str())))),
        }
    }
}

/// A policy that is to be attached to somebody, or to be detached.
#[derive(Clone)]
struct Attaching {
    policy: PolicyText,
    to: Side,
}

/// To whom a policy is to be attached, or from whom it is to be detached.
#[derive(Clone)]
enum Side {
    Principal(Whom),
    Group(GroupMeant),
}

impl Attaching {
    /// What is to be said and looked at before others are asked.
    fn on(&self, named: Named, look: fn(&Catalogue, &PolicyName, &Holder) -> Result<(), store::Error>) -> Named {
        let [said, looked] = [self, self].map(Clone::clone);
        let named = named.decided_once().asking(move |core, say| said.policy.said(core, said.to.proposal(core, say)));
        named.if_before(move |core, _| {
            let holder = looked.holder(core)?;
            core.has_room(|catalogue| look(catalogue, &looked.policy.name, &holder))
        })
    }

    fn holder(&self, core: &Core) -> Result<Holder, Error> {
        self.policy.is_still(core)?;
        match &self.to {
            Side::Principal(whom) => Ok(Holder::Principal(whom.now(core)?.id.clone())),
            Side::Group(group) => Ok(Holder::Group(group.now(core)?.name.clone())),
        }
    }
}

impl Side {
    fn of(attached: &Attached) -> Self {
        match attached {
            Attached::Principal(arn) => Self::Principal(Whom::named(arn)),
            Attached::Group(name) => Self::Group(GroupMeant::named(name)),
        }
    }

    fn proposal(&self, core: &Core, say: Proposal) -> Proposal {
        match self {
            Self::Principal(whom) => say.principal(core, "principalArn", whom),
            Self::Group(group) => group.said(core, say.text("groupName", group.name())),
        }
    }
}

impl Core {
    /// Reads a policy that is to be put. Whom it names there must be now.
    pub(super) fn read_policy(&self, name: &PolicyName, document: &str, kind: Kind<'_>) -> Result<Read, Error> {
        if document.len() > POLICY_BYTES {
            let what = format!("the policy has {} bytes, and at most {POLICY_BYTES} are allowed", document.len());
            return Err(Error::permanent(Exception::LimitExceeded, what));
        }
        let catalogue = self.store().catalogue();
        policy::Policy::compile_at(name, document, kind, Some(home(self.scope())), &|arn| now(&catalogue, arn))
            .map(Read)
            .map_err(|refused| Error::permanent(Exception::MalformedPolicyDocument, refused.to_string()))
    }

    /// A stored policy as it is shown.
    pub(super) fn shown_policy(&self, document: &str, names: &Names) -> String {
        let catalogue = self.store().catalogue();
        policy::shown(document, &Bindings::new(names.clone()), &|arn| now(&catalogue, arn)).into_owned()
    }

    /// Whom a policy names, as principals have these ARNs now.
    pub(super) fn whom_it_names<'m>(
        &self,
        document: &str,
        kind: Kind<'_>,
        meant: &'m Meant<Names>,
    ) -> Option<&'m Names> {
        let read = || self.read_policy(&PolicyName::from("policy"), document, kind).ok();
        meant.look(|| read().map(|Read(compiled)| compiled.policy.bindings().pairs().clone()))
    }
}

/// Whose ARNs there are.
pub(super) fn home(scope: &Scope) -> Home<'_> {
    Home { partition: &scope.partition, region: &scope.region, account: &scope.account }
}

/// Whom an ARN means now.
pub(super) fn now(catalogue: &Catalogue, arn: &str) -> Option<PrincipalId> {
    catalogue.principal_with_arn(arn).map(|principal| principal.id.clone())
}

/// The name of a policy that is no part of the program.
fn own_name(name: &str) -> Result<PolicyName, Error> {
    validate::access_name("policyName", name)?;
    let name = PolicyName::from(name);
    match managed(&name) {
        Some(_) => Err(Error::validation(format!("{name} is part of the program; choose another name"))),
        None => Ok(name),
    }
}

fn no_policy(name: &PolicyName) -> Error {
    Error::permanent(Exception::NotFound, format!("there is no policy {}", validate::shown(name.as_str())))
}

fn view(core: &Core, policy: &Arc<store::access::Policy>) -> PolicyView {
    PolicyView {
        name: policy.name.to_string(),
        arn: core.scope().policy_arn(policy.name.as_str()),
        description: policy.description.clone(),
        document: core.shown_policy(&policy.document, &policy.names),
        built_in: false,
        updated_at: Some(policy.updated_at),
    }
}

fn view_of_managed(core: &Core, Managed { name, description, document, .. }: &Managed) -> PolicyView {
    PolicyView {
        name: name.to_string(),
        arn: core.scope().policy_arn(name.as_str()),
        description: (*description).to_owned(),
        document: (*document).to_owned(),
        built_in: true,
        updated_at: None,
    }
}
