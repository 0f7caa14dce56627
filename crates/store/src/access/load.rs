//! Reads rows of access into the catalogue: all of them at start, those of one thing after a change.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    AccessKey, Approval, ApprovalState, Cast, Constraint, ConstraintKind, Grant, Group, Identity, Names, Policy,
    Principal, Request, Vote,
};
use crate::engine::Connection;
use crate::engine::value::{FromRow, Row, Value, values};
use crate::load::{key_id, unreadable};
use crate::log::Entity;
use crate::{Catalogue, Error};
use model::id::{AccessKeyId, ApprovalId, GrantId, GroupName, PolicyName, PrincipalId};

type PrincipalRow = (String, String, String, i64);
type AccessKeyRow = (String, String, bool, Vec<u8>, i64);
type PolicyRow = (String, String, String, i64, i64);
/// Of whom, a name, a value or an id.
type PairRow = (String, String, String);
type VoteRow = (String, String, String, i64);

/// A grant without its constraint's pairs.
struct GrantRow(Grant);

/// An approval without its votes.
struct ApprovalRow(Approval);

impl FromRow for GrantRow {
    fn from_row(row: &mut Row) -> Result<Self, Error> {
        let id = GrantId::from(row.take::<String>()?.as_str());
        let (key, name, grantee): (String, _, String) = (row.take()?, row.take()?, row.take()?);
        let retiring: Option<String> = row.take()?;
        let (issuing_account, issuer, operations): (_, String, String) = (row.take()?, row.take()?, row.take()?);
        let kind: Option<String> = row.take()?;
        let kind = kind.map(|kind| ConstraintKind::from_name(&kind).ok_or_else(|| unreadable("constraint", &kind)));
        Ok(Self(Grant {
            id,
            key: key_id(&key)?,
            name,
            grantee: PrincipalId::from(grantee.as_str()),
            retiring: retiring.map(|id| PrincipalId::from(id.as_str())),
            issuing_account,
            issuer: PrincipalId::from(issuer.as_str()),
            operations: operations.split(' ').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            constraint: kind.transpose()?.map(|kind| Constraint { kind, pairs: BTreeMap::new() }),
            created_at: row.take()?,
        }))
    }
}

impl FromRow for ApprovalRow {
    fn from_row(row: &mut Row) -> Result<Self, Error> {
        let id: String = row.take()?;
        let (requester, operation, resource): (String, _, _) = (row.take()?, row.take()?, row.take()?);
        let parameters = row.take::<Vec<u8>>()?.try_into().map_err(|_| unreadable("parameters of approval", &id))?;
        let requester = PrincipalId::from(requester.as_str());
        let (description, created_at, expires_at, needed) = (row.take()?, row.take()?, row.take()?, row.take()?);
        let state: String = row.take()?;
        Ok(Self(Approval {
            id: ApprovalId::from(id.as_str()),
            request: Request { requester, operation, resource, parameters },
            description,
            created_at,
            expires_at,
            needed,
            state: ApprovalState::from_name(&state).ok_or_else(|| unreadable("approval state", &state))?,
            votes: BTreeMap::new(),
            identities: BTreeMap::new(),
        }))
    }
}

/// The rows of one table, with what they belong to in front: the same text for all of them and for one's.
macro_rules! rows {
    ($database:expr, $what:literal, $which:literal, $values:expr) => {{
        let values: Vec<Value> = $values;
        $database.all(concat!($what, " ", $which), values).await?
    }};
}

macro_rules! principals {
    ($database:expr, $where_id:literal, $where_principal:literal, $values:expr) => {{
        let rows: Vec<PrincipalRow> =
            rows!($database, "SELECT id, arn, description, created_at FROM principals", $where_id, $values);
        let identities: Vec<(String, String, i64)> = rows!(
            $database,
            "SELECT principal_id, identity, created_at FROM identities WHERE principal_id IS NOT NULL",
            $where_principal,
            $values
        );
        let tags: Vec<PairRow> = rows!(
            $database,
            "SELECT principal_id, name, value FROM principal_tags WHERE principal_id IS NOT NULL",
            $where_principal,
            $values
        );
        let groups: Vec<(String, String)> = rows!(
            $database,
            "SELECT principal_id, group_name FROM group_members WHERE principal_id IS NOT NULL",
            $where_principal,
            $values
        );
        let policies: Vec<(String, String)> = rows!(
            $database,
            "SELECT principal_id, policy FROM attachments WHERE principal_id IS NOT NULL",
            $where_principal,
            $values
        );
        let access_keys: Vec<AccessKeyRow> = rows!(
            $database,
            "SELECT principal_id, id, active, sealed, created_at FROM access_keys WHERE principal_id IS NOT NULL",
            $where_principal,
            $values
        );
        Principals { rows, identities, tags, groups, policies, access_keys }.assemble()
    }};
}

