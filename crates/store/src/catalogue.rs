//! The in-memory view that requests read, and the questions that it answers.
//!
//! Its maps are persistent: what makes the next view of one takes the way to what has changed anew and shares all the
//! rest, so a change costs hardly more among ten thousand keys than among ten.

mod access;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use self::access::Access;
pub use self::access::GrantChange;
use super::log::{Change, Entity, Position, SLOTS};
use super::{Alias, Key, KeyStore};
use model::id::{AliasName, ClusterId, KeyId, KeyStoreId, KeyVersionId};
use model::key::KeyState;

type Ids = RedBlackTreeSetSync<KeyId>;
/// What is under each name.
type Index<K, V> = RedBlackTreeMapSync<K, RedBlackTreeSetSync<V>>;

/// What the database holds, as of one revision. Immutable; a change makes a new one.
#[derive(Clone, Default)]
pub struct Catalogue {
    /// How far it follows the change log.
    position: Position,
    keys: RedBlackTreeMapSync<KeyId, Arc<Key>>,
    of_store: Index<KeyStoreId, KeyId>,
    /// By the state's name.
    in_state: Index<&'static str, KeyId>,
    /// Whose each alias is.
    aliases: RedBlackTreeMapSync<AliasName, KeyId>,
    key_stores: RedBlackTreeMapSync<KeyStoreId, Arc<KeyStore>>,
    destroyed: RedBlackTreeSetSync<KeyVersionId>,
    /// Of them, those that are no key's any more.
    orphaned: RedBlackTreeSetSync<KeyVersionId>,
    /// Principals, groups, policies, grants, approvals.
    access: Access,
    /// What has changed lately, by its place in the log.
    recent: RedBlackTreeMapSync<i64, Entity>,
    /// From this place on `recent` has everything.
    recent_from: i64,
}

impl Catalogue {
    /// What was read as a whole.
    pub(super) fn assemble(
        position: Position,
        key_stores: impl IntoIterator<Item = KeyStore>,
        keys: impl IntoIterator<Item = Key>,
        destroyed: impl IntoIterator<Item = KeyVersionId>,
    ) -> Self {
        let mut whole = Self { position, recent_from: position.end, ..Self::default() };
        for store in key_stores {
            whole.key_stores.insert_mut(store.id.clone(), Arc::new(store));
        }
        for key in keys {
            whole.put_key(key.id, Some(key));
        }
        for version in destroyed {
            whole.bury(version);
        }
        whole
    }

    /// Another view, further on by these entries of the log; what they are about is not changed yet.
    pub(super) fn moved_on(&self, position: Position, changes: &[Change]) -> Self {
        let mut next = Self { position, ..self.clone() };
        for (at, change) in (self.position.end..).zip(changes) {
            next.recent.insert_mut(at, change.entity.clone());
        }
        let kept = usize::try_from(SLOTS).unwrap_or(usize::MAX);
        while next.recent.size() > kept
            && let Some(first) = next.recent.first().map(|(at, _)| *at)
        {
            next.recent.remove_mut(&first);
            next.recent_from = first + 1;
        }
        next
    }

    /// A key as it is now; `None` where it is gone.
    pub(super) fn put_key(&mut self, id: KeyId, key: Option<Key>) {
        if let Some(old) = self.keys.get(&id).cloned() {
            enter(&mut self.of_store, &old.key_store, id, false);
            enter(&mut self.in_state, &old.state.name(), id, false);
            for alias in &old.aliases {
                // Another key may have it by now.
                if self.aliases.get(&alias.name) == Some(&id) {
                    self.aliases.remove_mut(&alias.name);
                }
            }
        }
        match key {
            Some(key) => {
                enter(&mut self.of_store, &key.key_store, id, true);
                enter(&mut self.in_state, &key.state.name(), id, true);
                for alias in &key.aliases {
                    self.aliases.insert_mut(alias.name.clone(), id);
                }
                self.keys.insert_mut(id, Arc::new(key));
            }
            None => {
                self.keys.remove_mut(&id);
                // They go with it by their foreign keys.
                self.access.drop_grants_of(id);
            }
        }
        let versions: Vec<_> = self.destroyed.range(versions_of(id)).copied().collect();
        for version in versions {
            self.bury(version);
        }
    }

