//! Groups of principals, to which policies are attached together.

use std::sync::Arc;

use crate::core::access::Named;
use crate::core::meant::{Meant, Whom, others};
use crate::core::page::{self, Bounds};
use crate::core::proposal::Proposal;
use crate::core::room;
use crate::core::{Core, validate};
use crate::{Error, Page, RequestContext, Service};
use model::exception::Exception;
use model::id::{GroupName, PrincipalId};
use model::limits;
use model::operation::Operation;
use store::AccessError;
use store::access::Group;

/// A group as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
    /// The policies that are attached to it.
    pub policies: Vec<String>,
}

impl Service {
    /// Makes a group without members.
    pub async fn create_group(&self, call: &RequestContext, name: &str) -> Result<(), Error> {
        let work = |core: Core, name: GroupName| async move {
            core.store().create_group(&name, limits::GROUPS).await.map_err(|error| core.of_store(error))
        };
        let look = |core: &Core, group: &GroupMeant| match group.known(core) {
            Some(_) => Err(core.of_store(AccessError::GroupInUse(group.name.clone()).into())),
            None => core.has_room(room::for_group),
        };
        self.on_group(call, Operation::CreateGroup, name, None, look, work).await
    }

    /// Takes a group away, with its memberships and attachments.
    pub async fn delete_group(&self, call: &RequestContext, name: &str) -> Result<(), Error> {
        let work = |core: Core, name: GroupName| async move {
            core.store().delete_group(&name).await.map_err(|error| core.of_store(error))
        };
        self.on_group(call, Operation::DeleteGroup, name, None, is_there, work).await
    }

    /// Takes a principal into a group; a success where it is in it.
    pub async fn add_group_member(&self, call: &RequestContext, group: &str, principal: &str) -> Result<(), Error> {
        let (operation, whom) = (Operation::AddGroupMember, Whom::named(principal));
        let [member, looked] = [&whom; 2].map(Clone::clone);
        let look = move |core: &Core, group: &GroupMeant| {
            let (group, member) = (group.now(core)?, looked.now(core)?);
            core.has_room(|_| room::for_member(&member, &group.name))
        };
        let work = |core: Core, name: GroupName| async move {
            let member = member.now(&core)?;
            let most = limits::GROUPS_PER_PRINCIPAL;
            core.store().add_member(&name, &member.id, most).await.map_err(|error| core.of_store(error))
        };
        self.on_group(call, operation, group, Some(whom), look, work).await
    }

    /// Takes a principal out of a group.
    pub async fn remove_group_member(&self, call: &RequestContext, group: &str, principal: &str) -> Result<(), Error> {
        let (operation, whom) = (Operation::RemoveGroupMember, Whom::named(principal));
        let [member, looked] = [&whom; 2].map(Clone::clone);
        let look = move |core: &Core, group: &GroupMeant| {
            let (group, member) = (group.now(core)?, looked.now(core)?);
            let none = || AccessError::NoMember(group.name.clone(), member.id.clone());
            if member.groups.contains(&group.name) { Ok(()) } else { Err(core.of_store(none().into())) }
        };
        let work = |core: Core, name: GroupName| async move {
            let member = member.now(&core)?;
            core.store().remove_member(&name, &member.id).await.map_err(|error| core.of_store(error))
        };
        self.on_group(call, operation, group, Some(whom), look, work).await
    }

    /// Lists groups in the order of their names.
    pub async fn list_groups(
        &self,
        call: &RequestContext,
        limit: Option<u32>,
        marker: &str,
    ) -> Result<Page<GroupView>, Error> {
        let [said, marker] = [marker; 2].map(str::to_owned);
        let resource = Named::nothing().asking(move |_, say| say.page(limit, &said));
        let read = move |core: &Core| {
            let limit = validate::page_limit(limit)?;
            let after = page::after('g', &marker, |text| Some(GroupName::from(text)))?;
            let catalogue = core.store().catalogue();
            let show = |group: &&Arc<Group>| {
                let weight =
                    group.name.as_str().len() + group.policies.iter().map(|name| name.as_str().len()).sum::<usize>();
                Some((view(core, group), weight))
            };
            let groups = catalogue.groups_after(after.as_ref());
            Ok(page::sift('g', groups, Bounds::details(limit), |group| group.name.clone(), show))
        };
        self.core.on_catalogue(call, Operation::ListGroups, resource, read).await
    }

