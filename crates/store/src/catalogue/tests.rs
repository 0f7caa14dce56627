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
}

fn act() -> impl Strategy<Value = Act> {
    let state = prop::sample::select(vec![KeyState::Creating, KeyState::Enabled, KeyState::Disabled]);
    prop_oneof![
        4 => (0..12_u8, 0..3_u8, state).prop_map(|(key, store, state)| Act::Put(key, store, state)),
        2 => (0..12_u8).prop_map(Act::Remove),
        2 => (0..12_u8, 1..4_u32).prop_map(|(key, version)| Act::Bury(key, version)),
        1 => (0..3_u8, "[a-c]").prop_map(|(store, name)| Act::Rename(store, name)),
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
    }
}

/// The next view, and what the log would say of it.
fn next(of: &Catalogue, act: &Act) -> Catalogue {
    let entity = match act {
        Act::Put(key, ..) | Act::Remove(key) => Entity::Key(id(*key)),
        Act::Bury(key, _) => Entity::Destroyed(id(*key)),
        Act::Rename(store, _) => Entity::KeyStore(store_id(*store)),
    };
    let position = Position { revision: of.revision() + 1, end: of.position.end + 1 };
    let mut next = of.moved_on(position, &[Change { entity, gone: false }]);
    match act {
        Act::Put(of, store, state) => next.put_key(id(*of), Some(key(*of, *store, *state))),
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
        let orphaned: Vec<_> = now.destroyed().filter(|of| now.key(of.key).is_none_or(|key| key.version(of.version).is_none())).collect();
        prop_assert_eq!(now.orphaned().collect::<Vec<_>>(), orphaned);
        prop_assert!(now.destroyed().all(|version| now.is_destroyed(version)));

        // Whoever reads everything sees the same, and knows nothing of what has changed.
        let stores: Vec<_> = now.key_stores().map(|store| (**store).clone()).collect();
        let read = Catalogue::assemble(now.position, stores, all.iter().map(|key| (**key).clone()), now.destroyed());
        prop_assert_eq!(format!("{read:?}"), format!("{now:?}"));
        prop_assert_eq!(read.keys_changed_since(&views[0]), None);
        prop_assert_eq!(read.keys_changed_since(now), Some(BTreeSet::new()));
        prop_assert_eq!(now.keys_changed_since(&Catalogue::default()), None);
        for (at, view) in views.iter().enumerate() {
            let since = &acts[at..];
            let expected = since.iter().try_fold(BTreeSet::new(), |mut keys, act| match act {
                Act::Rename(..) => None,
                Act::Put(key, ..) | Act::Remove(key) => { keys.insert(id(*key)); Some(keys) }
                Act::Bury(..) => Some(keys),
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