    /// A key store as it is now; `None` where it is gone.
    pub(super) fn put_key_store(&mut self, id: KeyStoreId, store: Option<KeyStore>) {
        match store {
            Some(store) => self.key_stores.insert_mut(id, Arc::new(store)),
            None => drop(self.key_stores.remove_mut(&id)),
        }
    }

    /// A version that no token must hold any more.
    pub(super) fn bury(&mut self, version: KeyVersionId) {
        self.destroyed.insert_mut(version);
        if self.keys.get(&version.key).is_some_and(|key| key.version(version.version).is_some()) {
            self.orphaned.remove_mut(&version);
        } else {
            self.orphaned.insert_mut(version);
        }
    }

    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// The revision that it shows.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.position.revision
    }

    /// A key.
    #[must_use]
    pub fn key(&self, id: KeyId) -> Option<&Arc<Key>> {
        self.keys.get(&id)
    }

    /// How many keys there are, in whatever state.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.keys.size()
    }

    /// All keys, in the order of their ids.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.keys.values()
    }

    /// The keys that come after one, which need not be there itself.
    pub fn keys_after(&self, after: Option<KeyId>) -> impl Iterator<Item = &Arc<Key>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.keys.range((from, Bound::Unbounded)).map(|(_, key)| key)
    }

    /// The key that has an alias.
    #[must_use]
    pub fn key_with_alias(&self, name: &AliasName) -> Option<&Arc<Key>> {
        self.keys.get(self.aliases.get(name)?)
    }

    /// The aliases that come after one, which need not be there itself, in the order of their names, each with its key.
    pub fn aliases_after(&self, after: Option<&AliasName>) -> impl Iterator<Item = (&Alias, &Arc<Key>)> {
        let from = after.map_or(Bound::Unbounded, |name| Bound::Excluded(name.clone()));
        self.aliases.range((from, Bound::Unbounded)).filter_map(|(name, id)| {
            let key = self.keys.get(id)?;
            Some((key.aliases.iter().find(|alias| alias.name == *name)?, key))
        })
    }

    /// How many keys a key store has, in whatever state.
    #[must_use]
    pub fn key_count_of(&self, store: &KeyStoreId) -> usize {
        self.of_store.get(store).map_or(0, Ids::size)
    }

    /// The keys of a key store.
    pub fn keys_of(&self, store: &KeyStoreId) -> impl Iterator<Item = &Arc<Key>> {
        self.named(self.of_store.get(store))
    }

    /// The keys that are in a state, as it is stored.
    pub fn keys_in(&self, state: KeyState) -> impl Iterator<Item = &Arc<Key>> {
        self.named(self.in_state.get(state.name()))
    }

    fn named<'a>(&'a self, ids: Option<&'a Ids>) -> impl Iterator<Item = &'a Arc<Key>> {
        ids.into_iter().flat_map(Ids::iter).filter_map(|id| self.keys.get(id))
    }

    /// A key store.
    #[must_use]
    pub fn key_store(&self, id: &KeyStoreId) -> Option<&Arc<KeyStore>> {
        self.key_stores.get(id)
    }

    /// All key stores, in the order of their ids. There are few (`model::limits::KEY_STORES`).
    pub fn key_stores(&self) -> impl Iterator<Item = &Arc<KeyStore>> {
        self.key_stores.values()
    }

    /// The key stores that come after one, which need not be there itself.
    pub fn key_stores_after(&self, after: Option<&KeyStoreId>) -> impl Iterator<Item = &Arc<KeyStore>> {
        self.key_stores().filter(move |store| after.is_none_or(|after| store.id > *after))
    }

    /// The key store with this name.
    #[must_use]
    pub fn key_store_named(&self, name: &str) -> Option<&Arc<KeyStore>> {
        self.key_stores().find(|store| store.name == name)
    }

    /// The key store over a cluster.
    #[must_use]
    pub fn key_store_over(&self, cluster: &ClusterId) -> Option<&Arc<KeyStore>> {
        self.key_stores().find(|store| store.cluster == *cluster)
    }

    /// Whether no token must hold a version any more.
    #[must_use]
    pub fn is_destroyed(&self, version: KeyVersionId) -> bool {
        self.destroyed.contains(&version)
    }

    /// All versions that no token must hold any more.
    pub fn destroyed(&self) -> impl Iterator<Item = KeyVersionId> {
        self.destroyed.iter().copied()
    }

    /// Those of one key.
    pub fn destroyed_of(&self, key: KeyId) -> impl Iterator<Item = KeyVersionId> {
        self.destroyed.range(versions_of(key)).copied()
    }

    /// Those of them that are no key's any more.
    pub fn orphaned(&self) -> impl Iterator<Item = KeyVersionId> {
        self.orphaned.iter().copied()
    }

    /// What has changed since an older view, where that is still known.
    fn changed_since(&self, older: &Self) -> Option<impl Iterator<Item = &Entity>> {
        let from = older.position.end;
        let known = (self.recent_from..=self.position.end).contains(&from);
        known.then(|| self.recent.range(from..).map(|(_, entity)| entity))
    }

    /// The keys that have changed, come or gone since an older view, where no key store has and this is still known. A
    /// key's policy is a part of the key. Changes of what concerns no key are none, nor are those of grants
    /// ([`Catalogue::access_changed_since`]).
    #[must_use]
    pub fn keys_changed_since(&self, older: &Self) -> Option<BTreeSet<KeyId>> {
        let mut keys = BTreeSet::new();
        for entity in self.changed_since(older)? {
            match entity {
                Entity::Key(id) => drop(keys.insert(*id)),
                Entity::KeyStore(_) => return None,
                Entity::Destroyed(_)
                | Entity::Principal(_)
                | Entity::Group(_)
                | Entity::Policy(_)
                | Entity::Grant(_)
                | Entity::Approval(_) => {}
            }
        }
        Some(keys)
    }
}

