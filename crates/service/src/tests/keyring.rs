//! The keyring takes over what has not changed, and what has is as if all of it had been made anew.

use std::collections::BTreeSet;

use super::bench::Bench;
use crate::core::keyring::Keyring;
use model::id::{KeyId, KeyVersionId};
use model::key::{KeyState, Placement};
use model::key_store::Event;
use store::{Begun, NewKey};

impl Bench {
    async fn begun(&self) -> KeyId {
        let hsms = ["hsm-a".into(), "hsm-b".into()];
        let Begun::New(key) = self.store.begin_key(NewKey::new(&self.key_store, &hsms), None).await.unwrap() else {
            panic!("without a token every key is new")
        };
        key
    }
}

/// What it says of each key, and where that lies in memory.
fn entries(keyring: &Keyring) -> Vec<(KeyId, KeyState, usize)> {
    let of = |id| (id, std::ptr::from_ref(keyring.key(id).unwrap()).addr());
    let ids = keyring.catalogue.keys().map(|key| key.id);
    ids.map(of).map(|(id, place)| (id, keyring.key(id).unwrap().state, place)).collect()
}

#[tokio::test]
async fn what_has_not_changed_is_taken_over() {
    let bench = Bench::new().await;
    let core = &bench.service.core;
    let mut keys = Vec::new();
    for _ in 0..50 {
        let key = bench.begun().await;
        bench.store.set_placement(KeyVersionId { key, version: 1 }, &"hsm-a".into(), Placement::Present).await.unwrap();
        keys.push(key);
    }
    let mut before = core.keyring();
    assert_eq!(entries(&before).len(), 50);
    // Changed, gone, come; several at once; the place of one that is gone taken by another one.
    for round in 0..20 {
        let mut changed = BTreeSet::new();
        let touched = keys[(round * 7) % keys.len()];
        let state = if round % 2 == 0 { KeyState::Disabled } else { KeyState::Creating };
        bench.store.force_state(touched, state).await.unwrap();
        changed.insert(touched);
        if round % 3 == 0 {
            let gone = keys.remove((round * 11) % keys.len());
            bench.store.force_state(gone, KeyState::Creating).await.unwrap();
            bench.store.abandon_key(gone).await.unwrap();
            changed.insert(gone);
        }
        if round % 4 == 1 {
            keys.push(bench.begun().await);
            changed.extend(keys.last());
        }
        let after = core.keyring();
        let known: Vec<_> = entries(&before);
        for (id, state, place) in entries(&after) {
            let stored = bench.store.catalogue().key(id).unwrap().state;
            assert!(state == stored || state == KeyState::Unavailable, "{state:?} {stored:?}");
            let same = known.iter().any(|(of, _, at)| (*of, *at) == (id, place));
            assert_eq!(same, !changed.contains(&id), "round {round}");
        }
        let ids: BTreeSet<KeyId> = entries(&after).iter().map(|(id, ..)| *id).collect();
        assert_eq!(ids, keys.iter().copied().collect());
        assert!(changed.iter().all(|id| after.key(*id).is_some() == keys.contains(id)));
        before = after;
    }
    // What happens to a key store concerns all of its keys.
    bench.store.advance_key_store(&bench.key_store, Event::Disconnect, None, false).await.unwrap();
    let (after, known) = (core.keyring(), entries(&before));
    for (id, state, place) in entries(&after) {
        let creating = bench.store.catalogue().key(id).unwrap().state == KeyState::Creating;
        assert_eq!(state, if creating { KeyState::Creating } else { KeyState::Unavailable });
        assert!(!known.contains(&(id, state, place)));
    }
}
