//! What the catalogue knows of access, and the questions that it answers of that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use super::{Catalogue, Index, enter};
use crate::access::{Approval, Grant, Group, Holder, Policy, Principal};
use crate::log::Entity;
use model::id::{ApprovalId, GrantId, GroupName, KeyId, PolicyName, PrincipalId};

type Grants = RedBlackTreeMapSync<GrantId, Arc<Grant>>;

/// What a grant was, and what it is.
pub type GrantChange<'a> = (Option<&'a Arc<Grant>>, Option<&'a Arc<Grant>>);

/// Persistent maps, as those of keys are.
#[derive(Clone, Default)]
pub(super) struct Access {
    principals: RedBlackTreeMapSync<PrincipalId, Arc<Principal>>,
    /// Whose each ARN is.
    arns: RedBlackTreeMapSync<Arc<str>, PrincipalId>,
    /// Whose each identity is, be it the name of a certificate or of an access key.
    identities: RedBlackTreeMapSync<Arc<str>, PrincipalId>,
    members: Index<GroupName, PrincipalId>,
    groups: RedBlackTreeMapSync<GroupName, Arc<Group>>,
    policies: RedBlackTreeMapSync<PolicyName, Arc<Policy>>,
    holders: Index<PolicyName, Holder>,
    grants: Grants,
    of_key: RedBlackTreeMapSync<KeyId, Grants>,
    of_grantee: RedBlackTreeMapSync<PrincipalId, RedBlackTreeMapSync<KeyId, Grants>>,
    of_retiring: RedBlackTreeMapSync<PrincipalId, Grants>,
    approvals: RedBlackTreeMapSync<ApprovalId, Arc<Approval>>,
    of_requester: Index<PrincipalId, ApprovalId>,
}

impl Access {
    fn index_principal(&mut self, principal: &Principal, there: bool) {
        let id = &principal.id;
        let names = [&principal.arn].into_iter().cloned().map(|arn| (true, arn));
        let names = names.chain(principal.identities.iter().map(|identity| (false, identity.name.as_str().into())));
        let active = principal.access_keys.iter().filter(|key| key.active);
        let names = names.chain(active.map(|key| (false, key.id.identity().into())));
        for (is_arn, name) in names {
            let owners = if is_arn { &mut self.arns } else { &mut self.identities };
            if there {
                owners.insert_mut(name, id.clone());
            } else if owners.get(&name) == Some(id) {
                // Another one may have it by now.
                owners.remove_mut(&name);
            }
        }
        for group in &principal.groups {
            enter(&mut self.members, group, id.clone(), there);
        }
        for policy in &principal.policies {
            enter(&mut self.holders, policy, Holder::Principal(id.clone()), there);
        }
    }

    fn index_grant(&mut self, grant: &Arc<Grant>, there: bool) {
        let entry = || there.then(|| Arc::clone(grant));
        file(&mut self.of_key, &grant.key, &grant.id, entry());
        if let Some(retiring) = &grant.retiring {
            file(&mut self.of_retiring, retiring, &grant.id, entry());
        }
        let mut keys = self.of_grantee.get(&grant.grantee).cloned().unwrap_or_default();
        file(&mut keys, &grant.key, &grant.id, entry());
        if keys.is_empty() {
            self.of_grantee.remove_mut(&grant.grantee);
        } else {
            self.of_grantee.insert_mut(grant.grantee.clone(), keys);
        }
    }

    /// Forgets the grants of a key that is gone.
    pub(super) fn drop_grants_of(&mut self, key: KeyId) {
        let Some(gone) = self.of_key.get(&key).cloned() else { return };
        for (id, grant) in gone.iter() {
            self.index_grant(grant, false);
            self.grants.remove_mut(id);
        }
    }
}

impl Catalogue {
    /// A principal as it is now; `None` where it is gone.
    pub(crate) fn put_principal(&mut self, id: PrincipalId, principal: Option<Principal>) {
        if let Some(old) = self.access.principals.get(&id).cloned() {
            self.access.index_principal(&old, false);
        }
        match principal {
            Some(principal) => {
                self.access.index_principal(&principal, true);
                self.access.principals.insert_mut(id, Arc::new(principal));
            }
            None => drop(self.access.principals.remove_mut(&id)),
        }
    }

