//! Tokens whose word for what they don't do with a PIN says nothing: of a wrong one at C_Login, of a new one at C_SetPIN.

use proto::v1::UpdateKeyStoreRequest;

use super::{assert_connected, assert_failed, pin};
use crate::harness::daemon::Site;
use crate::harness::{chaos, wait};

/// As it is set by default.
const TRIES: u64 = 3;
/// One word for a wrong PIN and for all else, and no flag that tells more. Two more and the user is locked.
const MUTE: &str = "[login]\nwrong_pin = \"CKR_FUNCTION_FAILED\"\ntries = 5\nflags = \"silent\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_pin_under_a_word_for_everything_locks_nobody() {
    let site = Site::prepare().await;
    let controls = chaos::control_each(&site);
    controls.iter().for_each(|control| control.set(MUTE).unwrap());
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    let (cluster, anchor) = (daemon.site().cluster().to_owned(), daemon.site().trust_anchor());
    let id = caller.create_key_store_with("main", &cluster, &anchor, "not-the-PIN").await.unwrap();
    let before: Vec<u64> = controls.iter().map(|control| control.calls("C_Login")).collect();
    let mut last = None;
    for _ in 0..2 * TRIES {
        last = Some(caller.connect(&id).await.unwrap());
        caller.disconnect(&id).await.unwrap();
    }
    assert_failed(&last.unwrap(), "INVALID_CREDENTIALS", &["hsm-a", "hsm-b", "says nothing of the PIN"]);
    for (control, before) in controls.iter().zip(&before) {
        assert_eq!(control.calls("C_Login") - before, TRIES, "{}", daemon.log());
    }
    // Nobody is locked: the officer has nothing to do, and what is right is taken.
    let told = UpdateKeyStoreRequest { pin_was_reset: true, ..pin(&id, &daemon.site().first_pin(), &[]) };
    caller.update_key_store(told).await.unwrap();
    assert_connected(&caller.connect(&id).await.unwrap());
    daemon.wait_until_healthy_for(&caller).await;
    caller.create_key("all is well").await;
}

/// A daemon that starts while one HSM is in trouble has not seen that one take the PIN yet; but it is on record that it has.
#[tokio::test(flavor = "multi_thread")]
async fn trouble_at_a_start_keeps_no_hsm_out_whose_token_has_taken_the_pin_of_all() {
    let site = Site::prepare().await;
    let controls = chaos::control_each(&site);
    site.configure(|config| {
        config["cluster"][0].as_table_mut().unwrap().insert("pin_scope".to_owned(), "cluster".into());
    });
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    let id = caller.create_key_store("main", daemon.site()).await.unwrap();
    assert_connected(&caller.connect(&id).await.unwrap());
    daemon.wait_until_healthy_for(&caller).await;
    let (_, site) = daemon.terminate();
    controls[1].set("[[rule]]\nfunction = \"C_Login\"\nfault = { code = \"CKR_FUNCTION_FAILED\" }").unwrap();
    let before = controls[1].injected("C_Login");
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    // As often as there are tries: those are the other one's as well.
    wait::until("it is asked again and again", wait::LONG, || {
        (controls[1].injected("C_Login") - before >= TRIES).then_some(())
    });
    // One that is under way counts until it has an outcome.
    wait::until_async("none of them has cost a try", wait::LONG, async || {
        let left: Vec<u32> = caller.key_store(&id).await.hsms.iter().map(|hsm| hsm.pin_tries_left).collect();
        (left == [3, 3]).then_some(())
    })
    .await;
    // It comes in by itself, without another login of the other one and without a connect.
    controls[1].clear().unwrap();
    daemon.wait_until_healthy_for(&caller).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_is_not_changed_and_nobody_knows_why_is_told() {
    let site = Site::prepare().await;
    site.rotate(true);
    let control = chaos::control_first(&site);
    control.set("[[rule]]\nfunction = \"C_SetPIN\"\nfault = { code = \"0x80000042\" }").unwrap();
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    let id = caller.create_key_store("main", daemon.site()).await.unwrap();
    // The other HSM is enough.
    assert_connected(&caller.connect(&id).await.unwrap());
    wait::until_async("it is told", wait::LONG, async || {
        let hsms = caller.hsms().await.unwrap();
        hsms[0].reason.contains("has not changed kmsuser's PIN, 3 times in a row").then_some(())
    })
    .await;
    let text = daemon.keystorectl(&["key-store", "describe"]).ok();
    for words in ["C_SetPIN", "0x80000042", "login.pin_min", "rotation = \"none\""] {
        assert!(text.contains(words), "{words}: {text}");
    }
    daemon.wait_until_logged("the token does not change kmsuser's PIN, again and again");
    // The vendor's rule is mended, and nobody has to wait for the end of the pause.
    control.clear().unwrap();
    caller.disconnect(&id).await.unwrap();
    assert_connected(&caller.connect(&id).await.unwrap());
    daemon.wait_until_healthy_for(&caller).await;
    assert!(!daemon.zone("a").takes(&daemon.site().first_pin()), "it was rotated");
}
