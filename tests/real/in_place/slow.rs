//! A group whose HSMs have a new object only after a while, and whose sessions are on one or the other of them.

use std::time::Duration;

use futures_util::future::join_all;

use super::rig::{Alone, objects};
use crate::harness::zone::object_id;
use crate::harness::{context, wait};

/// Less than the profile is told.
const SETTLES: &str = "topology.settles_ms = 1500";
const GROUP: &str = "personality = \"luna-ha\"\n[topology]\nfailover_ms = 300\nspread = \"sessions\"\n";
const SLOW: &str = "visible_ms = 700\n";
const VISIBLE: Duration = Duration::from_millis(700);

/// The next worker's session may be on the HSM that does not show yet what the last one has made.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_making_was_broken_off_has_one_object() {
    let Alone { site, control } = Alone::prepare("luna-ha", SETTLES, GROUP).await;
    let daemon = site.start().await;
    let caller = daemon.caller().await.with_deadline(wait::LONG);
    caller.create_key("before").await;
    // Each worker's sessions begin where the last one's have ended.
    for fault in
        ["\"crash\"", "{ code = \"CKR_SESSION_HANDLE_INVALID\" }", "\"crash\"", "{ code = \"CKR_DEVICE_ERROR\" }"]
    {
        let next = control.calls("C_GenerateKey") + 1;
        let rule = format!(
            "{GROUP}{SLOW}[[rule]]\nfunction = \"C_GenerateKey\"\ncalls = {{ from = {next}, to = {next} }}\n\
             after_call = true\nfault = {fault}"
        );
        daemon.zones[0].keep_copies();
        control.set(&rule).unwrap();
        let key = caller.create_key("in spite of it").await;
        control.set(&format!("{GROUP}{SLOW}")).unwrap();
        daemon.wait_until_healthy_for(&caller).await;
        let held = objects(&daemon);
        assert_eq!(held.matches(&object_id(&key, 1)).count(), 1, "{fault}: {held}");
        let sealed = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
        assert_eq!(caller.decrypt(&sealed, &context(&[])).await.unwrap(), b"kept", "{fault}");
    }
}

/// Half of the sessions do not find a new key at first.
#[tokio::test(flavor = "multi_thread")]
async fn callers_do_not_notice_that_a_new_key_is_on_its_way() {
    let Alone { site, control } = Alone::prepare("luna-ha", SETTLES, GROUP).await;
    let daemon = site.start().await;
    let caller = daemon.caller().await.with_deadline(wait::LONG);
    daemon.wait_until_healthy_for(&caller).await;
    // What workers have used already does not hide again: with a canary that is as new as these rules, that would be seen.
    wait::pass(VISIBLE).await;
    control.set(&format!("{GROUP}{SLOW}")).unwrap();
    for _ in 0..3 {
        let (key, context) = (caller.create_key("new").await, context(&[]));
        let calls = (0..40_u8).map(|number| {
            let (caller, key, context) = (&caller, &key, &context);
            async move {
                let sealed = caller.encrypt(key, &[number], context).await?;
                caller.decrypt(&sealed, context).await
            }
        });
        for (number, opened) in join_all(calls).await.into_iter().enumerate() {
            assert_eq!(opened.unwrap(), [u8::try_from(number).unwrap()]);
        }
    }
}
