//! Which of two databases is believed, case by case.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use model::id::ClusterId;

fn hsm() -> HsmId {
    "hsm-a".into()
}

fn pin(text: &'static str) -> Pin {
    Pin::given(Bytes::from_static(text.as_bytes()))
}

/// Which PIN is the newer one, and when that cannot be told from the numbers.
#[test]
fn the_newer_pin_is_taken() {
    let id = KeyStoreId::from("cks-1");
    let rotated = |text, at| Pin { rotated_at: at, ..pin(text) };
    let facts = |pin: Option<Pin>| {
        let mut facts = Facts::default();
        let store = KeyStore {
            id: id.clone(),
            name: "main".into(),
            cluster: ClusterId::from("cluster-aaaaaaaaaaa"),
            state: ConnectionState::Connected,
            error: None,
            trust_anchor: String::new(),
            created_at: 0,
            maker: None,
        };
        Arc::make_mut(&mut facts.catalogue).put_key_store(id.clone(), Some(store));
        facts.pins.extend(pin.map(|pin| ((id.clone(), hsm()), pin)));
        facts
    };
    let (backup, now) = (rotated("then", Some(5)), rotated("now", Some(9)));
    let earlier = rotated("now", Some(3));
    let given = rotated("now", None);
    for (then, now, order, taken) in [
        (Some(&backup), Some(&now), Order::FormerIsNewer, true),
        (Some(&backup), Some(&earlier), Order::FormerIsNewer, true),
        (Some(&backup), Some(&now), Order::BackupIsNewer, false),
        (Some(&backup), Some(&now), Order::Unrelated, true),
        (Some(&backup), Some(&earlier), Order::Unrelated, false),
        (Some(&backup), Some(&given), Order::Unrelated, true),
        (Some(&backup), Some(&backup), Order::FormerIsNewer, false),
        (None, Some(&now), Order::BackupIsNewer, true),
        (Some(&backup), None, Order::FormerIsNewer, false),
    ] {
        let plan = plan(&facts(then.cloned()), Some(&facts(now.cloned())), order);
        assert_eq!(!plan.pins.is_empty(), taken, "{then:?} {now:?} {order:?}");
    }
    let stranger = Facts { pins: facts(Some(now)).pins, ..Facts::default() };
    assert!(plan(&Facts::default(), Some(&stranger), Order::FormerIsNewer).pins.is_empty(), "of no key store of it");
}

/// A key that the backup caught half made is finished from its blob where it has one.
#[test]
fn keys_that_were_being_made_are_finished_or_told_of() {
    let state_of = |blob: bool, state| {
        let id = KeyId::from_bytes([3; 16]);
        let mut key = Key::bare(id, KeyStoreId::from("cks-1"), state);
        key.versions[0].blob = blob.then(|| Bytes::from_static(b"blob"));
        let mut facts = Facts::default();
        Arc::make_mut(&mut facts.catalogue).put_key(id, Some(key));
        facts
    };
    for (blob, now, left_out) in [
        (true, KeyState::Enabled, false),
        (true, KeyState::Disabled, true),
        (false, KeyState::Enabled, true),
        (false, KeyState::Creating, false),
    ] {
        let plan = plan(&state_of(blob, KeyState::Creating), Some(&state_of(true, now)), Order::FormerIsNewer);
        assert_eq!(
            (plan.left_out.len(), plan.unknown.len()),
            (usize::from(left_out), usize::from(left_out)),
            "{now:?}"
        );
    }
    // A backup of after what is there says nothing of what came after itself.
    let mut backup = state_of(true, KeyState::Enabled);
    backup.reserved.insert(KeyVersionId { key: KeyId::from_bytes([3; 16]), version: 1 }, 10);
    for (order, used) in [
        (Order::BackupIsNewer, vec![10 + MARGIN]),
        (Order::FormerIsNewer, vec![]),
        // What is there knows its own line alone.
        (Order::Unrelated, vec![10 + MARGIN]),
    ] {
        let plan = plan(&backup, Some(&backup), order);
        assert_eq!(plan.reserved.iter().map(|(_, used)| *used).collect::<Vec<_>>(), used, "{order:?}");
        assert_eq!(plan.by_margin, used.len(), "{order:?}");
    }
}

