//! The catalogue's answers against those of somebody who looks at everything.

use proptest::prelude::*;

use super::*;
use model::key_store::ConnectionState;

#[derive(Clone, Debug)]
enum Act {
    Put(u8, u8, KeyState),
    Remove(u8),
    Bury(u8, u32),
    Rename(u8, String),
    /// An alias is given to a key, which may take it away from another one; the log names that one first, or last.
    Name(u8, u8, bool),
    Unname(u8),
}

fn act() -> impl Strategy<Value = Act> {
    let state = prop::sample::select(vec![KeyState::Creating, KeyState::Enabled, KeyState::Disabled]);
    prop_oneof![
        4 => (0..12_u8, 0..3_u8, state).prop_map(|(key, store, state)| Act::Put(key, store, state)),
        2 => (0..12_u8).prop_map(Act::Remove),
        2 => (0..12_u8, 1..4_u32).prop_map(|(key, version)| Act::Bury(key, version)),
        1 => (0..3_u8, "[a-c]").prop_map(|(store, name)| Act::Rename(store, name)),
        4 => (0..6_u8, 0..12_u8, any::<bool>()).prop_map(|(name, key, first)| Act::Name(name, key, first)),
        1 => (0..6_u8).prop_map(Act::Unname),
    ]
}

fn id(key: u8) -> KeyId {
    KeyId::from_bytes([key; 16])
}

fn store_id(store: u8) -> KeyStoreId {
    KeyStoreId::from(format!("cks-{store}").as_str())
}

fn key(of: u8, store: u8, state: KeyState) -> Key {
    Key::bare(id(of), store_id(store), state)
}

fn key_store(of: u8, name: &str) -> KeyStore {
    KeyStore {
        id: store_id(of),
        name: name.to_owned(),
        cluster: ClusterId::from(format!("cluster-{of}").as_str()),
        state: ConnectionState::Connected,
        error: None,
        trust_anchor: String::new(),
        created_at: 0,
        maker: None,
    }
}

fn alias(of: u8) -> AliasName {
    AliasName::from(format!("alias/{of}").as_str())
}

/// Those who have an alias after an act of it, each as it is then.
fn named(of: &Catalogue, act: &Act) -> Vec<Key> {
    let (name, to, first) = match act {
        Act::Name(name, to, first) => (alias(*name), of.key(id(*to)), *first),
        Act::Unname(name) => (alias(*name), None, false),
        _ => return Vec::new(),
    };
    if matches!(act, Act::Name(..)) && to.is_none() {
        return Vec::new();
    }
    let mut owner = of.key_with_alias(&name).filter(|owner| to.is_none_or(|to| to.id != owner.id)).cloned();
    let mut to = to.cloned();
    for key in owner.iter_mut().chain(&mut to) {
        Arc::make_mut(key).aliases.retain(|alias| alias.name != name);
    }
    if let Some(to) = &mut to {
        let to = Arc::make_mut(to);
        to.aliases.push(Alias { name, created_at: 0, updated_at: 0 });
        to.aliases.sort_by(|one, other| one.name.cmp(&other.name));
    }
    let mut keys: Vec<Key> = owner.into_iter().chain(to).map(Arc::unwrap_or_clone).collect();
    if first {
        keys.reverse();
    }
    keys
}

/// What the log would say of an act.
fn entities(of: &Catalogue, act: &Act) -> Vec<Entity> {
    match act {
        Act::Put(key, ..) | Act::Remove(key) => vec![Entity::Key(id(*key))],
        Act::Bury(key, _) => vec![Entity::Destroyed(id(*key))],
        Act::Rename(store, _) => vec![Entity::KeyStore(store_id(*store))],
        Act::Name(..) | Act::Unname(_) => named(of, act).iter().map(|key| Entity::Key(key.id)).collect(),
    }
}

/// The next view.
fn next(of: &Catalogue, act: &Act) -> Catalogue {
    let changes: Vec<_> = entities(of, act).into_iter().map(|entity| Change { entity, gone: false }).collect();
    if changes.is_empty() {
        return of.clone();
    }
    let end = of.position.end + i64::try_from(changes.len()).unwrap();
    let mut next = of.moved_on(Position { revision: of.revision() + 1, end }, &changes);
    match act {
        Act::Put(number, store, state) => {
            let aliases = of.key(id(*number)).map(|key| key.aliases.clone()).unwrap_or_default();
            next.put_key(id(*number), Some(Key { aliases, ..key(*number, *store, *state) }));
        }
        Act::Name(..) | Act::Unname(_) => named(of, act).into_iter().for_each(|key| next.put_key(key.id, Some(key))),
        Act::Remove(key) => next.put_key(id(*key), None),
        Act::Bury(key, version) => next.bury(KeyVersionId { key: id(*key), version: *version }),
        Act::Rename(store, name) => next.put_key_store(store_id(*store), Some(key_store(*store, name))),
    }
    next
}

fn ids<'a>(keys: impl Iterator<Item = &'a Arc<Key>>) -> Vec<KeyId> {
    keys.map(|key| key.id).collect()
}

