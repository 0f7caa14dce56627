//! The disk with the metadata is full, for an hour or from the start: what must be recorded is refused, the rest goes on,
//! the kill switch works, and all of it ends with the trouble.

mod moved;
mod start;

use std::collections::BTreeMap;

use proto::v1::{ConnectionState, ListKeysRequest};
use tonic::Code;

use crate::harness::daemon::{Daemon, Site};
use crate::harness::{Caller, Failure, chaos, context, wait};

/// Of the small disk.
const BYTES: u64 = 32 << 20;

/// What a daemon on a small disk is used for.
struct Use {
    daemon: Daemon,
    caller: Caller,
    key: String,
    ciphertext: Vec<u8>,
}

impl Use {
    async fn begin() -> Self {
        let daemon = Site::prepare().await.with_disk(BYTES).start().await;
        let caller = daemon.caller().await;
        let key = caller.create_key("made while there was room").await;
        let ciphertext = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
        Self { daemon, caller, key, ciphertext }
    }

    async fn goes_on(&self) {
        goes_on(&self.caller, &self.key, &self.ciphertext).await;
    }
}

/// Encrypt and Decrypt work.
async fn goes_on(caller: &Caller, key: &str, ciphertext: &[u8]) {
    assert_eq!(caller.decrypt(ciphertext, &context(&[])).await.unwrap(), b"kept");
    let again = caller.encrypt(key, b"again", &context(&[])).await.unwrap();
    assert_eq!(caller.decrypt(&again, &context(&[])).await.unwrap(), b"again");
}

/// A refusal that a caller can act on: it may be repeated, and it says which disk is full.
#[track_caller]
fn names_the_disk(refused: &Failure, daemon: &Daemon) {
    let state = daemon.site().path().join("state").display().to_string();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::Unavailable, "KMSInternalException"), "{refused:?}");
    assert!(refused.retryable && refused.message.contains(&state) && refused.message.contains("full"), "{refused:?}");
}

fn readiness(daemon: &Daemon) -> (u16, serde_json::Value) {
    let (code, body) = daemon.ops("/readyz").unwrap();
    (code, serde_json::from_str(&body).unwrap())
}

/// Waits until nothing is wrong any more.
fn wait_until_sound(daemon: &Daemon) {
    wait::until("nothing is wrong any more", wait::LONG, || (readiness(daemon).1["status"] == "ready").then_some(()));
    let (_, metrics) = daemon.ops("/metrics").unwrap();
    assert!(metrics.contains("keystored_degraded{reason=\"disk\"} 0"), "{metrics}");
    assert!(metrics.contains("keystored_state_reserve_whole 1"), "{metrics}");
}