/// To go on with one would make another material of it, and it may have come into use since.
#[test]
fn what_was_being_made_in_place_is_left_out() {
    let id = KeyId::from_bytes([3; 16]);
    let of = |number| KeyVersionId { key: id, version: number };
    let state_of = |in_place: bool, state, current: u32| {
        let mut key = Key::bare(id, KeyStoreId::from("cks-1"), state);
        key.versions.push(crate::Version::bare(of(2)));
        if state == KeyState::Creating {
            key.versions.truncate(1);
        }
        key.current_version = current;
        for version in &mut key.versions {
            version.in_place = in_place;
            version.blob = (!in_place).then(|| Bytes::from_static(b"blob"));
            version.current_since = (version.id.version <= current).then_some(7);
        }
        let mut facts = Facts::default();
        Arc::make_mut(&mut facts.catalogue).put_key(id, Some(key));
        facts
    };
    let finished = state_of(true, KeyState::Enabled, 2);
    for former in [None, Some(&finished)] {
        let plan = |backup: &Facts| plan(backup, former, Order::FormerIsNewer);
        assert_eq!(plan(&state_of(true, KeyState::Creating, 1)).half_made, [of(1)]);
        let further = plan(&state_of(true, KeyState::Enabled, 1));
        assert_eq!(further.half_made, [of(2)]);
        assert_eq!(further.unknown_versions, former.map_or(vec![], |_| vec![of(2)]), "it is told of");
        assert!(plan(&finished).half_made.is_empty() && plan(&finished).unknown_versions.is_empty());
        assert!(plan(&state_of(false, KeyState::Enabled, 1)).half_made.is_empty(), "that is finished from its blob");
    }
}

/// Whoever went on with it would give its number to another material, or take the number for one that nobody used.
#[test]
fn what_was_being_made_and_had_no_escrow_is_left_out() {
    let id = KeyId::from_bytes([3; 16]);
    let of = |number| KeyVersionId { key: id, version: number };
    let state_of = |state, versions: &[(u32, bool)], current: u32| {
        let mut key = Key::bare(id, KeyStoreId::from("cks-1"), state);
        key.versions = versions.iter().map(|(number, _)| Version::bare(of(*number))).collect();
        key.current_version = current;
        for (version, (_, blob)) in key.versions.iter_mut().zip(versions) {
            version.blob = blob.then(|| Bytes::from_static(b"blob"));
            version.current_since = (version.id.version <= current).then_some(7);
        }
        let mut facts = Facts::default();
        Arc::make_mut(&mut facts.catalogue).put_key(id, Some(key));
        facts
    };
    let finished = state_of(KeyState::Enabled, &[(1, true), (2, true)], 2);
    for former in [None, Some(&finished)] {
        let plan = |backup: &Facts| plan(backup, former, Order::FormerIsNewer);
        assert_eq!(plan(&state_of(KeyState::Creating, &[(1, false)], 1)).half_made, [of(1)]);
        let further = plan(&state_of(KeyState::Enabled, &[(1, true), (2, false)], 1));
        assert_eq!(further.half_made, [of(2)]);
        assert_eq!(further.unknown_versions, former.map_or(vec![], |_| vec![of(2)]), "it is told of");
    }
}

/// Failed logins are a token's, and are not undone by a file.
#[test]
fn failed_logins_are_kept() {
    let of = (ClusterId::from("cluster-aaaaaaaaaaa"), hsm());
    let former = Facts { spent: BTreeMap::from([(of.clone(), 2)]), ..Facts::default() };
    for (order, kept) in [(Order::FormerIsNewer, 1), (Order::Unrelated, 1), (Order::BackupIsNewer, 0)] {
        assert_eq!(plan(&Facts::default(), Some(&former), order).spent.len(), kept, "{order:?}");
    }
}
