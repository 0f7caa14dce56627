//! What operators tell of kmsuser's PIN, rightly and wrongly: nothing is lost, and no token loses more tries than there
//! are.

use chaos_hsm::Control;
use proto::v1::{ConnectionState, UpdateKeyStoreRequest};

use super::{assert_connected, assert_failed, pin, with_store};
use crate::harness::daemon::Site;
use crate::harness::{Caller, Daemon, chaos, context};

/// `login_tries` as it is by default.
const TRIES: u32 = 3;

/// A daemon whose key store was connected, so that nobody else knows the PINs, and is disconnected again; what each
/// token is asked is counted.
async fn rotated() -> (Daemon, Caller, String, Vec<Control>) {
    let site = Site::prepare().await;
    site.rotate(true);
    let controls = chaos::control_each(&site);
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let id = caller.key_stores().await.remove(0).key_store_id;
    caller.disconnect(&id).await.unwrap();
    (daemon, caller, id, controls)
}

fn reset(id: &str, new: &str, hsms: &[&str]) -> UpdateKeyStoreRequest {
    UpdateKeyStoreRequest { pin_was_reset: true, ..pin(id, new, hsms) }
}

fn refusals(daemon: &Daemon) -> usize {
    daemon.log().matches("refused kmsuser's PIN").count()
}

async fn tries_left(caller: &Caller, id: &str) -> Vec<u32> {
    caller.key_store(id).await.hsms.iter().map(|hsm| hsm.pin_tries_left).collect()
}

