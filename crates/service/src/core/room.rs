//! Whether there is room for one more.
//!
//! What the metadata has quotas for is counted where it is used up, in one transaction with the change; here it is
//! counted in the catalogue, before others are asked to approve a call that would be refused in the end.

use std::collections::BTreeMap;

use super::Core;
use crate::Error;
use model::id::{AliasName, GroupName, KeyId, KeyStoreId, PolicyName, PrincipalId};
use model::limits;
use store::access::{Holder, Principal};
use store::{AccessError, AccessQuota, Catalogue};

/// Whose something is that there may be so many of in all.
const INSTALLATION: &str = "the installation";

impl Core {
    /// Refuses as the metadata would, as far as that is seen beforehand.
    pub(crate) fn has_room(&self, look: impl FnOnce(&Catalogue) -> Result<(), store::Error>) -> Result<(), Error> {
        look(&self.store().catalogue()).map_err(|error| self.of_store(error))
    }
}

/// For one more key of a key store.
pub(crate) fn for_key(catalogue: &Catalogue, of: &KeyStoreId, most: usize) -> Result<(), store::Error> {
    if catalogue.key_count_of(of) < most { Ok(()) } else { Err(store::Error::TooManyKeys(of.clone(), most)) }
}

/// Whether an alias of this name can be made.
pub(crate) fn is_free(catalogue: &Catalogue, name: &AliasName) -> Result<(), store::Error> {
    match catalogue.key_with_alias(name) {
        Some(_) => Err(store::Error::AliasInUse(name.clone())),
        None => Ok(()),
    }
}

/// For one more alias of a key.
pub(crate) fn for_alias(catalogue: &Catalogue, key: KeyId, most: usize) -> Result<(), store::Error> {
    let has = catalogue.key(key).map_or(0, |key| key.aliases.len());
    if has < most { Ok(()) } else { Err(store::Error::TooManyAliases(key, most)) }
}

/// For these tags of a key beside those that it has.
pub(crate) fn for_tags(
    catalogue: &Catalogue,
    key: KeyId,
    tags: &BTreeMap<String, String>,
    most: usize,
) -> Result<(), store::Error> {
    let fits = catalogue.key(key).is_none_or(|key| can_have(&key.tags, tags, most));
    if fits { Ok(()) } else { Err(store::Error::TooManyTags(most)) }
}

/// Who has more, because the quota was lowered, may change what it has.
fn can_have(has: &BTreeMap<String, String>, new: &BTreeMap<String, String>, most: usize) -> bool {
    let further = new.keys().filter(|name| !has.contains_key(*name)).count();
    further == 0 || has.len() + further <= most
}

/// For one more grant of a key to somebody.
pub(crate) fn for_grant(catalogue: &Catalogue, key: KeyId, grantee: &PrincipalId) -> Result<(), store::Error> {
    let of = format!("key {key}");
    let has = catalogue.grants_of(grantee, key).take(limits::GRANTS_PER_GRANTEE).count();
    is_below(AccessQuota::GrantsOfGrantee, &of, has, limits::GRANTS_PER_GRANTEE)?;
    is_below(AccessQuota::Grants, &of, catalogue.grant_count_of(key), limits::GRANTS_PER_KEY)
}

/// For one more principal.
pub(crate) fn for_principal(catalogue: &Catalogue) -> Result<(), store::Error> {
    is_below(AccessQuota::Principals, INSTALLATION, catalogue.principal_count(), limits::PRINCIPALS)
}

/// For one more name of a principal.
pub(crate) fn for_identity(principal: &Principal) -> Result<(), store::Error> {
    let most = limits::IDENTITIES_PER_PRINCIPAL;
    is_below(AccessQuota::Identities, principal.id.as_str(), principal.identities.len(), most)
}

/// For one more access key of a principal.
pub(crate) fn for_access_key(principal: &Principal) -> Result<(), store::Error> {
    let most = limits::ACCESS_KEYS_PER_PRINCIPAL;
    is_below(AccessQuota::AccessKeys, principal.id.as_str(), principal.access_keys.len(), most)
}

/// For these tags of a principal beside those that it has.
pub(crate) fn for_principal_tags(principal: &Principal, tags: &BTreeMap<String, String>) -> Result<(), store::Error> {
    let most = limits::TAGS_PER_PRINCIPAL;
    match can_have(&principal.tags, tags, most) {
        true => Ok(()),
        false => Err(too_many(AccessQuota::Tags, principal.id.as_str(), most)),
    }
}

/// For one more group.
pub(crate) fn for_group(catalogue: &Catalogue) -> Result<(), store::Error> {
    is_below(AccessQuota::Groups, INSTALLATION, catalogue.groups_after(None).count(), limits::GROUPS)
}

/// For a principal in a group, unless it is in it.
pub(crate) fn for_member(principal: &Principal, group: &GroupName) -> Result<(), store::Error> {
    let most = limits::GROUPS_PER_PRINCIPAL;
    match principal.groups.contains(group) {
        true => Ok(()),
        false => is_below(AccessQuota::Memberships, principal.id.as_str(), principal.groups.len(), most),
    }
}

/// For an identity policy, unless there is one of this name.
pub(crate) fn for_policy(catalogue: &Catalogue, name: &PolicyName) -> Result<(), store::Error> {
    match catalogue.policy(name) {
        Some(_) => Ok(()),
        None => {
            let has = catalogue.policies_after(None).count();
            is_below(AccessQuota::Policies, INSTALLATION, has, limits::POLICIES)
        }
    }
}

/// For a policy that is attached to somebody, unless it is.
pub(crate) fn for_attachment(catalogue: &Catalogue, name: &PolicyName, to: &Holder) -> Result<(), store::Error> {
    let (has, is_attached, of) = match to {
        Holder::Principal(id) => {
            let policies = catalogue.principal(id).map(|principal| &principal.policies);
            (policies.map_or(0, |all| all.len()), policies.is_some_and(|all| all.contains(name)), id.as_str())
        }
        Holder::Group(group) => {
            let policies = catalogue.group(group).map(|group| &group.policies);
            (policies.map_or(0, |all| all.len()), policies.is_some_and(|all| all.contains(name)), group.as_str())
        }
    };
    if is_attached { Ok(()) } else { is_below(AccessQuota::Attachments, of, has, limits::POLICIES_PER_HOLDER) }
}

/// Whether a policy is attached to somebody, so that it can be detached.
pub(crate) fn is_attached(catalogue: &Catalogue, name: &PolicyName, to: &Holder) -> Result<(), store::Error> {
    let has = match to {
        Holder::Principal(id) => catalogue.principal(id).is_some_and(|principal| principal.policies.contains(name)),
        Holder::Group(group) => catalogue.group(group).is_some_and(|group| group.policies.contains(name)),
    };
    if has { Ok(()) } else { Err(AccessError::NotAttached(name.clone(), to.clone()).into()) }
}

/// Whether a policy is attached to nobody, so that it can be deleted.
pub(crate) fn is_nobodys(catalogue: &Catalogue, name: &PolicyName) -> Result<(), store::Error> {
    match catalogue.holders_after(name, None).next() {
        Some(holder) => Err(AccessError::PolicyAttached(name.clone(), holder.clone()).into()),
        None => Ok(()),
    }
}

fn is_below(quota: AccessQuota, of: &str, has: usize, most: usize) -> Result<(), store::Error> {
    if has < most { Ok(()) } else { Err(too_many(quota, of, most)) }
}

fn too_many(quota: AccessQuota, of: &str, most: usize) -> store::Error {
    AccessError::TooMany { quota, of: of.to_owned(), most }.into()
}
