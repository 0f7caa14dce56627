//! The store over real files.

mod access;
mod audit;
mod deletion;
mod finish;
mod follow;
mod full;
mod makers;
mod names;
mod usage;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::engine::sqlite::copy;
use super::engine::value::values;
use super::{Begun, CLIENT_TOKEN_LIFE, ClientToken, Error, KeyStoreChange, NewKey, NewKeyStore, Store};
use model::clock::Clock;
use model::id::{ClusterId, HsmId, KeyId, KeyStoreId, KeyVersionId};
use model::key::{KeyState, Placement};
use model::key_store::{ConnectionErrorCode, ConnectionState, Event};
use model::limits::ENCRYPTIONS_PER_VERSION;
use model::pin::{Candidate, Pin, PinChange};

struct Bench {
    folder: tempfile::TempDir,
    clock: Clock,
    store: Store,
    key_store: KeyStoreId,
}

impl Bench {
    async fn new() -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
        let store = Store::open(&folder.path().join("keystored.db"), clock.clone()).await.unwrap();
        let key_store = store.connected_key_store("main", &cluster()).await;
        Self { folder, clock, store, key_store }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("keystored.db")
    }

    async fn reopen(&mut self) {
        self.store.close().await;
        self.store = Store::open(&self.file(), self.clock.clone()).await.unwrap();
    }

    async fn begin(&self, token: Option<&ClientToken>) -> Result<Begun, Error> {
        let new = NewKey { description: "for tests".into(), ..NewKey::new(&self.key_store, &hsms()) };
        self.store.begin_key(new, token).await
    }

    async fn new_key(&self) -> KeyVersionId {
        let Begun::New(key) = self.begin(None).await.unwrap() else { panic!("without a token every key is new") };
        KeyVersionId { key, version: 1 }
    }
}

fn cluster() -> ClusterId {
    ClusterId::parse("cluster-abcdefghijk").unwrap()
}

fn hsms() -> [HsmId; 2] {
    ["hsm-a".into(), "hsm-b".into()]
}

fn token(token: &str, parameters: u8) -> ClientToken {
    ClientToken {
        principal: "cn:anna".into(),
        operation: "CreateKey",
        token: token.into(),
        parameters: [parameters; 32],
    }
}

#[tokio::test]
async fn everything_survives_reopening() {
    let mut bench = Bench::new().await;
    let version = bench.new_key().await;
    let (blob, sealed) = (Bytes::from_static(&[7; 40]), Bytes::from_static(&[9; 48]));
    bench.store.keep_blob(version, &blob).await.unwrap();
    bench.store.keep_proof(version, &[3; 12], &sealed).await.unwrap();
    bench.store.set_placement(version, &"hsm-a".into(), Placement::Present).await.unwrap();
    bench.store.force_state(version.key, KeyState::Enabled).await.unwrap();
    let before = bench.store.catalogue();
    bench.reopen().await;
    let after = bench.store.catalogue();
    assert_eq!(format!("{before:?}"), format!("{after:?}"), "the catalogue shows what the file holds");
    let key = after.key(version.key).unwrap();
    assert_eq!((key.state, key.description.as_str(), key.created_at), (KeyState::Enabled, "for tests", 0));
    let current = key.current().unwrap();
    assert_eq!((current.id, &current.blob, &current.proof), (version, &Some(blob), &Some(([3; 12], sealed))));
    let placements = [("hsm-a".into(), Placement::Present), ("hsm-b".into(), Placement::Pending)];
    assert_eq!(current.placements, placements.into());
    let store = after.key_store(&bench.key_store).unwrap();
    assert_eq!((store.name.as_str(), &store.cluster, store.state), ("main", &cluster(), ConnectionState::Connected));
}

