//! Tokens that let nobody in by a PIN that somebody else has set, before kmsuser has changed it.

use chaos_hsm::Control;
use proto::v1::UpdateKeyStoreRequest;

use super::{assert_connected, assert_failed, pin};
use crate::harness::daemon::Site;
use crate::harness::{Caller, Daemon, chaos, context};

/// Such tokens say nothing by their flags.
const MUST_CHANGE: &str = "[login]\nmust_change = true\nflags = \"silent\"";

/// Two such tokens, of which the configuration says this, with a key store that was never connected.
async fn of_such_tokens(rotate: bool, said: &str) -> (Daemon, Caller, String, Vec<Control>) {
    let site = Site::prepare().await;
    site.rotate(rotate);
    let controls = chaos::control_each(&site);
    controls.iter().for_each(|control| control.set(MUST_CHANGE).unwrap());
    site.configure_hsms(|_, hsm| {
        hsm.insert("capabilities".to_owned(), toml::from_str::<toml::Table>(said).unwrap().into());
    });
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    let id = caller.create_key_store("main", daemon.site()).await.unwrap();
    (daemon, caller, id, controls)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_changed_once_whether_pins_are_rotated_or_not() {
    for rotate in [true, false] {
        let (daemon, caller, id, controls) = of_such_tokens(rotate, "login.first_login = \"change\"").await;
        let first = daemon.site().first_pin();
        let before: Vec<u64> = controls.iter().map(|control| control.calls("C_SetPIN")).collect();
        assert_connected(&caller.connect(&id).await.unwrap());
        daemon.wait_until_healthy_for(&caller).await;
        let changed = |control: &Control, before: u64| control.calls("C_SetPIN") - before;
        assert!(
            controls.iter().zip(&before).all(|(control, before)| changed(control, *before) == 1),
            "rotate: {rotate}"
        );
        assert!(daemon.zones.iter().all(|zone| !zone.takes(&first)), "nobody but the daemon knows the PIN");
        let key = caller.create_key("of tokens that want another PIN").await;
        let sealed = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
        // It is on record: the next daemon has it.
        let site = daemon.terminate().1;
        let daemon = site.launch();
        daemon.wait_until_ready();
        let caller = daemon.caller().await;
        daemon.wait_until_healthy_for(&caller).await;
        assert_eq!(caller.decrypt(&sealed, &context(&[])).await.unwrap(), b"kept");
        assert!(
            controls.iter().zip(&before).all(|(control, before)| changed(control, *before) == 1),
            "rotate: {rotate}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_that_is_not_known_of_the_token_nothing_is_changed_and_the_way_out_is_told() {
    let (daemon, caller, id, controls) = of_such_tokens(true, "login.first_login = \"ready\"").await;
    let before: Vec<u64> = controls.iter().map(|control| control.calls("C_SetPIN")).collect();
    let store = caller.connect(&id).await.unwrap();
    assert_failed(&store, "INVALID_CREDENTIALS", &["changed before anything else", "CKR_PIN_EXPIRED", "first_login"]);
    assert!(controls.iter().zip(&before).all(|(control, before)| control.calls("C_SetPIN") == *before));
    // What was wrong with the configuration is mended, and the PIN on record is good.
    let site = daemon.terminate().1;
    site.configure_hsms(|_, hsm| {
        let said = toml::from_str::<toml::Table>("login.first_login = \"change\"").unwrap();
        hsm.insert("capabilities".to_owned(), said.into());
    });
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    caller.disconnect(&id).await.unwrap();
    assert_connected(&caller.connect(&id).await.unwrap());
    daemon.wait_until_healthy_for(&caller).await;
    assert!(controls.iter().zip(&before).all(|(control, before)| control.calls("C_SetPIN") > *before));
}

/// Tokens that say of every PIN but the right one that it has to be changed, without a look at it.
const EVERY_PIN: &str = "[codes.C_Login]\nCKR_PIN_INCORRECT = \"CKR_PIN_EXPIRED\"";

/// Two of them whose PIN nobody knows but the daemon, with a key store that is disconnected, and of which something else is
/// told for the first one: an operator errs about which token the officer has seen to.
async fn told_wrongly() -> (Daemon, Caller, String, Vec<Control>) {
    let (daemon, caller, id, controls) = of_such_tokens(true, "login.first_login = \"change\"").await;
    assert_connected(&caller.connect(&id).await.unwrap());
    daemon.wait_until_healthy_for(&caller).await;
    caller.disconnect(&id).await.unwrap();
    let told = UpdateKeyStoreRequest { pin_was_reset: true, ..pin(&id, "set-elsewhere-1", &["hsm-a"]) };
    caller.update_key_store(told).await.unwrap();
    (daemon, caller, id, controls)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_says_so_of_a_wrong_pin_costs_a_try_and_no_pin() {
    let (daemon, caller, id, controls) = told_wrongly().await;
    controls[0].set(&format!("{MUST_CHANGE}\n{EVERY_PIN}")).unwrap();
    let before = controls[0].calls("C_SetPIN");
    assert_connected(&caller.connect(&id).await.unwrap());
    daemon.wait_until_healthy_for(&caller).await;
    assert_eq!(controls[0].calls("C_SetPIN") - before, 2, "from what was told, in vain; and the rotation");
    daemon.wait_until_logged("the token refused to change kmsuser's PIN");
    let hsms = caller.hsms().await.unwrap();
    assert_eq!(hsms[0].pin_tries_left, 3, "a login has worked: {hsms:?}");
    caller.create_key("the PIN on record was kept").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_locks_the_user_at_the_change_is_asked_no_more() {
    let (daemon, caller, id, controls) = told_wrongly().await;
    let locks = "[[rule]]\nfunction = \"C_SetPIN\"\nfault = { code = \"CKR_PIN_LOCKED\" }";
    controls[0].set(&format!("{MUST_CHANGE}\n{EVERY_PIN}\n{locks}")).unwrap();
    let calls = |function| controls[0].calls(function);
    let before = (calls("C_Login"), calls("C_SetPIN"));
    let store = caller.connect(&id).await.unwrap();
    assert_failed(&store, "USER_LOCKED_OUT", &["hsm-a", "CKR_PIN_LOCKED"]);
    assert_eq!((calls("C_Login") - before.0, calls("C_SetPIN") - before.1), (1, 1), "the next PIN is not tried");
    // The officer unlocks the user, and what is on record is the token's.
    controls[0].set(MUST_CHANGE).unwrap();
    caller.disconnect(&id).await.unwrap();
    let unlocked = UpdateKeyStoreRequest { pin_was_reset: true, ..pin(&id, "", &["hsm-a"]) };
    caller.update_key_store(unlocked).await.unwrap();
    assert_connected(&caller.connect(&id).await.unwrap());
    daemon.wait_until_healthy_for(&caller).await;
    caller.create_key("the PIN on record was kept").await;
}