macro_rules! groups {
    ($database:expr, $where_name:literal, $where_group:literal, $values:expr) => {{
        let rows: Vec<(String, i64)> = rows!($database, "SELECT name, created_at FROM groups", $where_name, $values);
        let policies: Vec<(String, String)> = rows!(
            $database,
            "SELECT group_name, policy FROM attachments WHERE group_name IS NOT NULL",
            $where_group,
            $values
        );
        let mut policies = sets(policies, |name| PolicyName::from(name));
        rows.into_iter().map(move |(name, created_at)| Group {
            policies: policies.remove(&name).unwrap_or_default(),
            name: GroupName::from(name.as_str()),
            created_at,
        })
    }};
}

macro_rules! policies {
    ($database:expr, $where_name:literal, $where_policy:literal, $values:expr) => {{
        let rows: Vec<PolicyRow> = rows!(
            $database,
            "SELECT name, description, document, created_at, updated_at FROM identity_policies",
            $where_name,
            $values
        );
        let named: Vec<PairRow> =
            rows!($database, "SELECT policy, arn, principal_id FROM policy_names", $where_policy, $values);
        let mut named = names(named);
        rows.into_iter().map(move |(name, description, document, created_at, updated_at)| Policy {
            names: named.remove(&name).unwrap_or_default(),
            name: PolicyName::from(name.as_str()),
            description,
            document: document.into(),
            created_at,
            updated_at,
        })
    }};
}

macro_rules! grants {
    ($database:expr, $where_id:literal, $where_grant:literal, $values:expr) => {{
        let rows: Vec<GrantRow> = rows!(
            $database,
            "SELECT id, key_id, name, grantee, retiring, issuing_account, issuer, operations, constraint_kind, \
             created_at FROM grants",
            $where_id,
            $values
        );
        let pairs: Vec<PairRow> =
            rows!($database, "SELECT grant_id, name, value FROM grant_constraints", $where_grant, $values);
        let mut of: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (grant, name, value) in pairs {
            of.entry(grant).or_default().insert(name, value);
        }
        rows.into_iter().map(move |GrantRow(mut grant)| {
            if let Some(constraint) = &mut grant.constraint {
                constraint.pairs = of.remove(grant.id.as_str()).unwrap_or_default();
            }
            grant
        })
    }};
}

macro_rules! approvals {
    ($database:expr, $where_id:literal, $where_approval:literal, $values:expr) => {{
        let rows: Vec<ApprovalRow> = rows!(
            $database,
            "SELECT id, requester, operation, resource, parameters, description, created_at, expires_at, needed, \
             state FROM approvals",
            $where_id,
            $values
        );
        let votes: Vec<VoteRow> =
            rows!($database, "SELECT approval_id, voter, vote, voted_at FROM approval_votes", $where_approval, $values);
        let identities: Vec<PairRow> =
            rows!($database, "SELECT approval_id, person, identity FROM approval_identities", $where_approval, $values);
        let (mut of, mut known) = (cast(votes)?, identities_of(identities));
        rows.into_iter().map(move |ApprovalRow(mut approval)| {
            approval.votes = of.remove(approval.id.as_str()).unwrap_or_default();
            approval.identities = known.remove(approval.id.as_str()).unwrap_or_default();
            approval
        })
    }};
}

/// Everything, into a catalogue that has none of it.
pub(crate) async fn everything(database: &mut Connection, into: &mut Catalogue) -> Result<(), Error> {
    principals!(database, "", "", values![]).for_each(|of| into.put_principal(of.id.clone(), Some(of)));
    groups!(database, "", "", values![]).for_each(|of| into.put_group(of.name.clone(), Some(of)));
    policies!(database, "", "", values![]).for_each(|of| into.put_policy(of.name.clone(), Some(of)));
    grants!(database, "", "", values![]).for_each(|of| into.put_grant(of.id.clone(), Some(of)));
    approvals!(database, "", "", values![]).for_each(|of| into.put_approval(of.id.clone(), Some(of)));
    Ok(())
}

/// One thing of access as it is now, into a catalogue. Does nothing with what is none of access.
pub(crate) async fn one(
    database: &mut Connection,
    entity: Entity,
    gone: bool,
    into: &mut Catalogue,
) -> Result<(), Error> {
    match entity {
        Entity::Principal(id) => {
            let found = if gone { None } else { principal(database, &id).await? };
            into.put_principal(id, found);
        }
        Entity::Group(name) => {
            let found = if gone { None } else { group(database, &name).await? };
            into.put_group(name, found);
        }
        Entity::Policy(name) => {
            let found = if gone { None } else { policy(database, &name).await? };
            into.put_policy(name, found);
        }
        Entity::Grant(id) => {
            let found = if gone { None } else { grant(database, &id).await? };
            into.put_grant(id, found);
        }
        Entity::Approval(id) => {
            let found = if gone { None } else { approval(database, &id).await? };
            into.put_approval(id, found);
        }
        Entity::Key(_) | Entity::KeyStore(_) | Entity::Destroyed(_) => {}
    }
    Ok(())
}