/// Says in an index whether an id is under a name. A name without ids is not kept.
fn enter<K: Ord + Clone, V: Ord>(index: &mut Index<K, V>, name: &K, id: V, there: bool) {
    let mut ids = index.get(name).cloned().unwrap_or_default();
    if there {
        ids.insert_mut(id);
    } else {
        ids.remove_mut(&id);
    }
    if ids.is_empty() {
        index.remove_mut(name);
    } else {
        index.insert_mut(name.clone(), ids);
    }
}

fn versions_of(key: KeyId) -> std::ops::RangeInclusive<KeyVersionId> {
    KeyVersionId { key, version: 0 }..=KeyVersionId { key, version: u32::MAX }
}

/// What it shows: two views with one text are the same to everybody.
impl fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn index<K: Ord>(of: &RedBlackTreeMapSync<K, Ids>) -> BTreeMap<&K, Vec<&KeyId>> {
            of.iter().map(|(name, ids)| (name, ids.iter().collect())).collect()
        }
        let mut shown = f.debug_struct("Catalogue");
        shown.field("position", &self.position).field("keys", &self.keys.iter().collect::<BTreeMap<_, _>>());
        shown.field("of_store", &index(&self.of_store)).field("in_state", &index(&self.in_state));
        shown.field("aliases", &self.aliases.iter().collect::<BTreeMap<_, _>>());
        shown.field("key_stores", &self.key_stores.iter().collect::<BTreeMap<_, _>>());
        shown.field("destroyed", &self.destroyed.iter().collect::<BTreeSet<_>>());
        shown.field("orphaned", &self.orphaned.iter().collect::<BTreeSet<_>>());
        shown.field("access", &self.access).finish()
    }
}
