//! Grants as decisions take them, made once per change of a grant and not once per decision.

use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use auth::grant::{Constraint, ConstraintKind, Grant, GrantOperation, GrantOperations, Party, Terms};
use model::id::{GrantId, KeyId, PrincipalId};
use store::Catalogue;

/// Those of one key and grantee.
type Own = RedBlackTreeMapSync<GrantId, Arc<Grant>>;

/// The grants of one grantee, by key. Persistent, as the catalogue's are: a key may have very many, and no change of one
/// may cost more because of the others.
type ByKey = RedBlackTreeMapSync<KeyId, Own>;

/// The grants that may let a principal do something: its own, and those of its account as a whole.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct OfGrantee {
    own: ByKey,
    account: ByKey,
}

/// The grants of one revision of the catalogue.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Grants(RedBlackTreeMapSync<PrincipalId, ByKey>);

impl OfGrantee {
    /// Those of one key, its own first, each in the order of their ids.
    pub(crate) fn of(&self, key: KeyId) -> impl Iterator<Item = &Arc<Grant>> {
        [self.own.get(&key), self.account.get(&key)].into_iter().flatten().flat_map(Own::values)
    }
}

impl Grants {
    /// Those of a principal in this account.
    pub(crate) fn of(&self, principal: &PrincipalId, account: &str) -> OfGrantee {
        let account = PrincipalId::of_account(account).map(|account| self.by_key(&account));
        OfGrantee { own: self.by_key(principal), account: account.unwrap_or_default() }
    }

    fn by_key(&self, grantee: &PrincipalId) -> ByKey {
        self.0.get(grantee).cloned().unwrap_or_default()
    }

    /// Those of a catalogue, where these are those of an older one.
    pub(crate) fn next(&self, older: &Catalogue, catalogue: &Catalogue) -> Self {
        let Some(changed) = catalogue.grants_changed_since(older) else { return Self::all(catalogue) };
        let mut next = self.clone();
        for (was, is) in changed {
            if let Some(was) = was {
                next.file(was, None);
            }
            if let Some(is) = is {
                next.file(is, Some(granted(is)));
            }
        }
        next
    }

    fn all(catalogue: &Catalogue) -> Self {
        let mut all = Self::default();
        catalogue.grants().for_each(|grant| all.file(grant, Some(granted(grant))));
        all
    }

    /// Has a grant be there, or no longer be there. Who has none is not kept.
    fn file(&mut self, kept: &store::access::Grant, grant: Option<Grant>) {
        let mut keys = self.by_key(&kept.grantee);
        let mut own = keys.get(&kept.key).cloned().unwrap_or_default();
        match grant {
            Some(grant) => own.insert_mut(kept.id.clone(), Arc::new(grant)),
            None => drop(own.remove_mut(&kept.id)),
        }
        if own.is_empty() {
            keys.remove_mut(&kept.key);
        } else {
            keys.insert_mut(kept.key, own);
        }
        if keys.is_empty() {
            self.0.remove_mut(&kept.grantee);
        } else {
            self.0.insert_mut(kept.grantee.clone(), keys);
        }
    }
}

/// For which encryption contexts a grant counts, as the metadata have it.
pub(crate) const fn kind_of(kind: store::access::ConstraintKind) -> ConstraintKind {
    match kind {
        store::access::ConstraintKind::Subset => ConstraintKind::Subset,
        store::access::ConstraintKind::Equals => ConstraintKind::Equals,
    }
}

/// A grant as it is decided by. An operation that this release does not know is none that it carries out.
pub(crate) fn granted(grant: &store::access::Grant) -> Grant {
    let party = |id: &PrincipalId| match id.account() {
        Some(account) => Party::Account(account.into()),
        None => Party::Principal(id.clone()),
    };
    let operations = grant.operations.iter().filter_map(|name| GrantOperation::parse(name)).collect();
    let constraint = grant.constraint.as_ref();
    let constraint = constraint.map(|one| Constraint::new(kind_of(one.kind), one.pairs.clone()));
    // What is no constraint any more lets nothing pass.
    let (operations, constraint) = match constraint {
        Some(Err(_)) => (GrantOperations::default(), None),
        Some(Ok(constraint)) => (operations, Some(constraint)),
        None => (operations, None),
    };
    let terms =
        Terms { grantee: party(&grant.grantee), retiring: grant.retiring.as_ref().map(party), operations, constraint };
    Grant { id: grant.id.clone(), terms, issuing_account: grant.issuing_account.as_str().into() }
}
