//! What there should be here, from what the account has and what its names stand for. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::mapping::{Mapping, account_of};
use super::policy::{Names, Rewritten, rewritten};
use super::read::{Account, OldKey, is_aws, wrong};
use super::shapes;
use crate::failure::Failure;
use model::id::AliasName;
use model::limits;

/// The tag by which a later import finds the keys of an earlier one. Its value is the old key's ARN.
pub(super) const IMPORTED_FROM: &str = "keystored:imported-from";

/// A key that should be here.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) old_arn: String,
    pub(super) description: String,
    pub(super) tags: BTreeMap<String, String>,
    /// With their prefix; and the ARNs that they had.
    pub(super) aliases: BTreeMap<String, String>,
    pub(super) disabled: bool,
    pub(super) policy: Rewritten,
    /// As it was before, to be rewritten when all keys have their ARNs.
    pub(super) source: String,
    pub(super) grants: BTreeSet<Grant>,
    /// What is not carried over of this key, and why.
    pub(super) notes: Vec<String>,
}

/// A grant that should be here, or is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Grant {
    pub(super) grantee: String,
    pub(super) retiring: Option<String>,
    pub(super) operations: BTreeSet<String>,
    pub(super) context_subset: BTreeMap<String, String>,
    pub(super) context_equals: BTreeMap<String, String>,
    pub(super) name: String,
}

impl Grant {
    /// In one line.
    pub(super) fn text(&self) -> String {
        let pairs = |pairs: &BTreeMap<String, String>| crate::names::tags_text(pairs);
        let operations: Vec<&str> = self.operations.iter().map(String::as_str).collect();
        let mut text = format!("{} for {}", operations.join(", "), self.grantee);
        if !self.context_subset.is_empty() {
            text += &format!(", with {}", pairs(&self.context_subset));
        }
        if !self.context_equals.is_empty() {
            text += &format!(", with exactly {}", pairs(&self.context_equals));
        }
        if let Some(retiring) = &self.retiring {
            text += &format!(", retired by {retiring}");
        }
        if !self.name.is_empty() {
            text += &format!(", named {}", self.name);
        }
        text
    }
}

/// All keys that should be here, in the order of their old ids. `made` are the ARNs of those that are, by their old ones.
pub(super) fn wanted(
    account: &Account,
    mapping: &Mapping,
    made: &BTreeMap<String, String>,
) -> Result<Vec<Wanted>, Failure> {
    let arns = account.keys.iter().map(|key| &key.metadata.arn);
    let keys: BTreeMap<String, Option<String>> = arns.map(|arn| (arn.clone(), made.get(arn).cloned())).collect();
    account.keys.iter().map(|key| one(account, key, &keys, mapping)).collect()
}

fn one(
    account: &Account,
    key: &OldKey,
    keys: &BTreeMap<String, Option<String>>,
    mapping: &Mapping,
) -> Result<Wanted, Failure> {
    let metadata = &key.metadata;
    let policy = rewritten(&key.policy, &Names { own: &metadata.arn, keys, mapping })
        .map_err(|why| wrong(&key.policy_file, &format!("in the text of its Policy: {why}")))?;
    let mut notes = Vec::new();
    if metadata.multi_region_configuration.is_some() {
        notes.push("it is a multi-Region key, and the new one is of one Region".to_owned());
    }
    if metadata.origin == "EXTERNAL" {
        notes.push("its material was imported, and the new key has material of its own".to_owned());
    }
    let (tags, aliases) = (tags(key, &mut notes), aliases(account, key, &mut notes));
    let mut grants = BTreeSet::new();
    for grant in &key.grants {
        let id = &grant.grant_id;
        match carried(grant, mapping) {
            Ok((carried, nobody)) => {
                notes.extend(nobody.map(|why| format!("the grant {id} is made without who may retire it: {why}")));
                if !grants.insert(carried) {
                    notes.push(format!("the grant {id} is the same as another one, and is made once"));
                }
            }
            Err(why) => notes.push(format!("the grant {id} is left out: {why}")),
        }
    }
    Ok(Wanted {
        old_arn: metadata.arn.clone(),
        description: metadata.description.clone(),
        tags,
        aliases,
        disabled: metadata.key_state == "Disabled",
        policy,
        source: key.policy.clone(),
        grants,
        notes,
    })
}