    /// A group as it is now; `None` where it is gone.
    pub(crate) fn put_group(&mut self, name: GroupName, group: Option<Group>) {
        let holder = || Holder::Group(name.clone());
        if let Some(old) = self.access.groups.get(&name).cloned() {
            old.policies.iter().for_each(|policy| enter(&mut self.access.holders, policy, holder(), false));
        }
        match group {
            Some(group) => {
                group.policies.iter().for_each(|policy| enter(&mut self.access.holders, policy, holder(), true));
                self.access.groups.insert_mut(name, Arc::new(group));
            }
            None => drop(self.access.groups.remove_mut(&name)),
        }
    }

    /// An identity policy as it is now; `None` where it is gone.
    pub(crate) fn put_policy(&mut self, name: PolicyName, policy: Option<Policy>) {
        match policy {
            Some(policy) => self.access.policies.insert_mut(name, Arc::new(policy)),
            None => drop(self.access.policies.remove_mut(&name)),
        }
    }

    /// A grant as it is now; `None` where it is gone.
    pub(crate) fn put_grant(&mut self, id: GrantId, grant: Option<Grant>) {
        if let Some(old) = self.access.grants.get(&id).cloned() {
            self.access.index_grant(&old, false);
        }
        match grant {
            Some(grant) => {
                let grant = Arc::new(grant);
                self.access.index_grant(&grant, true);
                self.access.grants.insert_mut(id, grant);
            }
            None => drop(self.access.grants.remove_mut(&id)),
        }
    }

    /// An approval as it is now; `None` where it is gone.
    pub(crate) fn put_approval(&mut self, id: ApprovalId, approval: Option<Approval>) {
        if let Some(old) = self.access.approvals.get(&id).cloned() {
            enter(&mut self.access.of_requester, &old.request.requester, id.clone(), false);
        }
        match approval {
            Some(approval) => {
                enter(&mut self.access.of_requester, &approval.request.requester, id.clone(), true);
                self.access.approvals.insert_mut(id, Arc::new(approval));
            }
            None => drop(self.access.approvals.remove_mut(&id)),
        }
    }

    /// A principal.
    #[must_use]
    pub fn principal(&self, id: &PrincipalId) -> Option<&Arc<Principal>> {
        self.access.principals.get(id)
    }

    /// The principal that has an ARN now.
    #[must_use]
    pub fn principal_with_arn(&self, arn: &str) -> Option<&Arc<Principal>> {
        self.principal(self.access.arns.get(arn)?)
    }

    /// The principal that is known by a certificate's name, such as `cn:app`, or by that of an active access key,
    /// `access-key:ID`.
    #[must_use]
    pub fn principal_known_as(&self, identity: &str) -> Option<&Arc<Principal>> {
        self.principal(self.access.identities.get(identity)?)
    }

    /// How many principals there are.
    #[must_use]
    pub fn principal_count(&self) -> usize {
        self.access.principals.size()
    }

    /// The principals that come after an ARN, which need not be there itself, in the order of their ARNs.
    pub fn principals_after(&self, after: Option<&str>) -> impl Iterator<Item = &Arc<Principal>> {
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        self.access.arns.range::<str, _>(range).filter_map(|(_, id)| self.principal(id))
    }

    /// A group.
    #[must_use]
    pub fn group(&self, name: &GroupName) -> Option<&Arc<Group>> {
        self.access.groups.get(name)
    }

    /// The groups that come after one, which need not be there itself, in the order of their names.
    pub fn groups_after(&self, after: Option<&GroupName>) -> impl Iterator<Item = &Arc<Group>> {
        self.access.groups.range(behind(after)).map(|(_, group)| group)
    }