#[tokio::test]
async fn every_change_moves_the_revision_by_one() {
    let bench = Bench::new().await;
    let mut revision = bench.store.revision();
    let version = bench.new_key().await;
    revision += 1;
    assert_eq!(bench.store.revision(), revision);
    bench.store.keep_blob(version, &Bytes::from_static(b"blob")).await.unwrap();
    bench.store.set_placement(version, &"hsm-b".into(), Placement::Removed).await.unwrap();
    bench.store.force_state(version.key, KeyState::Disabled).await.unwrap();
    assert_eq!(bench.store.revision(), revision + 3);
    bench.store.reserve_encryptions(version, 10).await.unwrap();
    assert_eq!(bench.store.revision(), revision + 3, "counting encryptions is no change of the catalogue");
    let missing = KeyVersionId { key: KeyId::random(), version: 1 };
    assert!(matches!(bench.store.keep_blob(missing, &Bytes::new()).await, Err(Error::Missing(_))));
    let second = KeyVersionId { version: 2, ..version };
    assert!(matches!(bench.store.keep_blob(second, &Bytes::new()).await, Err(Error::Missing(_))));
    assert_eq!(bench.store.revision(), revision + 3, "what failed is rolled back");
    assert!(matches!(bench.store.force_state(version.key, KeyState::Unavailable).await, Err(Error::Contradiction(_))));
}

#[tokio::test]
async fn changes_at_once_are_all_there() {
    let bench = Bench::new().await;
    let before = bench.store.revision();
    let begun = (0..20).map(|_| bench.new_key());
    let keys = futures_util::future::join_all(begun).await;
    let catalogue = bench.store.catalogue();
    assert_eq!((catalogue.key_count(), catalogue.revision()), (20, before + 20));
    assert!(keys.iter().all(|version| catalogue.key(version.key).is_some()));
}

#[tokio::test]
async fn the_file_has_one_owner_and_is_private() {
    let bench = Bench::new().await;
    let second = Store::open(&bench.file(), Clock::manual()).await.err().unwrap();
    assert!(matches!(&second, Error::InUse(file) if file.ends_with("keystored.db")), "{second}");
    for entry in std::fs::read_dir(bench.folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
    }
    bench.store.close().await;
    let reopened = Store::open(&bench.file(), Clock::manual()).await.unwrap();
    let error = bench.store.force_state(KeyId::random(), KeyState::Enabled).await.unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    reopened.close().await;
}

#[tokio::test]
async fn a_client_token_finds_its_key_for_a_day() {
    let bench = Bench::new().await;
    let mine = token("t", 1);
    assert_eq!(bench.store.key_of_token(&mine).await.unwrap(), None);
    let Begun::New(key) = bench.begin(Some(&mine)).await.unwrap() else { panic!("the first is new") };
    let revision = bench.store.revision();
    assert_eq!(bench.begin(Some(&mine)).await.unwrap(), Begun::Existing(key));
    assert_eq!(bench.store.key_of_token(&mine).await.unwrap(), Some(key));
    assert_eq!(bench.store.revision(), revision);
    assert!(matches!(bench.begin(Some(&token("t", 2))).await, Err(Error::TokenConflict)));
    assert!(matches!(bench.store.key_of_token(&token("t", 2)).await, Err(Error::TokenConflict)));
    let others = [
        ClientToken { principal: "cn:bert".into(), ..mine.clone() },
        ClientToken { operation: "CreateKeyStore", ..mine.clone() },
    ];
    for other in others {
        assert!(matches!(bench.begin(Some(&other)).await.unwrap(), Begun::New(_)), "{other:?}");
    }
    bench.clock.advance(CLIENT_TOKEN_LIFE - Duration::from_millis(1));
    assert_eq!(bench.begin(Some(&mine)).await.unwrap(), Begun::Existing(key));
    bench.clock.advance(Duration::from_millis(1));
    assert!(matches!(bench.begin(Some(&token("t", 2))).await.unwrap(), Begun::New(other) if other != key));
}