    /// Lists the ARNs of a group's members.
    pub async fn list_group_members(
        &self,
        call: &RequestContext,
        group: &str,
        limit: Option<u32>,
        marker: &str,
    ) -> Result<Page<String>, Error> {
        let (operation, name, marker) = (Operation::ListGroupMembers, GroupName::from(group), marker.to_owned());
        let said = marker.clone();
        let resource = self.core.arn_of(operation, group).asking(move |_, say| say.page(limit, &said));
        let read = move |core: &Core| {
            let limit = validate::page_limit(limit)?;
            let after = page::after('m', &marker, |text| Some(PrincipalId::from(text)))?;
            let catalogue = core.store().catalogue();
            catalogue.group(&name).ok_or_else(|| no_group(name.as_str()))?;
            let members = catalogue.members_after(&name, after.as_ref());
            let Page { items, next_marker } = page::cut('m', members, limit, |member| member.id.clone());
            Ok(Page { items: items.into_iter().map(|member| member.arn.to_string()).collect(), next_marker })
        };
        self.core.on_catalogue(call, operation, resource, read).await
    }

    /// Changes a group. The change may be the end of what allowed it.
    async fn on_group<W>(
        &self,
        call: &RequestContext,
        operation: Operation,
        name: &str,
        member: Option<Whom>,
        look: impl Fn(&Core, &GroupMeant) -> Result<(), Error> + Send + Sync + 'static,
        work: impl FnOnce(Core, GroupName) -> W + Send + 'static,
    ) -> Result<(), Error>
    where
        W: Future<Output = Result<(), Error>> + Send,
    {
        let (core, group) = (self.core.clone(), GroupMeant::named(name));
        let (said, looked, whom) = (group.clone(), group.clone(), member.clone());
        let proposal = move |core: &Core, say: Proposal| {
            let proposal = said.said(core, say);
            match &member {
                Some(member) => proposal.principal(core, "principalArn", member),
                None => proposal,
            }
        };
        let resource = self.core.arn_of(operation, name).decided_once().asking(proposal).if_before(move |core, _| {
            validate::access_name("groupName", looked.name())?;
            look(core, &looked)?;
            whom.as_ref().map_or(Ok(()), |whom| whom.now(core).map(drop))
        });
        let work = async move {
            validate::access_name("groupName", group.name())?;
            if operation != Operation::CreateGroup {
                group.now(&core)?;
            }
            let name = group.name.clone();
            work(core.clone(), name.clone()).await?;
            tracing::info!(group = %name, operation = operation.spec().label, "group changed");
            Ok(())
        };
        self.core.on_one(call, operation, resource, work).await
    }
}

/// A group as a call names it, and which it is once others are told of it: one that is made anew under the name is
/// another one. Nothing but when it was made tells them apart.
#[derive(Clone)]
pub(super) struct GroupMeant {
    name: GroupName,
    made: Meant<i64>,
}

impl GroupMeant {
    pub(super) fn named(name: &str) -> Self {
        Self { name: GroupName::from(name), made: Meant::default() }
    }

    pub(super) fn name(&self) -> &str {
        self.name.as_str()
    }

    fn known(&self, core: &Core) -> Option<Arc<Group>> {
        core.store().catalogue().group(&self.name).cloned()
    }

    pub(super) fn said(&self, core: &Core, proposal: Proposal) -> Proposal {
        proposal.others_alone(|proposal| {
            let made = self.made.look(|| self.known(core).map(|group| group.created_at));
            proposal.identity("its making", made.map(|made| made.to_be_bytes()).as_ref().map(<[u8; 8]>::as_slice))
        })
    }

    /// The group, if it is the same one as at the first look.
    pub(super) fn now(&self, core: &Core) -> Result<Arc<Group>, Error> {
        let group = self.known(core).ok_or_else(|| no_group(self.name()))?;
        match self.made.is_still(&group.created_at) {
            true => Ok(group),
            false => Err(others(&format!("the group {}", validate::shown(self.name())))),
        }
    }
}

fn is_there(core: &Core, group: &GroupMeant) -> Result<(), Error> {
    group.now(core).map(drop)
}

fn no_group(name: &str) -> Error {
    Error::permanent(Exception::NotFound, format!("there is no group {}", validate::shown(name)))
}

fn view(core: &Core, group: &Group) -> GroupView {
    GroupView {
        name: group.name.to_string(),
        arn: core.scope().group_arn(group.name.as_str()),
        created_at: group.created_at,
        policies: group.policies.iter().map(ToString::to_string).collect(),
    }
}
