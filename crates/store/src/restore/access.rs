//! What a restore does about access. Who was taken out of it since the backup is not let in again unasked; what policies
//! say is the backup's, and people are told where that is something else than what was there.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::plan::Order;
use crate::Catalogue;
use crate::Error;
use crate::access::{Holder, Principal, access_keys, grants};
use crate::change::Transaction;
use crate::engine::value::values;
use model::id::{AccessKeyId, GrantId, GroupName, KeyId, PolicyName, PrincipalId};

/// What becomes of access keys of which nobody knows whether they were taken away since the backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownAccessKeys {
    /// They come back disabled, for somebody to enable: a key that was deleted may be in anybody's hands.
    Disable,
    /// Whoever restores knows that none was: they come back as they were.
    Keep,
}

/// What is taken over of who may do what, and what people have to be told.
#[derive(Clone, Debug, Default)]
pub struct AccessPlan {
    /// Principals that stay deleted.
    pub deleted: Vec<Arc<Principal>>,
    /// Principals that are back, because nobody knows whether they were deleted or are of another line.
    pub back: Vec<Arc<Principal>>,
    /// Identities that stay removed of principals that are there.
    pub identities: Vec<(PrincipalId, String)>,
    /// Access keys that stay deleted, of principals that are there.
    pub access_keys: Vec<(PrincipalId, AccessKeyId)>,
    /// Access keys that stay disabled, likewise.
    pub inactive: Vec<(PrincipalId, AccessKeyId)>,
    /// Access keys that come back disabled, because nobody knows whether they were deleted or disabled since.
    pub unsure: Vec<(PrincipalId, AccessKeyId)>,
    /// Such that come back active, because whoever restores says so.
    pub kept: Vec<(PrincipalId, AccessKeyId)>,
    /// Access keys whose secrets were sealed anew since: as they are sealed now.
    pub resealed: Vec<(AccessKeyId, Bytes)>,
    /// Memberships that stay removed, likewise.
    pub memberships: Vec<(PrincipalId, GroupName)>,
    /// Policies that stay detached, of holders that are there.
    pub attachments: Vec<(Holder, PolicyName)>,
    /// Grants that stay revoked or retired, of keys that were there.
    pub revoked: Vec<(KeyId, GrantId)>,
    /// Requests for approval that the backup has. None of them comes back: it may have been used since.
    pub approvals: usize,
    /// Keys that have another policy again than they had.
    pub key_policies: Vec<KeyId>,
    /// Identity policies that say again what they said, or are back.
    pub policies: Vec<PolicyName>,
    /// Groups that are back, with their policies and without members who were there: they had left.
    pub groups: Vec<GroupName>,
    /// Principals that the restored database will not know.
    pub unknown: Vec<Arc<Principal>>,
    /// Access keys that it will not know of principals that it knows.
    pub unknown_access_keys: Vec<(PrincipalId, AccessKeyId)>,
}

impl AccessPlan {
    /// Whoever restores says that access keys of which nothing is known were not taken away.
    pub(super) fn keep_unknown(&mut self) {
        self.kept.append(&mut self.unsure);
    }
}

/// Decides. `former` is absent where nothing was there, or could be read.
pub(super) fn plan(old: &Catalogue, former: Option<&Catalogue>, order: Order) -> AccessPlan {
    let (approvals, unsure) = (old.approvals_after(None).count(), unsure(old, former, order));
    let mut plan = AccessPlan { approvals, unsure, ..AccessPlan::default() };
    let Some(new) = former else { return plan };
    if order != Order::BackupIsNewer {
        stay_away(&mut plan, old, new);
    }
    let missing = old.principals_after(None).filter(|then| new.principal(&then.id).is_none()).cloned().collect();
    // One that was newly set up has nobody, and deleted nobody.
    match order {
        Order::FormerIsNewer => plan.deleted = missing,
        Order::BackupIsNewer | Order::Unrelated => plan.back = missing,
    }
    let differs = |key: KeyId| match (old.key(key), new.key(key)) {
        (Some(then), Some(now)) => text(then.policy.as_ref()) != text(now.policy.as_ref()),
        _ => false,
    };
    plan.key_policies = old.keys().map(|key| key.id).filter(|key| differs(*key)).collect();
    let says_the_same =
        |name| new.policy(name).is_some_and(|now| old.policy(name).is_some_and(|then| then.document == now.document));
    let names = old.policies_after(None).map(|policy| &policy.name);
    plan.policies = names.filter(|name| !says_the_same(name)).cloned().collect();
    let groups = old.groups_after(None).map(|group| &group.name);
    plan.groups = groups.filter(|name| new.group(name).is_none()).cloned().collect();
    for now in new.principals_after(None) {
        let Some(then) = old.principal(&now.id) else { continue };
        let unknown = now.access_keys.iter().filter(|key| then.access_keys.iter().all(|then| then.id != key.id));
        plan.unknown_access_keys.extend(unknown.map(|key| (now.id.clone(), key.id.clone())));
    }
    plan.unknown = new.principals_after(None).filter(|now| old.principal(&now.id).is_none()).cloned().collect();
    plan
}