#[tokio::test]
async fn an_abandoned_key_takes_its_token_along() {
    let mut bench = Bench::new().await;
    let mine = token("t", 1);
    let Begun::New(key) = bench.begin(Some(&mine)).await.unwrap() else { panic!("the first is new") };
    bench.store.abandon_key(key).await.unwrap();
    assert!(bench.store.catalogue().key_count() == 0);
    assert_eq!(bench.store.key_of_token(&mine).await.unwrap(), None);
    assert!(bench.store.catalogue().destroyed().next().is_none(), "no token was asked to keep anything of it");
    let version = bench.new_key().await;
    bench.store.keep_blob(version, &Bytes::from_static(b"blob")).await.unwrap();
    bench.store.abandon_key(version.key).await.unwrap();
    bench.reopen().await;
    assert!(bench.store.catalogue().is_destroyed(version), "remembered for ever");
    let version = bench.new_key().await;
    bench.store.force_state(version.key, KeyState::Enabled).await.unwrap();
    assert!(matches!(bench.store.abandon_key(version.key).await, Err(Error::Missing(_))), "only unfinished keys");
    assert!(bench.store.catalogue().key(version.key).is_some());
}

#[tokio::test]
async fn the_budget_of_encryptions_ends_and_is_remembered() {
    let mut bench = Bench::new().await;
    let version = bench.new_key().await;
    assert_eq!(bench.store.reserve_encryptions(version, 1 << 20).await.unwrap(), 1 << 20);
    bench.reopen().await;
    let rest = ENCRYPTIONS_PER_VERSION - (1 << 20);
    assert_eq!(bench.store.reserve_encryptions(version, rest - 5).await.unwrap(), rest - 5);
    assert_eq!(bench.store.reserve_encryptions(version, 100).await.unwrap(), 5);
    assert_eq!(bench.store.reserve_encryptions(version, 100).await.unwrap(), 0);
    let other = bench.new_key().await;
    assert_eq!(bench.store.reserve_encryptions_of(&[version, other], 7).await.unwrap(), [0, 7]);
    // What was not done is there again, and no more than was reserved can come back.
    bench.store.return_encryptions(&[(version, 30), (other, 8)]).await.unwrap();
    assert_eq!(bench.store.reserve_encryptions(version, 100).await.unwrap(), 30);
    bench.store.return_encryptions(&[(other, 7)]).await.unwrap();
    let all = model::limits::ENCRYPTIONS_PER_VERSION;
    assert_eq!(bench.store.reserve_encryptions(other, all).await.unwrap(), all);
}

fn new_store(name: &str, cluster: &str) -> NewKeyStore {
    NewKeyStore {
        id: KeyStoreId::random(),
        name: name.into(),
        cluster: ClusterId::parse(cluster).unwrap(),
        trust_anchor: "PEM".into(),
        pins: vec![("hsm-a".into(), Pin::given(Bytes::from_static(b"sealed")))],
        maker: Some("AIDAANNA".into()),
    }
}

#[tokio::test]
async fn names_and_clusters_of_key_stores_are_unique_and_their_number_is_bounded() {
    let bench = Bench::new().await;
    let error = bench.store.create_key_store(new_store("main", "cluster-zzzzzzzzzzz")).await.unwrap_err();
    assert!(matches!(&error, Error::NameInUse(name) if name == "main"), "{error}");
    let error = bench.store.create_key_store(new_store("other", "cluster-abcdefghijk")).await.unwrap_err();
    assert!(matches!(error, Error::ClusterInUse(_)), "{error}");
    let mut other = None;
    for letter in "abcdefghi".chars() {
        let cluster = format!("cluster-{}", letter.to_string().repeat(12));
        other = Some(bench.store.create_key_store(new_store(&letter.to_string(), &cluster)).await.unwrap());
    }
    let error = bench.store.create_key_store(new_store("eleventh", "cluster-zzzzzzzzzzz")).await.unwrap_err();
    assert!(matches!(error, Error::Quota(10)), "{error}");
    let change = KeyStoreChange { name: Some("main".into()), ..KeyStoreChange::default() };
    let error = bench.store.update_key_store(&other.unwrap(), change).await.unwrap_err();
    assert!(matches!(error, Error::NameInUse(_)), "{error}");
}

