//! The store without room: a bound of SQLite's own on the size of the file gives SQLITE_FULL where it is wanted.

use std::time::Duration;

use bytes::Bytes;

use super::Bench;
use crate::connection::retire;
use crate::engine::Distress;
use crate::engine::sqlite::copy;
use crate::engine::value::values;
use crate::reserve::{Purpose, Standing};
use crate::{Error, NewKey, load};
use model::key::KeyState;
use model::key_store::{ConnectionState, Event};
use model::outage::Outage;
use model::pin::{Candidate, Pin, PinChange};

impl Bench {
    /// Bounds the file to what it has, as a full disk does; or lifts the bound.
    async fn full(&self, full: bool) {
        let mut turn = self.store.inner.writer.lock().await;
        self.store.inner.engine.distress(full.then_some(Distress::Full)).await.unwrap();
        retire(turn.database.take().unwrap()).await;
    }

    /// Lifts the bound where the connection broke.
    async fn freed(&self) {
        self.store.inner.engine.distress(None).await.unwrap();
    }

    /// Makes keys until there is no room for another one.
    pub(super) async fn until_full(&self) -> Error {
        self.full(true).await;
        for _ in 0..10_000 {
            if let Err(error) = self.begin(None).await {
                return error;
            }
        }
        panic!("ten thousand keys fit into no page");
    }

    /// What the file holds is what the catalogue shows.
    async fn agrees(&self) {
        let in_file = load::catalogue(&mut copy::open(&self.file()).await.unwrap()).await.unwrap();
        let shown = self.store.catalogue();
        assert_eq!(format!("{in_file:?}"), format!("{shown:?}"));
    }
}

fn is_full(error: &Error) -> bool {
    matches!(error, Error::Storage(trouble) if trouble.outage == Outage::Full && trouble.code == 13)
}

#[tokio::test]
async fn a_change_without_room_costs_no_other_change() {
    let bench = Bench::new().await;
    let version = bench.new_key().await;
    let error = bench.until_full().await;
    assert!(is_full(&error) && error.passes(), "{error:?}");
    assert!(error.to_string().contains(&bench.folder.path().display().to_string()), "{error}");
    for _ in 0..3 {
        bench.agrees().await;
        assert!(is_full(&bench.begin(None).await.unwrap_err()));
        // What needs no room is done, on the connection that took the place of the broken one.
        bench.store.force_state(version.key, KeyState::Disabled).await.unwrap();
        bench.store.force_state(version.key, KeyState::Enabled).await.unwrap();
        assert_eq!(bench.store.pins(&bench.key_store).await.unwrap(), []);
    }
    assert!(!bench.store.records());
    bench.full(false).await;
    bench.begin(None).await.unwrap();
    bench.agrees().await;
    bench.store.tend().await;
    assert!(bench.store.records());
    assert_eq!(bench.store.disk().failing, None);
}

/// Records a PIN of an HSM in the place of another one.
async fn replace(bench: &Bench, before: Option<&Pin>, after: &Pin) -> Result<(), Error> {
    let change = PinChange { hsm: "hsm-a".into(), before: before.cloned(), after: after.clone() };
    bench.store.replace_pin(&bench.key_store, change).await
}

#[tokio::test]
async fn what_takes_out_of_use_has_the_reserve_and_nothing_else_while_it_is_spent() {
    let bench = Bench::new().await;
    let small = Pin::given(Bytes::from_static(b"sealed"));
    replace(&bench, None, &small).await.unwrap();
    assert!(is_full(&bench.until_full().await));
    assert_eq!(bench.store.disk().reserve.standing, Standing::Whole, "what can wait does not touch it");

    // A record that needs pages of its own: the whole reserve does not lift SQLite's bound.
    let large = Pin { pending: Some(Bytes::from(vec![7; 1 << 20])), ..small.clone() };
    assert!(is_full(&replace(&bench, Some(&small), &large).await.unwrap_err()));
    let kept = bench.store.disk().reserve;
    assert_eq!((kept.standing, kept.bytes), (Standing::Spent, 0));
    let error = bench.begin(None).await.unwrap_err();
    assert!(is_full(&error) || matches!(error, Error::Kept(_)), "{error:?}");
    bench.agrees().await;
    bench.freed().await;
    replace(&bench, Some(&small), &large).await.unwrap();

    bench.begin(None).await.unwrap();
    assert_eq!(bench.store.disk().reserve.standing, Standing::Whole, "made anew by the change that found it spent");
    bench.store.tend().await;
    assert!(bench.store.disk().sentences().iter().all(|why| !why.contains("cannot be written")));
}

