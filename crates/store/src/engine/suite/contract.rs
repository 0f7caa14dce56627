//! The engine by itself.

use super::Made;
use crate::Error;
use crate::engine::value::{Value, values};
use crate::engine::{Connection, Told};

/// A connection to a database with the store's tables.
async fn prepared(made: &Made) -> Connection {
    let mut database = made.engine.connect().await.unwrap();
    database.probe().await.unwrap();
    database.prepare().await.unwrap();
    database
}

async fn revision(database: &mut Connection) -> i64 {
    database.one::<(i64,)>("SELECT value FROM revision WHERE id = 1", values![]).await.unwrap().0
}

const BUMP: &str = "UPDATE revision SET value = value + 1 WHERE id = 1";
const INSERT_STORE: &str = "INSERT INTO key_stores (id, name, cluster_id, state, created_at, revision, error_message) \
                            VALUES ($1, $2, $3, 'x', $4, 1, $5)";
const INSERT_KEY: &str =
    "INSERT INTO keys (id, key_store_id, state, description, created_at, revision) VALUES ($1, $2, 'x', '', 0, 1)";
const INSERT_VERSION: &str = "INSERT INTO key_versions (key_id, version, escrow) VALUES ($1, $2, $3)";

/// A key store with a key.
async fn filled(database: &mut Connection) {
    database.begin().await.unwrap();
    let none = None::<&str>;
    database.execute(INSERT_STORE, values!["store", "name", "cluster", 0_i64, none]).await.unwrap();
    database.execute(INSERT_KEY, values!["key", "store"]).await.unwrap();
    database.commit().await.unwrap();
}

pub(crate) async fn values_come_back_as_they_were(made: Made) {
    let mut database = prepared(&made).await;
    filled(&mut database).await;
    let long = "x".repeat(100_000);
    for (at, text) in
        ["", " ", "'; DROP TABLE keys; --", "ä\u{1F511}\u{202e}", "$1", "0", "1e3", &long].iter().enumerate()
    {
        for (of, number) in [i64::MIN, -1, 0, 1, i64::MAX].into_iter().enumerate() {
            let id = format!("{at} {of}");
            let (name, message) = (format!("{id} {text}"), (of > 0).then(|| (*text).to_owned()));
            database.begin().await.unwrap();
            let row = values![&id, &name, &name, number, message.clone()];
            database.execute(INSERT_STORE, row).await.unwrap();
            database.commit().await.unwrap();
            let select = "SELECT name, created_at, error_message FROM key_stores WHERE id = $1";
            let back: (String, i64, Option<String>) = database.one(select, values![&id]).await.unwrap();
            assert_eq!(back, (name, number, message));
        }
    }
    let all: Vec<u8> = (0..=u8::MAX).collect();
    for (version, bytes) in (1_i64..).zip([None, Some(vec![]), Some(vec![0]), Some(all), Some(vec![0xff; 1 << 20])]) {
        database.begin().await.unwrap();
        let value = bytes.as_deref();
        database.execute(INSERT_VERSION, values!["key", version, value]).await.unwrap();
        database.commit().await.unwrap();
        let select = "SELECT escrow FROM key_versions WHERE version = $1";
        assert_eq!(database.one::<(Option<Vec<u8>>,)>(select, values![version]).await.unwrap(), (bytes,));
    }
    // Of another kind than it is read as: damage, and no trouble of the machine.
    let damaged = database.one::<(i64,)>("SELECT name FROM key_stores", values![]).await.unwrap_err();
    assert!(matches!(damaged, Error::Database(_)), "{damaged:?}");
    assert_eq!(Value::from(None::<i64>), Value::Null);
}

pub(crate) async fn what_is_committed_is_there_and_nothing_else(made: Made) {
    let mut database = prepared(&made).await;
    let mut other = made.engine.connect().await.unwrap();
    let before = revision(&mut other).await;
    database.begin().await.unwrap();
    database.execute(BUMP, values![]).await.unwrap();
    assert_eq!((revision(&mut database).await, revision(&mut other).await), (before + 1, before));
    database.commit().await.unwrap();
    assert_eq!(revision(&mut other).await, before + 1);
    database.begin().await.unwrap();
    database.execute(BUMP, values![]).await.unwrap();
    database.rollback().await.unwrap();
    assert_eq!((revision(&mut database).await, revision(&mut other).await), (before + 1, before + 1));
    // Whoever is left in the middle leaves nothing, and lets the next one in.
    database.begin().await.unwrap();
    database.execute(BUMP, values![]).await.unwrap();
    database.close().await.unwrap();
    other.begin().await.unwrap();
    other.execute(BUMP, values![]).await.unwrap();
    other.commit().await.unwrap();
    assert_eq!(revision(&mut other).await, before + 2);
    other.close().await.unwrap();
    made.engine.closed();
}