#[tokio::test]
async fn a_key_store_changes_in_the_states_that_the_table_names() {
    let bench = Bench::new().await;
    let (store, id) = (&bench.store, &bench.key_store);
    let rename = |name: &str| KeyStoreChange { name: Some(name.into()), ..KeyStoreChange::default() };
    let pins = || KeyStoreChange { pins: vec![first_pin("hsm-a")], ..KeyStoreChange::default() };
    bench.new_key().await;
    store.update_key_store(id, rename("renamed")).await.unwrap();
    assert!(matches!(store.update_key_store(id, pins()).await, Err(Error::State(ConnectionState::Connected))));
    assert!(matches!(store.delete_key_store(id).await, Err(Error::State(_))));
    store.advance_key_store(id, Event::Disconnect, None, false).await.unwrap();
    assert!(matches!(store.update_key_store(id, rename("again")).await, Err(Error::State(_))));
    store.advance_key_store(id, Event::DisconnectDone, None, false).await.unwrap();
    store.update_key_store(id, pins()).await.unwrap();
    assert!(matches!(store.delete_key_store(id).await, Err(Error::HasKeys)));
    assert_eq!(store.catalogue().key_store(id).unwrap().name, "renamed");
}

#[tokio::test]
async fn a_deleted_key_store_takes_its_pins_along() {
    let bench = Bench::new().await;
    let id = bench.store.create_key_store(new_store("other", "cluster-zzzzzzzzzzz")).await.unwrap();
    assert_eq!(bench.store.pins(&id).await.unwrap().len(), 1);
    bench.store.delete_key_store(&id).await.unwrap();
    assert!(bench.store.catalogue().key_store(&id).is_none());
    assert_eq!(bench.store.pins(&id).await.unwrap(), []);
    assert!(bench.store.create_key_store(new_store("other", "cluster-zzzzzzzzzzz")).await.is_ok());
}

#[tokio::test]
async fn why_a_connect_failed_is_kept_until_the_next_event() {
    let mut bench = Bench::new().await;
    let id = bench.store.create_key_store(new_store("other", "cluster-zzzzzzzzzzz")).await.unwrap();
    bench.store.advance_key_store(&id, Event::Connect, None, true).await.unwrap();
    assert!(bench.store.pins(&id).await.unwrap()[0].1.rotation_due);
    let error = Some((ConnectionErrorCode::InvalidCredentials, "HSM hsm-a: refused".to_owned()));
    bench.store.advance_key_store(&id, Event::ConnectFailed, error.clone(), false).await.unwrap();
    bench.reopen().await;
    let store = Arc::clone(bench.store.catalogue().key_store(&id).unwrap());
    assert_eq!((store.state, &store.error), (ConnectionState::Failed, &error));
    bench.store.advance_key_store(&id, Event::Disconnect, None, false).await.unwrap();
    assert_eq!(bench.store.catalogue().key_store(&id).unwrap().error, None);
    let before = bench.store.revision();
    assert!(bench.store.advance_key_store(&id, Event::ConnectSucceeded, None, false).await.is_err());
    assert_eq!(bench.store.revision(), before, "a connect that was overtaken changes nothing");
}

