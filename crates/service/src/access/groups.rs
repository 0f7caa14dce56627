//! Groups of principals, to which policies are attached together.

use std::sync::Arc;

use crate::core::access::Named;
use crate::core::page::{self, Bounds};
use crate::core::proposal::Proposal;
use crate::core::{Core, validate};
use crate::{Error, Page, RequestContext, Service};
use model::exception::Exception;
use model::id::{GroupName, PrincipalId};
use model::limits;
use model::operation::Operation;
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
        self.on_group(call, Operation::CreateGroup, name, Proposal::new(), work).await
    }

    /// Takes a group away, with its memberships and attachments.
    pub async fn delete_group(&self, call: &RequestContext, name: &str) -> Result<(), Error> {
        let work = |core: Core, name: GroupName| async move {
            core.store().delete_group(&name).await.map_err(|error| core.of_store(error))
        };
        self.on_group(call, Operation::DeleteGroup, name, Proposal::new(), work).await
    }

    /// Takes a principal into a group; a success where it is in it.
    pub async fn add_group_member(&self, call: &RequestContext, group: &str, principal: &str) -> Result<(), Error> {
        let operation = Operation::AddGroupMember;
        let member = self.core.whom(operation, principal);
        let proposal = Proposal::new().principal("principalArn", &member);
        let work = |core: Core, name: GroupName| async move {
            let member = member.now(&core)?;
            let most = limits::GROUPS_PER_PRINCIPAL;
            core.store().add_member(&name, &member.id, most).await.map_err(|error| core.of_store(error))
        };
        self.on_group(call, operation, group, proposal, work).await
    }

    /// Takes a principal out of a group.
    pub async fn remove_group_member(&self, call: &RequestContext, group: &str, principal: &str) -> Result<(), Error> {
        let operation = Operation::RemoveGroupMember;
        let member = self.core.whom(operation, principal);
        let proposal = Proposal::new().principal("principalArn", &member);
        let work = |core: Core, name: GroupName| async move {
            let member = member.now(&core)?;
            core.store().remove_member(&name, &member.id).await.map_err(|error| core.of_store(error))
        };
        self.on_group(call, operation, group, proposal, work).await
    }

    /// Lists groups in the order of their names.
    pub async fn list_groups(
        &self,
        call: &RequestContext,
        limit: Option<u32>,
        marker: &str,
    ) -> Result<Page<GroupView>, Error> {
        let marker = marker.to_owned();
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
        self.core.on_catalogue(call, Operation::ListGroups, Ok(Named::nothing()), read).await
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
        let resource = self.core.arn_of(operation, group);
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
        proposal: Proposal,
        work: impl FnOnce(Core, GroupName) -> W + Send + 'static,
    ) -> Result<(), Error>
    where
        W: Future<Output = Result<(), Error>> + Send,
    {
        let (core, name) = (self.core.clone(), GroupName::from(name));
        let resource = self.core.arn_of(operation, name.as_str()).map(|named| named.decided_once().asking(proposal));
        let work = async move {
            validate::access_name("groupName", name.as_str())?;
            work(core.clone(), name.clone()).await?;
            tracing::info!(group = %name, operation = operation.spec().label, "group changed");
            Ok(())
        };
        self.core.on_one(call, operation, resource, work).await
    }
}

pub(super) fn no_group(name: &str) -> Error {
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