fn tags(key: &OldKey, notes: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    for tag in &key.tags {
        if tag.tag_key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:")) {
            notes.push(format!("the tag {} is left out: aws: is reserved", tag.tag_key));
        } else {
            tags.insert(tag.tag_key.clone(), tag.tag_value.clone());
        }
    }
    tags.insert(IMPORTED_FROM.to_owned(), key.metadata.arn.clone());
    if tags.len() > limits::TAGS_PER_KEY {
        notes.push(format!(
            "it has {} tags with {IMPORTED_FROM}; the new key takes them only where the configuration's tags_per_key is \
             that large",
            tags.len()
        ));
    }
    tags
}

fn aliases(account: &Account, key: &OldKey, notes: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut aliases = BTreeMap::new();
    let own = account.aliases.iter().filter(|alias| alias.target_key_id.as_ref() == Some(&key.metadata.key_id));
    for alias in own.filter(|alias| !is_aws(alias)) {
        match AliasName::parse(&alias.alias_name) {
            Some(_) => drop(aliases.insert(alias.alias_name.clone(), alias.alias_arn.clone())),
            None => notes.push(format!("{} is left out: no alias may be called that here", alias.alias_name)),
        }
    }
    aliases
}

/// A grant as it should be here, and why nobody may retire it as who may there; else why it cannot be.
fn carried(grant: &shapes::Grant, mapping: &Mapping) -> Result<(Grant, Option<String>), String> {
    let shapes::Constraints { encryption_context_subset, encryption_context_equals, others } = &grant.constraints;
    if let Some(other) = others.keys().next() {
        return Err(format!("its constraint {other} has no meaning here, and without it the grant would allow more"));
    }
    if !encryption_context_subset.is_empty() && !encryption_context_equals.is_empty() {
        return Err("it has both kinds of constraints, and a grant here has one".to_owned());
    }
    let grantee = match (&grant.grantee_principal, &grant.grantee_service_principal) {
        (Some(arn), None) => principal(arn, mapping)?,
        (_, Some(service)) => return Err(format!("{service} never calls here")),
        (None, None) => return Err("it names no grantee".to_owned()),
    };
    // Whoever may retire it takes away and gives nothing: without the one that cannot be, the grant is the same.
    let retiring = match (&grant.retiring_principal, &grant.retiring_service_principal) {
        (Some(arn), None) => principal(arn, mapping).map(Some),
        (_, Some(service)) => Err(format!("{service} never calls here")),
        (None, None) => Ok(None),
    };
    let (retiring, nobody) = retiring.map_or_else(|why| (None, Some(why)), |retiring| (retiring, None));
    let carried = Grant {
        grantee,
        retiring,
        operations: grant.operations.iter().cloned().collect(),
        context_subset: encryption_context_subset.clone(),
        context_equals: encryption_context_equals.clone(),
        name: grant.name.clone(),
    };
    Ok((carried, nobody))
}

/// Who is meant here by a principal of the account.
fn principal(arn: &str, mapping: &Mapping) -> Result<String, String> {
    let new = mapping.of(arn);
    let resource = match new.splitn(6, ':').collect::<Vec<_>>()[..] {
        ["arn", _, "iam", "", _, resource] => resource,
        ["arn", _, "sts", ..] => {
            return Err(format!("{new} is a session; map it to a user or a role where it should be somebody here"));
        }
        _ if new.ends_with(".amazonaws.com") => return Err(format!("{new} never calls here")),
        _ => return Err(format!("{new} is nobody who could be mapped, or is gone")),
    };
    if resource.starts_with("role/aws-service-role/") {
        return Err(format!("{new} is a service of AWS, which never calls here"));
    }
    if !resource.starts_with("user/") && !resource.starts_with("role/") {
        return Err(format!("{new} is no user and no role, and grants of no others are carried over"));
    }
    Ok(new)
}

impl Wanted {
    /// Users and roles to whom grants are given, or who may retire them.
    pub(super) fn parties(&self) -> impl Iterator<Item = &String> {
        self.grants.iter().flat_map(|grant| std::iter::once(&grant.grantee).chain(&grant.retiring))
    }

    /// Accounts that its policy names, but for this one.
    pub(super) fn other_accounts(&self, here: &str) -> BTreeSet<&str> {
        let named = self.policy.principals.iter().filter_map(|principal| account_of(principal));
        named.filter(|account| *account != here).collect()
    }
}
