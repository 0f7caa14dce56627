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