/// Another daemon over the same site.
async fn restarted(daemon: Daemon) -> (Daemon, Caller) {
    let daemon = daemon.terminate().1.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    (daemon, caller)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistyped_password_loses_no_pin_and_no_try() {
    let (daemon, caller, id, _) = rotated().await;
    for round in 0..2 * TRIES {
        caller.update_key_store(pin(&id, &format!("typo-{round}"), &[])).await.unwrap();
        // The PIN on record worked last, and is tried before one that somebody has typed.
        assert_connected(&caller.connect(&id).await.unwrap());
        daemon.wait_until_healthy_for(&caller).await;
        caller.disconnect(&id).await.unwrap();
    }
    assert_eq!(refusals(&daemon), 0, "{}", daemon.log());
    daemon.wait_until_logged("the one that was told is not its");
    assert!(!daemon.log().contains("typo-"), "{}", daemon.log());
    let (_daemon, caller) = restarted(daemon).await;
    assert_eq!(tries_left(&caller, &id).await, [TRIES, TRIES]);
    assert_connected(&caller.connect(&id).await.unwrap());
    let key = caller.create_key("all is well").await;
    caller.encrypt(&key, b"with the rotated PIN", &context(&[])).await.unwrap();
}

/// Nobody knows the PIN of hsm-b any more, and somebody guesses: over updates, connects and a restart the token hears of
/// as many wrong PINs as `login_tries` says. Telling the right one then is too late, and saying that it was set helps.
#[tokio::test(flavor = "multi_thread")]
async fn updates_spend_no_more_tries_than_there_are() {
    let (mut daemon, mut caller, id, controls) = rotated().await;
    daemon.zone("b").officer_sets("set-in-silence");
    let before = controls[1].calls("C_Login");
    let tried = |controls: &[Control]| controls[1].calls("C_Login") - before;
    for guess in 0..2 * TRIES {
        caller.update_key_store(pin(&id, &format!("guess-{guess}"), &["hsm-b"])).await.unwrap();
        assert_failed(&caller.connect(&id).await.unwrap(), "INVALID_CREDENTIALS", &["hsm-b", "pin_was_reset"]);
        caller.disconnect(&id).await.unwrap();
        if guess == TRIES {
            (daemon, caller) = restarted(daemon).await;
        }
    }
    assert_eq!(tried(&controls), u64::from(TRIES), "{}", daemon.log());
    assert_eq!(tries_left(&caller, &id).await, [TRIES, 0]);
    caller.update_key_store(pin(&id, "set-in-silence", &["hsm-b"])).await.unwrap();
    assert_failed(&caller.connect(&id).await.unwrap(), "INVALID_CREDENTIALS", &["hsm-b", "--pin-was-reset"]);
    caller.disconnect(&id).await.unwrap();
    assert_eq!(tried(&controls), u64::from(TRIES), "the count is the token's, whatever is told");
    caller.update_key_store(reset(&id, "set-in-silence", &["hsm-b"])).await.unwrap();
    assert_eq!(tries_left(&caller, &id).await, [TRIES, TRIES]);
    assert_connected(&caller.connect(&id).await.unwrap());
    daemon.wait_until_healthy_for(&caller).await;
    assert!(!daemon.zone("b").takes("set-in-silence"), "it was rotated");
}

/// The same with key stores that are made and deleted.
#[tokio::test(flavor = "multi_thread")]
async fn making_key_stores_spends_no_more_tries_than_there_are() {
    let site = Site::prepare().await;
    let controls = chaos::control_each(&site);
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    let (cluster, anchor) = (daemon.site().cluster().to_owned(), daemon.site().trust_anchor());
    let before: Vec<u64> = controls.iter().map(|control| control.calls("C_Login")).collect();
    for guess in 0..2 * TRIES {
        let guess = format!("guess-{guess}");
        let id = caller.create_key_store_with("guessed", &cluster, &anchor, &guess).await.unwrap();
        assert_failed(&caller.connect(&id).await.unwrap(), "INVALID_CREDENTIALS", &["hsm-a", "hsm-b"]);
        caller.disconnect(&id).await.unwrap();
        caller.delete_key_store(&id).await.unwrap();
    }
    for (control, before) in controls.iter().zip(before) {
        assert_eq!(control.calls("C_Login") - before, u64::from(TRIES), "{}", daemon.log());
    }
    let id = caller.create_key_store("known", daemon.site()).await.unwrap();
    assert_eq!(tries_left(&caller, &id).await, [0, 0]);
    caller.update_key_store(reset(&id, &daemon.site().first_pin(), &[])).await.unwrap();
    assert_connected(&caller.connect(&id).await.unwrap());
}

/// What an officer has set, and the operator says so, is tried first: no wrong PIN reaches the token. It is on record who
/// has said it.
#[tokio::test(flavor = "multi_thread")]
async fn an_officer_s_reset_is_said_with_keystorectl() {
    let (daemon, caller, id, _) = rotated().await;
    let new = daemon.site().path().join("new.pin");
    crate::operators::write_secret(&new, "set-by-the-officer");
    daemon.zones.iter().for_each(|zone| zone.officer_sets("set-by-the-officer"));
    let update = ["key-store", "update", &id, "--password-file", new.to_str().unwrap(), "--pin-was-reset"];
    daemon.keystorectl(&update).ok();
    daemon.wait_until_logged("said to be reset");
    let log = daemon.log();
    let said = log.lines().find(|line| line.contains("said to be reset")).unwrap_or_else(|| panic!("{log}"));
    for words in ["WARN", "principal", "hsm-a", "hsm-b"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_connected(&caller.connect(&id).await.unwrap());
    daemon.wait_until_healthy_for(&caller).await;
    assert_eq!(refusals(&daemon), 0, "{}", daemon.log());
    assert!(daemon.zones.iter().all(|zone| !zone.takes("set-by-the-officer")), "it was rotated");
}

/// The officer has set the PIN of one HSM, and the operator says it of both: the other one's own PIN is still on record.
#[tokio::test(flavor = "multi_thread")]
async fn a_reset_that_is_said_of_the_wrong_hsm_loses_no_pin() {
    let (daemon, caller, id, _) = rotated().await;
    daemon.zone("b").officer_sets("set-by-the-officer");
    caller.update_key_store(reset(&id, "set-by-the-officer", &[])).await.unwrap();
    assert_connected(&caller.connect(&id).await.unwrap());
    daemon.wait_until_healthy_for(&caller).await;
    daemon.wait_until_logged("refused kmsuser's PIN");
    assert_eq!(refusals(&daemon), 1, "by hsm-a: {}", daemon.log());
    assert_eq!(tries_left(&caller, &id).await, [TRIES, TRIES]);
}

/// What was refused is not tried again because it is told again, but because the officer has set it.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_pin_told_again_changes_nothing_until_it_is_said_to_be_set() {
    let (daemon, caller, id, controls) = rotated().await;
    daemon.zone("b").officer_sets("set-in-silence");
    caller.update_key_store(pin(&id, "set-later", &["hsm-b"])).await.unwrap();
    let mut tried = Vec::new();
    for _ in 0..3 {
        assert_failed(&caller.connect(&id).await.unwrap(), "INVALID_CREDENTIALS", &["hsm-b"]);
        tried.push(controls[1].calls("C_Login"));
        caller.disconnect(&id).await.unwrap();
        caller.update_key_store(pin(&id, "set-later", &["hsm-b"])).await.unwrap();
    }
    assert!(tried.iter().all(|calls| *calls == tried[0]), "{tried:?}");
    assert_eq!(tries_left(&caller, &id).await, [TRIES, TRIES - 2]);
    daemon.zone("b").officer_sets("set-later");
    caller.update_key_store(reset(&id, "set-later", &["hsm-b"])).await.unwrap();
    assert_connected(&caller.connect(&id).await.unwrap());
}

/// Of an HSM without a PIN on record there is nothing to be said but its PIN.
#[tokio::test(flavor = "multi_thread")]
async fn a_reset_without_a_password_is_of_pins_that_are_known() {
    let (daemon, caller, id) = with_store(true).await;
    let unlocked = |hsms: &[&str]| reset(&id, "", hsms);
    caller.update_key_store(unlocked(&[])).await.unwrap();
    caller.update_key_store(unlocked(&["hsm-a"])).await.unwrap();
    assert_eq!(caller.update_key_store(unlocked(&["hsm-z"])).await.unwrap_err().reason, "ValidationException");
    assert_eq!(caller.key_store(&id).await.connection_state(), ConnectionState::Disconnected);
    crate::members::third_zone(daemon.site());
    daemon.hang_up("the configuration was read again");
    let unknown = caller.update_key_store(unlocked(&["hsm-c"])).await.unwrap_err();
    assert_eq!(unknown.reason, "ValidationException", "{unknown:?}");
    assert!(unknown.message.contains("hsm-c"), "{unknown:?}");
    caller.update_key_store(unlocked(&[])).await.unwrap();
    assert_connected(&caller.connect(&id).await.unwrap());
    let connected = caller.update_key_store(unlocked(&[])).await.unwrap_err();
    assert_eq!(connected.reason, "CustomKeyStoreInvalidStateException", "{connected:?}");
}

/// The key that sealed the PINs is lost. What cannot be opened is passed over for what was told.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_seal_key_is_mended_by_the_officer() {
    let (daemon, _, id, _) = rotated().await;
    let site = daemon.terminate().1;
    std::fs::write(site.path().join("credentials/seal.key"), [7; 32]).unwrap();
    site.begin_audit_log();
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.zones.iter().for_each(|zone| zone.officer_sets("set-by-the-officer"));
    caller.update_key_store(pin(&id, "set-by-the-officer", &[])).await.unwrap();
    assert_connected(&caller.connect(&id).await.unwrap());
    daemon.wait_until_healthy_for(&caller).await;
    assert_eq!(refusals(&daemon), 0, "{}", daemon.log());
}