/// Waits until the disk is told as a reason.
fn wait_until_degraded(daemon: &Daemon) {
    let state = daemon.site().path().join("state").display().to_string();
    wait::until("the disk is a reason", wait::LONG, || {
        let (code, report) = readiness(daemon);
        assert_eq!(code, 200, "{report}");
        let named = report["reasons"].as_array().unwrap().iter().any(|why| why.as_str().unwrap().contains(&state));
        (report["status"] == "degraded" && named).then_some(())
    });
    let (_, metrics) = daemon.ops("/metrics").unwrap();
    assert!(!metrics.contains("keystored_degraded{reason=\"disk\"} 0"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_must_be_recorded_until_there_is_room() {
    let used = Use::begin().await;
    let Use { daemon, caller, key, .. } = &used;
    for _ in 0..2 {
        daemon.site().disk().fill();
        // What is allocated already takes a few more changes.
        let refused = wait::until_async("a key is refused", wait::LONG, async || {
            caller.try_create_key("none fits", "").await.err()
        })
        .await;
        names_the_disk(&refused, daemon);
        used.goes_on().await;
        wait_until_degraded(daemon);
        // Again and again, and nothing else breaks by it.
        for _ in 0..20 {
            names_the_disk(&caller.try_create_key("none fits", "").await.unwrap_err(), daemon);
        }
        used.goes_on().await;
        caller.switch_key(key, false).await.unwrap();
        caller.encrypt(key, b"again", &context(&[])).await.unwrap_err();

        daemon.site().disk().free();
        // By itself, and without a restart.
        wait_until_sound(daemon);
        caller.switch_key(key, true).await.unwrap();
        caller.create_key("there is room again").await;
        used.goes_on().await;
    }
    // Said when it begins and when it is over, not with each refusal.
    daemon.wait_until_logged("the metadata can be written again");
    let log = daemon.log();
    let said = log.lines().filter(|line| line.contains("store::trouble") && line.contains("cannot be written"));
    assert!((2..8).contains(&said.count()), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_switch_works_on_a_disk_that_others_keep_full() {
    const KEYS: usize = 24;
    let Use { daemon, caller, key: kept, ciphertext } = Use::begin().await;
    let store = caller.key_stores().await.remove(0).key_store_id;
    let mut keys = Vec::new();
    for number in 0..KEYS {
        keys.push(caller.create_key(&format!("number {number}")).await);
    }
    // The log of the database begins anew with a start, so that it has no room of its own yet.
    let daemon = daemon.terminate().1.start().await;
    let caller = daemon.caller().await;
    let neighbour = daemon.site().disk().neighbour();
    for round in 0..5 {
        for key in &keys {
            caller.switch_key(key, false).await.unwrap();
            let refused = caller.encrypt(key, b"nothing", &context(&[])).await.unwrap_err();
            assert_eq!(refused.reason, "DisabledException", "{refused:?}");
        }
        // Once the reserve is used, only what takes out of use is recorded.
        for key in &keys {
            match caller.switch_key(key, true).await {
                Err(refused) => names_the_disk(&refused, &daemon),
                Ok(()) => assert_eq!(round, 0, "it was done although the reserve is spent"),
            }
        }
    }
    let (_, metrics) = daemon.ops("/metrics").unwrap();
    assert!(metrics.contains("keystored_state_reserve_whole 0"), "{metrics}\n{}", daemon.log_tail());
    goes_on(&caller, &kept, &ciphertext).await;
    wait_until_degraded(&daemon);
    names_the_disk(&caller.try_create_key("none fits", "").await.unwrap_err(), &daemon);
    // Workers that die are replaced: the attempts to log in are recorded, and what becomes of them.
    for zone in ["a", "b"] {
        daemon.replace_workers(zone, &caller).await;
    }
    assert!(caller.hsms().await.unwrap().iter().all(|hsm| hsm.pin_tries_left == 3));
    goes_on(&caller, &kept, &ciphertext).await;
    caller.begin_disconnect(&store).await.unwrap();
    assert_eq!(caller.settled(&store).await.connection_state(), ConnectionState::Disconnected);
    let refused = caller.decrypt(&ciphertext, &context(&[])).await.unwrap_err();
    assert_eq!(refused.reason, "KMSInvalidStateException", "{refused:?}");

    // What was answered is on record.
    let daemon = daemon.crash().launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    assert_eq!(caller.key_store(&store).await.connection_state(), ConnectionState::Disconnected);
    names_the_disk(&caller.begin_connect(&store).await.unwrap_err(), &daemon);

    drop(neighbour);
    daemon.site().disk().free();
    wait_until_sound(&daemon);
    assert_eq!(caller.connect(&store).await.unwrap().connection_state(), ConnectionState::Connected);
    daemon.wait_until_healthy_for(&caller).await;
    for key in &keys {
        let refused = caller.encrypt(key, b"nothing", &context(&[])).await.unwrap_err();
        assert_eq!(refused.reason, "DisabledException", "{refused:?}");
    }
    goes_on(&caller, &kept, &ciphertext).await;
}

/// What a connect and a disconnect have come to is recorded as soon as it can be, without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_connect_that_could_not_be_recorded_is_when_there_is_room() {
    let site = Site::prepare().await.with_disk(BYTES);
    let controls = chaos::control_all(&site);
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let store = caller.key_stores().await.remove(0).key_store_id;
    let mut keys = Vec::new();
    for number in 0..24 {
        keys.push(caller.create_key(&format!("number {number}")).await);
    }
    caller.disconnect(&store).await.unwrap();
    let daemon = daemon.terminate().1.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    for control in &controls {
        control.set("[[rule]]\nfunction = \"C_OpenSession\"\nfault = \"hang\"").unwrap();
    }
    caller.begin_connect(&store).await.unwrap();
    let neighbour = daemon.site().disk().neighbour();
    // The reserve is spent on keys that are disabled.
    wait::until_async("the reserve is spent", wait::LONG, async || {
        for key in &keys {
            caller.switch_key(key, false).await.unwrap();
        }
        for key in &keys {
            if let Err(refused) = caller.switch_key(key, true).await {
                names_the_disk(&refused, &daemon);
                return refused.message.contains("reserve").then_some(());
            }
        }
        None
    })
    .await;
    controls.iter().for_each(|control| control.clear().unwrap());
    wait::until_async("its HSMs are ready", wait::LONG, async || {
        let hsms = caller.hsms().await.unwrap();
        hsms.iter().all(|hsm| hsm.ready_workers == hsm.workers).then_some(())
    })
    .await;
    assert_eq!(caller.key_store(&store).await.connection_state(), ConnectionState::Connecting);
    drop(neighbour);
    daemon.site().disk().free();
    let settled = caller.settled(&store).await;
    assert_eq!(settled.connection_state(), ConnectionState::Connected, "{settled:?}");
    wait_until_sound(&daemon);
}

/// With every amount of room, from none to what is more than enough: what was answered is so, in the catalogue and in the
/// database.
#[tokio::test(flavor = "multi_thread")]
async fn no_amount_of_room_makes_a_wrong_answer() {
    let Use { daemon, caller, key, ciphertext } = Use::begin().await;
    let daemon = daemon.terminate().1.start().await;
    drop(caller);
    let caller = daemon.caller().await;
    let (mut made, mut refusals) = (vec![key.clone()], 0);
    let mut enabled = true;
    for blocks in 0..48 {
        daemon.site().disk().fill_but(blocks);
        match caller.try_create_key(&format!("with {blocks} blocks"), "").await {
            Ok(new) => made.push(new.key_id),
            Err(refused) => {
                names_the_disk(&refused, &daemon);
                refusals += 1;
            }
        }
        match caller.switch_key(&key, !enabled).await {
            Ok(()) => enabled = !enabled,
            Err(refused) if !enabled => names_the_disk(&refused, &daemon),
            Err(refused) => panic!("a key could not be disabled with {blocks} blocks: {refused:?}"),
        }
        daemon.site().disk().free();
        wait_until_sound(&daemon);
    }
    assert!(refusals > 5 && made.len() > 5, "{refusals} refusals, {} keys", made.len());
    let shown = keys(&caller).await;
    // A second picture, from the database alone.
    let daemon = daemon.crash().start().await;
    let caller = daemon.caller().await;
    assert_eq!(keys(&caller).await, shown, "the catalogue showed something else than the database holds");
    for key in &made {
        assert!(shown.contains_key(key), "{key} was reported and is not there");
    }
    assert_eq!(shown.len(), made.len(), "keys that nobody was told of: {shown:?}");
    if !enabled {
        caller.switch_key(&key, true).await.unwrap();
    }
    goes_on(&caller, &key, &ciphertext).await;
}

/// Every key, with its state.
async fn keys(caller: &Caller) -> BTreeMap<String, i32> {
    let request = caller.request(ListKeysRequest::default());
    let listed = caller.keys.clone().list_keys(request).await.unwrap().into_inner();
    assert!(!listed.truncated);
    let mut keys = BTreeMap::new();
    for entry in listed.keys {
        let state = caller.describe_key(&entry.key_id).await.unwrap().key_state;
        keys.insert(entry.key_id, state);
    }
    keys
}