    /// The members of a group that come after one, which need not be there itself, in the order of their ids.
    pub fn members_after(
        &self,
        group: &GroupName,
        after: Option<&PrincipalId>,
    ) -> impl Iterator<Item = &Arc<Principal>> {
        let members = self.access.members.get(group).into_iter();
        members.flat_map(move |ids| ids.range(behind(after))).filter_map(|id| self.principal(id))
    }

    /// An identity policy that is kept here.
    #[must_use]
    pub fn policy(&self, name: &PolicyName) -> Option<&Arc<Policy>> {
        self.access.policies.get(name)
    }

    /// The identity policies that come after one, which need not be there itself, in the order of their names.
    pub fn policies_after(&self, after: Option<&PolicyName>) -> impl Iterator<Item = &Arc<Policy>> {
        self.access.policies.range(behind(after)).map(|(_, policy)| policy)
    }

    /// To whom a policy is attached, after one, who need not be there: principals by their ids, then groups.
    pub fn holders_after(&self, policy: &PolicyName, after: Option<&Holder>) -> impl Iterator<Item = &Holder> {
        self.access.holders.get(policy).into_iter().flat_map(move |holders| holders.range(behind(after)))
    }

    /// The names of the policies that hold for a principal: those that are attached to itself, and then those of its
    /// groups. One may come twice.
    pub fn policies_of(&self, principal: &PrincipalId) -> impl Iterator<Item = &PolicyName> {
        self.principal(principal).into_iter().flat_map(|principal| {
            let groups = principal.groups.iter().filter_map(|name| self.group(name));
            principal.policies.iter().chain(groups.flat_map(|group| group.policies.iter()))
        })
    }

    /// A grant of a key.
    #[must_use]
    pub fn grant(&self, key: KeyId, id: &GrantId) -> Option<&Arc<Grant>> {
        self.access.grants.get(id).filter(|grant| grant.key == key)
    }

    /// How many grants a key has.
    #[must_use]
    pub fn grant_count_of(&self, key: KeyId) -> usize {
        self.access.of_key.get(&key).map_or(0, Grants::size)
    }

    /// Every grant, in the order of their ids.
    pub fn grants(&self) -> impl Iterator<Item = &Arc<Grant>> {
        self.access.grants.values()
    }

    /// The grants of a key that come after one, which need not be there itself, in the order of their ids.
    pub fn grants_after(&self, key: KeyId, after: Option<&GrantId>) -> impl Iterator<Item = &Arc<Grant>> {
        let grants = self.access.of_key.get(&key).into_iter();
        grants.flat_map(move |grants| grants.range(behind(after))).map(|(_, grant)| grant)
    }

    /// The grants of a key in which a principal is the grantee, in the order of their ids. What others are granted costs
    /// nothing.
    pub fn grants_of(&self, principal: &PrincipalId, key: KeyId) -> impl Iterator<Item = &Arc<Grant>> {
        let keys = self.access.of_grantee.get(principal);
        keys.and_then(|keys| keys.get(&key)).into_iter().flat_map(Grants::values)
    }

    /// The grants, of whatever key, that a principal may retire, after one, which need not be there itself, in the order
    /// of their ids.
    pub fn retirable_after(
        &self,
        principal: &PrincipalId,
        after: Option<&GrantId>,
    ) -> impl Iterator<Item = &Arc<Grant>> {
        let grants = self.access.of_retiring.get(principal).into_iter();
        grants.flat_map(move |grants| grants.range(behind(after))).map(|(_, grant)| grant)
    }

    /// An approval, in whatever state. It may have expired.
    #[must_use]
    pub fn approval(&self, id: &ApprovalId) -> Option<&Arc<Approval>> {
        self.access.approvals.get(id)
    }

    /// The approvals that come after one, which need not be there itself, in the order of their ids.
    pub fn approvals_after(&self, after: Option<&ApprovalId>) -> impl Iterator<Item = &Arc<Approval>> {
        self.access.approvals.range(behind(after)).map(|(_, approval)| approval)
    }

    /// The approvals that a principal has asked for, in the order of their ids.
    pub fn approvals_of(&self, requester: &PrincipalId) -> impl Iterator<Item = &Arc<Approval>> {
        let ids = self.access.of_requester.get(requester).into_iter();
        ids.flat_map(RedBlackTreeSetSync::iter).filter_map(|id| self.approval(id))
    }