pub(crate) async fn writers_take_turns(made: Made) {
    const EACH: i64 = 25;
    let mut database = prepared(&made).await;
    let before = revision(&mut database).await;
    let writer = async || {
        let mut database = made.engine.connect().await.unwrap();
        for _ in 0..EACH {
            database.begin().await.unwrap();
            // What was read stays true until it is written.
            let read = revision(&mut database).await;
            let written = "UPDATE revision SET value = $1 WHERE id = 1";
            database.execute(written, values![read + 1]).await.unwrap();
            database.commit().await.unwrap();
        }
    };
    tokio::join!(writer(), writer(), writer());
    assert_eq!(revision(&mut database).await, before + 3 * EACH);
}

pub(crate) async fn a_look_is_of_one_moment_and_waits_for_nobody(made: Made) {
    let mut database = prepared(&made).await;
    let mut other = made.engine.connect().await.unwrap();
    other.look().await.unwrap();
    let before = revision(&mut other).await;
    for _ in 0..3 {
        database.begin().await.unwrap();
        database.execute(BUMP, values![]).await.unwrap();
        assert_eq!(revision(&mut other).await, before);
        database.commit().await.unwrap();
        assert_eq!(revision(&mut other).await, before);
    }
    other.rollback().await.unwrap();
    assert_eq!(revision(&mut other).await, before + 3);
}

pub(crate) async fn rows_keep_their_references(made: Made) {
    let mut database = prepared(&made).await;
    filled(&mut database).await;
    let (again, stray) = (values!["key", "store"], values!["other", "none"]);
    for (what, row) in [("an id twice", again), ("a reference to nothing", stray)] {
        database.begin().await.unwrap();
        let refused = database.execute(INSERT_KEY, row).await;
        assert!(matches!(&refused, Err(Error::Engine(fault)) if fault.told == Told::Nothing), "{what}: {refused:?}");
        database.rollback().await.unwrap();
    }
    database.begin().await.unwrap();
    database.execute(INSERT_VERSION, values!["key", 1_i64, None::<&[u8]>]).await.unwrap();
    assert_eq!(database.execute("DELETE FROM keys WHERE id = $1", values!["key"]).await.unwrap(), 1);
    let (left,): (i64,) = database.one("SELECT COUNT(*) FROM key_versions", values![]).await.unwrap();
    assert_eq!(left, 0, "what belongs to a row goes with it");
    database.commit().await.unwrap();
}

pub(crate) async fn statements_tell_what_they_did(made: Made) {
    let mut database = prepared(&made).await;
    filled(&mut database).await;
    assert_eq!(database.execute("UPDATE keys SET state = 'y' WHERE id = $1", values!["none"]).await.unwrap(), 0);
    assert_eq!(database.execute("UPDATE keys SET state = 'y' WHERE id = $1", values!["key"]).await.unwrap(), 1);
    let returned: Option<(String,)> =
        database.optional("DELETE FROM keys WHERE id = $1 RETURNING state", values!["key"]).await.unwrap();
    assert_eq!(returned, Some(("y".to_owned(),)));
    let none: Option<(String,)> = database.optional("SELECT id FROM keys", values![]).await.unwrap();
    assert_eq!(none, None);
    assert!(matches!(database.one::<(String,)>("SELECT id FROM keys", values![]).await, Err(Error::Database(_))));
    database.tidy().await.unwrap();
}

pub(crate) async fn a_schema_is_made_once(made: Made) {
    let mut database = prepared(&made).await;
    filled(&mut database).await;
    database.close().await.unwrap();
    let mut again = prepared(&made).await;
    let (keys,): (i64,) = again.one("SELECT COUNT(*) FROM keys", values![]).await.unwrap();
    assert_eq!(keys, 1);
    let mut other = made.engine.connect().await.unwrap();
    assert_eq!(revision(&mut other).await, revision(&mut again).await);
}