/// Attempts to log in have a share, and what became of them is recorded whatever they have used.
#[tokio::test]
async fn logins_go_on_for_a_while_and_leave_room_for_their_outcome() {
    let bench = Bench::new().await;
    let idle = Pin::given(Bytes::from_static(b"sealed"));
    let tried = Pin { attempt: Some(Candidate::Current), ..idle.clone() };
    replace(&bench, None, &idle).await.unwrap();
    bench.store.spend_reserve();
    let mut logins = 0;
    let error = loop {
        match replace(&bench, Some(&idle), &tried).await {
            Ok(()) => logins += 1,
            Err(error) => break error,
        }
        replace(&bench, Some(&tried), &idle).await.unwrap();
    };
    assert!(matches!(error, Error::Kept(_)) && error.passes(), "{error:?}");
    assert_eq!(logins, 128);
    let version = bench.store.begin_key(NewKey::new(&bench.key_store, &[]), None).await;
    assert!(matches!(version, Err(Error::Kept(_))), "{version:?}");
    let [_, now] = bench.store.advance_key_store(&bench.key_store, Event::Disconnect, None, false).await.unwrap();
    assert_eq!(now, ConnectionState::Disconnecting);
}

#[tokio::test]
async fn a_commit_in_doubt_is_read_back_before_anything_else() {
    let bench = Bench::new().await;
    let version = bench.new_key().await;
    // As if the commit of a change had been reported as failed, and is in the file all the same.
    let mut other = copy::open(&bench.file()).await.unwrap();
    for statement in ["UPDATE keys SET state = 'Disabled'", "UPDATE revision SET value = value + 1"] {
        other.execute(statement, values![]).await.unwrap();
    }
    drop(other);
    {
        let mut turn = bench.store.inner.writer.lock().await;
        retire(turn.database.take().unwrap()).await;
        turn.in_doubt = true;
    }
    assert_ne!(bench.store.catalogue().key(version.key).unwrap().state, KeyState::Disabled);
    bench.new_key().await;
    assert_eq!(bench.store.catalogue().key(version.key).unwrap().state, KeyState::Disabled);
    bench.agrees().await;
}

#[tokio::test]
async fn a_change_that_panics_takes_its_connection_along_and_nothing_else() {
    let bench = Bench::new().await;
    let broken = bench.store.change::<(), _>(|database| {
        Box::pin(async move {
            database.execute("UPDATE revision SET value = 99", values![]).await?;
            panic!("in the middle of a transaction");
            #[allow(unreachable_code, reason = "gives the block its type")]
            Ok(())
        })
    });
    assert!(matches!(broken.await, Err(Error::Database(_))));
    bench.new_key().await;
    bench.agrees().await;
}

#[tokio::test]
async fn a_statement_that_the_engine_refuses_is_no_trouble_of_the_disk() {
    let bench = Bench::new().await;
    let broken = bench.store.change::<(), _>(|database| {
        Box::pin(async move {
            database.execute("INSERT INTO revision (id, value) VALUES (1, 1)", values![]).await?;
            Ok(())
        })
    });
    let error = broken.await.unwrap_err();
    assert!(matches!(error, Error::Database(_)) && !error.passes(), "{error:?}");
    assert!(bench.store.records());
    bench.new_key().await;
}

#[tokio::test]
async fn reading_waits_for_no_change() {
    let bench = Bench::new().await;
    let turn = bench.store.inner.writer.lock().await;
    let read = tokio::time::timeout(Duration::from_secs(30), bench.store.pins(&bench.key_store));
    assert_eq!(read.await.expect("answered while a change is under way").unwrap(), []);
    drop(turn);
    bench.store.close().await;
    assert!(bench.store.pins(&bench.key_store).await.unwrap_err().to_string().contains("closed"));
}

/// What is in a log that was removed is in the database before the process can be lost, also where nothing is changed.
#[tokio::test]
async fn a_log_that_was_removed_is_taken_over_at_the_next_look() {
    let bench = Bench::new().await;
    let version = bench.new_key().await;
    let aside = tempfile::tempdir().unwrap();
    let alone = async |name: &str| {
        std::fs::copy(bench.file(), aside.path().join(name)).unwrap();
        let mut database = copy::open(&aside.path().join(name)).await.unwrap();
        load::catalogue(&mut database).await.ok().and_then(|held| held.key(version.key).cloned())
    };
    assert!(alone("before").await.is_none(), "it is in the log alone");
    bench.store.inner.engine.distress(Some(Distress::LogGone)).await.unwrap();
    bench.store.tend().await;
    assert!(alone("after").await.is_some());
    assert!(bench.store.records());
    bench.new_key().await;
    bench.agrees().await;
}

/// SQLite's log is one file; what it has been given beyond its end stays there over the changes that use it.
#[tokio::test]
async fn a_log_with_room_beyond_its_end_is_read_after_a_crash() {
    let bench = Bench::new().await;
    let version = bench.new_key().await;
    for _ in 0..3 {
        assert!(bench.store.inner.reserve.release(Purpose::Restricting).unwrap());
        bench.store.force_state(version.key, KeyState::Disabled).await.unwrap();
        bench.store.force_state(version.key, KeyState::Disabled).await.unwrap();
    }
    let aside = tempfile::tempdir().unwrap();
    for name in ["keystored.db", "keystored.db-wal"] {
        std::fs::copy(bench.folder.path().join(name), aside.path().join(name)).unwrap();
    }
    let mut recovered = copy::open(&aside.path().join("keystored.db")).await.unwrap();
    let recovered = load::catalogue(&mut recovered).await.unwrap();
    assert_eq!(recovered.key(version.key).unwrap().state, KeyState::Disabled);
    assert_eq!(recovered.revision(), bench.store.revision());
}