/// Access keys of the backup that would sign calls again, and of which nothing that is there knows what became of them. A
/// newer database knows it of all, one of another line of the principals that it has, and an older one of none.
fn unsure(old: &Catalogue, former: Option<&Catalogue>, order: Order) -> Vec<(PrincipalId, AccessKeyId)> {
    let is_told = |of: &PrincipalId| match (former, order) {
        (None, _) | (_, Order::BackupIsNewer) => false,
        (Some(_), Order::FormerIsNewer) => true,
        (Some(new), Order::Unrelated) => new.principal(of).is_some(),
    };
    let untold = old.principals_after(None).filter(|then| !is_told(&then.id));
    let active = |then: &Arc<Principal>| {
        let keys = then.access_keys.iter().filter(|key| key.active);
        keys.map(|key| (then.id.clone(), key.id.clone())).collect::<Vec<_>>()
    };
    untold.flat_map(active).collect()
}

fn text(policy: Option<&Arc<crate::access::KeyPolicy>>) -> Option<&str> {
    policy.map(|policy| &*policy.document)
}

/// What was taken away since the backup of what both know.
fn stay_away(plan: &mut AccessPlan, old: &Catalogue, new: &Catalogue) {
    for then in old.principals_after(None) {
        let id = &then.id;
        let Some(now) = new.principal(id) else { continue };
        let known: BTreeSet<&str> = now.identities.iter().map(|identity| identity.name.as_str()).collect();
        let identities = then.identities.iter().map(|identity| &identity.name);
        plan.identities
            .extend(identities.filter(|name| !known.contains(name.as_str())).map(|name| (id.clone(), name.clone())));
        for key in &then.access_keys {
            let of = || (id.clone(), key.id.clone());
            match now.access_keys.iter().find(|now| now.id == key.id) {
                None => plan.access_keys.push(of()),
                Some(now) => {
                    if key.active && !now.active {
                        plan.inactive.push(of());
                    }
                    // The secret is the same, and the seal key of then may be at hand no more.
                    if key.sealed != now.sealed {
                        plan.resealed.push((key.id.clone(), now.sealed.clone()));
                    }
                }
            }
        }
        plan.memberships.extend(then.groups.difference(&now.groups).map(|group| (id.clone(), group.clone())));
        let detached = then.policies.difference(&now.policies);
        plan.attachments.extend(detached.map(|policy| (Holder::Principal(id.clone()), policy.clone())));
    }
    for then in old.groups_after(None) {
        let Some(now) = new.group(&then.name) else { continue };
        let detached = then.policies.difference(&now.policies);
        plan.attachments.extend(detached.map(|policy| (Holder::Group(then.name.clone()), policy.clone())));
    }
    for key in old.keys().map(|key| key.id).filter(|key| new.key(*key).is_some()) {
        let gone = old.grants_after(key, None).filter(|grant| new.grant(key, &grant.id).is_none());
        plan.revoked.extend(gone.map(|grant| (key, grant.id.clone())));
    }
}

/// Carries it out.
pub(super) async fn apply(database: &mut Transaction, plan: &AccessPlan) -> Result<(), Error> {
    for principal in &plan.deleted {
        database.execute("DELETE FROM principals WHERE id = $1", values![principal.id.as_str()]).await?;
    }
    for (principal, identity) in &plan.identities {
        let delete = "DELETE FROM identities WHERE identity = $1 AND principal_id = $2";
        database.execute(delete, values![identity, principal.as_str()]).await?;
    }
    for (principal, key) in &plan.access_keys {
        let delete = "DELETE FROM access_keys WHERE id = $1 AND principal_id = $2";
        database.execute(delete, values![key.as_str(), principal.as_str()]).await?;
    }
    for (principal, key) in plan.inactive.iter().chain(&plan.unsure) {
        let disable = "UPDATE access_keys SET active = 0 WHERE id = $1 AND principal_id = $2";
        database.execute(disable, values![key.as_str(), principal.as_str()]).await?;
    }
    for (key, sealed) in &plan.resealed {
        access_keys::write_sealed(database, key, sealed).await?;
    }
    for (principal, group) in &plan.memberships {
        let delete = "DELETE FROM group_members WHERE principal_id = $1 AND group_name = $2";
        database.execute(delete, values![principal.as_str(), group.as_str()]).await?;
    }
    for (holder, policy) in &plan.attachments {
        let (delete, of) = match holder {
            Holder::Principal(id) => ("DELETE FROM attachments WHERE policy = $1 AND principal_id = $2", id.as_str()),
            Holder::Group(name) => ("DELETE FROM attachments WHERE policy = $1 AND group_name = $2", name.as_str()),
        };
        database.execute(delete, values![policy.as_str(), of]).await?;
    }
    for (key, grant) in &plan.revoked {
        grants::delete(database, *key, grant).await?;
    }
    database.execute("DELETE FROM approvals", values![]).await?;
    Ok(())
}