async fn principal(database: &mut Connection, id: &PrincipalId) -> Result<Option<Principal>, Error> {
    Ok(principals!(database, "WHERE id = $1", "AND principal_id = $1", values![id.as_str()]).next())
}

async fn group(database: &mut Connection, name: &GroupName) -> Result<Option<Group>, Error> {
    Ok(groups!(database, "WHERE name = $1", "AND group_name = $1", values![name.as_str()]).next())
}

async fn policy(database: &mut Connection, name: &PolicyName) -> Result<Option<Policy>, Error> {
    Ok(policies!(database, "WHERE name = $1", "WHERE policy = $1", values![name.as_str()]).next())
}

async fn grant(database: &mut Connection, id: &GrantId) -> Result<Option<Grant>, Error> {
    Ok(grants!(database, "WHERE id = $1", "WHERE grant_id = $1", values![id.as_str()]).next())
}

pub(super) async fn approval(database: &mut Connection, id: &ApprovalId) -> Result<Option<Approval>, Error> {
    Ok(approvals!(database, "WHERE id = $1", "WHERE approval_id = $1", values![id.as_str()]).next())
}

/// What tables hold of principals.
struct Principals {
    rows: Vec<PrincipalRow>,
    identities: Vec<(String, String, i64)>,
    tags: Vec<PairRow>,
    groups: Vec<(String, String)>,
    policies: Vec<(String, String)>,
    access_keys: Vec<AccessKeyRow>,
}

impl Principals {
    fn assemble(self) -> impl Iterator<Item = Principal> {
        let mut identities: BTreeMap<String, Vec<Identity>> = BTreeMap::new();
        for (of, name, created_at) in self.identities {
            identities.entry(of).or_default().push(Identity { name, created_at });
        }
        let mut tags: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (of, name, value) in self.tags {
            tags.entry(of).or_default().insert(name, value);
        }
        let mut groups = sets(self.groups, |name| GroupName::from(name));
        let mut policies = sets(self.policies, |name| PolicyName::from(name));
        let mut access_keys: BTreeMap<String, Vec<AccessKey>> = BTreeMap::new();
        for (of, id, active, sealed, created_at) in self.access_keys {
            let (id, sealed) = (AccessKeyId::from(id.as_str()), sealed.into());
            access_keys.entry(of).or_default().push(AccessKey { id, active, sealed, created_at });
        }
        self.rows.into_iter().map(move |(id, arn, description, created_at)| {
            let mut identities = identities.remove(&id).unwrap_or_default();
            identities.sort_by(|one, other| one.name.cmp(&other.name));
            let mut access_keys = access_keys.remove(&id).unwrap_or_default();
            access_keys.sort_by(|one, other| one.id.cmp(&other.id));
            Principal {
                identities,
                access_keys,
                tags: tags.remove(&id).unwrap_or_default(),
                groups: groups.remove(&id).unwrap_or_default(),
                policies: policies.remove(&id).unwrap_or_default(),
                id: PrincipalId::from(id.as_str()),
                arn: arn.into(),
                description,
                created_at,
            }
        })
    }
}

/// The names of a policy's rows.
pub(crate) fn names(rows: Vec<PairRow>) -> BTreeMap<String, Names> {
    let mut of: BTreeMap<String, Names> = BTreeMap::new();
    for (policy, arn, principal) in rows {
        of.entry(policy).or_default().insert(arn, PrincipalId::from(principal.as_str()));
    }
    of
}

fn sets<T: Ord>(rows: Vec<(String, String)>, read: impl Fn(&str) -> T) -> BTreeMap<String, BTreeSet<T>> {
    let mut of: BTreeMap<String, BTreeSet<T>> = BTreeMap::new();
    for (holder, name) in rows {
        of.entry(holder).or_default().insert(read(&name));
    }
    of
}

fn identities_of(rows: Vec<PairRow>) -> BTreeMap<String, BTreeMap<PrincipalId, BTreeSet<String>>> {
    let mut of: BTreeMap<String, BTreeMap<PrincipalId, BTreeSet<String>>> = BTreeMap::new();
    for (approval, person, identity) in rows {
        of.entry(approval).or_default().entry(PrincipalId::from(person.as_str())).or_default().insert(identity);
    }
    of
}

fn cast(rows: Vec<VoteRow>) -> Result<BTreeMap<String, BTreeMap<PrincipalId, Cast>>, Error> {
    let mut of: BTreeMap<String, BTreeMap<PrincipalId, Cast>> = BTreeMap::new();
    for (approval, principal, vote, at) in rows {
        let vote = Vote::from_name(&vote).ok_or_else(|| unreadable("vote", &vote))?;
        of.entry(approval).or_default().insert(PrincipalId::from(principal.as_str()), Cast { vote, at });
    }
    Ok(of)
}