    /// The grants that have come or gone since an older view, those of keys that are gone included: what each was then,
    /// and what it is now. `None` where that is not known any more.
    #[must_use]
    pub fn grants_changed_since<'a>(&'a self, older: &'a Self) -> Option<Vec<GrantChange<'a>>> {
        let mut changed = BTreeSet::new();
        for entity in self.changed_since(older)? {
            match entity {
                Entity::Grant(id) => drop(changed.insert(id)),
                Entity::Key(key) if self.key(*key).is_none() => {
                    changed.extend(older.grants_after(*key, None).map(|grant| &grant.id));
                }
                _ => {}
            }
        }
        let both = |id: &GrantId| (older.access.grants.get(id), self.access.grants.get(id));
        Some(changed.into_iter().map(both).collect())
    }

    /// The principals that have changed, come or gone since an older view. `None` where that is not known any more.
    #[must_use]
    pub fn principals_changed_since(&self, older: &Self) -> Option<BTreeSet<PrincipalId>> {
        let principal = |entity: &Entity| match entity {
            Entity::Principal(id) => Some(id.clone()),
            _ => None,
        };
        Some(self.changed_since(older)?.filter_map(principal).collect())
    }

    /// Whether a principal, a group, an identity policy or a grant has changed, come or gone since an older view; also
    /// where that is not known any more. A key's policy counts as a change of the key
    /// ([`Catalogue::keys_changed_since`]), as does the end of its grants with it; approvals are asked for when they are
    /// used, and count as neither.
    #[must_use]
    pub fn access_changed_since(&self, older: &Self) -> bool {
        self.changed_since(older).is_none_or(|mut changed| changed.any(Entity::is_access))
    }
}

/// Everything behind a name.
fn behind<T: Clone>(after: Option<&T>) -> (Bound<T>, Bound<T>) {
    (after.cloned().map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

/// Has a grant be under a name in an index, or be there no more. A name without grants is not kept.
fn file<K: Ord + Clone>(index: &mut RedBlackTreeMapSync<K, Grants>, name: &K, id: &GrantId, grant: Option<Arc<Grant>>) {
    let mut grants = index.get(name).cloned().unwrap_or_default();
    match grant {
        Some(grant) => grants.insert_mut(id.clone(), grant),
        None => drop(grants.remove_mut(id)),
    }
    if grants.is_empty() {
        index.remove_mut(name);
    } else {
        index.insert_mut(name.clone(), grants);
    }
}

/// What it shows, whatever shape the maps have.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn map<K: Ord, V>(of: &RedBlackTreeMapSync<K, V>) -> BTreeMap<&K, &V> {
            of.iter().collect()
        }
        fn index<K: Ord, V: Ord>(of: &Index<K, V>) -> BTreeMap<&K, BTreeSet<&V>> {
            of.iter().map(|(name, ids)| (name, ids.iter().collect())).collect()
        }
        fn grants<K: Ord>(of: &RedBlackTreeMapSync<K, Grants>) -> BTreeMap<&K, BTreeSet<&GrantId>> {
            of.iter().map(|(name, grants)| (name, grants.keys().collect())).collect()
        }
        let mut shown = f.debug_struct("Access");
        shown.field("principals", &map(&self.principals)).field("arns", &map(&self.arns));
        shown.field("identities", &map(&self.identities)).field("members", &index(&self.members));
        shown.field("groups", &map(&self.groups)).field("policies", &map(&self.policies));
        shown.field("holders", &index(&self.holders)).field("grants", &map(&self.grants));
        let of_grantee: BTreeMap<_, _> = self.of_grantee.iter().map(|(of, keys)| (of, grants(keys))).collect();
        shown.field("of_key", &grants(&self.of_key)).field("of_grantee", &of_grantee);
        shown.field("of_retiring", &grants(&self.of_retiring)).field("approvals", &map(&self.approvals));
        shown.field("of_requester", &index(&self.of_requester)).finish()
    }
}