proptest! {
    #[test]
    fn every_question_is_answered_as_by_looking_at_everything(acts in prop::collection::vec(act(), 1..60)) {
        let mut views = vec![Catalogue::assemble(Position { revision: 5, end: 7 }, [key_store(0, "a")], [], [])];
        for act in &acts {
            views.push(next(views.last().unwrap(), act));
        }
        let now = views.last().unwrap();
        let all: Vec<_> = now.keys().cloned().collect();
        prop_assert_eq!(now.key_count(), all.len());
        prop_assert!(all.is_sorted_by_key(|key| key.id));
        for of in 0..12 {
            prop_assert_eq!(now.key(id(of)).map(|key| key.id), all.iter().map(|key| key.id).find(|found| *found == id(of)));
            let after: Vec<_> = all.iter().filter(|key| key.id > id(of)).map(|key| key.id).collect();
            prop_assert_eq!(ids(now.keys_after(Some(id(of)))), after);
        }
        prop_assert_eq!(ids(now.keys_after(None)), ids(all.iter()));
        for store in 0..3 {
            let of: Vec<_> = all.iter().filter(|key| key.key_store == store_id(store)).map(|key| key.id).collect();
            prop_assert_eq!(ids(now.keys_of(&store_id(store))), of);
            let found = now.key_store(&store_id(store));
            prop_assert!(found.is_none_or(|found| now.key_store_over(&found.cluster).unwrap().id == found.id));
            prop_assert!(found.is_none_or(|found| now.key_store_named(&found.name).unwrap().name == found.name));
            let from = store_id(store);
            let after = now.key_stores_after(Some(&from)).map(|store| store.id.clone());
            let expected = now.key_stores().filter(|of| of.id > store_id(store)).map(|store| store.id.clone());
            prop_assert!(after.eq(expected));
        }
        for state in [KeyState::Creating, KeyState::Enabled, KeyState::Disabled, KeyState::PendingDeletion] {
            let of: Vec<_> = all.iter().filter(|key| key.state == state).map(|key| key.id).collect();
            prop_assert_eq!(ids(now.keys_in(state)), of);
        }
        let aliases: BTreeMap<_, _> = all.iter().flat_map(|key| key.aliases.iter().map(|alias| (&alias.name, key.id))).collect();
        prop_assert_eq!(aliases.len(), all.iter().map(|key| key.aliases.len()).sum::<usize>(), "no two keys have one");
        for of in 0..6 {
            prop_assert_eq!(now.key_with_alias(&alias(of)).map(|key| key.id), aliases.get(&alias(of)).copied());
            let after: Vec<_> = now.aliases_after(Some(&alias(of))).map(|(alias, key)| (&alias.name, key.id)).collect();
            let expected: Vec<_> = aliases.iter().filter(|(name, _)| ***name > alias(of)).map(|(name, id)| (*name, *id)).collect();
            prop_assert_eq!(after, expected);
        }
        prop_assert_eq!(now.aliases_after(None).count(), aliases.len());
        let orphaned: Vec<_> = now.destroyed().filter(|of| now.key(of.key).is_none_or(|key| key.version(of.version).is_none())).collect();
        prop_assert_eq!(now.orphaned().collect::<Vec<_>>(), orphaned);
        prop_assert!(now.destroyed().all(|version| now.is_destroyed(version)));

        // Whoever reads everything sees the same, and knows nothing of what has changed.
        let stores: Vec<_> = now.key_stores().map(|store| (**store).clone()).collect();
        let read = Catalogue::assemble(now.position, stores, all.iter().map(|key| (**key).clone()), now.destroyed());
        prop_assert_eq!(format!("{read:?}"), format!("{now:?}"));
        let moved = now.position != views[0].position;
        prop_assert_eq!(read.keys_changed_since(&views[0]).is_none(), moved);
        prop_assert_eq!(read.keys_changed_since(now), Some(BTreeSet::new()));
        prop_assert_eq!(now.keys_changed_since(&Catalogue::default()), None);
        for (at, view) in views.iter().enumerate() {
            let since = views[at..].iter().zip(&acts[at..]).flat_map(|(view, act)| entities(view, act));
            let expected = since.into_iter().try_fold(BTreeSet::new(), |mut keys, entity| match entity {
                Entity::KeyStore(_) => None,
                Entity::Key(key) => { keys.insert(key); Some(keys) }
                _ => Some(keys),
            });
            prop_assert_eq!(now.keys_changed_since(view), expected);
        }
    }
}

#[test]
fn what_has_changed_is_known_as_far_back_as_the_log_reaches() {
    let start = Catalogue::assemble(Position { revision: 1, end: 1 }, [], [], []);
    let put = Act::Put(1, 0, KeyState::Enabled);
    let mut now = next(&start, &put);
    let second = now.clone();
    for _ in 1..=SLOTS {
        now = next(&now, &put);
    }
    assert_eq!(now.keys_changed_since(&start), None);
    assert_eq!(now.keys_changed_since(&second), Some(BTreeSet::from([id(1)])));
    assert_eq!(second.keys_changed_since(&now), None, "of what is to come nothing is known");
}