#[tokio::test]
async fn what_is_known_of_a_pin_survives_reopening_and_resealing() {
    let mut bench = Bench::new().await;
    let hsm: HsmId = "hsm-a".into();
    let pin = Pin {
        pending: Some(Bytes::from_static(b"pending")),
        offered: Some(Bytes::from_static(b"offered")),
        current_proven: true,
        taken_by: vec!["6d".into(), "61".into()],
        pending_refused: true,
        offered_first: true,
        attempt: Some(Candidate::Offered),
        failures: 2,
        rotation_due: true,
        rotated_at: Some(7),
        reset_at: Some(8),
        ..Pin::given(Bytes::from_static(b"current"))
    };
    bench.store.replace_pin(&bench.key_store, change(&hsm, None, pin.clone())).await.unwrap();
    bench.reopen().await;
    assert_eq!(bench.store.pins(&bench.key_store).await.unwrap(), [(hsm.clone(), pin.clone())]);
    for unopened in ["pending", "offered"] {
        let refuse = move |_: &KeyStoreId, _: &HsmId, sealed: &[u8]| match sealed == unopened.as_bytes() {
            true => Err("cannot be opened".to_owned()),
            false => Ok(Bytes::from_static(b"new")),
        };
        assert!(bench.store.reseal_pins(refuse).await.is_err());
        assert_eq!(bench.store.pins(&bench.key_store).await.unwrap(), [(hsm.clone(), pin.clone())], "all or none");
    }
    let twice = |_: &KeyStoreId, _: &HsmId, sealed: &[u8]| Ok(Bytes::from([sealed, sealed].concat()));
    assert_eq!(bench.store.reseal_pins(twice).await.unwrap(), 3);
    let (current, pending) = (Bytes::from_static(b"currentcurrent"), Some(Bytes::from_static(b"pendingpending")));
    let offered = Some(Bytes::from_static(b"offeredoffered"));
    assert_eq!(bench.store.pins(&bench.key_store).await.unwrap(), [(hsm, Pin { current, pending, offered, ..pin })]);
}

fn change(hsm: &HsmId, before: Option<Pin>, after: Pin) -> PinChange {
    PinChange { hsm: hsm.clone(), before, after }
}

fn first_pin(hsm: &str) -> PinChange {
    change(&hsm.into(), None, Pin::given(Bytes::from_static(b"sealed")))
}

/// Whoever has worked on a PIN for a while must not undo what was recorded meanwhile: an officer's PIN, a new seal.
#[tokio::test]
async fn a_pin_is_replaced_by_those_who_know_what_is_on_record() {
    let bench = Bench::new().await;
    let (id, hsm) = (&bench.key_store, HsmId::from("hsm-a"));
    let [first, second, third] = [&b"first"[..], b"second", b"third"].map(|pin| Pin::given(Bytes::from_static(pin)));
    let replace = async |before: Option<&Pin>, after: &Pin| {
        bench.store.replace_pin(id, change(&hsm, before.cloned(), after.clone())).await
    };
    replace(None, &first).await.unwrap();
    replace(Some(&first), &second).await.unwrap();
    for before in [None, Some(&first)] {
        let stale = replace(before, &third).await.unwrap_err();
        assert!(matches!(&stale, Error::PinChanged(of) if *of == hsm), "{stale}");
    }
    assert_eq!(bench.store.pins(id).await.unwrap(), [(hsm, second.clone())]);
    let none = bench.store.replace_pin(id, change(&"hsm-b".into(), Some(second), third)).await.unwrap_err();
    assert!(matches!(none, Error::PinChanged(_)), "{none}");
}

/// An update whose reading of a PIN is out of date changes nothing at all.
#[tokio::test]
async fn an_update_is_made_wholly_or_not() {
    let bench = Bench::new().await;
    let id = bench.store.create_key_store(new_store("other", "cluster-zzzzzzzzzzz")).await.unwrap();
    let pins = vec![first_pin("hsm-b"), first_pin("hsm-a")];
    let both = KeyStoreChange { name: Some("renamed".to_owned()), pins, ..KeyStoreChange::default() };
    let stale = bench.store.update_key_store(&id, both).await.unwrap_err();
    assert!(matches!(&stale, Error::PinChanged(of) if of.as_str() == "hsm-a"), "{stale}");
    assert_eq!(bench.store.catalogue().key_store(&id).unwrap().name, "other");
    assert_eq!(bench.store.pins(&id).await.unwrap().len(), 1);
}

/// Making and deleting key stores over and over must not spend a token's tries.
#[tokio::test]
async fn the_count_of_failed_logins_outlives_its_key_store() {
    let bench = Bench::new().await;
    let store = &bench.store;
    let make = async || store.create_key_store(new_store("other", "cluster-zzzzzzzzzzz")).await.unwrap();
    let failures = async |id: &KeyStoreId| store.pins(id).await.unwrap()[0].1.failures;
    let given = Pin::given(Bytes::from_static(b"sealed"));
    let mut id = make().await;
    assert_eq!(failures(&id).await, 0);
    let tried = Pin { failures: 1, attempt: Some(Candidate::Current), ..given.clone() };
    store.replace_pin(&id, change(&"hsm-a".into(), Some(given.clone()), tried)).await.unwrap();
    for _ in 0..2 {
        store.delete_key_store(&id).await.unwrap();
        id = make().await;
        assert_eq!(failures(&id).await, 2, "an attempt without an outcome counts");
    }
    // What worked, or was said to be reset, is not counted any more.
    let known = Pin { failures: 2, ..given.clone() };
    store.replace_pin(&id, change(&"hsm-a".into(), Some(known), given)).await.unwrap();
    store.delete_key_store(&id).await.unwrap();
    id = make().await;
    assert_eq!(failures(&id).await, 0);
}

/// Nor must moving one from cluster to cluster.
#[tokio::test]
async fn the_count_of_failed_logins_stays_with_its_cluster() {
    let bench = Bench::new().await;
    let store = &bench.store;
    let (here, there) = ("cluster-zzzzzzzzzzz", "cluster-yyyyyyyyyyy");
    let id = store.create_key_store(new_store("other", here)).await.unwrap();
    let failures = async || store.pins(&id).await.unwrap()[0].1.spent();
    let given = Pin::given(Bytes::from_static(b"sealed"));
    let tried = Pin { failures: 1, attempt: Some(Candidate::Current), ..given.clone() };
    store.replace_pin(&id, change(&"hsm-a".into(), Some(given.clone()), tried)).await.unwrap();
    let moved = async |cluster: &str, pins| {
        let cluster = Some(ClusterId::parse(cluster).unwrap());
        store.update_key_store(&id, KeyStoreChange { cluster, pins, ..KeyStoreChange::default() }).await.unwrap();
    };
    moved(there, vec![]).await;
    assert_eq!(failures().await, 0, "no other token is charged with them");
    moved(here, vec![]).await;
    assert_eq!(failures().await, 2);
    moved(there, vec![]).await;
    // What is told with the move changes nothing of it, unless it is a reset.
    let told = Pin { offered: Some(Bytes::from_static(b"told")), ..given.clone() };
    moved(here, vec![change(&"hsm-a".into(), Some(given.clone()), told.clone())]).await;
    assert_eq!(failures().await, 2);
    moved(there, vec![]).await;
    let reset = Pin { reset_at: Some(1), ..told.clone() };
    moved(here, vec![change(&"hsm-a".into(), Some(told), reset)]).await;
    assert_eq!(failures().await, 0);
}

#[tokio::test]
async fn a_newer_release_s_file_is_refused() {
    let bench = Bench::new().await;
    bench.store.close().await;
    let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (99, 'later', TRUE, x'00', 0)";
    let mut database = copy::open(&bench.file()).await.unwrap();
    database.execute(later, values![]).await.unwrap();
    database.close().await.unwrap();
    let error = Store::open(&bench.file(), Clock::manual()).await.err().unwrap();
    assert!(matches!(error, Error::Newer { version: 99, .. }), "{error}");
}
